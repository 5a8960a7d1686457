"""Scores of responses: a strict and a flexible score beside the deciding one, and maj@k and pass@k of several samples.

Three scores are reported, because they can differ by tens of points on the same responses:

- strict: the answer is in the format asked for, written as the reference is;
- flexible: the last number anywhere in the text is the reference;
- deciding: the final answer that `crescent.tasks` reads *means* the reference, exactly or by algebra
  (`Response.correct`).

For numbers, strict and flexible do what the filters `strict-match` and `flexible-extract` of lm-evaluation-harness's
task gsm8k (version 3) do, so that they can be compared with published figures. That includes what looks like a mistake:
strict takes the first `#### n`, an ellipsis counts as a number, 18.00 is not 18, and a cut text is read like any other.
"""

import math
import re
from collections.abc import Sequence
from statistics import NormalDist, variance

from crescent.judging.comparison import wilson
from crescent.judging.reliability import pass_at
from crescent.records import Response, Score
from crescent.synthesis.consensus import standings
from crescent.tasks.equivalence import LONGEST, as_number, normal

_PLAIN = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_AFTER_HASHES = re.compile(r"#### (-?[0-9.,]+)")
_ANY_NUMBER = re.compile(r"-?(?:[$0-9.,]{2,}+|[0-9])")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)


def strict_match(text: str, target: str) -> bool:
    r"""Whether the text contains the target in the format asked for, `#### answer` or else `\boxed{answer}`.

    A number must follow the mark directly, after one space. The first mark counts, and the digits must be the same
    without commas, dollar signs and a full stop at the end. (The box is our addition: lm-evaluation-harness's gsm8k
    knows the mark only.) Any other target is compared with the line after the last mark by the spelling rules of MATH
    (`crescent.tasks.equivalence.normal`).
    """
    if _PLAIN.fullmatch(target):
        marked = _AFTER_HASHES.search(text)
        found = marked[1] if marked else last_boxed(text)
        return found is not None and _digits(found) == _digits(target)
    line = text.rpartition("####")[2].partition("\n")[0].strip() if "####" in text else ""
    found = line if line and r"\boxed" not in line else last_boxed(text)
    if found is None or len(found) > LONGEST:
        return False
    return normal(found).replace(" ", "") == normal(target).replace(" ", "")


def flexible_match(text: str, target: str) -> bool | None:
    """Whether the last number anywhere in the text is the target, digit by digit; `None` if the target is no number.

    A fraction in the text is read as two numbers, so a target that is a fraction is never found.
    """
    if as_number(target) is None:
        return None
    last = None
    for last in _ANY_NUMBER.finditer(text):  # noqa: B007 - only the last is wanted
        pass
    return last is not None and _digits(last[0]) == _digits(target)


def last_boxed(text: str) -> str | None:
    r"""Content of the last `\boxed{}`, with balanced braces; `None` if there is no box or the last is not closed."""
    _, box, rest = text.rpartition(r"\boxed{")
    depth = 1 if box else 0
    for token in _BRACE.finditer(rest) if box else ():
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth == 0:
            return rest[: token.start()].strip()
    return None


def _digits(written: str) -> str:
    return re.sub(r"\.\Z", "", re.sub(r"[,$]", "", written)).strip()


def score(
    benchmark: str, responses: Sequence[Response], classes: Sequence[Sequence[int]] | None, decides: bool
) -> Score:
    """Accuracy over all responses to one benchmark. Unparsed responses are wrong, and also counted by themselves.

    Args:
        responses: Grouped by item, with all samples of each item.
        classes: Equivalence classes of the final answers of each item; `None` if there is nothing to vote on.
    """
    samples = 1 + max((response.sample for response in responses), default=0)
    items = [responses[start : start + samples] for start in range(0, len(responses), samples)]
    rights = [sum(response.correct for response in item) for item in items]
    low, high = interval(rights, samples)
    return Score(
        benchmark=benchmark,
        correct=sum(rights),
        unparsed=sum(response.final is None for response in responses),
        total=len(responses),
        low=low,
        high=high,
        decides=decides,
        samples=samples,
        strict=_count([response.strict for response in responses]),
        flexible=_count([response.flexible for response in responses]),
        majority=majority(items, classes) if samples > 1 and classes is not None else None,
        pass_at=pass_at_each(rights, samples) if samples > 1 else {},
    )


def _count(verdicts: Sequence[bool | None]) -> int | None:
    """Number of right ones; `None` if any is unknown, because it could not be compared with the accuracy over all."""
    return None if not verdicts or None in verdicts else sum(map(bool, verdicts))


def majority(items: Sequence[Sequence[Response]], classes: Sequence[Sequence[int]]) -> float:
    """maj@k: share of items whose most frequent final answer is right. Silent samples do not vote; a tie is wrong."""
    return sum(map(_majority_is_right, items, classes)) / len(items)


def _majority_is_right(samples: Sequence[Response], classes: Sequence[int]) -> bool:
    leader, votes, runner_up = standings(classes)
    return leader is not None and votes > runner_up and samples[classes.index(leader)].correct


def pass_at_each(rights: Sequence[int], samples: int) -> dict[str, float]:
    """pass@k for k = 1, 2, 4, … and the number of samples: unbiased estimator (arXiv 2107.03374), mean over items."""
    ks = sorted({1 << power for power in range(samples.bit_length())} | {samples})
    return {str(k): sum(pass_at(k, samples, right) for right in rights) / len(rights) for k in ks}


def interval(rights: Sequence[int], samples: int) -> tuple[float, float]:
    """95% Wilson interval of the accuracy over all samples, clustered by item.

    Samples of one item resemble each other, so they count as fewer: as the number of independent samples that would
    give the mean over items the variance it has (effective sample size, Kish 1965). It is at least the number of items
    and at most the number of samples. With one sample per item it is the plain Wilson interval.

    Args:
        rights: Number of right samples of each item.
    """
    items, total = len(rights), len(rights) * samples
    if samples == 1 or items == 0:
        return wilson(sum(rights), total)
    mean = sum(rights) / total
    effective = float(items)
    if items > 1 and 0 < mean < 1:
        spread = variance([right / samples for right in rights]) / items
        effective = min(total, max(items, mean * (1 - mean) / spread)) if spread > 0 else total
    z = NormalDist().inv_cdf(0.975)
    shrink = 1 + z * z / effective
    centre = (mean + z * z / (2 * effective)) / shrink
    half = z * math.sqrt(mean * (1 - mean) / effective + (z / (2 * effective)) ** 2) / shrink
    return max(0.0, centre - half), min(1.0, centre + half)
