"""How likely a served checkpoint finds the reference answers, beside distractors (`crescent.judging.likelihood`)."""

from collections.abc import Mapping, Sequence

from crescent.config import EvalConfig
from crescent.config.checks import fill
from crescent.engine.client import Scorer
from crescent.judging.likelihood import END, Likelihood, distractors, summed
from crescent.records import Item
from eval.benchmarks import Benchmark
from eval.benchmarks.shots import Shot, few_shot_prompt


async def score_likelihoods(
    scorer: Scorer, benchmarks: Mapping[str, Benchmark], config: EvalConfig, answer_prompt: str
) -> list[Likelihood]:
    """One record for each item of the benchmarks with `likelihood` set, asked one text at a time."""
    found = []
    for name, benchmark in benchmarks.items():
        count, reply = config.benchmarks[name].likelihood, config.benchmarks[name].reply
        targets = {item.target for item in benchmark.items}
        for item in benchmark.items if count else ():
            candidates = [item.target, *distractors(item.target, targets - {item.target}, count)]
            prompt = prompt_of(item, config, answer_prompt, benchmark.shots)
            texts = [await scorer.log_probabilities(prompt, reply + candidate + END) for candidate in candidates]
            values = tuple(round(value, 4) for value in summed(texts))
            found.append(Likelihood(name, item.id, tuple(candidates), values))
    return found


def prompt_of(item: Item, config: EvalConfig, answer_prompt: str, shots: Sequence[Shot] = ()) -> str:
    """The message that asks an item: after the shots, or in `benchmark.prompt`, or in the task's prompt."""
    template = config.benchmarks[item.benchmark].prompt or answer_prompt
    return few_shot_prompt(shots, item.question) if shots else fill(template, item.question)
