"""In which order rows are trained on."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import Sampler


class ByLengthInBatch(Sampler):  # type: ignore[misc]  # torch's types are not read here
    """Rows shuffled anew each epoch, then sorted by length inside each optimizer step's batch, longest first.

    Micro batches then hold rows of similar length and little padding, and each step still sees just the rows it would
    have seen: sorting further than one batch would make batches of all short and all long rows.
    """

    def __init__(self, lengths: Sequence[int], batch: int, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths = lengths
        self.batch = batch
        self.seed = seed
        self.epoch = epoch
        """Asked when an epoch begins; `set_epoch` does not reach a sampler in every way accelerate wraps one."""

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch())
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.batch):
            yield from sorted(order[start : start + self.batch], key=lambda row: -self.lengths[row])
