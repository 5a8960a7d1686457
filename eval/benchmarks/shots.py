"""Solved problems that stand before each item (few-shot prompting, arXiv 2005.14165).

They are always dev problems that are not asked themselves: for GSM8K of its train set, for a set divided in two of its
dev half, for a generated one drawn with another seed. So no test item is ever shown, also not before a dev item.
GSM-Plus has none of its own and takes GSM8K's: it rewords GSM8K's test questions, and one of its problems may be
another one with other numbers. The choice is seeded by the benchmark's `seed`: the same shots in the same order before
each item, for each checkpoint.

All stand in one message of the user, as in lm-evaluation-harness's gsm8k task (its `doc_to_text`, blocks with an empty
line between them):

    Question: How many are 2 and 2 apples?
    Answer: There are 2 + 2 = 4 apples.
    #### 4

    Question: How many are 3 and 4 apples?
    Answer:

What follows `Answer:` is the worked solution where the set has one (GSM8K, MATH-500), else only `#### 4`. A response
ends where the model begins a question of its own.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from crescent.config import BenchmarkConfig, Source, Split
from crescent.errors import BadConfig
from crescent.records import Item, digest, request_seed
from eval.benchmarks.multiple_choice import letters_of

STOP = ("\nQuestion:",)
"""Ends a response that goes on with a question of its own."""


@dataclass(frozen=True)
class Shot:
    """One solved problem."""

    id: str
    """The item's it would be if it were asked."""
    question: str
    answer: str
    """Ends with `#### ` and the reference answer."""


def few_shot_prompt(shots: Sequence[Shot], question: str) -> str:
    """The user's message, shots first."""
    solved = [f"Question: {shot.question}\nAnswer: {shot.answer}" for shot in shots]
    return "\n\n".join([*solved, f"Question: {question}\nAnswer:"])


def shot_source(config: BenchmarkConfig) -> BenchmarkConfig:
    """The benchmark whose problems may be shots of another one."""
    if config.source is Source.gsm_plus:
        return replace(config, source=Source.gsm8k, family=None, split=Split.dev, items=None)
    if config.source is Source.reasoning_gym:
        # Of so many different ones at least `shots` are not asked.
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
    """A seeded choice of `config.shots` from the `pool`; more shots begin with the same ones as fewer.

    Args:
        hidden: Items that must not be shown. Spelling does not count: the same letters are the same problem.
        solutions: Worked ones by question.

    Raises:
        BadConfig: too few are left.
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
