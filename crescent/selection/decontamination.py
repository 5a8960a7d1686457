"""Which questions are too near to a benchmark's to be trained on.

Three rules, in this order: words in a row shared with a benchmark question; the same with all numbers masked; cosine.
Source: n-grams of 13 words after GPT-3 (arXiv 2005.14165, appendix C); masking and short questions are ours.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crescent.config import DecontaminationConfig
from crescent.models.embedders import Vectors
from crescent.records import Item, Quarantined, Question
from crescent.synthesis.diversify import Memory, Neighbour

Ids = NDArray[np.uint64]
Rule = Literal["ngram", "masked", "similarity"]

MASK = "#"
SHORTEST_PART = 8
"""A benchmark question of fewer words than this is only found as the whole of a question: as a part of a longer one
("How many are left?") it says nothing."""
QUESTIONS_AT_ONCE = 512
"""Rows of one matrix product."""

# Possessive quantifiers keep the scan linear in hostile text. A sign or operator counts where an operand follows; other
# dashes, slashes and stars are punctuation and markdown.
_TOKEN = re.compile(
    r"(?P<word>[^\W\d_]++(?:['’][^\W\d_]++)*+)"
    r"|(?P<number>\d{1,3}+(?:,\d{3}(?!\d))++(?:\.\d++)?+|\d++(?:\.\d++)?+|\.\d++)"
    r"|(?P<percent>%)"
    r"|(?P<sign>(?:-|(?<!\*)\*(?!\*))(?=[ $]{0,2}[\d(.\\])"
    r"|(?:[+/^=]|[<>]=?+)(?=[ $]{0,2}(?:[-\d(.\\]|[a-z](?![^\W_]))))"
)
_SPELLING = str.maketrans({"−": "-", "×": "*", "÷": "/", "⁄": "/", "≤": "<=", "≥": ">="})
_NUMBER_WORDS = re.compile(
    r"zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|(?:thir|four|fif|six|seven|eigh|nine)teen"
    r"|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|(?:hundred|thousand|million|billion|dozen|quarter)s?|half|halves"
    r"|once|twice|thrice"
)


def tokens(text: str) -> list[str]:
    r"""Words and numbers, case folded; punctuation, accents and markdown are gone.

    1,234 is 1234, and .5 is 0.5. A minus before a number is a token, as other operators before an operand are: 3 + 4 is
    not 3 - 4. LaTeX commands are words.
    """
    if not text.isascii():
        # One by one: normalising a run of a million accents at once takes quadratic time.
        text = "".join(map(_plain, text)).translate(_SPELLING)
    return [_spelled(match) for match in _TOKEN.finditer(text.casefold())]


def _plain(character: str) -> str:
    """Without accents, width and ligatures; invisible characters vanish."""
    parts = unicodedata.normalize("NFKD", character)
    return "".join(part for part in parts if unicodedata.category(part) not in ("Mn", "Cf"))


def _spelled(match: re.Match[str]) -> str:
    text = match[0]
    match match.lastgroup:
        case "word":
            return text.replace("'", "").replace("’", "")
        case "number":
            return text.replace(",", "") if text[0] != "." else "0" + text
        case "percent":
            return "percent"
        case _:
            return text


def masked(words: Iterable[str]) -> list[str]:
    """Every number, and every run of number words and numbers ("twenty-five", "2 dozen"), as one mask."""
    as_mask = (MASK if word[0].isdigit() or _NUMBER_WORDS.fullmatch(word) else word for word in words)
    # A list of numbers is one mask, too, or all long lists would be alike.
    return [word for its, run in groupby(as_mask) for word in ([MASK] if its == MASK else run)]


class Benchmarks:
    """All benchmark questions, indexed once, and asked about each new question."""

    def __init__(self, items: Sequence[Item], cfg: DecontaminationConfig, vectors: Vectors | None = None) -> None:
        """`vectors`: the items' unit vectors, shape (items, dimensions); without them the cosine rule finds nothing."""
        self.items = items
        self.cfg = cfg
        self._memory = Memory()
        if cfg.similarity is not None and vectors is not None:
            for item, vector in zip(items, vectors, strict=True):
                self._memory.add(Neighbour(item.id, item.question), vector)
        self._ids: dict[str, int] = {}
        self._whole: dict[tuple[str, ...], int] = {}
        """The items shorter than an n-gram, by all their words."""
        self._ngrams: list[Ngrams] = []
        self._masked: Ngrams | None = None
        if cfg.ngram:
            spoken = [tokens(item.question) for item in items]
            self._index(spoken)
            if cfg.masked:
                self._masked = self._ngrams_of(enumerate(map(masked, spoken)), cfg.ngram, wordy=True)

    def _index(self, spoken: Sequence[list[str]]) -> None:
        """Long items by their n-grams; short ones as a whole, which is one n-gram of their own length."""
        n = self.cfg.ngram
        self._ngrams.append(self._ngrams_of(enumerate(spoken), n))
        for length in range(n - 1, SHORTEST_PART - 1, -1):
            self._ngrams.append(
                self._ngrams_of(((index, words) for index, words in enumerate(spoken) if len(words) == length), length)
            )
        for index, words in enumerate(spoken):
            if 0 < len(words) < n:
                self._whole.setdefault(tuple(words), index)

    def _ngrams_of(self, spoken: Iterable[tuple[int, list[str]]], n: int, wordy: bool = False) -> "Ngrams":
        long_enough = [(index, words) for index, words in spoken if len(words) >= n]
        for _, words in long_enough:
            for word in words:
                self._ids.setdefault(word, len(self._ids) + 1)
        is_word = np.array([False, *(word[0].isalpha() for word in self._ids)]) if wordy else None
        return Ngrams([(index, self._ids_of(words)) for index, words in long_enough], n, is_word)

    def _ids_of(self, words: Sequence[str]) -> Ids:
        """A word that no benchmark has is 0."""
        return np.array([self._ids.get(word, 0) for word in words], dtype=np.uint64)

    def find(self, question: Question, vector: Vectors | None = None) -> Quarantined | None:
        """What the question is too near to, and by which rule. `vector`: its unit vector, shape (dimensions,)."""
        vectors = None if vector is None else vector[np.newaxis]
        return self.find_all([question], vectors).get(question.id)

    def find_all(self, questions: Sequence[Question], vectors: Vectors | None = None) -> dict[str, Quarantined]:
        """The questions that are too near to a benchmark's, by id. `vectors`: shape (questions, dimensions)."""
        found: dict[str, Quarantined] = {}
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            block = questions[start : start + QUESTIONS_AT_ONCE]
            near: list[tuple[int, float]] = [(-1, -math.inf)] * len(block)
            if vectors is not None:
                places, cosines = self._memory.nearest(vectors[start : start + QUESTIONS_AT_ONCE])
                near = list(zip(places.tolist(), cosines.tolist(), strict=True))
            for question, nearest in zip(block, near, strict=True):
                quarantined = self._find(question, *nearest)
                if quarantined is not None:
                    found[question.id] = quarantined
        return found

    def _find(self, question: Question, nearest: int, cosine: float) -> Quarantined | None:
        spoken = tokens(question.text) if self.cfg.ngram else []
        if (whole := self._whole.get(tuple(spoken))) is not None:
            return self._quarantined(question, whole, "ngram", " ".join(spoken))
        ids = self._ids_of(spoken)
        for ngrams in self._ngrams:
            if (shared := ngrams.find(ids)) is not None:
                item, at = shared
                return self._quarantined(question, item, "ngram", " ".join(spoken[at : at + ngrams.n]))
        if self._masked is not None:
            without_numbers = masked(spoken)
            if (shared := self._masked.find(self._ids_of(without_numbers))) is not None:
                item, at = shared
                words = without_numbers[at : at + self._masked.n]
                return self._quarantined(question, item, "masked", " ".join(words))
        if self.cfg.similarity is not None and cosine >= self.cfg.similarity:
            return self._quarantined(question, nearest, "similarity", f"{cosine:.3f}")
        return None

    def _quarantined(self, question: Question, index: int, rule: Rule, evidence: str) -> Quarantined:
        item = self.items[index]
        return Quarantined(question, item.benchmark, item.id, item.question, rule, evidence)


