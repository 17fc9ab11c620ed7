"""A network that is being trained, as something that images can be segmented with."""

from __future__ import annotations

import time
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt
import torch

from segsvc.card import ModelCard
from segsvc.models.runtime import Scored as Answer
from segsvc.models.scored import Scored


class LivePredictor:
    """Computes each input at once, in evaluation mode, as `segsvc.models.torch_runtime` does on a CPU.

