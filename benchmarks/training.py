"""Speed of training, compared with two TRL scripts: `python -m benchmarks training`.

All contenders train a LoRA adapter of the same rank on SmolLM2-135M in float32, on the same rows with the same batch.
The rows are word problems that a real model answered (tests/recorded), so they vary in length as answers do. Each
contender takes one turn per repeat, in one process on one machine. The rate is tokens without padding per second, from
the beginning of training to the end of its last step, without loading and saving. CPU time is reported beside the
elapsed time, because other work on the machine disturbs it less.

- *default*: `SFTTrainer` as a newcomer would write it, but in float32, because half precision is slow on CPUs without
  instructions for it: rows in random order, padded, with gradient checkpointing, which is TRL's default.
- *tuned*: the same without gradient checkpointing and with rows grouped by length.
- *ours*: `train.batching=padded` and `padding_free`, as a round trains.
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
"""Rank of the adapter."""
DEFAULT, TUNED, PADDED, FREE = "TRL, default", "TRL, tuned", "ours, padded", "ours, padding-free"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks training", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=12, help="pairs that are trained on in each turn")
    parser.add_argument("--batch", type=int, default=12, help="sequences per optimizer step")
    parser.add_argument("--micro-batch", type=int, default=4, help="sequences per forward pass")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", help="comma-separated parts of contenders' names")
    options = parser.parse_args(arguments)

    pairs = recorded_pairs(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        turns = compete(pairs, options.batch, options.micro_batch, options.repeats, Path(folder), options.only)
    rows = [row(contender, turns) for contender in turns]
    show(f"Training on {options.rows} pairs, {options.repeats} turns each", rows)
    lengths = turns[0].lengths
    totals = {
        "pairs": options.rows,
        "batch": options.batch,
        "micro batch": options.micro_batch,
        "tokens a pair": [min(lengths), statistics.median(lengths), max(lengths)],
        "tokens/s of each turn": {taken.contender: [round(rate, 1) for rate in taken.rates] for taken in turns},
        "CPU s of each turn": {taken.contender: [round(used, 1) for used in taken.cpu_seconds] for taken in turns},
        "load average": os.getloadavg(),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
    }
    print(f"saved: {save('training', {'rows': rows, **totals})}")


def recorded_pairs(count: int) -> list[Pair]:
    """Pairs from complete answers to word problems, with evenly spread lengths: sorted by length and divided into
    `count` equal parts, the median of each part."""
    recorded = read_recording(FOLDER / "words.jsonl.gz").rows()
    answers = [row for row in recorded if row.kind == "answer" and row.finish_reason == "stop"]
    answers.sort(key=lambda row: (row.tokens, row.text))
    chosen = [answers[(2 * part + 1) * len(answers) // (2 * count)] for part in range(count)]
    return [Pair(str(n), f"q{n}", 1, row.prompt, row.text, "", 1.0) for n, row in enumerate(chosen)]


@dataclass(frozen=True)
class Turns:
    """All turns of one contender."""

    contender: str
    lengths: list[int]
    """Number of tokens in each row."""
    seconds: list[float]
    """Elapsed time of each turn."""
    cpu_seconds: list[float]
    """CPU time of each turn: of this process alone, over all cores."""
    slots: int
    """Number of tokens with padding, in the order of the last turn."""

    @property
    def rates(self) -> list[float]:
        """Tokens per second of each turn."""
        return [sum(self.lengths) / taken for taken in self.seconds]


def compete(
    pairs: list[Pair], batch: int, micro_batch: int, repeats: int, folder: Path, only: str | None
) -> list[Turns]:
    """Train with every contender `repeats` times, in turns. `only`: comma-separated parts of contenders' names."""
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
            print(f"turn {turn + 1} of {repeats}: {name}, {taken:.1f} s, {used:.1f} s of CPU time", flush=True)
    return [
        Turns(
            name,
            [len(ids) for ids in trainer.train_dataset["input_ids"]],
            seconds[name],
            cpu_seconds[name],
            slots(trainer),
        )
        for name, trainer in trainers.items()
    ]


def slots(trainer: Any) -> int:
    """Number of tokens with padding in one pass over a trainer's rows."""
    return sum(batch["input_ids"].numel() for batch in trainer.get_train_dataloader())


def trl_trainer(pairs: list[Pair], batch: int, micro_batch: int, output: Path, **tuning: Any) -> Any:
    """A trainer as in the scripts of TRL's documentation (https://huggingface.co/docs/trl/sft_trainer)."""
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
    """The trainer that a round uses, with its callbacks."""
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
    """Elapsed seconds and CPU seconds from the beginning of one training to the end of its last step."""
    stopwatch = _stopwatch()
    trainer.add_callback(stopwatch)
    trainer.args.seed = seed  # so that each turn has another order of rows
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


def row(contender: Turns, turns: Sequence[Turns]) -> dict[str, Any]:
    """Row of one contender: its median rate with its range, and the ratio of its median to that of each TRL script."""
    medians = {taken.contender: statistics.median(taken.rates) for taken in turns}
    cells = {
        "contender": contender.contender,
        "tokens/s": medians[contender.contender],
        "lowest": min(contender.rates),
        "highest": max(contender.rates),
        "CPU s": statistics.median(contender.cpu_seconds),
        "padding": 1 - sum(contender.lengths) / contender.slots,
    }
    for name, title in ((DEFAULT, "÷ default"), (TUNED, "÷ tuned")):
        cells[title] = medians[contender.contender] / medians[name] if name in medians else None
    return cells
