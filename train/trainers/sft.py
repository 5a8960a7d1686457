"""Supervised fine-tuning on the winning responses (TRL's SFTTrainer)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers import set_seed
from trl import SFTConfig, SFTTrainer

from crescent.config import Batching, TrainJob
from crescent.records import Pair
from train.attention import refuse_leaks
from train.dataset import to_rows
from train.start import gathered, load_start
from train.trainers.order import ByLengthInBatch, sorted_by_length
from train.trainers.prepared import Prepared, common_arguments, warmup_steps

IGNORED = -100
"""Label of a token that is read but not learnt, as in TRL and torch."""
LOGITS_AT_ONCE = 2**28
"""Largest number of logits in a micro batch on a CPU: one GiB in float32, three with their gradient."""


def prepare_sft(job: TrainJob, pairs: Sequence[Pair], base: Path, tokenizer: Any) -> Prepared:
    """TRL's trainer with the model and its rows.

    Raises:
        BadConfig: `train.batching` lays sequences end to end, and the model's attention does not keep them apart.
    """
    cfg = job.train
    rows = to_rows(pairs, tokenizer, cfg.max_length)
    packed = cfg.batching is Batching.packed
    args = SFTConfig(
        **common_arguments(job, len(rows.kept), base),
        max_length=cfg.max_length if packed else None,  # TRL cuts nothing: rows that are too long were left out
        completion_only_loss=True,
        padding_free=cfg.batching is Batching.padding_free,
        packing=packed,
        packing_strategy="bfd",  # whole sequences only
        # Without padding no mask shows what to count, and the token that ends a turn may be the padding token.
        include_num_input_tokens_seen="non_padding" if cfg.batching is Batching.padded else "all",
    )
    set_seed(job.seed)
    trainer = LengthAwareTrainer(
        model=load_start(job, base),  # after `args`, which make ZeRO-3 split the weights while they are read
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows.kept),
        args=args,
    )
    if cfg.batching is not Batching.padded:
        with gathered(*trainer.model.parameters()), trainer.accelerator.autocast():
            refuse_leaks(trainer.model, rows.tokens, trainer.data_collator, cfg.batching)
    labels = trainer.train_dataset["labels"]
    counts = {
        "rows": len(rows.kept),
        "too_long": rows.too_long,
        "tokens": sum(map(len, labels)),
        "completion_tokens": sum(label != IGNORED for row in labels for label in row),
    }
    if packed:
        counts["packed_rows"] = len(trainer.train_dataset)
        trainer.args.warmup_steps = warmup_steps(cfg, len(trainer.train_dataset))
    return Prepared(trainer, rows.tokens[:4], counts)


class LengthAwareTrainer(SFTTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer with our order of rows and a count of its work; on a CPU, with a faster loss."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.work = torch.zeros(2, dtype=torch.int64, device=self.accelerator.device)
        """Work of this process since the last log: tokens with padding, and the sum of the squared lengths of rows."""

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLengthInBatch:
        return sorted_by_length(self, [len(ids) for ids in self.train_dataset["input_ids"]])

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The same loss as TRL's. TRL's fused head is made for GPUs: on a CPU it also scores positions that are not
        learnt, and takes several times as long as plain logits of the positions that are."""
        labels = inputs["labels"][:, 1:]
        learnt = (labels != IGNORED).any(0).nonzero()[:, 0]
        size = len(labels) * len(learnt) * self.model.config.get_text_config().vocab_size
        if self.accelerator.device.type != "cpu" or self.aux_loss_enabled or return_outputs or size > LOGITS_AT_ONCE:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        unlabelled = {name: value for name, value in inputs.items() if name != "labels"}
        logits = model(**unlabelled, use_cache=False, logits_to_keep=learnt).logits.float()
        loss = cross_entropy(logits.flatten(0, 1), labels[:, learnt].flatten(), ignore_index=IGNORED, reduction="sum")
        if num_items_in_batch is None:
            return loss / (labels != IGNORED).sum()
        # `num_items_in_batch` counts the items of all processes, but their gradients are averaged, not added.
        return loss / num_items_in_batch * self.accelerator.num_processes

    def training_step(self, model: Any, inputs: dict[str, Any], *args: Any, **settings: Any) -> Any:
        self.work += work_of(inputs).to(self.work.device)
        return super().training_step(model, inputs, *args, **settings)

    def log(self, logs: dict[str, float], *args: Any, **settings: Any) -> None:
        if "loss" in logs:  # the log of a step, which all processes reach
            slots, squares = self.accelerator.reduce(self.work, "sum").tolist()
            self.work.zero_()
            logs |= {"slots": slots, "squares": squares}
        super().log(logs, *args, **settings)


def work_of(inputs: dict[str, Any]) -> torch.Tensor:
    """Work of a micro batch: its tokens with padding, and the sum of its sequences' squared lengths."""
    mask = inputs.get("attention_mask")
    lengths = inputs["cu_seq_lens_q"].long().diff() if mask is None else mask.sum(1)
    return torch.stack([lengths.new_tensor(inputs["input_ids"].numel()), (lengths**2).sum()])
