"""Sequences laid end to end are trained on as if each were alone, or refused. The speed of training is reported."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import some_pairs
from job_results import adapter_of, losses, metrics, progress, trained

from crescent.config import Batching, LoraConfig, TrainJob, Tuning
from crescent.errors import BadConfig, Missing
from train.job import attempt

ONE_STEP = {"batch": 3, "micro_batch": 3, "lora": LoraConfig(rank=4, alpha=8)}


def micro_batches(job: TrainJob, base: Path) -> list[dict[str, Any]]:
    """Micro batches of the trainer's first epoch."""
    return list(prepared(job, base).trainer.get_train_dataloader())


def prepared(job: TrainJob, base: Path) -> Any:
    from transformers import AutoTokenizer

    from crescent.records import Pair, read_lines
    from train.trainers.sft import prepare_sft

    return prepare_sft(job, read_lines(Path(job.pairs), Pair), base, AutoTokenizer.from_pretrained(base))


@pytest.fixture(scope="module")
def padded(make_job: Callable[..., TrainJob]) -> Path:
    """Output of a job of three steps with padded batches."""
    return trained(make_job(max_steps=3, lora=LoraConfig(rank=4, alpha=8), save_steps=9))


@pytest.fixture(scope="module")
def free(make_job: Callable[..., TrainJob]) -> Path:
    """Output of the same job without padding."""
    lora = LoraConfig(rank=4, alpha=8)
    return trained(make_job(batching=Batching.padding_free, max_steps=3, lora=lora, save_steps=9))


@pytest.mark.real
def test_sequences_laid_end_to_end_teach_the_same_step_by_step(padded: Path, free: Path) -> None:
    import torch

    assert losses(free) == pytest.approx(losses(padded), abs=1e-4)
    assert losses(padded)[-1] < losses(padded)[0]
    weights = adapter_of(free)
    for name, weight in adapter_of(padded).items():
        torch.testing.assert_close(weight, weights[name], atol=1e-4, rtol=1e-3)


@pytest.mark.real
def test_tokens_are_counted_alike_with_and_without_padding(padded: Path, free: Path) -> None:
    for name in ("rows", "tokens", "completion_tokens", "tokens_seen"):
        assert metrics(padded)[name] == metrics(free)[name]
    assert [line["tokens"] for line in progress(padded)] == [line["tokens"] for line in progress(free)]
    assert sum(line["padding"] for line in progress(padded)) > 0
    assert [line["padding"] for line in progress(free)] == [0, 0, 0]


@pytest.mark.real
@pytest.mark.parametrize("batching", [Batching.padding_free, Batching.packed])
def test_only_the_answers_are_learnt_when_sequences_lie_end_to_end(
    batching: Batching, make_job: Callable[..., TrainJob], tiny: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    pairs = some_pairs(3)
    [batch] = micro_batches(make_job(pairs, batching=batching, max_length=500, **ONE_STEP), tiny)
    assert batch["input_ids"].shape[0] == 1
    assert "attention_mask" not in batch
    borders = batch["cu_seq_lens_q"].tolist()
    learnt, read = set(), set()
    for start, end in pairwise(borders):
        ids, labels = batch["input_ids"][0, start:end], batch["labels"][0, start:end]
        assert batch["position_ids"][0, start:end].tolist() == list(range(end - start))
        trained = labels != -100
        assert (labels[trained] == ids[trained]).all()
        learnt.add(tokenizer.decode(ids[trained]))
        read.add(tokenizer.decode(ids[~trained]))
    assert learnt == {f"{pair.completion}<|im_end|>\n" for pair in pairs}
    prompts = ([{"role": "user", "content": pair.prompt}] for pair in pairs)
    assert read == {
        tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True) for prompt in prompts
    }


