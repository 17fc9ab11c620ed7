"""Ranges of a `Blob`, read with few requests: small files at once, small ranges by blocks that are kept."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from segsvc.readers.limits import corrupt
from segsvc.types import Blob

WHOLE_BYTES = 1 << 20  # up to here a file is read in one go
BLOCK_BYTES = 1 << 16
KEPT_BLOCKS = 32
JOINED_BYTES = 8 << 20  # neighbouring ranges are read together up to this size


class Ranges:
    """Exact ranges of a blob. A range beyond the end of the file is ImageError(CORRUPT)."""

    def __init__(self, blob: Blob) -> None:
        self.size_bytes = blob.size_bytes
        self._blob = blob
        self._whole = blob.read_all() if blob.size_bytes <= WHOLE_BYTES else None
        self._blocks: OrderedDict[int, bytes] = OrderedDict()

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` to `stop`. Raises ImageError(CORRUPT) where the file ends before."""
        if not 0 <= start <= stop <= self.size_bytes:
            raise corrupt(f"the file is truncated or damaged: it points at bytes {start} to {stop}, "
                          f"but has {self.size_bytes}")
        if self._whole is not None:
            data = self._whole[start:stop]
        elif stop - start > BLOCK_BYTES:
            data = self._blob.read(start, stop)
        else:
            data = b"".join(self._block(index) for index in range(start // BLOCK_BYTES, -(-stop // BLOCK_BYTES)))
            data = data[start % BLOCK_BYTES:][:stop - start]
        if len(data) != stop - start:
            raise corrupt(f"the file is truncated: it ended at byte {start + len(data)} of {self.size_bytes}")
        return data

    def _block(self, index: int) -> bytes:
        if index in self._blocks:
            self._blocks.move_to_end(index)
        else:
            self._blocks[index] = self._blob.read(index * BLOCK_BYTES, (index + 1) * BLOCK_BYTES)
            if len(self._blocks) > KEPT_BLOCKS:
                self._blocks.popitem(last=False)
        return self._blocks[index]


def joined(spans: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Groups of indices into `spans` (start, stop) whose bytes follow each other and are best read together."""
    groups: list[list[int]] = []
    for index in sorted(range(len(spans)), key=lambda i: spans[i]):
        start, stop = spans[index]
        if groups and start == spans[groups[-1][-1]][1] and stop - spans[groups[-1][0]][0] <= JOINED_BYTES:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups
