import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fakes import some_pairs
from job_results import adapter_of, digests, metrics, read_proof, run_apart, steps_reported, trained

from crescent.config import Dtype, LoraConfig, ModelConfig, TrainConfig, TrainJob, Tuning
from crescent.errors import BadConfig, DataSaysNo, Missing, SettingsChanged
from crescent.models.model_folder import find_model
from train.checkpoints import SENTINEL, Layout, newest_complete, remove_incomplete, write_layout
from train.job import attempt
from train.launched import accumulation

STEPS = 6


@pytest.fixture(scope="module")
def reference(make_job: Callable[..., TrainJob]) -> Path:
    """Output of an undisturbed job."""
    return trained(make_job())


def loaded(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()


@pytest.mark.real
def test_a_job_leaves_adapter_weights_proof_metrics_and_no_checkpoints(reference: Path) -> None:
    names = {path.name for path in reference.iterdir()}
    assert names == {"adapter", "weights", "proof.json", "metrics.json", "progress.jsonl"}
    assert {path.name for path in (reference / "adapter").iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    assert steps_reported(reference) == list(range(1, STEPS + 1))
    found = metrics(reference)
    assert found["steps"] == STEPS
    assert found["rows"] == 12
    assert found["too_long"] == 0
    assert found["loss_last"] < found["loss_first"]
    assert found["tokens_seen"] == 2 * found["tokens"]


@pytest.mark.real
def test_only_the_answer_is_learnt(make_job: Callable[..., TrainJob], tiny: Path) -> None:
    from transformers import AutoTokenizer

    from train.trainers.sft import prepare_sft

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    pairs = some_pairs(3)
    job = make_job(pairs, batch=3, micro_batch=3)
    trainer = prepare_sft(job, pairs, tiny, tokenizer).trainer
    [batch] = list(trainer.get_train_dataloader())
    learnt, read = set(), set()
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        trained = labels != -100
        assert (labels[trained] == ids[trained]).all()
        learnt.add(tokenizer.decode(ids[trained]))
        read.add(tokenizer.decode(ids[~trained & mask.bool()]))
    assert learnt == {f"{pair.completion}<|im_end|>\n" for pair in pairs}
    assert read == {
        tokenizer.apply_chat_template(
            [{"role": "user", "content": pair.prompt}], tokenize=False, add_generation_prompt=True
        )
        for pair in pairs
    }


@pytest.mark.real
def test_merged_weights_are_base_plus_adapter(reference: Path, tiny: Path) -> None:
    import torch
    from peft import PeftModel

    merged = loaded(reference / "weights")
    adapted = PeftModel.from_pretrained(loaded(tiny), reference / "adapter")
    ids = torch.arange(100, 140)[None]
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(merged(ids).logits, loaded(tiny)(ids).logits, atol=1e-2)
    beside = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"}
    assert {path.name for path in (reference / "weights").iterdir()} == beside | {"model.safetensors", "README.md"}


@pytest.mark.real
def test_the_proof_tells_child_from_parent(reference: Path, tiny: Path) -> None:
    from train.child import log_probabilities

    proof = read_proof(reference)
    assert len(proof.token_ids) == 4
    assert all(row[0] is None for row in proof.child)

    def largest_difference(found: Any, expected: Any) -> float:
        rows = zip(found, expected, strict=True)
        return max(abs(a - b) for x, y in rows for a, b in zip(x[1:], y[1:], strict=True))

    assert largest_difference(proof.child, proof.parent) > 0.1
    assert largest_difference(proof.child, log_probabilities(loaded(reference / "weights"), proof.token_ids)) < 1e-4
    assert largest_difference(proof.parent, log_probabilities(loaded(tiny), proof.token_ids)) < 1e-4


@pytest.mark.real
def test_training_continues_from_the_parents_adapter(make_job: Callable[..., TrainJob], reference: Path) -> None:
    job = replace(make_job(max_steps=1), parent=str(reference / "adapter"), merge=False)
    attempt(job)
    proof = read_proof(Path(job.output))
    for row, expected in zip(proof.parent, read_proof(reference).child, strict=True):
        assert row[1:] == pytest.approx(expected[1:], abs=1e-3)
    assert proof.child != proof.parent
    assert not (Path(job.output) / "weights").exists()


@pytest.mark.real
def test_a_finished_job_is_left_alone(make_job: Callable[..., TrainJob], capsys: pytest.CaptureFixture[str]) -> None:
    job = make_job(max_steps=1)
    attempt(job)
    before = {path: path.stat().st_mtime_ns for path in Path(job.output).rglob("*")}
    attempt(job)
    assert "already trained" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in Path(job.output).rglob("*")} == before
    with pytest.raises(SettingsChanged, match="another job"):
        attempt(replace(job, seed=4))


@pytest.mark.real
def test_a_killed_trainer_resumes_from_its_checkpoint_and_ends_the_same(
    make_job: Callable[..., TrainJob], reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    output = Path(job.output)
    assert run_apart(job, CRESCENT_FAILPOINT="train.step:6=kill9").returncode == -9
    torn = output / "checkpoints" / "checkpoint-4" / "optimizer.pt"
    assert torn.exists()
    torn.write_bytes(torn.read_bytes()[:-100])
    attempt(job)
    assert "checkpoint-2" in capsys.readouterr().out
    assert steps_reported(output) == list(range(1, STEPS + 1))
    assert digests(output) == digests(reference)


@pytest.mark.real
def test_sigterm_saves_the_current_step_and_asks_for_the_same_command(
    make_job: Callable[..., TrainJob], reference: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = make_job()
    output = Path(job.output)
    ran = run_apart(job, CRESCENT_FAILPOINT="train.step:4=term")
    assert ran.returncode == 75
    assert "run the same command again" in ran.stderr
    assert json.loads((output / "stopped.json").read_text())["exit_code"] == 75
    attempt(job)
    assert "checkpoint-4" in capsys.readouterr().out
    assert not (output / "stopped.json").exists()
    assert digests(output / "adapter") == digests(reference / "adapter")


@pytest.mark.real
def test_accelerate_launches_the_same_training(make_job: Callable[..., TrainJob], reference: Path) -> None:
    import train

    job = make_job()
    config = Path(train.__path__[0]) / "accelerate" / "cpu.yaml"
    ran = run_apart(job, "accelerate.commands.launch", "--config_file", str(config), "-m", "train")
    assert ran.returncode == 0, ran.stderr
    assert digests(Path(job.output) / "adapter") == digests(reference / "adapter")


@pytest.mark.real
def test_rows_of_one_step_are_sorted_by_length_and_each_epoch_is_shuffled_anew() -> None:
    from train.trainers.order import ByLengthInBatch

    lengths = [n % 7 for n in range(20)]
    epochs = [list(ByLengthInBatch(lengths, 8, 0, lambda epoch=epoch: epoch)) for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2] != epochs[1]
    for order in epochs:
        assert sorted(order) == list(range(20))
        for start in (0, 8, 16):
            step = [lengths[row] for row in order[start : start + 8]]
            assert step == sorted(step, reverse=True)


@pytest.mark.real
def test_a_signal_to_one_of_two_processes_stops_both_and_one_resumes(make_job: Callable[..., TrainJob]) -> None:
    import torch

    job, alone = (make_job(lora=LoraConfig(rank=4, alpha=8)) for _ in range(2))
    script = Path(job.output).with_name("one_rank.py")
    script.write_text(
        "import os, runpy\n"
        "if os.environ['RANK'] == '1':\n"
        "    os.environ['CRESCENT_FAILPOINT'] = 'train.step:5=term'\n"
        "runpy.run_module('train', run_name='__main__')\n"
    )
    ran = run_apart(job, "torch.distributed.run", "--nproc_per_node=2", str(script))
    assert ran.returncode == 1, ran.stderr
    assert json.loads((Path(job.output) / "stopped.json").read_text())["exit_code"] == 75
    checkpoint = newest_complete(Path(job.output) / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-5"
    attempt(job)
    attempt(alone)
    expected = adapter_of(Path(alone.output))
    for name, weight in adapter_of(Path(job.output)).items():
        torch.testing.assert_close(weight, expected[name], atol=1e-4, rtol=1e-3)


@pytest.mark.real
def test_a_loss_that_is_not_finite_stops_the_run(make_job: Callable[..., TrainJob]) -> None:
    job = make_job(learning_rate=1e30, warmup=0.0, save_steps=1)
    with pytest.raises(
        DataSaysNo, match=r"step \d: loss=(nan|inf).*learning rate .*checkpoint-\d; lower train.learning_rate"
    ):
        attempt(job)
    assert json.loads((Path(job.output) / "stopped.json").read_text())["exit_code"] == 65


@pytest.mark.real
def test_the_micro_batch_does_not_change_what_is_learnt(make_job: Callable[..., TrainJob]) -> None:
    import torch

    adapters = []
    for micro_batch in (1, 4):
        job = make_job(micro_batch=micro_batch, max_steps=2, lora=LoraConfig(rank=4, alpha=8))
        attempt(job)
        adapters.append(adapter_of(Path(job.output)))
    for name, weight in adapters[0].items():
        torch.testing.assert_close(weight, adapters[1][name], atol=1e-4, rtol=1e-3)


@pytest.mark.real
def test_pairs_that_are_too_long_are_left_out_and_counted(make_job: Callable[..., TrainJob]) -> None:
    long = replace(some_pairs(1)[0], completion="word " * 200)
    found = metrics(trained(make_job([*some_pairs(4), long], max_length=100, max_steps=1)))
    assert (found["rows"], found["too_long"]) == (4, 1)
    with pytest.raises(DataSaysNo, match=r"train.max_length=16: all 4 pairs are longer"):
        attempt(make_job(some_pairs(4), max_length=16))


@pytest.mark.real
def test_bfloat16_weights_say_so(make_job: Callable[..., TrainJob]) -> None:
    import torch

    job = make_job(max_steps=1)
    attempt(replace(job, model=replace(job.model, dtype=Dtype.bfloat16)))
    assert loaded(Path(job.output) / "weights").dtype == torch.bfloat16


@pytest.mark.real
def test_a_base_without_chat_template_is_refused(tiny: Path) -> None:
    from transformers import AutoTokenizer

    from train.dataset import to_rows

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    tokenizer.chat_template = None
    with pytest.raises(BadConfig, match="no chat template"):
        to_rows(some_pairs(1), tokenizer, 100)


@pytest.mark.real
def test_unknown_lora_targets_are_named_with_the_known_ones(make_job: Callable[..., TrainJob]) -> None:
    with pytest.raises(BadConfig, match="is called qproj; this model has down_proj"):
        attempt(make_job(lora=LoraConfig(targets="qproj,v_proj")))


@pytest.mark.real
def test_memory_that_ran_out_is_explained_with_the_override_to_try() -> None:
    from train.memory import less_memory, memory_explained

    cfg = TrainConfig(batch=12, micro_batch=4)
    advice = r"try train.micro_batch=3 \(now 4\): same train.batch=12, same results"
    with pytest.raises(Missing, match=advice), memory_explained(cfg):
        raise MemoryError
    assert "gradient_checkpointing=true" in less_memory(replace(cfg, micro_batch=1), 1)
    lean = replace(cfg, micro_batch=1, gradient_checkpointing=True)
    assert "train.tuning=qlora" in less_memory(lean, 1)
    assert "max_length=1024" in less_memory(replace(lean, tuning=Tuning.qlora), 1)
    assert "train.accelerate=zero3_offload" in less_memory(replace(lean, tuning=Tuning.full, accelerate="zero2"), 8)
    offloaded = replace(lean, tuning=Tuning.full, accelerate="zero3_offload")
    assert "max_length=1024" in less_memory(offloaded, 8)


def test_the_batch_is_the_same_for_any_number_of_processes() -> None:
    assert accumulation(TrainConfig(batch=64, micro_batch=8), 1) == 8
    assert accumulation(TrainConfig(batch=64, micro_batch=8), 8) == 1
    with pytest.raises(BadConfig, match=r"train.batch=64: .* of 8 on 16 .* \(128 at once\); use train.micro_batch=4"):
        accumulation(TrainConfig(batch=64, micro_batch=8), 16)


def test_a_job_without_pairs_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").touch()
    empty = TrainJob(ModelConfig(), TrainConfig(), str(tmp_path / "pairs.jsonl"), str(tmp_path / "output"))
    with pytest.raises(DataSaysNo, match="empty"):
        attempt(empty)
    with pytest.raises(Missing, match="no such file"):
        attempt(replace(empty, pairs="nowhere"))


def test_what_the_other_processes_of_a_job_read_is_never_half_written(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").touch()
    job = TrainJob(ModelConfig(), TrainConfig(), str(tmp_path / "pairs.jsonl"), str(tmp_path / "output"))
    written = []
    for _ in range(2):
        with pytest.raises(DataSaysNo):
            attempt(job)
        [settings] = (tmp_path / "output" / "checkpoints").iterdir()
        written.append((settings.name, settings.stat().st_ino, settings.stat().st_mtime_ns))
    assert written[0] == written[1]


def test_a_missing_folder_is_not_taken_for_a_hub_id(tmp_path: Path) -> None:
    with pytest.raises(Missing, match="no such folder"):
        find_model(ModelConfig(path=str(tmp_path / "nowhere")))


def test_help_does_not_import_torch() -> None:
    code = "import sys, train.job; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code]).returncode == 0


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Two complete checkpoints, after 5 and after 10 steps."""
    tensors = b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}'
    for step in (5, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "adapter_model.safetensors").write_bytes(len(tensors).to_bytes(8, "little") + tensors + bytes(4))
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        write_layout(folder, Layout(1, "whole"))
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            with zipfile.ZipFile(folder / name, "w") as archive:
                archive.writestr("data", b"12345678")
    return tmp_path


def test_the_newest_complete_checkpoint_is_chosen_by_number(saved: Path) -> None:
    assert newest_complete(saved) == saved / "checkpoint-10"
    assert newest_complete(saved / "nothing-here") is None


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / SENTINEL).touch(),
        lambda folder: halve(folder / "trainer_state.json"),
        lambda folder: halve(folder / "adapter_model.safetensors"),
        lambda folder: halve(folder / "optimizer.pt"),
        lambda folder: (folder / "optimizer.pt").unlink(),
        lambda folder: (folder / "optimizer.pt").write_bytes(
            (folder / "optimizer.pt").read_bytes().replace(b"12345678", b"12345679")
        ),
        lambda folder: (folder / "scheduler.pt").unlink(),
        lambda folder: (folder / "rng_state.pth").unlink(),
        lambda folder: (folder / "trainer_state.json").write_text('{"global_step": 9}'),
    ],
)
def test_an_incomplete_checkpoint_is_skipped_and_cleared_away(saved: Path, damage: Callable[[Path], object]) -> None:
    damage(saved / "checkpoint-10")
    assert newest_complete(saved) == saved / "checkpoint-5"
    remove_incomplete(saved)
    assert [folder.name for folder in saved.iterdir()] == ["checkpoint-5"]
