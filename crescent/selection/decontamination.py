"""Which questions are too near to a benchmark question to be trained on.

Four rules, in this order: a shared sequence of words; the same with all numbers masked; the same computation; cosine.
Source: n-grams of 13 words after GPT-3 (arXiv 2005.14165, appendix C); masking, computations and the rule for short
questions are ours.
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
from crescent.tasks.computation import Computation, same_computation

Ids = NDArray[np.uint64]
Rule = Literal["ngram", "masked", "computation", "similarity"]

MASK = "#"
SHORTEST_PART = 8
"""Number of words from which a benchmark question is also looked for inside longer questions. A shorter one must be the
whole question: "How many are left?" inside another question proves nothing."""
QUESTIONS_AT_ONCE = 512
"""Number of rows of one matrix product."""

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
    r"""Words and numbers, case folded, without punctuation, accents and markdown.

    1,234 is 1234, and .5 is 0.5. A minus before a number is a token, like other operators before an operand: 3 + 4 is
    not 3 - 4. LaTeX commands are words.
    """
    if not text.isascii():
        # Character by character: normalising a million accents at once takes quadratic time.
        text = "".join(map(_plain, text)).translate(_SPELLING)
    return [_spelled(match) for match in _TOKEN.finditer(text.casefold())]


def _plain(character: str) -> str:
    """A character without accent, width and ligature; empty for an invisible one."""
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
    """The words, with every sequence of numbers and number words ("twenty-five", "2 dozen") as one mask."""
    as_mask = (MASK if word[0].isdigit() or _NUMBER_WORDS.fullmatch(word) else word for word in words)
    # A list of numbers is also one mask, or all long lists would be alike.
    return [word for kind, run in groupby(as_mask) for word in ([MASK] if kind == MASK else run)]


class Benchmarks:
    """All benchmark questions, indexed once and searched for each new question."""

    def __init__(self, items: Sequence[Item], cfg: DecontaminationConfig, vectors: Vectors | None = None) -> None:
        """`vectors`: unit vectors of the items, shape (items, dimensions); without them the cosine rule is off."""
        self.items = items
        self.cfg = cfg
        self._memory = Memory()
        if cfg.similarity is not None and vectors is not None:
            for item, vector in zip(items, vectors, strict=True):
                self._memory.add(Neighbour(item.id, item.question), vector)
        self._ids: dict[str, int] = {}
        self._whole: dict[tuple[str, ...], int] = {}
        """Index of each item shorter than an n-gram, by all its words."""
        self._ngrams: list[Ngrams] = []
        self._masked: Ngrams | None = None
        self._computations: dict[Computation, int] = {}
        if cfg.computation:
            for index, item in enumerate(items):
                if (computation := same_computation(item.question)) is not None:
                    self._computations.setdefault(computation, index)
        if cfg.ngram:
            texts = [tokens(item.question) for item in items]
            self._index(texts)
            if cfg.masked:
                self._masked = self._ngrams_of(enumerate(map(masked, texts)), cfg.ngram, wordy=True)

    def _index(self, texts: Sequence[list[str]]) -> None:
        """Long items by their n-grams; short ones as a whole, as one n-gram of their length."""
        n = self.cfg.ngram
        self._ngrams.append(self._ngrams_of(enumerate(texts), n))
        # Longest first, so that the evidence is the longest shared text.
        for length in range(n - 1, SHORTEST_PART - 1, -1):
            of_this_length = ((index, words) for index, words in enumerate(texts) if len(words) == length)
            self._ngrams.append(self._ngrams_of(of_this_length, length))
        for index, words in enumerate(texts):
            if 0 < len(words) < n:
                self._whole.setdefault(tuple(words), index)

    def _ngrams_of(self, texts: Iterable[tuple[int, list[str]]], n: int, wordy: bool = False) -> "Ngrams":
        """The n-grams of texts with their item's index; `wordy`: only those that are mostly words."""
        long_enough = [(index, words) for index, words in texts if len(words) >= n]
        for _, words in long_enough:
            for word in words:
                self._ids.setdefault(word, len(self._ids) + 1)
        is_word = np.array([False, *(word[0].isalpha() for word in self._ids)]) if wordy else None
        return Ngrams([(index, self._ids_of(words)) for index, words in long_enough], n, is_word)

    def _ids_of(self, words: Sequence[str]) -> Ids:
        """Ids of the words; 0 for a word that occurs in no benchmark."""
        return np.array([self._ids.get(word, 0) for word in words], dtype=np.uint64)

    def find(self, questions: Sequence[Question], vectors: Vectors | None = None) -> dict[str, Quarantined]:
        """The questions too near to a benchmark question, by id. `vectors`: shape (questions, dimensions)."""
        found: dict[str, Quarantined] = {}
        for start in range(0, len(questions), QUESTIONS_AT_ONCE):
            block = questions[start : start + QUESTIONS_AT_ONCE]
            nearest: list[tuple[int, float]] = [(-1, -math.inf)] * len(block)
            if vectors is not None:
                indices, cosines = self._memory.nearest(vectors[start : start + QUESTIONS_AT_ONCE])
                nearest = list(zip(indices.tolist(), cosines.tolist(), strict=True))
            for question, (index, cosine) in zip(block, nearest, strict=True):
                quarantined = self._find(question, index, cosine)
                if quarantined is not None:
                    found[question.id] = quarantined
        return found

    def _find(self, question: Question, nearest: int, cosine: float) -> Quarantined | None:
        words = tokens(question.text) if self.cfg.ngram else []
        if (whole := self._whole.get(tuple(words))) is not None:
            return self._quarantined(question, whole, "ngram", " ".join(words))
        ids = self._ids_of(words)
        for ngrams in self._ngrams:
            if (shared := ngrams.find(ids)) is not None:
                item, start = shared
                return self._quarantined(question, item, "ngram", " ".join(words[start : start + ngrams.n]))
        if self._masked is not None:
            without_numbers = masked(words)
            if (shared := self._masked.find(self._ids_of(without_numbers))) is not None:
                item, start = shared
                evidence = " ".join(without_numbers[start : start + self._masked.n])
                return self._quarantined(question, item, "masked", evidence)
        computation = same_computation(question.text) if self._computations else None
        if computation in self._computations:
            evidence = f" {computation.operator} ".join(computation.operands)
            return self._quarantined(question, self._computations[computation], "computation", evidence)
        if self.cfg.similarity is not None and cosine >= self.cfg.similarity:
            return self._quarantined(question, nearest, "similarity", f"{cosine:.3f}")
        return None

    def _quarantined(self, question: Question, index: int, rule: Rule, evidence: str) -> Quarantined:
        item = self.items[index]
        return Quarantined(question, item.benchmark, item.id, item.question, rule, evidence)


