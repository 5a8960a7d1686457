"""Between two optimizer steps: report progress, stop on numbers that are not finite, and obey signals."""

import json
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from crescent.errors import DataSaysNo
from crescent.machine.disk import write_whole
from crescent.machine.failpoint import failpoint
from train.checkpoints import newest_complete
from train.throughput import Speedometer, Work, rates_text, speedometer

KEPT = {
    "reward": "reward",  # GRPO: mean over all sampled answers
    "frac_reward_zero_std": "groups_without_spread",  # share of groups that teach nothing: all right or all wrong
    "completions/clipped_ratio": "answers_cut",  # share of answers that were cut at train.grpo.max_tokens
    "rewards/accuracies": "preferred",  # DPO: share of pairs whose chosen answer gained more than the rejected one
}
"""TRL's name → our name of each logged value that is kept beside the loss."""


def kept_values(logs: dict[str, Any]) -> dict[str, float]:
    """Values of one step's logs that are kept, by our names."""
    return {ours: round(logs[theirs], 6) for theirs, ours in KEPT.items() if theirs in logs}


@contextmanager
def signals_collected() -> Iterator[list[int]]:
    """A list to which each signal that asks the process to stop is appended, instead of interrupting it."""
    received: list[int] = []
    asking = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
    before = {number: signal.signal(number, lambda caught, _frame: received.append(caught)) for number in asking}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Callback that every process adds to its trainer."""

    def __init__(self, output: Path, accelerator: Any, signals: list[int]) -> None:
        self.output = output
        self.accelerator = accelerator
        self.signals = signals
        self.work = Work()
        """All work since training began or resumed."""
        self.meter: Speedometer | None = None
        self.clock = 0.0
        """Time of the last log or save, in seconds of `time.monotonic`."""
        self.tokens = 0
        """Number of tokens that had been seen at the last log."""

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        self.meter = speedometer(model, args.world_size, half=args.bf16 or args.fp16)
        self.work, self.clock, self.tokens = Work(), time.monotonic(), state.num_input_tokens_seen
        if state.is_world_process_zero:
            drop_later_steps(self.output / "progress.jsonl", last=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        failpoint("train.step")
        if self.signals:
            self.accelerator.set_trigger()
        # All processes decide together, because a signal does not reach them at the same step.
        if self.accelerator.check_trigger() or state.global_step >= state.max_steps:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" not in logs:  # TRL's summary at the end
            return
        loss, norm, rate = logs["loss"], logs.get("grad_norm"), logs["learning_rate"]
        if not (math.isfinite(loss) and (norm is None or math.isfinite(norm))):
            saved = newest_complete(self.output / "checkpoints")
            raise DataSaysNo(
                f"step {state.global_step}: loss={loss}, gradient norm={norm} at learning rate {rate:g}; last complete "
                f"checkpoint: {saved or 'none'}; lower train.learning_rate (now {args.learning_rate:g})"
            )
        now, seen = time.monotonic(), state.num_input_tokens_seen
        work = Work(now - self.clock, seen - self.tokens, logs.get("slots"), logs.get("squares"))
        self.work, self.clock, self.tokens = self.work + work, now, seen
        if state.is_world_process_zero and self.meter is not None:
            rates = self.meter.rates(work)
            line = {
                "done": state.global_step,
                "total": state.max_steps,
                "loss": round(loss, 6),
                "learning_rate": rate,
                "tokens": seen,
                **kept_values(logs),
                "seconds": round(work.seconds, 3),
                **rates,
            }
            with (self.output / "progress.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            done = f"step {state.global_step}/{state.max_steps}"
            print(f"{done}  loss {loss:.4f}  learning rate {rate:.2e}  {rates_text(rates)}", flush=True)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        failpoint("train.saved")
        self.clock = time.monotonic()  # so that a step's rate does not include the time for saving

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero and self.meter is not None and self.work.tokens:
            seconds = f"{self.work.seconds:.1f} s"
            print(f"{self.work.tokens} tokens in {seconds}: {rates_text(self.meter.rates(self.work))}", flush=True)


def drop_later_steps(path: Path, last: int) -> None:
    """Drop the lines of steps after `last`, which will be repeated, so that each step appears once."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            done = json.loads(line)["done"]
        except ValueError:
            break
        if done <= last:
            kept.append(line + "\n")
    write_whole(path, "".join(kept).encode())
