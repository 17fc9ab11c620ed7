"""What the tests of kills share."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.killing import Storm
from tests.chaos.outs import Out
from tests.chaos.proxy import Harm, Weather
from tests.conftest import Program

# what may happen to a request, together some 15 %; 5 % are reset in one way or another
BAD = Weather(harms={Harm.REFUSE: 0.015, Harm.TEAR: 0.01, Harm.LOSE: 0.015, Harm.BREAK: 0.01, Harm.FAIL: 0.01,
                     Harm.SLOW_DOWN: 0.04, Harm.CUT: 0.02, Harm.UNDERSTATE: 0.02, Harm.OVERSTATE: 0.01},
              delay_share=0.1, delay_s=0.1)


@dataclass(frozen=True, slots=True)
class Storms:
    """Makes storms over `segsvc run`, in a test's own folder."""

    program: Program

    def over(self, *arguments: str | Path, out: Out, environment: Mapping[str, str] | None = None, **more: Any) -> Storm:
        """A storm over `segsvc run` with those arguments; `more` are fields of `Storm`."""
        return Storm([sys.executable, "-m", "segsvc", "run", *map(str, arguments)], out,
                     {**self.program.environment, **(environment or {})}, self.program.folder, **more)


@pytest.fixture
def storms(segsvc: Program) -> Storms:
    return Storms(segsvc)
