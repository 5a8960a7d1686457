"""Merge an adapter into its base, outside a run: `python -P -m train.merge BASE ADAPTER DTYPE FOLDER`."""

import sys
from pathlib import Path

import torch
from peft import PeftModel

from crescent.config import Dtype
from crescent.machine.program import run_to_exit_code
from train.child import write_weights
from train.start import load


def merge(base: Path, adapter: Path, dtype: Dtype, folder: Path) -> None:
    """Write complete weights, with the files beside the base's, into `folder`, which exists."""
    stored = {Dtype.float32: torch.float32, Dtype.bfloat16: torch.bfloat16, Dtype.auto: torch.bfloat16}[dtype]
    merged = PeftModel.from_pretrained(load(base, stored), adapter).merge_and_unload()
    made = folder / "merged"
    write_weights(merged, base, made, "")
    for file in made.iterdir():
        file.rename(folder / file.name)
    made.rmdir()


if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(run_to_exit_code(lambda: merge(Path(given[0]), Path(given[1]), Dtype[given[2]], Path(given[3]))))
