"""How many sequences the trainer reads at once is chosen by memory, and the batch stays what the config says."""

from dataclasses import replace

import pytest

from crescent.config import (
    BaitConfig,
    BenchmarkConfig,
    Child,
    Config,
    Dtype,
    EvalConfig,
    ModelConfig,
    ServingConfig,
    TrainConfig,
    Trainer,
    Tuning,
    WhileTraining,
)
from crescent.errors import BadConfig
from crescent.models.micro_batch import ACTIVATION_BYTES, CHECKPOINTED, Fit, Processes, find_fit, largest_divisor
from crescent.models.model_size import of_config
from train.launched import accumulation

QWEN_7B, QWEN_72B = 7.6e9, 72.7e9
ZERO3 = Processes(8, zero_stage=3)


def config(serving: ServingConfig | None = None, **train: object) -> Config:
    return Config(
        bait=BaitConfig(prompts={"b": "Ask."}),
        eval=EvalConfig(benchmarks={"dev": BenchmarkConfig()}),
        model=ModelConfig(dtype=Dtype.bfloat16),
        serving=serving or ServingConfig(),
        train=TrainConfig(**{"micro_batch": "auto", "gradient_checkpointing": "auto", **train}),  # type: ignore[arg-type]
    )


def fit(cfg: Config, gpu_gib: float | None, processes: Processes | None = None, parameters: float = QWEN_7B) -> Fit:
    return find_fit(cfg, parameters, processes or Processes(), gpu_gib, on_gpu=True)


@pytest.mark.parametrize(
    ("gpu_gib", "micro_batch", "checkpointing"),
    [(140.0, 4, False), (80.0, 2, False), (48.0, 8, True), (24.0, 1, True)],
)
def test_a_7b_with_adapters_on_gpus_of_several_sizes(gpu_gib: float, micro_batch: int, checkpointing: bool) -> None:
    found = fit(config(), gpu_gib)
    assert (found.micro_batch, found.gradient_checkpointing) == (micro_batch, checkpointing)
    assert "GiB held and" in found.why


@pytest.mark.parametrize("processes", [Processes(), Processes(8), Processes(4, 2), ZERO3])
@pytest.mark.parametrize("batch", [64, 48, 56])
def test_micro_batches_always_divide_the_batch_that_the_config_states(batch: int, processes: Processes) -> None:
    cfg = config(batch=batch, max_length=64)
    found = fit(cfg, 140.0, processes)
    job = replace(cfg.train, micro_batch=found.micro_batch, gradient_checkpointing=found.gradient_checkpointing)
    steps = accumulation(job, processes.number)
    assert steps * found.micro_batch * processes.number == batch


def test_less_memory_longer_sequences_or_a_larger_model_never_make_it_larger() -> None:
    def sequences(gpu_gib: float = 140.0, parameters: float = QWEN_7B, **train: object) -> int:
        return fit(
            config(batch=720720, gradient_checkpointing=True, **train), gpu_gib, parameters=parameters
        ).micro_batch

    assert sequences(140) > sequences(80) > sequences(48) > sequences(24)
    assert sequences(max_length=512) > sequences(max_length=2048) > sequences(max_length=8192)
    assert sequences(parameters=3e9) > sequences() > sequences(parameters=14e9)


def test_a_stated_number_stays_and_decides_about_checkpointing_only() -> None:
    assert fit(config(micro_batch=2), 140.0) == replace(fit(config(), 140.0), micro_batch=2)
    assert fit(config(micro_batch=16), 140.0).gradient_checkpointing
    assert fit(config(gradient_checkpointing=True), 140.0).micro_batch == 32
    assert not fit(config(gradient_checkpointing=False), 24.0).gradient_checkpointing


