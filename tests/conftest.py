"""Fixtures and settings for all tests."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import some_pairs
from hypothesis import settings
from smoke_runs import run_smoke

from crescent.config import Dtype, LoraConfig, ModelConfig, TrainConfig, TrainJob
from crescent.models.packaged_model import packaged_model
from crescent.records import Pair, write_lines

# No deadline: the time that an example takes depends on the machine, not on the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


if "PYTEST_XDIST_WORKER" in os.environ:
    # Two workers' trainers and engines share the cores: threads that wait must sleep, not spin where others could work.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")

LONGEST = (
    *("loop", "shared_stages", "end_to_end", "sharded", "reinforcement", "train", "harness", "preference", "tuning"),
    "once",
)
"""Names of the test files that take minutes."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With several workers, start the longest files first, so that all workers finish at about the same time."""
    if hasattr(config, "workerinput"):
        order = {f"test_{name}.py": place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(item.path.name, len(order)))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random Llama with SmolLM2's tokenizer and chat template."""
    import torch
    from transformers import AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(bos_token_id=1, eos_token_id=2, pad_token_id=2)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(packaged_model()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def make_job(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainJob]:
    """Makes jobs of six steps of four sequences, saved after every second step; they differ in settings of `train`."""

    def make(pairs: list[Pair] | None = None, **train: Any) -> TrainJob:
        folder = tmp_path_factory.mktemp("job")
        write_lines(folder / "pairs.jsonl", some_pairs(12) if pairs is None else pairs)
        usual: dict[str, Any] = {"learning_rate": 0.01, "epochs": 2.0, "batch": 4, "micro_batch": 2, "save_steps": 2}
        lora = LoraConfig(rank=4, alpha=8, dropout=0.1)  # with dropout, the random state of a checkpoint matters
        return TrainJob(
            model=ModelConfig(path=str(tiny), dtype=Dtype.float32),
            train=TrainConfig(**{**usual, "lora": lora, **train}),
            pairs=str(folder / "pairs.jsonl"),
            output=str(folder / "output"),
            seed=3,
            merge=True,
        )

    return make


@pytest.fixture(scope="session")
def two_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Finished smoke runs: `zero`, seed 0 with two rounds; `one`, seed 1 with one round. Not to be written to."""
    root = tmp_path_factory.mktemp("runs")
    return run_smoke(root, "zero"), run_smoke(root, "one", "run.seed=1", "run.rounds=1")


@pytest.fixture
def zero(two_runs: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the first run, to be written to."""
    return Path(shutil.copytree(two_runs[0], tmp_path / "zero"))
