import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import some_pairs
from job_results import digests, losses, metrics, read_proof, run_apart, trained, weights_in

from crescent.config import Dtype, LoraConfig, Start, TrainJob, Tuning
from crescent.errors import BadConfig, DataSaysNo, Missing
from train.job import attempt

pytestmark = pytest.mark.real
FULL: dict[str, Any] = {"tuning": Tuning.full, "learning_rate": 1e-3}
RANK = LoraConfig(rank=4, alpha=8)


@pytest.fixture(scope="module")
def full(make_job: Callable[..., TrainJob]) -> Path:
    """Output of an undisturbed job that trained all weights."""
    return trained(replace(make_job(**FULL), merge=False))


def changed(tiny: Path, folder: Path, by: float) -> Path:
    """Another checkpoint of the same model, in which every weight is a little different."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(by * torch.randn_like(weight))
    model.save_pretrained(folder)
    return folder


def make_adapter(base: Path, folder: Path, rank: int = 4) -> Path:
    """An adapter with the settings `RANK` that changes the model's output."""
    import torch
    from peft import LoraConfig as Low
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = get_peft_model(
        model, Low(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if ".lora_B." in name:
                weight.normal_(0, 0.1)
    adapted.save_pretrained(folder)
    return folder


def test_all_weights_are_trained_and_only_they_are_written(full: Path, tiny: Path) -> None:
    assert {path.name for path in full.iterdir()} == {"weights", "proof.json", "metrics.json", "progress.jsonl"}
    base, child = weights_in(tiny), weights_in(full / "weights")
    assert child.keys() == base.keys()
    assert all(child[name].dtype == base[name].dtype and not child[name].equal(base[name]) for name in base)
    found = metrics(full)
    assert found["trainable_parameters"] == sum(weight.numel() for weight in base.values())
    assert found["loss_last"] < found["loss_first"]


def test_the_proof_is_of_the_weights_in_their_files(full: Path, tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from train.child import log_probabilities

    proof = read_proof(full)
    for folder, expected in ((full / "weights", proof.child), (tiny, proof.parent)):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        assert log_probabilities(model, proof.token_ids) == expected
    assert proof.child != proof.parent


def test_three_steps_give_the_losses_they_always_gave(full: Path, make_job: Callable[..., TrainJob]) -> None:
    job = make_job(max_steps=3, lora=RANK)
    attempt(job)
    assert losses(full)[:3] == pytest.approx([11.098606, 10.612595, 10.488831], rel=1e-4)
    assert losses(Path(job.output)) == pytest.approx([11.098606, 10.631851, 10.460269], rel=1e-4)


def test_killed_while_a_checkpoint_of_all_weights_is_saved_the_end_is_the_same(
    full: Path, make_job: Callable[..., TrainJob], capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job(**FULL)
    job.merge = False
    output = Path(job.output)
    assert run_apart(job, CRESCENT_FAILPOINT="train.saving:2=kill9").returncode == -9
    incomplete = output / "checkpoints" / "checkpoint-4"
    assert (incomplete / "model.safetensors").exists()
    attempt(job)
    assert "checkpoint-2" in capsys.readouterr().out
    assert digests(output) == digests(full)


def test_stopped_anywhere_while_the_child_is_written_the_end_is_the_same(
    make_job: Callable[..., TrainJob], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed, job = make_job(max_steps=1), make_job(max_steps=1)
    attempt(undisturbed)
    capsys.readouterr()
    for part in ("adapter", "weights", "proof", "metrics"):
        monkeypatch.setenv("CRESCENT_FAILPOINT", f"train.{part}=raise")
        with pytest.raises(RuntimeError, match=f"failpoint train.{part}"):
            attempt(job)
        trained_again = "step 1" in capsys.readouterr().out
        assert trained_again == (part == "adapter")
    monkeypatch.delenv("CRESCENT_FAILPOINT")
    attempt(job)
    assert digests(Path(job.output)) == digests(Path(undisturbed.output))


def test_all_weights_are_held_in_float32_and_written_in_the_models_type(
    make_job: Callable[..., TrainJob], tiny: Path
) -> None:
    import torch

    from train.start import load_start

    job = make_job(**{**FULL, "learning_rate": 1e-6}, max_steps=1)
    job.model.dtype = Dtype.bfloat16
    assert load_start(job, tiny).dtype == torch.float32
    attempt(job)
    assert {weight.dtype for weight in weights_in(Path(job.output) / "weights").values()} == {torch.bfloat16}


def test_a_loss_that_is_not_finite_stops_training_of_all_weights_as_well(make_job: Callable[..., TrainJob]) -> None:
    with pytest.raises(DataSaysNo, match=r"step \d: loss=.* gradient norm=nan .*lower train.learning_rate"):
        attempt(make_job(**{**FULL, "learning_rate": 1e30}, warmup=0.0))


def test_one_pair_is_enough_to_train(make_job: Callable[..., TrainJob]) -> None:
    job = make_job(some_pairs(1), epochs=1.0, batch=1, micro_batch=1)
    attempt(job)
    assert metrics(Path(job.output))["rows"] == 1


@pytest.mark.parametrize(("start", "alpha"), [(Start.parent, 1.0), (Start.merge, 0.25)])
def test_training_starts_from_an_adapter_scaled_by_alpha(
    make_job: Callable[..., TrainJob], tiny: Path, tmp_path: Path, start: Start, alpha: float
) -> None:
    import torch
    from safetensors.torch import load_file

    from train.start import load_start, load_started

    parent = make_adapter(tiny, tmp_path / "adapter")
    job = make_job(start=start, alpha=0.25, lora=RANK)
    job.parent = str(parent)
    low_rank, base = load_file(parent / "adapter_model.safetensors"), weights_in(tiny)
    for load in (load_start, load_started):
        merged = load(job, tiny).merge_and_unload().state_dict()
        for name in base:
            layer = f"base_model.model.{name.removesuffix('.weight')}"
            expected = base[name]
            if f"{layer}.lora_A.weight" in low_rank:
                by_hand = low_rank[f"{layer}.lora_B.weight"] @ low_rank[f"{layer}.lora_A.weight"]
                expected = expected + alpha * (RANK.alpha / RANK.rank) * by_hand
                assert not torch.allclose(merged[name], base[name], atol=1e-3)
            torch.testing.assert_close(merged[name], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(("start", "alpha"), [(Start.parent, 1.0), (Start.merge, 0.25)])
def test_all_weights_start_between_base_and_parent(
    make_job: Callable[..., TrainJob], tiny: Path, tmp_path: Path, start: Start, alpha: float
) -> None:
    import torch

    from train.start import load_start, load_started

    job = make_job(**FULL, start=start, alpha=0.25)
    job.parent = str(changed(tiny, tmp_path / "weights", by=0.1))
    base, parent = weights_in(tiny), weights_in(tmp_path / "weights")
    for load in (load_start, load_started):
        started = load(job, tiny).state_dict()
        for name in base:
            expected = base[name] + alpha * (parent[name] - base[name])
            torch.testing.assert_close(started[name], expected, atol=1e-6, rtol=1e-6)


def test_a_parent_of_the_wrong_kind_or_of_another_model_is_refused(
    make_job: Callable[..., TrainJob], tiny: Path, tmp_path: Path
) -> None:
    from transformers import AutoConfig, LlamaForCausalLM

    config = AutoConfig.from_pretrained(tiny)
    config.hidden_size = 16
    LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    adapter = make_adapter(tiny, tmp_path / "adapter")
    wide = make_adapter(tiny, tmp_path / "wide", rank=8)
    foreign = make_adapter(tmp_path / "other", tmp_path / "foreign")
    for tuning, parent, reason in (
        (Tuning.full, adapter, "an adapter, but train.tuning=full continues from complete weights"),
        (Tuning.lora, tiny, "complete weights, but train.tuning=lora continues from an adapter"),
        (Tuning.lora, wide, "train.lora.rank=4: the parent's adapter has 8"),
        (Tuning.lora, foreign, "fits only the base it was trained on"),
        (Tuning.full, tmp_path / "other", "not a descendant of model.path"),
        (Tuning.lora, tmp_path, "adapter_config.json is missing"),
    ):
        job = make_job(tuning=tuning, lora=RANK)
        job.parent = str(parent)
        with pytest.raises((BadConfig, Missing), match=reason):
            attempt(job)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_without_bitsandbytes_four_bits_are_refused_with_the_command_that_installs_it(
    make_job: Callable[..., TrainJob],
) -> None:
    with pytest.raises(Missing, match=r"train.tuning=qlora: needs bitsandbytes.*pip install 'bitsandbytes>="):
        attempt(make_job(tuning=Tuning.qlora))


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
def test_an_adapter_on_four_bits_is_merged_into_the_unquantised_base(
    make_job: Callable[..., TrainJob], tiny: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from train.start import load_start

    job = make_job(tuning=Tuning.qlora, lora=RANK, max_steps=3)
    four_bits = load_start(job, tiny).base_model.model.model.layers[0].mlp.up_proj.base_layer.weight
    assert four_bits.quant_type == "nf4"
    assert four_bits.quant_state.nested
    attempt(job)
    output = Path(job.output)
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    merged = PeftModel.from_pretrained(base, output / "adapter").merge_and_unload().state_dict()
    for name, weight in weights_in(output / "weights").items():
        torch.testing.assert_close(weight, merged[name], atol=1e-6, rtol=1e-5)
    assert losses(output)[-1] < losses(output)[0]


def test_a_tokenizer_of_another_model_is_refused(make_job: Callable[..., TrainJob], tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig, LlamaForCausalLM

    folder = tmp_path / "small"
    config = AutoConfig.from_pretrained(tiny)
    config.vocab_size = 1000
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(tiny / name, folder)
    job = make_job(max_steps=1)
    with pytest.raises(BadConfig, match=r"its tokenizer makes token \d+ \(.*\) and its embedding has 1000 rows"):
        attempt(replace(job, model=replace(job.model, path=str(folder))))


def test_the_card_describes_the_weights_and_reveals_no_local_path(
    make_job: Callable[..., TrainJob], tiny: Path, tmp_path: Path
) -> None:
    from huggingface_hub import ModelCard

    from train.card import model_card

    licensed = tmp_path / "models--some--base" / "snapshots" / "abc123"
    licensed.mkdir(parents=True)
    (licensed / "README.md").write_text("---\nlicense: mit\n---\n# Base\n")
    job = make_job(start=Start.merge, alpha=0.25)
    job.lineage, job.parent = {"run": "a | b", "round": "3"}, "somewhere"
    facts = {"rows": 7, "too_long": 1, "steps": 6, "loss_first": 2.0, "loss_last": 1.0, "settings": "0123"}
    card = model_card(job, licensed, facts)
    data = ModelCard(card).data
    assert (data["base_model"], data["license"], data["library_name"]) == ("some/base", "mit", "peft")
    for text in ("abc123", "0.25 (parent - base)", "7 trained on, 1 left out", "a \\| b", "learning rate 0.01", "0123"):
        assert text in card
    assert card == model_card(job, licensed, facts)
    plain = model_card(make_job(**FULL), tiny, facts)
    assert "| licence | unknown: see the base model |" in plain
    assert str(tiny.parent) not in plain
    assert ModelCard(plain).data["license"] is None
    (tiny / "LICENSE").write_text("\n  Apache License\n  Version 2.0\n")
    try:
        assert "| licence | Apache License |" in model_card(make_job(**FULL), tiny, facts)
    finally:
        (tiny / "LICENSE").unlink()
