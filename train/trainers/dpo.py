"""Preference optimisation: the majority's answer over an outvoted one (TRL's DPOTrainer, arXiv 2305.18290)."""

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
from train.dataset import indices_that_fit, tokenize
from train.start import load_start
from train.template import answers_as_served, assistant_turn, user_turn
from train.trainers.order import ByLengthInBatch, sorted_by_length
from train.trainers.prepared import Prepared, common_arguments
from train.trainers.reference import ReferenceNotSaved, drop_needless_copy

WEIGHT = "weight"
"""Column of a preference's weight, and the name of its tensor in a batch."""


@dataclass(frozen=True)
class Preferences:
    """Rows for preference optimisation."""

    kept: list[dict[str, Any]]
    """Rows with `prompt`, `chosen` and `rejected`, TRL's conversational format
    (https://huggingface.co/docs/trl/dataset_formats#preference), and with the margin divided by the mean margin as
    `weight`."""
    without_rejected: int
    """Number of pairs left out because no answer was outvoted: all agreed, the others were silent, or the pair is a
    general instruction."""
    too_long: int
    """Number of preferences left out because the prompt and the longer of the two answers exceed `max_length`."""


def prepare_dpo(job: TrainJob, pairs: Sequence[Pair], base: Path, tokenizer: Any) -> Prepared:
    """TRL's trainer with the model and its preferences.

    The reference is always the model that training starts from: the model with its adapter disabled if the adapter is
    new, or a copy of the parent's adapter, or a second copy of all weights. So the loss of the first step is log 2.
    """
    cfg = job.train
    rows = to_preferences(pairs, tokenizer, cfg.max_length)
    args = DPOConfig(
        **common_arguments(job, len(rows.kept), base),
        beta=cfg.dpo.beta,
        max_length=None,  # TRL cuts nothing: preferences that are too long were left out
        include_num_input_tokens_seen="non_padding",
    )
    set_seed(job.seed)
    model = load_start(job, base)  # after `args`, which make ZeRO-3 split the weights while they are read
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
    texts = [prompt + chosen for prompt, chosen in zip(first["prompt_ids"], first["chosen_ids"], strict=True)]
    return Prepared(trainer, texts, counts)


def to_preferences(pairs: Sequence[Pair], tokenizer: Any, max_length: int) -> Preferences:
    """Preferences in the order of `pairs`; the trainer shuffles them with its seed.

    Raises:
        BadConfig: the tokenizer has no chat template, or the rows would not begin as the server is asked.
        DataSaysNo: no answer was outvoted, or no preference is short enough.
    """
    contested = [pair for pair in pairs if pair.rejected is not None]
    if not contested:
        raise DataSaysNo(
            f"train.trainer=dpo: none of {len(pairs)} pairs has an outvoted answer, so there is nothing to prefer; "
            "keep questions on which answers differ (lower consensus.min_agreement or pairs.max_unanimous, or raise "
            "consensus.samples), or use train.trainer=sft"
        )
    prompts = [pair.prompt for pair in contested]
    winners = answers_as_served(prompts, [pair.completion for pair in contested], tokenizer)
    losers = answers_as_served(prompts, [pair.rejected or "" for pair in contested], tokenizer)
    rows = [
        {"prompt": user_turn(prompt), "chosen": assistant_turn(winner), "rejected": assistant_turn(loser)}
        for prompt, winner, loser in zip(prompts, winners, losers, strict=True)
    ]
    chosen = tokenize([row["prompt"] + row["chosen"] for row in rows], tokenizer)
    rejected = tokenize([row["prompt"] + row["rejected"] for row in rows], tokenizer)
    lengths = [max(map(len, answers)) for answers in zip(chosen, rejected, strict=True)]
    fitting = indices_that_fit(lengths, max_length, "preferences")
    weights = weights_of([contested[index] for index in fitting])
    kept = [{**rows[index], WEIGHT: weight} for index, weight in zip(fitting, weights, strict=True)]
    return Preferences(kept, without_rejected=len(pairs) - len(contested), too_long=len(rows) - len(kept))


def weights_of(pairs: Sequence[Pair]) -> list[float]:
    """Weight of each pair: its margin divided by the mean margin. A pair without a margin counts as unanimous."""
    margins = [1.0 if pair.margin is None else pair.margin for pair in pairs]
    return [len(margins) * margin / sum(margins) for margin in margins]


class PreferenceTrainer(ReferenceNotSaved, DPOTrainer):  # type: ignore[misc]  # TRL has no types
    """TRL's trainer with our order of rows."""

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLengthInBatch:
        columns = (self.train_dataset[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
        rows = [map(len, row) for row in zip(*columns, strict=True)]
        return sorted_by_length(self, [prompt + max(chosen, rejected) for prompt, chosen, rejected in rows])


class MarginWeightedTrainer(PreferenceTrainer):
    """TRL's trainer with the loss of each preference times its weight. TRL computes the mean of the losses, which
    cannot be weighted afterwards."""

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if WEIGHT not in self._signature_columns:
            self._signature_columns.append(WEIGHT)

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        """Equation 7 of arXiv 2305.18290, times the weight; where all are 1, TRL's `loss_type=sigmoid`."""
        assert not return_outputs, "the trainer evaluates nothing"
        inputs = dict(inputs)
        weight = inputs.pop(WEIGHT)
        reference = self.compute_ref_log_probs(self.ref_model or self.model, inputs)
        answer = inputs.pop("completion_mask") == 1
        labels = inputs["input_ids"].masked_fill(~answer, -100)
        logps = model(**inputs, labels=labels, use_cache=False, fused_lm_head=True).log_probs.sum(dim=1)
        chosen, rejected = (now - then for now, then in zip(logps.chunk(2), reference, strict=True))
        reward_margin = self.beta * (chosen - rejected)
        self._log_mean("rewards/margins", reward_margin)
        self._log_mean("rewards/accuracies", (reward_margin > 0).float())
        return (weight * -logsigmoid(reward_margin)).mean()

    def _log_mean(self, name: str, values: torch.Tensor) -> None:
        """Add a mean to TRL's metrics of the step, under TRL's name."""
        self._metrics["train"][name].append(self.accelerator.gather(values.detach()).mean().item())


class WeightedCollator(DataCollatorForPreference):  # type: ignore[misc]  # TRL has no types
    """TRL's collator, with the weights added to the batch."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch: dict[str, Any] = super().torch_call(examples)
        batch[WEIGHT] = torch.tensor([example[WEIGHT] for example in examples])
        return batch
