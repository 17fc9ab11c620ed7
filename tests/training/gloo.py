"""Processes of this machine that train as one, as those of Ray Train do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from torch import distributed

from segsvc.training.group import Joined


@contextmanager
def joined(folder: Path, *, rank: int, size: int) -> Iterator[Joined]:
    """This process in the group that meets in the folder; one that another leaves alone fails after two minutes."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size,
                                   timeout=timedelta(minutes=2))
    try:
        yield Joined()
    finally:
        distributed.destroy_process_group()
