"""Real networks with seeded random weights, as models' folders: their answers mean nothing, but they depend on all px."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from segsvc import plugins
from segsvc.card import ModelCard
from segsvc.models import Family
from segsvc.models.checkpoint import save_model
from segsvc.models.library import Model, read_model


def textured(seed: int, *, width_px: int, height_px: int) -> npt.NDArray[np.uint8]:
    """(height_px, width_px, 3) uint8: clouds of several sizes with some noise."""
    random = np.random.default_rng(seed)
    image = np.zeros((height_px, width_px, 3), np.float32)
    for cell_px in (8, 24, 96):
        coarse = random.normal(size=(height_px // cell_px + 2, width_px // cell_px + 2, 3)).astype(np.float32)
        image += cv2.resize(coarse, (width_px, height_px), interpolation=cv2.INTER_CUBIC)
    image += random.normal(scale=0.1, size=image.shape).astype(np.float32)
    return np.clip(128 + 45 * image, 0, 255).astype(np.uint8)


def write_network(folder: Path, card: ModelCard, *, seed: int = 0) -> Model:
    """A model's folder of that card with random weights whose logits have mean 0 and standard deviation 2.

    Layers of batch normalisation have seen some images, as those of a trained network have.
    """
    torch.set_num_threads(1)  # as the runtimes do; several threads get in each other's way on a busy machine
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        family: Family = plugins.load(plugins.PluginKind.MODEL, card.family)
        network = family.build(card)
        side = card.resize.crop_px if card.resize is not None else max(card.stride_px, min(card.tile_px, 128))
        images = np.stack([textured(each, width_px=side, height_px=side)[:, :, : card.channels] for each in range(4)])
        batch = torch.from_numpy(np.moveaxis(images, 3, 1) / np.float32(60) - 2)
        network.train()
        with torch.no_grad():
            for _ in range(20):
                network(batch)
            network.eval()
            raw = network(batch)
            last = [module for module in network.modules() if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear))][-1]
            if last.bias is None:
                raise ValueError(f"expected {card.arch} to end in a layer with a bias")
            spread = raw.std() / 2
            last.weight /= spread
            last.bias.copy_((last.bias - raw.mean()) / spread)
    digest = save_model(network.state_dict(), folder / card.name / "model.safetensors", half=False)
    (folder / card.name / "card.json").write_text(card.model_copy(update={"weights_sha256": digest}).to_json())
    return read_model(folder / card.name)
