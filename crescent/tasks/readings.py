"""What a worker tells about a formula: a key that is equal for equal answers, and whether algebra could add to it."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from hashlib import blake2b

from crescent.tasks.meaning import Reader, is_algebraic, spelled
from crescent.tasks.probing import Probe
from crescent.tasks.realsets import Key
from crescent.tasks.tokens import TooLarge, Unreadable


@dataclass(frozen=True)
class Reading:
    """What the worker tells about an answer."""

    key: str
    """Digest; equal for answers that mean the same."""
    is_settled: bool
    """Whether answers with other keys are different for certain."""
    shape: str
    """Algebra is asked only for answers of one shape: a value with its variables, an equation, a list of three."""


@lru_cache(maxsize=4096)
def read_formula(text: str) -> Reading:
    """The reading of a formula that `crescent.tasks.equivalence.sight` returned. Takes milliseconds, mostly."""
    probe = Probe()
    try:
        meaning = Reader(text, probe).answer()
    except (Unreadable, RecursionError) as error:
        meaning = spelled(text)
        probe.work.is_settled = isinstance(error, TooLarge | RecursionError) or not is_algebraic(text)
    shape = meaning.shape
    if meaning.key[0] == "value":
        shape = " ".join(["value", *(name for name, _ in meaning.key[-1])]) if len(meaning.key) > 2 else "value"
    return Reading(digest(meaning.key), probe.work.is_settled, shape)


def may_be_equal(a: Reading, b: Reading) -> bool:
    """Whether answers with different keys may still be equal, so that algebra has to be asked."""
    if a.is_settled and b.is_settled:
        return False
    unread = [reading for reading in (a, b) if reading.shape == "spelled"]
    return a.shape == b.shape or (bool(unread) and not unread[0].is_settled and a.shape[:6] != b.shape[:6])


def digest(key: Key) -> str:
    return blake2b(repr(key).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def number_key(value: Fraction | str) -> str:
    exact = Fraction(value)
    return digest(("value", ("exact", exact.numerator, exact.denominator)))
