"""Compiling array kernels with numba: once, kept beside the code, and without holding the GIL."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import types
from numba.extending import intrinsic

P = ParamSpec("P")
R = TypeVar("R")


def compiled(kernel: Callable[P, R]) -> Callable[P, R]:
    """`kernel`, compiled when it is first called and kept on disk for later processes where a folder can be written.

    numba keeps it in `NUMBA_CACHE_DIR`, else beside the module, else in the user's cache folder. It looks only at the
    kernel's own file to see whether that is up to date: kernels that call each other belong into one module.
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
