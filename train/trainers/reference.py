"""The reference model of DPO, and of GRPO with a divergence: always the weights that training starts from.

TRL copies the adapter it is given under another name. transformers would then resume from a checkpoint with that copy
instead of the adapter, because `Trainer._load_from_checkpoint` loads subfolders and skips the files beside them: a
resumed run would start again from the parent. So the copy is not saved; it is made again from the same parent.
"""

import shutil
from pathlib import Path
from typing import Any

from crescent.config import TrainJob

COPY = "ref"
"""TRL's name for its copy of the adapter."""


class ReferenceNotSaved:
    """Mixin, placed before a TRL trainer: its checkpoints hold only the trained adapter."""

    args: Any

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        super()._save(output_dir, state_dict)  # type: ignore[misc]  # defined by the trainer
        shutil.rmtree(Path(output_dir or self.args.output_dir) / COPY, ignore_errors=True)


def drop_needless_copy(trainer: Any, job: TrainJob, needs_reference: bool = True) -> None:
    """Free TRL's copy of the adapter where it is not needed: for a new adapter, which changes nothing yet, so that the
    model with its adapter disabled is the same reference; and for a loss without a reference."""
    if COPY in getattr(trainer.model, "peft_config", {}) and (job.parent is None or not needs_reference):
        trainer.model.delete_adapter(COPY)
