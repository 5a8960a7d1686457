"""Training on preferences: what is compared, how much each comparison weighs, and what the reference is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import some_pairs
from job_results import adapter_of, digests, metrics, read_proof, run_apart, trained

from crescent.config import DpoConfig, Start, Trainer, TrainJob, Tuning
from crescent.errors import DataSaysNo
from crescent.records import Pair
from train.job import attempt

pytestmark = pytest.mark.real
MARGINS = (0.125, 0.75, 0.5, 0.25)


def contested(count: int, margins: Sequence[float] = (0.5,)) -> list[Pair]:
    """Pairs with an outvoted answer."""
    return [
        replace(pair, rejected=f"I guess {n}. #### {n}", margin=margins[n % len(margins)])
        for n, pair in enumerate(some_pairs(count))
    ]


@pytest.fixture(scope="module")
def dpo(make_job: Callable[..., TrainJob]) -> Callable[..., TrainJob]:
    """Makes jobs; six steps of four preferences, as in `make_job`."""

    def make(pairs: list[Pair] | None = None, **train: Any) -> TrainJob:
        return make_job(contested(12, MARGINS) if pairs is None else pairs, trainer=Trainer.dpo, **train)

    return make


@pytest.fixture(scope="module")
def reference(dpo: Callable[..., TrainJob]) -> Path:
    """Output of an undisturbed job."""
    return trained(dpo())


def prepared(job: TrainJob, pairs: list[Pair], tiny: Path) -> Any:
    from transformers import AutoTokenizer

    from train.trainers.dpo import prepare_dpo

    return prepare_dpo(job, pairs, tiny, AutoTokenizer.from_pretrained(tiny)).trainer


def loss_of(trainer: Any, rows: Sequence[int]) -> float:
    """Loss of a micro batch of these rows."""
    columns = trainer._signature_columns or (trainer._set_signature_columns_if_needed(), trainer._signature_columns)[1]
    known = [name for name in columns if name in trainer.train_dataset.column_names]
    examples = [trainer.train_dataset.select_columns(known)[row] for row in rows]
    trainer.model.train()
    return float(trainer.compute_loss(trainer.model, trainer._prepare_inputs(trainer.data_collator(examples))).detach())


def move_away(trainer: Any) -> None:
    """Train a little by hand, so that losses differ from log 2 and from each other."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in trainer.model.named_parameters():
            if weight.requires_grad and ".lora_A." not in name:
                weight += 0.3 * torch.randn(weight.shape, generator=generator)


def test_the_majority_becomes_likelier_than_the_outvoted(reference: Path) -> None:
    found = metrics(reference)
    assert (found["rows"], found["without_rejected"], found["too_long"], found["steps"]) == (12, 0, 0, 6)
    assert found["loss_last"] < found["loss_first"]
    assert found["tokens_seen"] == 2 * found["tokens"]
    assert read_proof(reference).child != read_proof(reference).parent


def test_the_first_step_of_any_start_is_log_2(dpo: Callable[..., TrainJob], reference: Path, tiny: Path) -> None:
    """Relative to a reference that is the model itself, chosen and rejected are equally likely."""
    adapter, weights = str(reference / "adapter"), str(reference / "weights")
    starts: list[tuple[str | None, dict[str, Any]]] = [
        (None, {}),
        (adapter, {"start": Start.parent}),
        (adapter, {"start": Start.merge, "alpha": 0.5}),
        (None, {"tuning": Tuning.full}),
        (weights, {"tuning": Tuning.full, "start": Start.parent}),
        (weights, {"tuning": Tuning.full, "start": Start.merge, "alpha": 0.5}),
    ]
    pairs = contested(4)
    for parent, train in starts:
        trainer = prepared(replace(dpo(pairs, **train), parent=parent), pairs, tiny)
        assert loss_of(trainer, range(4)) == pytest.approx(math.log(2), abs=1e-5), (parent, train)
        move_away(trainer)
        assert loss_of(trainer, range(4)) != pytest.approx(math.log(2), abs=1e-3), (parent, train)


def test_only_the_adapter_is_trained_and_a_new_one_needs_no_copy(
    dpo: Callable[..., TrainJob], reference: Path, tiny: Path
) -> None:
    job = dpo()
    fresh = prepared(job, contested(4), tiny).model
    continued = prepared(replace(job, parent=str(reference / "adapter")), contested(4), tiny).model
    assert list(fresh.peft_config) == ["default"]
    assert list(continued.peft_config) == ["default", "ref"]
    for model in (fresh, continued):
        trained = {name.split(".")[-2] for name, weight in model.named_parameters() if weight.requires_grad}
        assert trained == {"default"}


