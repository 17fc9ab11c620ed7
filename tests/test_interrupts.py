"""Ctrl-C and SIGTERM reach the command wherever Python is when they come."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

_PROGRAM = """
import os, time
from segsvc import interrupts

class Left:
    def __del__(self):
        os.kill(os.getpid(), {number})
        time.sleep(1)

class Broken:
    def __del__(self):
        raise ValueError("broken")

interrupts.heed()
try:
    {before}
    left = Left()
    del left
    time.sleep(30)
except KeyboardInterrupt:
    print("interrupted")
"""


def said(number: signal.Signals, before: str = "pass") -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-c", _PROGRAM.format(number=int(number), before=before)], capture_output=True,
                          text=True, timeout=25, check=False)
    return done.stdout, done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_amid_a_finalizer_which_python_drops_comes_anew(number: signal.Signals) -> None:
    assert said(number) == ("interrupted\n", "")


def test_what_else_a_finalizer_raises_is_still_told() -> None:
    stdout, stderr = said(signal.SIGINT, "Broken()")
    assert (stdout, "ValueError: broken" in stderr) == ("interrupted\n", True)