class Ngrams:
    """The n-grams of many texts: sorted hashes, each with the place of its first occurrence, 20 bytes in all."""

    def __init__(self, texts: Sequence[tuple[int, Ids]], n: int, is_word: NDArray[np.bool_] | None = None) -> None:
        """`texts`: each with its item's index. With `is_word` (by id), only n-grams at least half of which are words.

        Sums and lists of numbers are all alike once their numbers are masked.
        """
        self.n = n
        self._ids = np.concatenate([ids for _, ids in texts]) if texts else np.zeros(0, dtype=np.uint64)
        lengths = np.array([len(ids) for _, ids in texts], dtype=np.int64)
        self._items = np.repeat(np.array([index for index, _ in texts], dtype=np.int32), lengths)
        starts = np.arange(max(0, len(self._ids) - n + 1))
        # An n-gram lies inside one text.
        starts = starts[self._items[starts] == self._items[starts + n - 1]]
        if is_word is not None:
            words_before = np.concatenate([[0], np.cumsum(is_word[self._ids])])
            starts = starts[2 * (words_before[starts + n] - words_before[starts]) >= n]
        self._hashes, first = np.unique(hashes(self._ids, n)[starts], return_index=True)
        self._starts = starts[first]

    def find(self, ids: Ids) -> tuple[int, int] | None:
        """Item and place in `ids` of the first n-gram that is among these."""
        if len(ids) < self.n or not len(self._hashes):
            return None
        wanted = hashes(ids, self.n)
        rows = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        for at in np.flatnonzero(self._hashes[rows] == wanted):
            start = self._starts[rows[at]]
            # Equal hashes are no proof.
            if np.array_equal(self._ids[start : start + self.n], ids[at : at + self.n]):
                return int(self._items[start]), int(at)
        return None


def hashes(ids: Ids, n: int) -> Ids:
    """Of each n ids in a row, equal on every machine: a polynomial modulo 2**64."""
    total = np.zeros(max(0, len(ids) - n + 1), dtype=np.uint64)
    for place in range(n):
        total = total * np.uint64(0x9E3779B97F4A7C15) + ids[place : place + len(total)]
    return total