def test_equal_margins_give_trls_own_loss(dpo: Callable[..., TrainJob], tiny: Path) -> None:
    pairs = contested(4, [0.25])
    losses = []
    for weighted in (True, False):
        job = dpo(pairs, dpo=DpoConfig(margin_weighted=weighted))
        trainer = prepared(job, pairs, tiny)
        move_away(trainer)
        losses.append(loss_of(trainer, range(4)))
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)
    assert losses[0] != pytest.approx(math.log(2), abs=0.01)


def test_the_loss_is_the_mean_weighted_by_margins(dpo: Callable[..., TrainJob], tiny: Path) -> None:
    from train.child import log_probabilities

    pairs = contested(4, MARGINS)
    job = dpo(pairs, dpo=DpoConfig(beta=0.3))
    trainer = prepared(job, pairs, tiny)
    move_away(trainer)
    trainer.model.eval()

    def likelihoods(kind: str) -> list[float]:
        rows = trainer.train_dataset
        texts = [prompt + answer for prompt, answer in zip(rows["prompt_ids"], rows[kind], strict=True)]
        found = log_probabilities(trainer.model, texts)
        return [sum(row[-len(answer) :]) for row, answer in zip(found, rows[kind], strict=True)]  # type: ignore[arg-type]

    now = [likelihoods(kind) for kind in ("chosen_ids", "rejected_ids")]
    with trainer.model.disable_adapter():
        before = [likelihoods(kind) for kind in ("chosen_ids", "rejected_ids")]
    margins = [(now[0][n] - before[0][n]) - (now[1][n] - before[1][n]) for n in range(4)]
    losses = [math.log1p(math.exp(-0.3 * margin)) for margin in margins]
    mean = sum(MARGINS) / 4
    by_hand = [margin / mean * loss for margin, loss in zip(MARGINS, losses, strict=True)]
    assert max(losses) - min(losses) > 0.05, "otherwise any weights would pass"
    for rows in ([0, 1, 2, 3], [1], [0, 2]):
        expected = sum(by_hand[row] for row in rows) / len(rows)
        assert loss_of(trainer, rows) == pytest.approx(expected, abs=1e-4)
    assert sum(trainer.train_dataset["weight"]) == pytest.approx(4)


def test_a_killed_trainer_resumes_from_its_checkpoint_and_ends_the_same(
    dpo: Callable[..., TrainJob], reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It starts from a parent whose copy is the reference. A checkpoint must not confuse the two."""
    from safetensors.torch import load_file

    jobs = [replace(dpo(start=Start.parent), parent=str(reference / "adapter")) for _ in range(2)]
    undisturbed, killed = (Path(job.output) for job in jobs)
    attempt(jobs[0])
    assert run_apart(jobs[1], CRESCENT_FAILPOINT="train.step:6=kill9").returncode == -9
    checkpoint = killed / "checkpoints" / "checkpoint-4"
    assert (checkpoint / "adapter_model.safetensors").exists()
    assert not (checkpoint / "ref").exists()
    saved = load_file(checkpoint / "adapter_model.safetensors")
    assert any((saved[name] != weight).any() for name, weight in adapter_of(reference).items())
    attempt(jobs[1])
    assert "checkpoint-4" in capsys.readouterr().out
    assert digests(killed) == digests(undisturbed)


def test_what_cannot_be_preferred_is_left_out_and_counted(dpo: Callable[..., TrainJob]) -> None:
    agreed = [replace(pair, id=f"agreed-{n}") for n, pair in enumerate(some_pairs(2))]
    general = replace(some_pairs(1)[0], id="general", source="replay", final="", agreement=0.0)
    long = replace(contested(1)[0], id="long", rejected="word " * 200)
    found = metrics(trained(dpo([*agreed, *contested(4), general, long], max_length=100, max_steps=1)))
    assert (found["rows"], found["without_rejected"], found["too_long"]) == (4, 3, 1)


def test_one_preference_is_enough(dpo: Callable[..., TrainJob]) -> None:
    found = metrics(trained(dpo(contested(1), max_steps=2)))
    assert (found["rows"], found["steps"]) == (1, 2)


def test_with_nothing_to_prefer_the_error_says_how_to_fix_it(dpo: Callable[..., TrainJob]) -> None:
    with pytest.raises(DataSaysNo, match=r"none of 5 pairs .*consensus.min_agreement.*max_unanimous.*trainer=sft"):
        attempt(dpo(some_pairs(5)))


def test_when_all_preferences_are_too_long_the_error_names_the_length_needed(dpo: Callable[..., TrainJob]) -> None:
    with pytest.raises(DataSaysNo, match=r"train.max_length=16: all 3 preferences are longer .*has (\d+) tokens.*=\1 "):
        attempt(dpo(contested(3), max_length=16))
