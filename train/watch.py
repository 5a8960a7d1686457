"""What happens between two optimizer steps: progress is reported, bad numbers stop the run, signals are obeyed."""

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
from crescent.machine.failpoint import failpoint
from train.checkpoints import newest_complete
from train.throughput import Speedometer, Work, speedometer, spoken

NOTED = {
    "reward": "reward",  # GRPO: mean over all sampled answers
    "frac_reward_zero_std": "groups_without_spread",  # share of them: all right or all wrong, they teach nothing
    "completions/clipped_ratio": "answers_cut",  # share, at train.grpo.max_tokens
    "rewards/accuracies": "preferred",  # DPO: share of pairs whose chosen answer gained more than the rejected one
}
"""What TRL logs of a step beside its loss and we keep, each with our name for it."""


def noted(logs: dict[str, Any]) -> dict[str, float]:
    """What is kept of a step's logs, by our names."""
    return {ours: round(logs[theirs], 6) for theirs, ours in NOTED.items() if theirs in logs}


@contextmanager
def signals_noted() -> Iterator[list[int]]:
    """A list that fills with the signals that ask us to end, instead of being interrupted by them."""
    noted: list[int] = []
    asking = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
    before = {number: signal.signal(number, lambda received, _frame: noted.append(received)) for number in asking}
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Watch(TrainerCallback):  # type: ignore[misc]  # transformers has no types
    """Added to the trainer in every process."""

    def __init__(self, output: Path, accelerator: Any, signals: list[int]) -> None:
        self.output = output
        self.accelerator = accelerator
        self.signals = signals
        self.work = Work()
        """All of it since training began or went on."""
        self.meter: Speedometer | None = None
        self.clock = 0.0
        self.tokens = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any, **_: Any) -> None:
        self.meter = speedometer(model, args.world_size, half=args.bf16 or args.fp16)
        self.work, self.clock, self.tokens = Work(), time.monotonic(), state.num_input_tokens_seen
        if state.is_world_process_zero:
            keep_progress(self.output / "progress.jsonl", until=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        failpoint("train.step")
        if self.signals:
            self.accelerator.set_trigger()
        # Asked of all processes, because a signal does not reach them at the same step.
        if self.accelerator.check_trigger() or state.global_step >= state.max_steps:
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        if "loss" not in logs:  # the summary at the end
            return
        loss, norm, rate = logs["loss"], logs.get("grad_norm"), logs["learning_rate"]
        if not (math.isfinite(loss) and (norm is None or math.isfinite(norm))):
            good = newest_complete(self.output / "checkpoints")
            raise DataSaysNo(
                f"step {state.global_step}: loss={loss}, gradient norm={norm} at learning rate {rate:g}; the last "
                f"checkpoint before is {good or 'none'}; lower train.learning_rate (now {args.learning_rate:g})"
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
                **noted(logs),
                "seconds": round(work.seconds, 3),
                **rates,
            }
            with (self.output / "progress.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")
            done = f"step {state.global_step}/{state.max_steps}"
            print(f"{done}  loss {loss:.4f}  learning rate {rate:.2e}  {spoken(rates)}", flush=True)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        failpoint("train.saved")
        self.clock = time.monotonic()  # a step's rate is that of training; what saving takes shows in the total

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero and self.meter is not None and self.work.tokens:
            seconds = f"{self.work.seconds:.1f} s"
            print(f"{self.work.tokens} tokens in {seconds}: {spoken(self.meter.rates(self.work))}", flush=True)


def keep_progress(path: Path, until: int) -> None:
    """Drop the steps that will be made again, so that each appears once."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            done = json.loads(line)["done"]
        except ValueError:
            break
        if done <= until:
            kept.append(line + "\n")
    path.write_text("".join(kept))
