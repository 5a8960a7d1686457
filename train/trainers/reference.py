"""The model that DPO, and GRPO with a divergence, hold a child to: always the weights that its training starts from.

TRL keeps a copy of the adapter it is given under another name, and transformers then goes on from a checkpoint with
that copy instead of the adapter (`Trainer._load_from_checkpoint` loads subfolders, and passes over what lies beside
them): a resumed run would have started again from the parent. So the copy is not saved; it is made again from the same
parent.
"""

import shutil
from pathlib import Path
from typing import Any

from crescent.config import TrainJob

COPY = "ref"
"""TRL's name for its copy."""


class ReferenceNotSaved:
    """In front of a trainer of TRL's: its checkpoints hold the trained adapter alone."""

    args: Any

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)  # type: ignore[misc]  # the trainer's
        shutil.rmtree(Path(output_dir or self.args.output_dir) / COPY, ignore_errors=True)


def drop_needless_copy(trainer: Any, job: TrainJob, held: bool = True) -> None:
    """Free TRL's copy of the adapter where it says nothing: a new adapter changes nothing yet, so that the model with
    its adapter disabled is the same; and without a divergence (`held`) there is no reference at all."""
    if COPY in getattr(trainer.model, "peft_config", {}) and (job.parent is None or not held):
        trainer.model.delete_adapter(COPY)
