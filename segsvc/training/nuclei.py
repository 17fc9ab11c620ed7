"""Makes the packaged models `nuclei` and `nuclei-instances`: `python -m segsvc.training.nuclei --out DIR`.

By the path that users take: the data sets that `nuclei_data` writes, `segsvc train` with its defaults (`--domain any`) and
`segsvc evaluate` on the half that was held out. Besides, weights are rounded to float16, the card says what the model is not
for, and `nuclei` is given thresholds: measured, by models that had not seen what they are measured on. One image is one
unit: it promises nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segsvc.card import Extraction, ModelCard, Task
from segsvc.errors import ConfigError
from segsvc.evaluation.evaluating import TRAINED_ON, evaluate, request
from segsvc.loaded import available_cores
from segsvc.metrics_document import MetricsDocument
from segsvc.models.checkpoint import save_model, write_whole
from segsvc.models.library import WEIGHTS, load_weights, read_model
from segsvc.operating_point import Basis, ClassThresholds, OperatingPoint
from segsvc.settings import settings
from segsvc.training import nuclei_data
from segsvc.training.augment import Domain
from segsvc.training.recipe import TrainingRequest
from segsvc.training.trainer import train
from segsvc.types import Runtime

FLAG_RECALL = 0.98  # of the nuclear px, out of fold: from where they are flagged
ACCEPT_PRECISION = 0.9  # of the candidates, out of fold: from where they are accepted
LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Packaged:
    """A packaged model: its name, what it answers, its data set below the folder of both, and what its card says of it."""

    name: str
    task: Task
    data: str
    description: str
    not_for: str


MODELS = (
    Packaged("nuclei", Task.SEMANTIC, "semantic",
             "Cell nuclei in fluorescence images, px by px; nuclei that touch are not parted.",
             "Diagnosis; stained tissue; counting nuclei that touch; nuclei under 12 or over 55 px across."),
    Packaged("nuclei-instances", Task.INSTANCE, "instances",
             "Cell nuclei in fluorescence images, each with its own mask, also where they touch.",
             "Diagnosis; stained tissue; nuclei under 12 or over 55 px across; acceptance by rule: it has no thresholds."),
)


def make(packaged: Packaged, data: Path, out: Path, *, seed: int, trained: Path | None = None) -> MetricsDocument:
    """Writes the model's folder `out` / name; its figures on the half that was held out.

    trained: the folder of a model that `segsvc train` has made of the same data and seed; None trains it now.
    """
    folder = out / packaged.name
    with tempfile.TemporaryDirectory() as temporary:
        place = trained or train(TrainingRequest(
            dataset=str(data / packaged.data), task=packaged.task, out=Path(temporary) / packaged.name, domain=Domain.ANY,
            seed=seed, threads=available_cores()), LOG.info)
        model = read_model(place)
        figures = MetricsDocument.model_validate_json((place / "metrics.json").read_bytes())
        thresholds = _thresholds(figures) if packaged.task is Task.SEMANTIC else None
        card = _card(packaged, model.card, thresholds, weights_sha256=save_model(
            load_weights(model), folder / WEIGHTS, half=True))
        write_whole(folder / "training.json", (place / "training.json").read_bytes())
        _write_seen(place / TRAINED_ON, folder / TRAINED_ON)
    if thresholds is not None:
        point = OperatingPoint(basis=Basis.MEASURED, classes={nuclei_data.NAME: thresholds}, runtime=Runtime.TORCH_CPU,
                               model_digest=card.digest, note=_note(figures, thresholds))
        write_whole(folder / "operating_point.json", point.to_json().encode())
    write_whole(folder / "card.json", card.to_json().encode())
    asked = request(read_model(folder), str(data / packaged.data), split="test", slices=(), out=str(folder))
    document = evaluate(asked, Runtime.TORCH_CPU, threads=1)
    for name in ("metrics.json", "report.html"):  # the data lie in a folder that nobody else has
        raw = (folder / name).read_bytes()
        write_whole(folder / name, raw.replace(data.resolve().as_uri().encode(), b"nuclei_data").replace(
            str(data.resolve()).encode(), b"nuclei_data"))
    return document


def _thresholds(figures: MetricsDocument) -> ClassThresholds:
    """By what models said of images that they had not learnt from.

    flag_at: the highest hundredth at which 98 % of the nuclear px are found; accept_at: the lowest from which 90 % of the
    candidates are right, if there is one.
    """
    if figures.semantic is None or figures.found is None or not figures.out_of_fold:
        raise ConfigError("expected the figures of a semantic model, out of fold, got others")
    curve = figures.semantic.classes[0].curve
    kept = [threshold for threshold, recall in zip(curve.threshold, curve.recall, strict=True)
            if recall is not None and recall >= FLAG_RECALL]
    flag_at = int(max(kept) * 100) / 100
    right = [row.threshold for row in figures.found.classes[0].by_threshold
             if row.candidates and row.right >= ACCEPT_PRECISION * row.candidates]
    return ClassThresholds(flag_at=flag_at, accept_at=max(flag_at, min(right)) if right else None)


def _note(figures: MetricsDocument, thresholds: ClassThresholds) -> str:
    return (f"Chosen on the left half of img2d.tif, plain photographs and noise, by {figures.out_of_fold} models that had "
            f"not learnt what they were asked about: from flag_at on {FLAG_RECALL:.0%} of the nuclear px were found"
            + (f", from accept_at on {ACCEPT_PRECISION:.0%} of the candidates right" if thresholds.accept_at is not None
               else "") + ". One image is one unit: measured, not guaranteed.")


def _card(packaged: Packaged, card: ModelCard, thresholds: ClassThresholds | None, *, weights_sha256: str) -> ModelCard:
    """Regions reach as far as is flagged: so flagged candidates cover the px that are."""
    extraction = card.extraction if thresholds is None else Extraction(
        extent_min=thresholds.flag_at, floor=thresholds.flag_at, min_area_px=card.extraction.min_area_px)
    return card.model_copy(update={
        "name": packaged.name, "description": packaged.description, "not_for": packaged.not_for, "licence": "Apache-2.0",
        "extraction": extraction, "weights_sha256": weights_sha256,
        "trained_on": "Left half (columns 0 to 255) of img2d.tif of StarDist 0.9.2 (BSD-3-Clause), in four strips: bright "
                      "nuclei of about 24 px on dark ground, scaled by 0.7 to 1.5. Photographs of scikit-image (CC0) and "
                      "noise, as images without nuclei. Encoder start: EfficientNet-Lite0 on ImageNet (Apache-2.0).",
        "made_by": f"python -m segsvc.training.nuclei --seed {card.seed}"})


def _write_seen(source: Path, target: Path) -> None:
    """What was learnt from, by content: the parts that were written for it, and the files that they were cut from."""
    seen = set(json.loads(source.read_bytes())["sha256"])
    for name in ("img2d.tif", *nuclei_data.PLAIN_PHOTOS):
        seen.add(hashlib.sha256((settings().assets_dir / name).read_bytes()).hexdigest())
    write_whole(target, (json.dumps({"sha256": sorted(seen)}, indent=1) + "\n").encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """The command; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m segsvc.training.nuclei", description="Makes the models of nuclei.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=[each.name for each in MODELS], help="one of the models")
    parser.add_argument("--trained", type=Path, help="folder of a model that `segsvc train` made of these data, with --only")
    parser.add_argument("--out", type=Path, required=True, help="folder in which the models' folders lie")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with tempfile.TemporaryDirectory() as temporary:
        data = Path(temporary) / "nuclei"
        nuclei_data.write(settings().assets_dir, data)
        for packaged in MODELS:
            if given.only in (None, packaged.name):
                document = make(packaged, data, given.out, seed=given.seed, trained=given.trained)
                LOG.info("%s %s", packaged.name, {name: figure.value for name, figure in document.figures.items()})


if __name__ == "__main__":
    main()
