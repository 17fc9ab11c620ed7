"""How far a run is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time

import click

from segsvc.runner import Progress

_BAR_WIDTH = 28
_BAR_EVERY_S = 0.2
_LINE_EVERY_S = 10.0


class ProgressDisplay:
    """Shows progress as it comes; to be closed at the end."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._shown_at = time.monotonic() if not self._terminal else 0.0
        self._shown: Progress | None = None

    def __call__(self, progress: Progress) -> None:
        every = _BAR_EVERY_S if self._terminal else _LINE_EVERY_S
        now = time.monotonic()
        if now - self._shown_at < every or progress == self._shown:
            return
        self._shown_at, self._shown = now, progress
        click.echo(f"\r{_bar(progress)}\x1b[K" if self._terminal else _line(progress), nl=not self._terminal, err=True)

    def close(self) -> None:
        """Leaves the terminal at the start of a line of its own."""
        if self._terminal and self._shown is not None:
            click.echo("\r\x1b[K", nl=False, err=True)


def say(text: str) -> None:
    """A line on stderr, beside what a command prints."""
    click.echo(text, err=True)


def duration(seconds: float) -> str:
    """Seconds in words: less than 1 s, 42 s, 3 min 5 s, 2 h 10 min."""
    whole = round(seconds)
    if whole < 1:
        return "less than 1 s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _line(progress: Progress) -> str:
    if progress.waits:
        return "another run works on this OUT; this one goes on when that one is done"
    images = "images" if progress.all_planned else "images planned so far"
    left = f", about {duration(progress.eta_s)} left" if progress.eta_s is not None and progress.all_planned else ""
    failed = f", {progress.failed} failed" if progress.failed else ""
    return f"{progress.ended} of {progress.planned} {images}{failed}{left}"


def _bar(progress: Progress) -> str:
    filled = _BAR_WIDTH * progress.ended // max(1, progress.planned)
    return f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {_line(progress)}"
