"""The processes that train one model together: what they tell each other at every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import distributed

from segsvc.errors import RunError

LOST = "another worker of this training is gone"


class Group(Protocol):
    """The processes that train one model together; each computes its share of every batch."""

    @property
    def rank(self) -> int: ...
    @property
    def size(self) -> int: ...
    def mean_(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces each tensor by its mean over the processes: the same bits in all of them."""

    def of_first(self, value: float) -> float:
        """The value that the process of rank 0 gave."""


class Alone:
    """One process."""

    rank = 0
    size = 1

    def mean_(self, tensors: Sequence[torch.Tensor]) -> None:
        """They are the mean."""

    def of_first(self, value: float) -> float:
        return value


class Joined:
    """The process group of torch.distributed that this process is in.

    Its methods raise RunError where another process of it is gone.
    """

    def __init__(self) -> None:
        self.rank, self.size = distributed.get_rank(), distributed.get_world_size()
        self._device = torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")  # where numbers cross

    def mean_(self, tensors: Sequence[torch.Tensor]) -> None:
        """One message for all tensors of a type: many small ones would wait for each other."""
        for dtype in dict.fromkeys(each.dtype for each in tensors):
            own = [each for each in tensors if each.dtype == dtype]
            flat = torch.cat([each.reshape(-1) for each in own]).to(self._device)
            try:
                distributed.all_reduce(flat)
            except RuntimeError as error:
                raise RunError(LOST) from error
            for each, mean in zip(own, torch.split(flat / self.size, [each.numel() for each in own]), strict=True):
                each.copy_(mean.view_as(each))

    def of_first(self, value: float) -> float:
        held = torch.tensor([value], dtype=torch.float64, device=self._device)
        try:
            distributed.broadcast(held, src=0)
        except RuntimeError as error:
            raise RunError(LOST) from error
        return float(held)