def test_all_weights_fit_only_where_zero_splits_them() -> None:
    full = config(ServingConfig(child=Child.restart), tuning=Tuning.full, learning_rate=1e-5)
    assert "DOES NOT FIT" in fit(full, 80.0).why
    assert "DOES NOT FIT" not in fit(full, 80.0, ZERO3).why
    assert "DOES NOT FIT" in fit(full, 80.0, ZERO3, QWEN_72B).why
    assert "DOES NOT FIT" not in fit(full, 80.0, replace(ZERO3, offloaded=True), QWEN_72B).why
    checkpointed = replace(full, train=replace(full.train, gradient_checkpointing=True, batch=720720))
    assert fit(checkpointed, 80.0, Processes(8, 2)).micro_batch < fit(checkpointed, 80.0, ZERO3).micro_batch


def test_an_engine_that_keeps_its_memory_leaves_the_trainer_less() -> None:
    kept = config(ServingConfig(while_training=WhileTraining.keep, memory_share=0.7))
    assert fit(kept, 140.0).gradient_checkpointing
    assert not fit(config(ServingConfig(while_training=WhileTraining.stop)), 140.0).gradient_checkpointing


def test_a_preference_takes_the_room_of_two_sequences() -> None:
    alone, paired = (
        fit(config(batch=720720, gradient_checkpointing=True, trainer=trainer), 140.0).micro_batch
        for trainer in (Trainer.sft, Trainer.dpo)
    )
    assert alone == 2 * paired


def test_without_numbers_it_is_careful_and_without_a_gpu_usual() -> None:
    cfg = config()
    unknown = Fit(2, True, "the memory of the GPU is unknown")
    assert find_fit(cfg, QWEN_7B, Processes(), None, on_gpu=True) == unknown
    assert find_fit(cfg, None, Processes(), 80.0, on_gpu=True).micro_batch == 2
    assert find_fit(cfg, QWEN_7B, Processes(), None, on_gpu=False) == Fit(8, False, "no GPU is used")


def test_activations_are_not_reckoned_below_what_a_gated_decoder_keeps() -> None:
    """Published shapes: hidden size, layers, intermediate size, heads, heads of keys and values, vocabulary."""
    shapes = {
        "Qwen2.5-0.5B": (896, 24, 4864, 14, 2, 151936),
        "Qwen2.5-1.5B": (1536, 28, 8960, 12, 2, 151936),
        "Qwen2.5-3B": (2048, 36, 11008, 16, 2, 151936),
        "Qwen2.5-7B": (3584, 28, 18944, 28, 4, 152064),
        "Llama-3-8B": (4096, 32, 14336, 32, 8, 128256),
        "Qwen2.5-14B": (5120, 48, 13824, 40, 8, 152064),
        "Qwen2.5-32B": (5120, 64, 27648, 40, 8, 152064),
        "Qwen2.5-72B": (8192, 80, 29568, 64, 8, 152064),
    }
    names = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads")
    for model, shape in shapes.items():
        settings = dict(zip((*names, "vocab_size"), shape, strict=True)) | {"tie_word_embeddings": shape[0] <= 2048}
        parameters = of_config(settings)
        assert parameters is not None
        width, layers, inner = shape[:3]
        layer = 36 * width + 8 * inner
        reckoned = ACTIVATION_BYTES * parameters ** (2 / 3)
        assert layers * layer <= reckoned <= 1.7 * layers * layer, model
        assert layers * 2 * width + layer <= CHECKPOINTED * reckoned, model


@pytest.mark.parametrize(("number", "limit", "expected"), [(64, 5, 4), (7, 6, 1), (12, 100, 12), (0, 3, 1), (8, 0, 1)])
def test_the_largest_divisor(number: int, limit: int, expected: int) -> None:
    assert largest_divisor(number, limit) == expected


def test_a_trainer_refuses_a_job_that_still_says_auto() -> None:
    for setting in ({"micro_batch": "auto"}, {"gradient_checkpointing": "auto"}):
        with pytest.raises(BadConfig, match="=auto: a job states what the loop chose"):
            accumulation(TrainConfig(**setting), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize("setting", [{"micro_batch": "all"}, {"micro_batch": 0}, {"gradient_checkpointing": "maybe"}])
def test_other_words_are_refused(setting: dict[str, object]) -> None:
    with pytest.raises(BadConfig, match=r"train\.(micro_batch|gradient_checkpointing)="):
        config(**setting)
