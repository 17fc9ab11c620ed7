"""Compiling array kernels with numba: once, kept beside the code, and without holding the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

P = ParamSpec("P")
R = TypeVar("R")
Scalar = TypeVar("Scalar", bound=np.generic)


def compiled(kernel: Callable[P, R]) -> Callable[P, R]:
    """`kernel`, compiled when it is first called and kept on disk for later processes where a folder can be written.

    numba keeps it in `NUMBA_CACHE_DIR`, else beside the module, else in the user's cache folder. It looks only at the
    kernel's own file to see whether that is up to date: kernels that call each other belong into one module, and who
    changes those of this one deletes the `__pycache__` beside it.
    """
    try:
        return cast("Callable[P, R]", numba.njit(nogil=True, cache=True)(kernel))
    except (RuntimeError, OSError):  # no folder of these can be written: compiled anew in each process
        return cast("Callable[P, R]", numba.njit(nogil=True)(kernel))


def _count_trailing_zeros(_context: Any, value: Any) -> Any:
    def generate(_target: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate if isinstance(value, types.Integer) else None


trailing_zeros: Callable[[np.uint64], np.uint64] = intrinsic(_count_trailing_zeros)
"""The number of zero bits below the lowest bit that is set, of a uint64 that is not 0; inside kernels only."""


@compiled
def longer(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """The array (n,) with room for as many again. A plain loop: numpy's functions take numba seconds to compile."""
    grown = np.empty(2 * array.size, array.dtype)
    for i in range(array.size):
        grown[i] = array[i]
    return grown


@compiled
def taller(array: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """The array (n, columns) with room for as many rows again."""
    grown = np.empty((2 * array.shape[0], array.shape[1]), array.dtype)
    for i in range(array.shape[0]):
        for j in range(array.shape[1]):
            grown[i, j] = array[i, j]
    return grown
