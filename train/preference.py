"""Preference: the majority over an outvoted answer (TRL's DPOTrainer)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crescent.config import TrainJob
from crescent.records import Pair
from train.training import Prepared


def prepare_dpo(job: TrainJob, pairs: Sequence[Pair], base: Path, tokenizer: Any) -> Prepared:
    """TRL's trainer around the model and its rows."""
    raise NotImplementedError
