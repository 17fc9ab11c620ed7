"""How often an image comes in an epoch."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

_EMPTY_SHARE = 0.2  # of the examples, at most, are of images in which nothing is


def turns(shows_something: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    """The images of an epoch by their numbers, repeated so that empty ones are at most a fifth of them."""
    full, empty = np.flatnonzero(shows_something).tolist(), np.flatnonzero(~shows_something).tolist()
    times = 1 if not full else max(1, math.ceil(len(empty) * (1 - _EMPTY_SHARE) / _EMPTY_SHARE / len(full)))
    return tuple(sorted(full * times + empty))
