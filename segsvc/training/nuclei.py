"""Trains the packaged model `nuclei` and measures it: `python -m segsvc.training.nuclei --seed 0 --out DIR`.

Data: the real fluorescence image `img2d.tif` of StarDist (512 x 512 px, 125 labelled nuclei, BSD-3-Clause). The model
learns from the left half, columns 0 to 255; figures are of the right half, which is held out. A nucleus that the split
cuts is a nucleus in each half. Thresholds are chosen on the left half: for flagging by the model's own scores there, for
accepting by cross-fitted ones (a model trained on its upper part scores the lower part, and the other way round).
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from segsvc import card as cards
from segsvc.errors import ConfigError
from segsvc.imaging import intensity, masks
from segsvc.imaging.regions import extract_regions
from segsvc.models import library
from segsvc.models.checkpoint import imagenet_lite0, save_model, write_whole
from segsvc.settings import settings
from segsvc.types import SCORE_ONE, Runtime, ScoreArray

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]
Photo = npt.NDArray[Any]  # (h, w), any type
Labels = npt.NDArray[np.uint16]  # (h, w): 0 is background, each nucleus has a number of its own

ARCH, ENCODER, NAME = "unet", "tu-tf_efficientnet_lite0", "nucleus"
NORMALISATION = cards.Normalisation(scale=cards.IntensityScale.PERCENTILE, low_percentile=1.0, high_percentile=99.8,
                                    mean=(0.5,), std=(0.5,))
PLAIN_PHOTOS = ("brick.png", "grass.png", "gravel.png", "chelsea.png", "coffee.png")  # CC0; learnt as empty
HELD_OUT_PHOTOS = ("astronaut.png", "camera.png", "china.jpg", "flower.jpg", "rocket.jpg")
FLAG_PRECISION, ACCEPT_PRECISION = 0.85, 0.99  # wanted on the left half: of flagged px, of accepted candidates
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained; sizes in px, scales as factors of the image's own resolution."""

    steps: int = 300
    batch: int = 6
    crop_px: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    average_decay: float = 0.98
    scales: tuple[float, float] = (0.5, 2.2)
    empty_share: float = 0.15
    threads: int = 2


@dataclass(frozen=True, slots=True)
class Field:
    """A part of the labelled image: pixels uint16 (h, w) as stored, and labels of the same shape."""

    pixels: npt.NDArray[np.uint16]
    labels: Labels

    def scaled(self, factor: float) -> Field:
        """The field at another magnification: pixels by area or linear interpolation, labels by nearest neighbour."""
        size = (round(self.pixels.shape[1] * factor), round(self.pixels.shape[0] * factor))
        return Field(cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR),
                     cv2.resize(self.labels, size, interpolation=cv2.INTER_NEAREST_EXACT))


def read_halves(assets: Path) -> tuple[Field, Field]:
    """The half to learn from and the half held out. Raises ConfigError where a file is missing or another image."""
    pixels, labels = (_read(assets / name) for name in ("img2d.tif", "mask2d.tif"))
    if not pixels.shape == labels.shape == (512, 512) or not pixels.dtype == labels.dtype == np.uint16:
        raise ConfigError(f"{assets}: expected img2d.tif and mask2d.tif of uint16 (512, 512), got "
                          f"{pixels.dtype} {pixels.shape} and {labels.dtype} {labels.shape}")
    left, right = slice(256), slice(256, None)
    return Field(pixels[:, left], labels[:, left]), Field(pixels[:, right], labels[:, right])


def _read(path: Path) -> npt.NDArray[Any]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED if path.suffix == ".tif" else cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ConfigError(f"{path}: expected a fetched image, got none that can be read. Fetch the assets first.")
    return np.asarray(image)


def normalised(pixels: npt.NDArray[Any]) -> Floats:
    """(h, w) of any type -> float32 (h, w) with the image's percentiles at 0 and 1."""
    low, high = intensity.percentiles(pixels, (NORMALISATION.low_percentile, NORMALISATION.high_percentile))
    return ((pixels.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1e-6))).astype(np.float32)


