"""What the engine does while the trainer works is chosen by memory."""

from dataclasses import replace

import pytest

from crescent.config import (
    BaitConfig,
    BenchmarkConfig,
    Child,
    Config,
    EvalConfig,
    ModelConfig,
    ServingConfig,
    TrainConfig,
    Tuning,
    WhileTraining,
)
from crescent.models.while_training import choose, while_training


def config(parameters_b: float = 7.6, **serving: object) -> Config:
    return Config(
        bait=BaitConfig(prompts={"b": "Ask."}),
        eval=EvalConfig(benchmarks={"dev": BenchmarkConfig()}),
        model=ModelConfig(parameters_b=parameters_b),
        serving=ServingConfig(**serving),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("share", "gpus", "free", "expected"),
    [
        (0.9, [140.0] * 8, 1000.0, "sleep"),
        (0.9, [140.0] * 8, 200.0, "stop"),
        (0.9, [140.0], 200.0, "sleep"),
        (0.9, [140.0], 32.0, "stop"),
        (0.5, [140.0], 200.0, "keep"),
        (0.9, [24.0], 200.0, "stop"),
        (0.9, [None], 200.0, "stop"),
    ],
)
def test_a_7b_beside_its_trainer(share: float, gpus: list[float | None], free: float, expected: str) -> None:
    assert choose(config(memory_share=share), gpus, free) is WhileTraining(expected)


def test_a_small_model_on_a_cpu_is_kept_if_it_fits() -> None:
    small = config(0.135)
    assert choose(small, [], 24.0) is WhileTraining.keep
    assert choose(small, [], 4.0) is WhileTraining.stop


def test_weights_that_all_learn_are_split_before_they_are_reckoned() -> None:
    full = replace(
        config(child=Child.reload), train=TrainConfig(tuning=Tuning.full, accelerate="auto", learning_rate=1e-5)
    )
    assert choose(full, [140.0] * 8, 1000.0) is WhileTraining.sleep
    assert choose(full, [140.0], 1000.0) is WhileTraining.sleep
    assert choose(replace(full, train=replace(full.train, accelerate=None)), [80.0] * 8, 1000.0) is WhileTraining.stop


def test_what_is_asked_for_or_cannot_be_reckoned_is_not_chosen() -> None:
    assert while_training(config(while_training=WhileTraining.keep)) is WhileTraining.keep
    nameless = replace(config(), model=ModelConfig(path="someone/model"))
    assert choose(nameless, [140.0], 500.0) is WhileTraining.stop, "the size is unknown"
    assert choose(config(child=Child.restart), [140.0], 500.0) is WhileTraining.stop, "it is started again anyway"
    assert choose(config(urls=["http://192.0.2.1:1/v1"]), [140.0], 500.0) is WhileTraining.stop
