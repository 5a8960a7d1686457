"""Supervised fine-tuning on the winners (TRL's SFTTrainer)."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from crescent.config import TrainJob
from crescent.records import Pair
from train.dataset import to_rows
from train.order import ByLengthInBatch
from train.start import load_start
from train.training import Prepared, common_arguments


def prepare_sft(job: TrainJob, pairs: Sequence[Pair], base: Path, tokenizer: Any) -> Prepared:
    """TRL's trainer around the model and its rows."""
    cfg = job.train
    rows = to_rows(pairs, tokenizer, cfg.max_length)
    args = SFTConfig(
        **common_arguments(job, len(rows.kept), base),
        max_length=None,  # nothing is cut: what is too long was left out
        completion_only_loss=True,
        packing=False,  # rows would see each other without a variable-length attention kernel
        include_num_input_tokens_seen="non_padding",
    )
    set_seed(job.seed)
    trainer = LengthAwareTrainer(
        model=load_start(job, base),  # after `args`: by them, ZeRO-3 splits the weights while they are read
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows.kept),
        args=args,
    )
    labels = trainer.train_dataset["labels"]
    counts = {
        "rows": len(rows.kept),
        "too_long": rows.too_long,
        "tokens": sum(map(len, labels)),
        "completion_tokens": sum(label != -100 for row in labels for label in row),
    }
    return Prepared(trainer, trainer.train_dataset["input_ids"][:4], counts)


class LengthAwareTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer with our order of rows."""

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLengthInBatch:
        args = self.args
        lengths = [len(ids) for ids in self.train_dataset["input_ids"]]
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        steps_an_epoch = math.ceil(len(lengths) / batch)
        return ByLengthInBatch(lengths, batch, args.seed, lambda: self.state.global_step // steps_an_epoch)