class Ngrams:
    """The n-grams of many texts: sorted hashes, each with the position of its first occurrence, 20 bytes in all."""

    def __init__(self, texts: Sequence[tuple[int, Ids]], n: int, is_word: NDArray[np.bool_] | None = None) -> None:
        """Index the n-grams of `texts`, each given with the index of its item.

        Args:
            is_word: By id, whether it is a word. If given, only n-grams that are at least half words are indexed: sums
                and lists of numbers are all alike once their numbers are masked.
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
        """Index of the item, and position in `ids`, of the first indexed n-gram that occurs in `ids`."""
        if len(ids) < self.n or not len(self._hashes):
            return None
        wanted = hashes(ids, self.n)
        rows = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        for position in np.flatnonzero(self._hashes[rows] == wanted):
            start = self._starts[rows[position]]
            # Equal hashes are no proof.
            if np.array_equal(self._ids[start : start + self.n], ids[position : position + self.n]):
                return int(self._items[start]), int(position)
        return None


def hashes(ids: Ids, n: int) -> Ids:
    """Hash of each sequence of n ids, equal on every machine: a polynomial modulo 2**64."""
    total = np.zeros(max(0, len(ids) - n + 1), dtype=np.uint64)
    for offset in range(n):
        total = total * np.uint64(0x9E3779B97F4A7C15) + ids[offset : offset + len(total)]
    return total