@pytest.mark.real
def test_a_packed_step_has_the_loss_of_the_sequences_it_holds(make_job: Callable[..., TrainJob]) -> None:
    padded = trained(make_job(max_steps=1, batch=12, micro_batch=4, lora=LoraConfig(rank=4, alpha=8)))
    two_rows = make_job(max_steps=1, batch=2, micro_batch=1, lora=LoraConfig(rank=4, alpha=8))
    longest_row = -(-metrics(padded)["tokens"] // 2) + 30
    packing = replace(two_rows.train, batching=Batching.packed, max_length=longest_row)
    packed = trained(replace(two_rows, train=packing))
    assert metrics(packed)["packed_rows"] == 2
    assert progress(packed)[0]["loss"] == pytest.approx(progress(padded)[0]["loss"], abs=1e-4)
    for name in ("rows", "tokens", "completion_tokens", "tokens_seen"):
        assert metrics(packed)[name] == metrics(padded)[name]


@pytest.mark.real
@pytest.mark.parametrize("batching", [Batching.padded, Batching.padding_free])
def test_without_a_gpu_loss_and_gradients_are_still_those_of_trl(
    batching: Batching, make_job: Callable[..., TrainJob], tiny: Path
) -> None:
    import torch

    trainer = prepared(make_job(some_pairs(3), batching=batching, **ONE_STEP), tiny).trainer
    [batch] = list(trainer.get_train_dataloader())
    weights = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    found = []
    for compute_loss in (trainer.compute_loss, super(type(trainer), trainer).compute_loss):
        for count in (None, torch.tensor(50)):
            loss = compute_loss(trainer.model, dict(batch), num_items_in_batch=count)
            found.append((loss, torch.autograd.grad(loss, weights)))
    for ours, trls in zip(found[:2], found[2:], strict=True):
        torch.testing.assert_close(ours, trls, atol=1e-5, rtol=1e-4)


@dataclass(frozen=True)
class Steps:
    """What two steps of training left."""

    losses: list[float]
    weights: dict[str, Any]
    layer_calls: int
    """How often the first layer was computed: again for the backward pass, with gradient checkpointing."""


def as_on_a_gpu(job: TrainJob, base: Path) -> Steps:
    """Train with the loss that TRL computes on a GPU, by its fused head, which our trainer replaces on a CPU."""
    trainer = prepared(job, base).trainer
    trainer.compute_loss = super(type(trainer), trainer).compute_loss
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    layer = next(part for name, part in trainer.model.named_modules() if name.endswith("layers.0"))
    layer.register_forward_pre_hook(count)
    trainer.train()
    weights = {
        name: weight.detach().clone() for name, weight in trainer.model.named_parameters() if weight.requires_grad
    }
    return Steps([entry["loss"] for entry in trainer.state.log_history if "loss" in entry], weights, calls)


@pytest.mark.real
@pytest.mark.parametrize("tuning", [Tuning.lora, Tuning.full])
@pytest.mark.parametrize("batching", [Batching.padded, Batching.padding_free])
def test_a_gpus_loss_is_the_same_with_gradient_checkpointing(
    tuning: Tuning, batching: Batching, make_job: Callable[..., TrainJob], tiny: Path
) -> None:
    import torch

    usual = {"tuning": tuning, "batching": batching, "max_steps": 2, "lora": LoraConfig(rank=4, alpha=8)}
    plain, checkpointed = (
        as_on_a_gpu(make_job(gradient_checkpointing=checkpointing, learning_rate=1e-3, **usual), tiny)
        for checkpointing in (False, True)
    )
    assert checkpointed.layer_calls == 2 * plain.layer_calls > 0, "each layer is computed again"
    assert len(plain.losses) == 2
    assert checkpointed.losses == pytest.approx(plain.losses, abs=1e-5)
    for name, weight in plain.weights.items():
        torch.testing.assert_close(checkpointed.weights[name], weight, atol=1e-5, rtol=1e-4)
    ours = trained(make_job(learning_rate=1e-3, **usual))
    assert losses(ours) == pytest.approx(plain.losses, abs=1e-4)


@pytest.mark.real
def test_steps_and_warm_up_are_computed_from_packed_rows(make_job: Callable[..., TrainJob], tiny: Path) -> None:
    usual = {"epochs": 2.0, "batch": 2, "micro_batch": 1, "warmup": 0.5}
    ready = prepared(make_job(batching=Batching.packed, max_length=150, **usual), tiny)
    rows = ready.trainer.train_dataset
    lengths = [sum(sequences) for sequences in rows["seq_lengths"]]
    assert ready.counts["packed_rows"] == len(rows) < ready.counts["rows"] == 12
    assert max(lengths) <= 150
    steps = 2 * -(-len(rows) // 2)
    assert ready.trainer.args.warmup_steps == steps // 2
    batches = list(ready.trainer.get_train_dataloader())
    assert len(batches) == len(rows)
    assert sorted(batch["input_ids"].shape[1] for batch in batches) == sorted(lengths)
    assert ready.texts == prepared(make_job(**usual), tiny).texts


@pytest.fixture
def leaking() -> Iterator[str]:
    """Name of an attention as anybody might add one: causal, and blind to where a sequence begins."""
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def blind(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **settings: Any) -> Any:
        return sdpa_attention_forward(module, query, key, value, None, **settings)

    AttentionInterface.register("blind", blind)
    yield "blind"
    del AttentionInterface._global_mapping["blind"]


@pytest.mark.real
@pytest.mark.parametrize("batching", [Batching.padding_free, Batching.packed])
def test_an_attention_that_lets_sequences_see_each_other_is_refused(
    batching: Batching, make_job: Callable[..., TrainJob], leaking: str
) -> None:
    job = make_job(batching=batching, attention=leaking)
    advice = (
        rf"batching={batching.value}: with attention 'blind' .* logits differ by up to \d.*; use train.batching=padd"
    )
    with pytest.raises(BadConfig, match=advice):
        attempt(job)
    assert not (Path(job.output) / "progress.jsonl").exists()


@pytest.mark.real
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_the_influence_of_neighbouring_sequences_is_measured(attention: str, tiny: Path, leaking: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    from train.attention import find_leak

    collate = DataCollatorForLanguageModeling(pad_token_id=2, padding_free=True)
    sequences = [list(range(start, start + 20)) for start in (100, 300, 200)]
    found = {}
    for name in (attention, leaking):
        model = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32, attn_implementation=name)
        found[name] = find_leak(model, sequences, collate)
    assert found[attention].share < 1e-5
    assert found[leaking].share == pytest.approx(1, abs=0.1)
    assert found[leaking].largest > 0.1


@pytest.mark.real
def test_an_attention_that_is_not_installed_is_explained(make_job: Callable[..., TrainJob]) -> None:
    with pytest.raises(BadConfig, match=r"train.attention=nonsense: .*not supported"):
        attempt(make_job(attention="nonsense"))
    with pytest.raises(Missing, match=r"train.attention=flash_attention_2: .*pip install flash-attn .*attention=null"):
        attempt(make_job(attention="flash_attention_2"))


@pytest.mark.real
def test_liger_is_refused_without_a_gpu(make_job: Callable[..., TrainJob]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(BadConfig, match=r"train.liger=true: .* GPUs only"):
        attempt(make_job(liger=True))


@pytest.mark.real
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_each_micro_batch_of_each_process_holds_rows_of_like_length(processes: int) -> None:
    from accelerate.data_loader import BatchSamplerShard
    from torch.utils.data import BatchSampler

    from train.trainers.order import ByLengthInBatch

    lengths = [20 + (n * 37) % 200 for n in range(64)]
    step, micro_batch = 32, 4
    sampler = BatchSampler(ByLengthInBatch(lengths, step, 0, lambda: 0), micro_batch, drop_last=False)
    order = list(ByLengthInBatch(lengths, step, 0, lambda: 0))
    shards = [list(BatchSamplerShard(sampler, processes, index)) for index in range(processes)]
    assert len({len(shard) for shard in shards}) == 1
    for number, at_once in enumerate(zip(*shards, strict=True)):
        # Processes that wait for each other compute rows that are neighbours in the order of length.
        start = number * micro_batch * processes
        assert [row for batch in at_once for row in batch] == order[start : start + micro_batch * processes]
    slots = [max(lengths[row] for row in batch) * len(batch) for shard in shards for batch in shard]
    assert 1 - sum(lengths) / sum(slots) < 0.1


def linear(inputs: int, outputs: int, trained: bool) -> Any:
    import torch

    return torch.nn.Linear(inputs, outputs, bias=False).requires_grad_(trained)


def model_of(*layers: Any) -> Any:
    """A model whose configuration says 2 layers with 4 heads of size 8."""
    import torch

    model = torch.nn.Sequential(*layers)
    text = SimpleNamespace(hidden_size=32, num_attention_heads=4, num_hidden_layers=2)
    model.config = SimpleNamespace(get_text_config=lambda: text)  # type: ignore[assignment]
    return model


@pytest.mark.real
def test_frozen_weights_cost_four_operations_a_token_and_trained_ones_six() -> None:
    import torch

    from train.throughput import training_cost

    cost = training_cost(
        model_of(torch.nn.Embedding(9, 32), linear(32, 10, trained=False), linear(10, 5, trained=True))
    )
    assert cost is not None
    assert cost.weights == 4 * 320 + 6 * 50
    assert cost.attention == 12 * 2 * 4 * 8
    experts = torch.nn.Module()
    experts.weight = torch.nn.Parameter(torch.zeros(2, 3, 4))
    assert training_cost(model_of(experts)) is None


@pytest.mark.real
def test_a_gpus_peak_is_known_by_its_name_and_others_are_not() -> None:
    from train.throughput import peak_flops

    assert peak_flops("NVIDIA H100 80GB HBM3", half=True) == 989e12
    assert peak_flops("NVIDIA H100 PCIe", half=True) == 756e12
    assert peak_flops("NVIDIA A100-SXM4-80GB", half=False) == 19.5e12
    assert peak_flops("NVIDIA L40S", half=True) == 362e12
    assert peak_flops("NVIDIA A10G", half=True) is None
    assert peak_flops("", half=True) is None


@pytest.mark.real
def test_rates_count_tokens_without_padding_and_leave_out_what_is_unknown() -> None:
    from train.throughput import Cost, Speedometer, Work, rates_text

    step = Work(seconds=2.0, tokens=300, slots=400, squares=9000)
    rates = Speedometer(Cost(weights=1000, attention=10), peak=1e6).rates(step)
    assert rates == {"tokens_per_second": 150, "padding": 0.25, "mfu": 0.195}
    assert rates_text(rates) == "150 tokens/s  padding 25%  MFU 20%"
    unknown = Speedometer(None, None).rates(step + Work(1.0, 300, None, None))
    assert unknown == {"tokens_per_second": 200, "padding": None, "mfu": None}
    assert rates_text(unknown) == "200 tokens/s"


@pytest.mark.real
def test_speed_is_reported_step_by_step_and_kept_out_of_the_files_that_equal_jobs_share(
    make_job: Callable[..., TrainJob], capsys: pytest.CaptureFixture[str]
) -> None:
    output = trained(make_job(max_steps=2))
    printed = capsys.readouterr().out
    for line in progress(output):
        assert line["tokens_per_second"] > 0
        assert line["seconds"] > 0
        assert 0 <= line["padding"] < 1
        assert line["mfu"] is None or 0 < line["mfu"] < 1
    assert printed.count("tokens/s") == 3  # each step, and their mean
    assert f"{metrics(output)['tokens_seen']} tokens in " in printed
    assert not {"seconds", "tokens_per_second", "padding", "mfu"} & set(metrics(output))


def test_the_speed_benchmark_trains_on_recorded_answers_of_all_lengths() -> None:
    from benchmarks.training import recorded_pairs

    lengths = [len(pair.completion) for pair in recorded_pairs(12)]
    assert len(lengths) == 12
    assert lengths[-1] > 4 * lengths[0] > 0
    assert recorded_pairs(12) == recorded_pairs(12)
