"""Training speed against two TRL scripts: `python -m benchmarks training`.

Everybody trains a LoRA adapter of the same rank on SmolLM2-135M in float32, on the same rows with the same batch: word
problems a real model answered (tests/recorded), which are as different in length as answers are. Everybody takes a turn
in each repeat, in one process on one machine. Counted are tokens without padding, per second from the beginning of
training to the end of its last step: without loading, without saving. The processor's seconds stand beside the clock's,
because on a machine that does other things too they are disturbed less.

- *default*: `SFTTrainer` as a newcomer writes it, but in float32, because half precision is slow on CPUs that have no
  instructions for it: rows in random order, padded; gradient checkpointing, which TRL switches on by itself.
- *tuned*: the same without gradient checkpointing and with rows grouped by length.
- *ours*: `train.batching` padded and padding_free, as a round trains.
"""

import argparse
import importlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import save
from benchmarks.recorded import FOLDER, read_recording
from benchmarks.tables import show
from crescent.config import Batching, Dtype, LoraConfig, ModelConfig, TrainConfig, TrainJob
from crescent.models.packaged_model import packaged_model
from crescent.records import Pair

RANK = 16
DEFAULT, TUNED, PADDED, FREE = "TRL, default", "TRL, tuned", "ours, padded", "ours, padding-free"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks training", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=12, help="pairs that are trained on in each turn")
    parser.add_argument("--batch", type=int, default=12, help="sequences per optimizer step")
    parser.add_argument("--micro-batch", type=int, default=4, help="sequences per forward pass")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help="comma-separated parts of contenders' names")
    given = parser.parse_args(arguments)

    pairs = recorded_pairs(given.rows)
    with tempfile.TemporaryDirectory() as folder:
        measured = compete(pairs, given.batch, given.micro_batch, given.repeats, Path(folder), given.only)
    rows = [row(its, measured) for its in measured]
    show(f"Training on {given.rows} pairs, {given.repeats} turns each", rows)
    lengths = measured[0].lengths
    totals = {
        "pairs": given.rows,
        "batch": given.batch,
        "micro batch": given.micro_batch,
        "tokens a pair": [min(lengths), statistics.median(lengths), max(lengths)],
        "tokens/s of each turn": {its.name: [round(rate, 1) for rate in its.rates] for its in measured},
        "CPU s of each turn": {its.name: [round(used, 1) for used in its.cpu_seconds] for its in measured},
        "load average": os.getloadavg(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }
    print(f"saved: {save('training', {'rows': rows, **totals})}")


def recorded_pairs(count: int) -> list[Pair]:
    """Finished answers to word problems, of evenly spread lengths: the median of so many equal parts."""
    said = [its for its in read_recording(FOLDER / "words.jsonl.gz").rows() if its.kind == "answer"]
    said = sorted((its for its in said if its.finish_reason == "stop"), key=lambda its: (its.tokens, its.text))
    chosen = [said[(2 * part + 1) * len(said) // (2 * count)] for part in range(count)]
    return [Pair(str(n), f"q{n}", 1, its.prompt, its.text, "", 1.0) for n, its in enumerate(chosen)]


@dataclass(frozen=True)
class Measured:
    name: str
    lengths: list[int]
    """Tokens of each row."""
    seconds: list[float]
    cpu_seconds: list[float]
    """Of all cores together, and of this process alone."""
    slots: int
    """Tokens with padding, in the order of the last turn."""

    @property
    def rates(self) -> list[float]:
        """Tokens per second of each turn."""
        return [sum(self.lengths) / its for its in self.seconds]


def compete(
    pairs: list[Pair], batch: int, micro_batch: int, repeats: int, folder: Path, only: str | None
) -> list[Measured]:
    """All contenders `repeats` times, taking turns."""
    makers: dict[str, Callable[[], Any]] = {
        DEFAULT: lambda: trl_trainer(pairs, batch, micro_batch, folder / "default"),
        TUNED: lambda: trl_trainer(
            pairs,
            batch,
            micro_batch,
            folder / "tuned",
            gradient_checkpointing=False,
            train_sampling_strategy="group_by_length",
        ),
        PADDED: lambda: our_trainer(pairs, batch, micro_batch, folder / "padded", Batching.padded),
        FREE: lambda: our_trainer(pairs, batch, micro_batch, folder / "free", Batching.padding_free),
    }
    chosen = [name for name in makers if only is None or any(part in name for part in only.split(","))]
    trainers = {name: makers[name]() for name in chosen}
    seconds: dict[str, list[float]] = {name: [] for name in chosen}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(repeats):
        for name, trainer in trainers.items():
            taken, used = timed(trainer, seed=turn)
            seconds[name].append(taken)
            cpu_seconds[name].append(used)
            print(f"turn {turn + 1} of {repeats}: {name}, {taken:.1f} s, {used:.1f} s of the processor", flush=True)
    return [
        Measured(
            name,
            [len(ids) for ids in trainer.train_dataset["input_ids"]],
            seconds[name],
            cpu_seconds[name],
            slots(trainer),
        )
        for name, trainer in trainers.items()
    ]


def slots(trainer: Any) -> int:
    """Tokens with padding in one pass over a trainer's rows."""
    return sum(batch["input_ids"].numel() for batch in trainer.get_train_dataloader())


def trl_trainer(pairs: list[Pair], batch: int, micro_batch: int, output: Path, **tuning: Any) -> Any:
    """A script as TRL's documentation shows it (https://huggingface.co/docs/trl/sft_trainer)."""
    trl, peft, datasets = (importlib.import_module(name) for name in ("trl", "peft", "datasets"))
    rows = [
        {
            "prompt": [{"role": "user", "content": pair.prompt}],
            "completion": [{"role": "assistant", "content": pair.completion}],
        }
        for pair in pairs
    ]
    return trl.SFTTrainer(
        model=str(packaged_model()),
        train_dataset=datasets.Dataset.from_list(rows),
        args=trl.SFTConfig(
            output_dir=str(output),
            num_train_epochs=1,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=batch // micro_batch,
            learning_rate=1e-4,
            model_init_kwargs={"dtype": "float32"},
            bf16=False,
            use_cpu=True,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **tuning,
        ),
        peft_config=peft.LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"),
    )


def our_trainer(pairs: list[Pair], batch: int, micro_batch: int, output: Path, batching: Batching) -> Any:
    """What a round's training starts, with all that watches over it."""
    from transformers import AutoTokenizer, PrinterCallback

    from train.trainers.sft import prepare_sft
    from train.watch import Watch

    job = TrainJob(
        model=ModelConfig(path="packaged:smollm2", dtype=Dtype.float32),
        train=TrainConfig(
            lora=LoraConfig(rank=RANK, alpha=2 * RANK),
            epochs=1,
            batch=batch,
            micro_batch=micro_batch,
            batching=batching,
        ),
        pairs="",
        output=str(output),
    )
    output.mkdir()
    base = packaged_model()
    trainer = prepare_sft(job, pairs, base, AutoTokenizer.from_pretrained(base)).trainer
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Watch(output, trainer.accelerator, signals=[]))
    return trainer


def timed(trainer: Any, seed: int) -> tuple[float, float]:
    """Seconds from the beginning of one training to the end of its last step, by the clock and of the processor."""
    stopwatch = _stopwatch()
    trainer.add_callback(stopwatch)
    trainer.args.seed = seed  # another order of rows in each turn
    trainer.train()
    trainer.remove_callback(stopwatch)
    taken, used = (end - begin for begin, end in zip(stopwatch.began, stopwatch.ended, strict=True))
    return taken, used


def _stopwatch() -> Any:
    from transformers import TrainerCallback

    class Stopwatch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
        began = ended = (0.0, 0.0)

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.began = time.perf_counter(), time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ended = time.perf_counter(), time.process_time()

    return Stopwatch()


def row(its: Measured, measured: Sequence[Measured]) -> dict[str, Any]:
    """A contender's median rate with its range, and the medians' ratio to each TRL script."""
    medians = {other.name: statistics.median(other.rates) for other in measured}
    found = {
        "contender": its.name,
        "tokens/s": medians[its.name],
        "lowest": min(its.rates),
        "highest": max(its.rates),
        "CPU s": statistics.median(its.cpu_seconds),
        "padding": 1 - sum(its.lengths) / its.slots,
    }
    for name, title in ((DEFAULT, "÷ default"), (TUNED, "÷ tuned")):
        found[title] = medians[its.name] / medians[name] if name in medians else None
    return found
