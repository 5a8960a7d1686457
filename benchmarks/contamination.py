"""How well contamination is found: `python -m benchmarks contamination`.

Half of a set of problems is the benchmark. Copies of its items are planted among the problems of the other half, which
nobody copied: verbatim, with other numbers, in other words, or shorter than an n-gram. Recall is the share of planted
questions that are quarantined, precision the share of quarantined questions that were planted. Needs GSM8K in the
folder that CRESCENT_DATA names, or from the hub.
"""

import argparse
import random
import re
from collections.abc import Callable, Mapping, Sequence

from benchmarks import save
from benchmarks.tables import Row, show
from crescent.config import BenchmarkConfig, DecontaminationConfig, Source
from crescent.models.embedders import lexical_vectors
from crescent.records import Question
from crescent.selection.decontamination import Benchmarks
from eval.benchmarks import load

OTHER_WORDS = {
    "altogether": "in all", "bought": "purchased", "buys": "purchases", "children": "kids", "cost": "come to",
    "costs": "is priced at", "each": "every", "friends": "pals", "gave": "handed", "gives": "hands", "has": "owns",
    "have": "own", "house": "home", "left": "remaining", "made": "produced", "makes": "produces",
    "many": "big a number", "money": "cash", "more": "additional", "needs": "requires", "total": "sum",
    "wants": "would like",
}  # fmt: skip
"""Other words for the most frequent words of such problems."""
NAMES = ("Ada", "Boris", "Chidi", "Dunya", "Emre", "Farah", "Goran", "Hana")


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks contamination", description=__doc__.splitlines()[0])
    parser.add_argument("--planted", type=int, default=300, help="number of planted questions of each kind")
    options = parser.parse_args(arguments)
    rows = measure(options.planted)
    show(f"Contamination, {options.planted} planted questions of each kind", rows)
    print(f"saved: {save('contamination', {'rows': rows})}")


def measure(planted: int, names: Sequence[str] = ("gsm8k", "sums")) -> list[Row]:
    """Recall of each kind, and precision over all questions of its half."""
    found: list[Row] = []
    for name in names:
        source, rules, kinds = SETS[name]
        items = load(name, source, None)
        rng = random.Random(0)
        rng.shuffle(items)
        half = min(len(items) // 2, 3000)
        benchmark, others = items[:half], items[half : 2 * half]
        index = Benchmarks(benchmark, rules, lexical_vectors([item.question for item in benchmark]))
        flagged_others = count(index, [item.question for item in others])
        for kind, change in kinds.items():
            copies = [change(item.question, rng) for item in benchmark[:planted]]
            hits = count(index, copies)
            found.append(
                {
                    "source": name,
                    "kind": kind,
                    "benchmark": len(benchmark),
                    "planted": len(copies),
                    "recall": hits / len(copies),
                    "precision": hits / (hits + flagged_others) if hits else None,
                    "others": len(others),
                    "others quarantined": flagged_others,
                }
            )
    return found


def count(index: Benchmarks, texts: Sequence[str]) -> int:
    """Number of these questions that are quarantined."""
    asked = [Question(str(number), text, 1, number, bait="", seed=0) for number, text in enumerate(texts)]
    return len(index.find(asked, lexical_vectors(texts)))


def verbatim(text: str, rng: random.Random) -> str:
    """The item, in the company that a model gives it."""
    before, after = rng.choice((("", ""), ("Sure! Here is a problem: ", ""), ("**Problem:** ", "\n\nShow your work.")))
    return before + text + after


def renumbered(text: str, rng: random.Random) -> str:
    """The item with every number replaced."""
    return re.sub(r"\d+", lambda match: str(rng.randint(2, 10 ** len(match[0]) + 1)), text)


def reworded(text: str, rng: random.Random) -> str:
    """The item with other numbers, another name for each, and other words where there are some."""
    names = dict.fromkeys(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+\b", text))
    for name, other in zip(names, rng.sample(NAMES, len(NAMES)), strict=False):
        text = text.replace(name, other)
    words = r"\b(?:" + "|".join(OTHER_WORDS) + r")\b"
    return re.sub(words, lambda match: OTHER_WORDS[match[0]], renumbered(text, rng))


def verbatim_alone(text: str, rng: random.Random) -> str:
    """The item and nothing else."""
    return text


def otherwise(text: str, rng: random.Random) -> str:
    """The same sum in other words, its terms exchanged."""
    first, second = re.findall(r"\d+", text)
    return rng.choice(("What is {} plus {}?", "Add: {} + {}", "What is the sum of {} and {}?")).format(second, first)


Change = Callable[[str, random.Random], str]
LONG: Mapping[str, Change] = {"verbatim": verbatim, "renumbered": renumbered, "reworded": reworded}
SHORT: Mapping[str, Change] = {"under 13 words, verbatim": verbatim_alone, "under 13 words, asked otherwise": otherwise}

SUMS = BenchmarkConfig(
    source=Source.reasoning_gym,
    family="basic_arithmetic",
    items=1200,
    options={
        "min_terms": 2,
        "max_terms": 2,
        "min_digits": 2,
        "max_digits": 3,
        "operators": ["+"],
        "allow_parentheses": False,
        "allow_negation": False,
    },
)
SETS: Mapping[str, tuple[BenchmarkConfig, DecontaminationConfig, Mapping[str, Change]]] = {
    "gsm8k": (BenchmarkConfig(source=Source.gsm8k), DecontaminationConfig(), LONG),
    "sums": (SUMS, DecontaminationConfig(similarity=None, computation=True), SHORT),
}
"""Problems by name: where they are from, the rules, and what is planted among them."""
