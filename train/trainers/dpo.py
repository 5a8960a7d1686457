"""Preference: the majority over an outvoted answer (TRL's DPOTrainer, arXiv 2305.18290)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from transformers import set_seed
from trl import DPOConfig, DPOTrainer
from trl.trainer.dpo_trainer import DataCollatorForPreference

from crescent.config import TrainJob, Tuning
from crescent.errors import DataSaysNo
from crescent.records import Pair
from train.dataset import Message, tokenize
from train.start import load_start
from train.trainers.order import ByLengthInBatch
from train.trainers.prepared import Prepared, common_arguments
from train.trainers.reference import ReferenceNotSaved, drop_needless_copy

WEIGHT = "weight"
"""Column of a preference's weight, and the name of its tensor in a batch."""


@dataclass(frozen=True)
class Preferences:
    kept: list[dict[str, Any]]
    """`prompt`, `chosen` and `rejected`, TRL's conversational format
    (https://huggingface.co/docs/trl/dataset_formats#preference), and `weight`: the margin, 1 in the mean."""
    without_rejected: int
    """Pairs left out because no answer was voted down: all agreed, were silent, or it is a general instruction."""
    too_long: int
    """Preferences left out because the prompt and the longer of its two answers exceed `max_length`."""


def prepare_dpo(job: TrainJob, pairs: Sequence[Pair], base: Path, tokenizer: Any) -> Prepared:
    """TRL's trainer around the model and its preferences.

    The reference is always the model that training starts from: with its adapter disabled where the adapter is new,
    with a copy of the parent's adapter, or a second copy of all weights. The loss of the first step is therefore log 2.
    """
    cfg = job.train
    rows = to_preferences(pairs, tokenizer, cfg.max_length)
    args = DPOConfig(
        **common_arguments(job, len(rows.kept), base),
        beta=cfg.dpo.beta,
        max_length=None,  # nothing is cut: what is too long was left out
        include_num_input_tokens_seen="non_padding",
    )
    set_seed(job.seed)
    model = load_start(job, base)  # after `args`: by them, ZeRO-3 splits the weights while they are read
    trainer_class = MarginWeightedTrainer if cfg.dpo.margin_weighted else PreferenceTrainer
    trainer = trainer_class(
        model=model,
        ref_model=load_start(job, base) if cfg.tuning is Tuning.full else None,
        processing_class=tokenizer,
        train_dataset=Dataset.from_list(rows.kept),
        args=args,
    )
    drop_needless_copy(trainer, job)
    if cfg.dpo.margin_weighted:
        trainer.data_collator = WeightedCollator(pad_token_id=trainer.data_collator.pad_token_id)
    answers = [column for name in ("chosen_ids", "rejected_ids") for column in trainer.train_dataset[name]]
    counts: dict[str, float] = {
        "rows": len(rows.kept),
        "without_rejected": rows.without_rejected,
        "too_long": rows.too_long,
        "tokens": 2 * sum(map(len, trainer.train_dataset["prompt_ids"])) + sum(map(len, answers)),
        "completion_tokens": sum(map(len, answers)),
    }
    first = trainer.train_dataset[:4]
    texts = [asked + said for asked, said in zip(first["prompt_ids"], first["chosen_ids"], strict=True)]
    return Prepared(trainer, texts, counts)


def to_preferences(pairs: Sequence[Pair], tokenizer: Any, max_length: int) -> Preferences:
    """Preferences in the order of `pairs`; the trainer shuffles them with its seed.

    Raises:
        BadConfig: the tokenizer has no chat template.
        DataSaysNo: no answer was voted down, or no preference is short enough.
    """
    contested = [pair for pair in pairs if pair.rejected is not None]
    if not contested:
        raise DataSaysNo(
            f"train.trainer=dpo: none of {len(pairs)} pairs has an answer that was voted down, so there is nothing to "
            "prefer; keep questions on which answers differ (lower consensus.min_agreement or pairs.max_unanimous, or "
            "raise consensus.samples), or use train.trainer=sft"
        )
    rows = [
        {
            "prompt": [_message("user", pair.prompt)],
            "chosen": [_message("assistant", pair.completion)],
            "rejected": [_message("assistant", pair.rejected or "")],
        }
        for pair in contested
    ]
    chosen = tokenize([row["prompt"] + row["chosen"] for row in rows], tokenizer)
    rejected = tokenize([row["prompt"] + row["rejected"] for row in rows], tokenizer)
    lengths = [max(len(one), len(other)) for one, other in zip(chosen, rejected, strict=True)]
    short = [index for index, length in enumerate(lengths) if length <= max_length]
    if not short:
        raise DataSaysNo(
            f"train.max_length={max_length}: all {len(rows)} preferences are longer (the shortest has {min(lengths)} "
            f"tokens); use train.max_length={min(lengths)} or more"
        )
    weights = weights_of([contested[index] for index in short])
    kept = [{**rows[index], WEIGHT: weight} for index, weight in zip(short, weights, strict=True)]
    return Preferences(kept, without_rejected=len(pairs) - len(contested), too_long=len(rows) - len(kept))


def weights_of(pairs: Sequence[Pair]) -> list[float]:
    """Each pair's margin as a multiple of their mean; a pair without one weighs as much as a whole vote."""
    margins = [1.0 if pair.margin is None else pair.margin for pair in pairs]
    return [len(margins) * margin / sum(margins) for margin in margins]


def _message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


class PreferenceTrainer(ReferenceNotSaved, DPOTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer with our order of rows."""

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLengthInBatch:
        args, columns = self.args, self.train_dataset
        answers = zip(columns["prompt_ids"], columns["chosen_ids"], columns["rejected_ids"], strict=True)
        lengths = [len(asked) + max(len(one), len(other)) for asked, one, other in answers]
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        steps_an_epoch = math.ceil(len(lengths) / batch)
        return ByLengthInBatch(lengths, batch, args.seed, lambda: self.state.global_step // steps_an_epoch)


class MarginWeightedTrainer(PreferenceTrainer):
    """Each preference's loss counts as much as its weight. TRL's loss is a mean, which cannot be weighted after."""

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if WEIGHT not in self._signature_columns:
            self._signature_columns.append(WEIGHT)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """Equation 7 of arXiv 2305.18290, times the weight; where all are 1, TRL's `loss_type=sigmoid`."""
        assert not return_outputs, "nothing is evaluated while it trains"
        inputs = dict(inputs)
        weight = inputs.pop(WEIGHT)
        reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
        answer = inputs.pop("completion_mask") == 1
        labels = inputs["input_ids"].masked_fill(~answer, -100)
        logps = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True).log_probs.sum(dim=1)
        chosen, rejected = (now - then for now, then in zip(logps.chunk(2), reference, strict=True))
        reward_margin = self.beta * (chosen - rejected)
        self._note("rewards/margins", reward_margin)
        self._note("rewards/accuracies", (reward_margin > 0).float())
        return (weight * -logsigmoid(reward_margin)).mean()

    def _note(self, name: str, values: torch.Tensor) -> None:
        """Into TRL's metrics of the step, under TRL's name."""
        self._metrics["train"][name].append(self.accelerator.gather(values.detach()).mean().item())


class WeightedCollator(DataCollatorForPreference):  # type: ignore[misc]  # TRL has no types
    """TRL's collator, with the weights."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        batch[WEIGHT] = torch.tensor([example[WEIGHT] for example in examples])
        return batch