class Sampler:
    """Draws training crops out of one field: rotated, mirrored, scaled, other intensities; some with nothing in them.

    The empty ones keep the model quiet where a percentile scale makes noise loud: noise of several kinds, background of
    the field itself, and plain photographs.
    """

    def __init__(self, field: Field, photos: Sequence[Photo], recipe: Recipe, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._recipe = recipe
        self._pixels = normalised(field.pixels)
        self._truth = (field.labels > 0).astype(np.float32)
        self._background = self._pixels[cv2.dilate(self._truth, np.ones((9, 9), np.uint8)) == 0]
        self._photos = [normalised(photo) for photo in photos]

    def batch(self) -> tuple[Floats, Floats]:
        """Pixels in percentile scale and the share of nucleus in each: two of float32 (batch, 1, crop_px, crop_px)."""
        pixels, truth = zip(*(self._crop() for _ in range(self._recipe.batch)), strict=True)
        return np.stack(pixels)[:, None].astype(np.float32), np.stack(truth)[:, None]

    def _crop(self) -> tuple[Floats, Floats]:
        if self._random.random() < self._recipe.empty_share:
            pixels = self._photo() if self._random.random() < 0.5 else self._noise()
            return pixels, np.zeros_like(pixels)
        pixels, truth = self._warped()
        return self._shaded(pixels), truth

    def _warped(self) -> tuple[Floats, Floats]:
        draw, side = self._random, self._recipe.crop_px
        scale = math.exp(draw.uniform(math.log(self._recipe.scales[0]), math.log(self._recipe.scales[1])))
        angle, aspect, mirror = draw.uniform(0, 2 * math.pi), math.exp(draw.normal() * 0.08), draw.choice([-1, 1])
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        linear = turn @ np.diag([scale * aspect * mirror, scale / aspect])
        warp = np.c_[linear, side / 2 - linear @ draw.uniform((0, 0), self._truth.shape[::-1])]
        source = self._pixels if scale > 0.9 else cv2.GaussianBlur(self._pixels, (0, 0), 0.4 * (1 / scale - 1))
        how = cv2.INTER_CUBIC if scale > 1 and draw.random() < 0.5 else cv2.INTER_LINEAR
        return (cv2.warpAffine(source, warp, (side, side), flags=how, borderMode=cv2.BORDER_REFLECT_101),
                cv2.warpAffine(self._truth, warp, (side, side), borderMode=cv2.BORDER_REFLECT_101))

    def _shaded(self, pixels: Floats) -> Floats:
        draw = self._random
        if draw.random() < 0.5:
            pixels = np.sign(pixels) * np.abs(pixels) ** np.float32(math.exp(draw.normal() * 0.3))
        if draw.random() < 0.5:
            pixels = pixels * np.float32(math.exp(draw.normal() * 0.35)) + np.float32(draw.normal() * 0.03)
        if draw.random() < 0.25:
            pixels = cv2.GaussianBlur(pixels, (0, 0), draw.uniform(0.3, 1.2))
        if draw.random() < 0.4:
            pixels = pixels + draw.normal(size=pixels.shape).astype(np.float32) * np.float32(abs(draw.normal()) * 0.03)
        return normalised(pixels) if draw.random() < 0.15 else pixels

    def _photo(self) -> Floats:
        draw, side = self._random, self._recipe.crop_px
        photo = self._photos[draw.integers(len(self._photos))]
        factor = max(draw.uniform(0.4, 1.5), (side + 1) / min(photo.shape))
        photo = cv2.resize(photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        y0, x0 = (draw.integers(0, length - side + 1) for length in photo.shape)
        crop = photo[y0: y0 + side, x0: x0 + side]
        return np.asarray(1 - crop if draw.random() < 0.3 else crop, np.float32)

    def _noise(self) -> Floats:
        draw, side = self._random, self._recipe.crop_px
        if draw.random() < 0.3:
            return normalised(draw.choice(self._background, (side, side)))
        grain = draw.normal(size=(side, side)).astype(np.float32)
        if draw.random() < 0.5:
            grain = cv2.GaussianBlur(grain, (0, 0), math.exp(draw.uniform(math.log(0.4), math.log(5))))
            grain /= grain.std()
        if draw.random() < 0.5:
            ramp = np.linspace(-1, 1, side, dtype=np.float32)
            grain = grain + np.float32(draw.normal()) * ramp + np.float32(draw.normal()) * ramp[:, None]
        if draw.random() < 0.5:
            clouds = draw.normal(size=(4, 4)).astype(np.float32)
            clouds = cv2.resize(clouds, (side, side), interpolation=cv2.INTER_CUBIC)
            grain = grain + np.float32(draw.uniform(0, 2)) * clouds
        faint = draw.uniform(0.02, 0.3) if draw.random() < 0.3 else 1.0
        return normalised(grain) * np.float32(faint)


def build_network(weights: Path) -> torch.nn.Module:
    """The untrained network, (N, 1, h, w) -> (N, 1, h, w) raw outputs, its encoder with ImageNet's weights.

    The first convolution's three colours are added up, which is what it answers to a grey image.
    """
    network, given = _empty_network(), imagenet_lite0(weights)
    given["conv_stem.weight"] = given["conv_stem.weight"].sum(dim=1, keepdim=True)
    encoder = network.get_submodule("encoder")
    encoder.load_state_dict({name: given[name.removeprefix("model.")] for name in encoder.state_dict()})
    return network


def _empty_network() -> torch.nn.Module:
    import segmentation_models_pytorch as smp

    network: torch.nn.Module = smp.create_model(ARCH, ENCODER, encoder_weights=None, in_channels=1, classes=1)
    return network


def train(sampler: Sampler, weights: Path, *, recipe: Recipe, seed: int) -> dict[str, torch.Tensor]:
    """The state dict after `recipe.steps`: a running average of the weights. The same seed gives the same bytes.

    Binary cross-entropy against the share of nucleus in each px, AdamW, one cycle of the learning rate.
    """
    import torch

    torch.set_num_threads(recipe.threads)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    network = build_network(weights).to(memory_format=torch.channels_last).train()
    average = copy.deepcopy(network).requires_grad_(False)
    groups = [{"params": [each for each in network.parameters() if (each.ndim > 1) is kernels], "weight_decay": decay}
              for kernels, decay in ((True, recipe.weight_decay), (False, 0.0))]
    optimiser = torch.optim.AdamW(groups, lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, recipe.steps, pct_start=0.2)
    for step in range(recipe.steps):
        pixels, truth = map(torch.from_numpy, sampler.batch())
        inputs = ((pixels - NORMALISATION.mean[0]) / NORMALISATION.std[0]).contiguous(memory_format=torch.channels_last)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network(inputs), truth)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        decay = min(recipe.average_decay, (1 + step) / (10 + step))
        for kept, new in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
            kept.copy_(kept.lerp(new, 1 - decay) if kept.is_floating_point() else new)
        if step % 50 == 0:
            LOG.info("nuclei seed=%d step=%d of %d loss=%.4f", seed, step, recipe.steps, loss.item())
    return dict(average.state_dict())


def score(state: dict[str, torch.Tensor], pixels: npt.NDArray[Any]) -> ScoreArray:
    """uint16 (h, w) scores, 65535 for 1.0, of stored pixels (h, w), normalised over the whole of them, in one tile."""
    import torch

    network = _empty_network()
    network.load_state_dict(state)
    image = pixels[:, :, None]
    tile = intensity.to_input(image, intensity.affine(NORMALISATION, dtype=pixels.dtype, sample=image))
    height, width = pixels.shape
    tile = np.pad(tile, ((0, 0), (0, 0), (0, -height % 32), (0, -width % 32)), "reflect")
    with torch.inference_mode():
        scores: Floats = network.eval()(torch.from_numpy(tile)).sigmoid()[0, 0, :height, :width].numpy()
    return np.asarray(np.rint(scores * SCORE_ONE), np.uint16)


@dataclass(frozen=True, slots=True)
class Pixels:
    """How scores >= threshold agree with the nuclei, px by px."""

    threshold: float
    recall: float
    precision: float
    dice: float


def measure_pixels(scores: ScoreArray, labels: Labels, threshold: float) -> Pixels:
    """scores, labels: (h, w); see `Pixels`."""
    said, truth = scores / SCORE_ONE >= threshold, labels > 0
    both, n_said, n_true = int((said & truth).sum()), int(said.sum()), int(truth.sum())
    return Pixels(threshold, both / max(n_true, 1), both / max(n_said, 1), 2 * both / max(n_said + n_true, 1))


@dataclass(frozen=True, slots=True)
class Objects:
    """How candidates agree with the nuclei, object by object.

    A nucleus is found when some candidate covers half of it or more, and it makes up a tenth of that candidate or more;
    a candidate is right when it finds a nucleus. `scores` and `finds` (the nuclei's numbers) are by candidate.
    """

    nuclei: int
    scores: tuple[float, ...]
    finds: tuple[frozenset[int], ...]

    def summary(self, accept_at: float = 0.0) -> dict[str, float]:
        """Figures of the candidates whose score is accept_at or more."""
        kept = [finds for value, finds in zip(self.scores, self.finds, strict=True) if value >= accept_at]
        return {"nuclei": self.nuclei, "candidates": len(kept),
                "recall": len(frozenset().union(*kept)) / max(self.nuclei, 1),
                "precision": sum(map(bool, kept)) / max(len(kept), 1)}


def measure_objects(scores: ScoreArray, labels: Labels, extraction: cards.Extraction) -> Objects:
    """scores, labels: (h, w); see `Objects`."""
    candidates, _ = extract_regions(scores, extraction=extraction, class_name=NAME)
    sizes = np.bincount(labels.ravel())
    finds = []
    for candidate in candidates:
        box = candidate.box
        mask = masks.decode(candidate.mask_rle or b"", height_px=box.height_px, width_px=box.width_px)
        shared = np.bincount(labels[box.y0: box.y1, box.x0: box.x1][mask], minlength=len(sizes))
        found = (2 * shared >= sizes) & (10 * shared >= candidate.area_px) & (sizes > 0)
        finds.append(frozenset(np.flatnonzero(found).tolist()) - {0})  # 0 is the background
    return Objects(int((sizes[1:] > 0).sum()), tuple(each.score for each in candidates), tuple(finds))


def cross_fitted(field: Field, photos: Sequence[Photo], weights: Path, *, recipe: Recipe, seed: int) -> ScoreArray:
    """Scores of a field, each half of its rows scored by a model that was trained on the other for half the steps."""
    middle, short = field.pixels.shape[0] // 2, replace(recipe, steps=max(recipe.steps // 2, 1))
    upper, lower = (Field(field.pixels[rows], field.labels[rows]) for rows in (slice(middle), slice(middle, None)))
    states = [train(Sampler(learnt, photos, short, seed), weights, recipe=short, seed=seed) for learnt in (lower, upper)]
    return np.concatenate([score(state, part.pixels) for state, part in zip(states, (upper, lower), strict=True)])


def choose(own: ScoreArray, fitted: ScoreArray, labels: Labels) -> tuple[cards.Extraction, cards.ClassThresholds]:
    """Extraction and thresholds by the model's own and by cross-fitted scores (h, w) of the half that was learnt from.

    flag_at is the lowest hundredth at which FLAG_PRECISION of the px are right: as much as can be found at that price.
    Regions are formed and stored from there on, so that flagged candidates cover what was flagged. min_area_px is the
    largest that loses no nucleus; accept_at the lowest hundredth from which ACCEPT_PRECISION of candidates are right.
    """
    hundredths = [number / 100 for number in range(1, 100)]
    flag_at = next((t for t in hundredths if measure_pixels(own, labels, t).precision >= FLAG_PRECISION), 0.5)
    options = [cards.Extraction(extent_min=flag_at, floor=flag_at, min_area_px=area) for area in (1, 4, 8, 16)]
    found = [measure_objects(fitted, labels, option) for option in options]
    best = max(i for i, each in enumerate(found) if each.summary()["recall"] == found[0].summary()["recall"])
    precisions = {t: found[best].summary(t)["precision"] for t in hundredths if t >= flag_at}
    accept_at = next((t for t, precision in precisions.items() if precision >= ACCEPT_PRECISION), None)
    return options[best], cards.ClassThresholds(flag_at=flag_at, accept_at=accept_at)


def write_model(state: dict[str, torch.Tensor], folder: Path, *, extraction: cards.Extraction, seed: int) -> None:
    """Writes card.json and model.safetensors (float16) into a folder."""
    card = cards.ModelCard(
        name="nuclei", description="Cell nuclei in fluorescence images, px by px; nuclei that touch are not parted.",
        family="smp", task=cards.Task.SEMANTIC, arch=ARCH, encoder=ENCODER, classes=(cards.ClassNode(name=NAME),),
        channels=1, weights_sha256=save_model(state, folder / library.WEIGHTS, half=True), normalisation=NORMALISATION,
        extraction=extraction, licence="Apache-2.0",
        trained_on="Left half (columns 0 to 255) of img2d.tif of StarDist 0.9.2 (BSD-3-Clause): bright nuclei of about "
                   "24 px on dark ground, scaled by 0.5 to 2.2. Photographs of scikit-image (CC0) and noise, as empty. "
                   "Encoder start: EfficientNet-Lite0 on ImageNet (Apache-2.0).",
        not_for="Diagnosis; stained tissue; counting nuclei that touch; nuclei under 12 or over 55 px across.",
        seed=seed, made_by=f"python -m segsvc.training.nuclei --seed {seed} --out segsvc/packaged_models/nuclei")
    write_whole(folder / "card.json", card.to_json().encode())


def measure(folder: Path, held_out: Field, photos: dict[str, Photo], at: cards.ClassThresholds) -> dict[str, Any]:
    """The figures of one model, read from its folder, as they stand in metrics.json."""
    model = library.read_model(folder)
    state, extraction = library.load_weights(model), model.card.extraction
    scores = score(state, held_out.pixels)
    tried = [extraction.model_copy(update={"extent_min": extent, "floor": max(extent, at.flag_at)})
             for extent in sorted({0.05, 0.1, 0.2, 0.3, 0.5, 0.7, extraction.extent_min})]
    objects = {f"{each.extent_min:.2f}": measure_objects(scores, held_out.labels, each) for each in tried}
    sizes = {factor: held_out.scaled(factor) for factor in (0.5, 0.75, 1.5, 2.0)}
    return {
        "seed": model.card.seed, "at_half": asdict(measure_pixels(scores, held_out.labels, 0.5)),
        "at_flag": asdict(measure_pixels(scores, held_out.labels, at.flag_at)),
        "accepted": objects[f"{extraction.extent_min:.2f}"].summary(2.0 if at.accept_at is None else at.accept_at),
        "objects_by_extent_min": {extent: found.summary() for extent, found in objects.items()},
        "dice_by_scale": {str(factor): measure_pixels(score(state, field.pixels), field.labels, 0.5).dice
                          for factor, field in sizes.items()},
        "share_called_nucleus_in_photos": {name: float((score(state, photo) >= SCORE_ONE / 2).mean())
                                           for name, photo in photos.items()},
    }


def main() -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m segsvc.training.nuclei", description="Trains the model nuclei.")
    parser.add_argument("--seed", type=int, default=0, help="seed of the model that is written")
    parser.add_argument("--also", type=int, nargs="*", default=[], help="further seeds, trained to be measured alone")
    parser.add_argument("--assets", type=Path, default=settings().assets_dir, help="folder of the fetched files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the model")
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    learnt, held_out = read_halves(given.assets)
    photos, unseen = ({name: _read(given.assets / name) for name in names} for names in (PLAIN_PHOTOS, HELD_OUT_PHOTOS))
    weights, recipe = given.assets / "efficientnet-lite0-57934424.pth", Recipe()
    fitted = cross_fitted(learnt, list(photos.values()), weights, recipe=recipe, seed=given.seed)
    figures, points = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for seed in (given.seed, *given.also):
            folder, start = (given.out if seed == given.seed else Path(temporary) / str(seed)), time.monotonic()
            state = train(Sampler(learnt, list(photos.values()), recipe, seed), weights, recipe=recipe, seed=seed)
            extraction, thresholds = choose(score(state, learnt.pixels), fitted, learnt.labels)
            write_model(state, folder, extraction=extraction, seed=seed)
            points.append(thresholds)
            figures.append(measure(folder, held_out, unseen, thresholds))
            LOG.info("nuclei seed=%d seconds=%.0f %s", seed, time.monotonic() - start, json.dumps(figures[-1]))
    point = cards.OperatingPoint(
        basis=cards.Basis.MEASURED, classes={NAME: points[0]}, runtime=Runtime.TORCH_CPU,
        model_digest=library.read_model(given.out).digest,
        note="Chosen on the left half of img2d.tif, which the model learnt from: flag_at by px precision, accept_at by "
             "cross-fitting. Right half: px recall {recall:.4f}, precision {precision:.4f}.".format(**figures[0]["at_flag"]))
    write_whole(given.out / "operating_point.json", point.to_json().encode())
    document = {"measured_on": "right half of img2d.tif, weights as on disk (float16), torch-cpu; not blind: two trial "
                               "models were looked at there before the loss and the rule for flag_at were settled",
                "cross_fitted_on_the_left_half": asdict(measure_pixels(fitted, learnt.labels, points[0].flag_at)),
                "nuclei_cut_by_the_split": len(np.intersect1d(learnt.labels, held_out.labels)) - 1,
                "recipe": asdict(recipe), "seeds": figures}
    write_whole(given.out / "metrics.json", (json.dumps(document, indent=2, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    main()
