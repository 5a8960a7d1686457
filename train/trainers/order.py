"""Order in which rows are trained on. Every epoch has its own, fixed by the seed, also in a run that was resumed."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler


class ByLengthInBatch(Sampler):  # type: ignore[misc]  # torch's types are not read here
    """Rows shuffled anew each epoch, then sorted by length inside the batch of each optimizer step, longest first.

    Micro batches then hold rows of similar length and little padding, and each step still sees the same rows. Sorting
    across batches would give some batches only short rows and others only long ones.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths = lengths
        self.batch = batch
        self.seed = seed
        self.epoch = epoch
        """Returns the epoch; called when one begins. `set_epoch` does not reach every sampler that accelerate wraps."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch()))
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=lambda row: -self.lengths[row])


def sorted_by_length(trainer: Any, lengths: Sequence[int]) -> ByLengthInBatch:
    """Sampler for a TRL trainer whose rows have these lengths in tokens."""
    args = trainer.args
    batch = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    steps_per_epoch = math.ceil(len(lengths) / batch)
    return ByLengthInBatch(lengths, batch, args.seed, lambda: trainer.state.global_step // steps_per_epoch)


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch's order. It depends on the epoch alone, so that a resumed run finds the same order again."""
    return seed * 1_000_003 + epoch
