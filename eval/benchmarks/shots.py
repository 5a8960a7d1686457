"""Solved problems that precede each item (few-shot prompting, arXiv 2005.14165).

Shots are dev problems that are not asked themselves: from GSM8K's train set, from the dev half of a set that is divided
in two, or drawn with another seed for a generated set. So no test item is ever shown, not even before a dev item.
GSM-Plus takes its shots from GSM8K, because one of its own problems may be another one with other numbers. The choice
is seeded by the benchmark's `seed`: the same shots in the same order precede each item, for each checkpoint.

All shots are in one user message, as in lm-evaluation-harness's gsm8k task (its `doc_to_text`, blocks separated by an
empty line):

    Question: How many are 2 and 2 apples?
    Answer: There are 2 + 2 = 4 apples.
    #### 4

    Question: How many are 3 and 4 apples?
    Answer:

`Answer:` is followed by the worked solution if the set has one (GSM8K, MATH-500), else only by `#### 4`. A response
ends where the model begins another question.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from crescent.config import BenchmarkConfig, Source, Split
from crescent.errors import BadConfig
from crescent.records import Item, digest, request_seed
from eval.benchmarks.multiple_choice import letters_of

STOP = ("\nQuestion:",)
"""Strings that end a response which continues with another question."""


@dataclass(frozen=True)
class Shot:
    """One solved problem."""

    id: str
    """Id of the item that the problem would be if it were asked."""
    question: str
    answer: str
    """Worked solution, or nothing, then `#### ` and the reference answer."""


def few_shot_prompt(shots: Sequence[Shot], question: str) -> str:
    """The user message: the shots, then the question."""
    solved = [f"Question: {shot.question}\nAnswer: {shot.answer}" for shot in shots]
    return "\n\n".join([*solved, f"Question: {question}\nAnswer:"])


def shot_source(config: BenchmarkConfig) -> BenchmarkConfig:
    """The benchmark whose problems may become shots of this one."""
    if config.source is Source.gsm_plus:
        return replace(config, source=Source.gsm8k, family=None, split=Split.dev, items=None)
    if config.source is Source.reasoning_gym:
        # Enough different problems that at least `shots` of them are not asked.
        items = config.shots + (config.items or 0)
        return replace(config, seed=request_seed(config.seed, "shots"), split=Split.dev, items=items)
    return replace(config, split=Split.dev, items=None)


def choose_shots(
    name: str,
    config: BenchmarkConfig,
    pool: Sequence[Item],
    hidden: Iterable[Item],
    solutions: Mapping[str, str],
) -> tuple[Shot, ...]:
    """A seeded choice of `config.shots` problems from the `pool`; a larger choice begins with a smaller one.

    Args:
        hidden: Items that must not be shown. Spelling does not count: the same letters are the same problem.
        solutions: Worked solutions by question.

    Raises:
        BadConfig: too few problems are left.
    """
    asked = {letters_of(item.question) for item in hidden}
    left = [item for item in pool if letters_of(item.question) not in asked]
    if len(left) < config.shots:
        most = len(pool) - config.shots
        fewer_items = f"set items={most} or less, or " if config.split is Split.dev and most > 0 else ""
        raise BadConfig(
            f"eval.benchmarks.{name}.shots={config.shots}: only {len(left)} dev problems are left that are not asked "
            f"themselves; {fewer_items}set shots={len(left)}"
        )
    ranked = sorted(left, key=lambda item: digest(config.seed, "shots", item.id))
    return tuple(
        Shot(item.id, item.question, solutions.get(item.question) or f"#### {item.target}")
        for item in ranked[: config.shots]
    )
