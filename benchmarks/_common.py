"""What all benchmarks share: rows of one form, interleaved medians, the machine, pictures, and `segsvc` as a program."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]  # (h, w)
Detail = str | int | float | bool | None | Sequence[float] | Mapping[str, float]

_PACKAGES = ("numpy", "openvino", "onnxruntime", "torch", "opencv-python-headless", "segmentation-models-pytorch")


class Bound(StrEnum):
    """What `demanded` bounds."""

    RATIO_AT_LEAST = "ratio at least"
    RATIO_AT_MOST = "ratio at most"
    OURS_AT_LEAST = "ours at least"
    OURS_AT_MOST = "ours at most"


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `ratio` is how many times better ours is than the peer's, or as `figure` says; None without a peer."""

    figure: str
    ours: float
    unit: str
    peer: float | None
    peer_name: str | None
    ratio: float | None
    outputs_equal: bool | None
    demanded: float | None
    bound: Bound = Bound.RATIO_AT_LEAST
    details: Mapping[str, Detail] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether what is demanded is there; None where nothing is."""
        value = self.ratio if self.bound in (Bound.RATIO_AT_LEAST, Bound.RATIO_AT_MOST) else self.ours
        if self.demanded is None or value is None:
            return None
        enough = self.bound in (Bound.RATIO_AT_LEAST, Bound.OURS_AT_LEAST)
        return value >= self.demanded if enough else value <= self.demanded


def show(rows: Sequence[Row]) -> None:
    """Prints the rows as one JSON document on stdout."""
    document = [{
        "figure": row.figure, "ours": _short(row.ours), "unit": row.unit, "peer": _short(row.peer),
        "peer_name": row.peer_name, "ratio": _short(row.ratio), "outputs_equal": row.outputs_equal,
        "demanded": row.demanded, "bound": row.bound.value if row.demanded is not None else None, "met": row.met,
        "details": row.details, "machine": machine()} for row in rows]
    print(json.dumps(document, indent=1))


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def say(text: str) -> None:
    """A line of progress on stderr."""
    print(text, file=sys.stderr, flush=True)


@cache
def machine() -> dict[str, Detail]:
    """The machine, the versions that matter, and how busy it was with other things when this was asked first."""
    found: dict[str, Detail] = {
        "platform": platform.platform(), "processor": _processor(), "cores": os.cpu_count(),
        "load_1_min": round(os.getloadavg()[0], 2), "python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def interleaved(contenders: Mapping[str, Callable[[], object]], *, repeats: int, warm_ups: int = 1,
                pause_s: float = 0.0) -> dict[str, list[float]]:
    """Seconds of every call, a list a contender: A B C A B C ..., so that what else the machine does meets all alike.

    pause_s: before each call, so that threads of the one before that spin while they wait have gone to sleep.
    """
    for _ in range(warm_ups):
        for contender in contenders.values():
            contender()
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(repeats):
        for name, contender in contenders.items():
            time.sleep(pause_s)
            begun = time.perf_counter()
            contender()
            times[name].append(time.perf_counter() - begun)
    return times


def medians(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each list."""
    return {name: statistics.median(values) for name, values in times.items()}


# -- pictures ------------------------------------------------------------------------------------------------------------


def nuclei_picture(seed: int, side_px: int) -> Gray:
    """(side_px, side_px) uint8: bright soft blobs of about 24 px on dark noise, some 130 in a megapixel."""
    draw = np.random.default_rng(seed)
    light = np.full((side_px, side_px), 12.0, np.float32)
    for _ in range(max(1, round(130 * side_px * side_px / 1e6))):
        centre = tuple(int(value) for value in draw.integers(0, side_px, 2))
        axes = tuple(int(value) for value in draw.integers(7, 16, 2))
        cv2.ellipse(light, centre, axes, float(draw.uniform(0, 180)), 0, 360, float(draw.uniform(70, 200)), -1)
    light = cv2.GaussianBlur(light, (0, 0), 1.5)
    picture: Gray = np.clip(light + draw.normal(0, 4, light.shape).astype(np.float32), 0, 255).astype(np.uint8)
    return picture


def write_pictures(folder: Path, count: int, *, side_px: int, ending: str, first_seed: int = 0) -> list[Path]:
    """`count` generated pictures in a folder, in the order in which a run lists them: RGB as .jpg, grey as .png."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"picture-{number:05d}.{ending}" for number in range(count)]
    for number, path in enumerate(paths):
        picture = nuclei_picture(first_seed + number, side_px)
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_GRAY2BGR) if ending == "jpg" else picture)
    return paths


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="segsvc-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# -- the program ---------------------------------------------------------------------------------------------------------


def command(*arguments: str | Path) -> list[str]:
    """`segsvc` with these arguments, by the interpreter that runs the benchmark."""
    return [sys.executable, "-m", "segsvc", *map(str, arguments)]


def segsvc(*arguments: str | Path) -> str:
    """What `segsvc` prints to stdout. Raises RuntimeError with what it said where it does not exit with 0."""
    answer = subprocess.run(command(*arguments), capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise RuntimeError(f"segsvc {' '.join(map(str, arguments))}: expected exit code 0, got {answer.returncode}: "
                           f"{answer.stderr.strip()[-500:]}")
    return answer.stdout


def forget_reads(paths: Sequence[Path]) -> None:
    """Sets the times of last access to 0, so that `first_reads` tells which files are read from now on."""
    for path in paths:
        os.utime(path, ns=(0, path.stat().st_mtime_ns))


def first_reads(paths: Sequence[Path]) -> dict[Path, float]:
    """The files that were read since `forget_reads`, and when for the first time (seconds since the epoch).

    As the kernel keeps it for file systems mounted with relatime, which is the usual way: a file's time of last access
    is set at the first read after its content or times changed, and then left alone for a day. Raises RuntimeError where the
    file system keeps no such times.
    """
    found = {path: path.stat().st_atime_ns / 1e9 for path in paths}
    if paths and not _keeps_access_times(paths[0].parent):
        raise RuntimeError(f"{paths[0].parent}: expected a file system that keeps times of access (relatime), got one that "
                           "does not. Set TMPDIR to a folder on another.")
    return {path: when for path, when in found.items() if when > 0}


def _keeps_access_times(folder: Path) -> bool:
    probe = folder / ".probe"
    try:
        probe.write_bytes(b"x")
        forget_reads([probe])
        probe.read_bytes()
        return probe.stat().st_atime_ns > 0
    finally:
        probe.unlink(missing_ok=True)


def waits(name: str, times_ms: Sequence[float], demanded: float | None, **details: float) -> Row:
    """A row of waits in ms: their p95 is the figure."""
    ordered = sorted(times_ms)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    return Row(name, p95, "ms, p95", None, None, None, None, demanded, Bound.OURS_AT_MOST,
               {"median_ms": statistics.median(ordered), "worst_ms": ordered[-1], "items": len(ordered), **details})
