"""The packaged model nuclei on the half of its labelled image that it never saw, through the path that a run takes.

Prints a JSON list of three rows: Dice of the px at 0.5, and recall and precision of the px at the model's own flag
threshold. `ours` is measured on the union of the masks of the candidates that a run would store (for Dice formed at 0.5,
for the others as the card says and flagged by the operating point); `peer` is PyTorch in one piece, thresholded px by px.
`outputs_equal` says whether the two differ in at most one px in a thousand.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from _common import Bound, Row, show

from segsvc import plugins
from segsvc.card import Extraction
from segsvc.errors import ConfigError
from segsvc.imaging import masks
from segsvc.imaging.intensity import affine, to_input
from segsvc.loaded import ArraySource
from segsvc.models.library import PACKAGED, Model, load_weights, read_model
from segsvc.models.runtime import Predictor
from segsvc.segment import Stopwatch, segment_source
from segsvc.settings import settings
from segsvc.training.nuclei_data import NAME, read_image
from segsvc.types import SCORE_ONE, Runtime

DICE, RECALL, PRECISION = 0.94, 0.99, 0.80
AGREEMENT = 0.999

Mask = npt.NDArray[np.bool_]  # (h, w)
Pixels = npt.NDArray[np.uint16]  # (h, w)


def network_scores(model: Model, pixels: Pixels) -> npt.NDArray[np.float32]:
    """(h, w) scores by PyTorch in one piece; sides are multiples of 32."""
    network = plugins.load(plugins.PluginKind.MODEL, model.card.family).build(model.card)
    network.load_state_dict(load_weights(model))
    image = pixels[:, :, None]
    given = to_input(image, affine(model.card.normalisation, dtype=pixels.dtype, sample=image))
    with torch.inference_mode():
        answer: npt.NDArray[np.float32] = network.eval()(torch.from_numpy(given)).sigmoid()[0, 0].numpy()
    return answer


def found_px(predictor: Predictor, pixels: Pixels, flag_at: float) -> Mask:
    """The px of all candidates whose score is flag_at or more."""
    mask = np.zeros(pixels.shape, np.bool_)
    for found in segment_source(ArraySource(pixels), predictor, Stopwatch()):
        if found.score >= flag_at and found.mask_rle is not None:
            box = found.box
            mask[box.y0: box.y1, box.x0: box.x1] |= masks.decode(found.mask_rle, height_px=box.height_px,
                                                                 width_px=box.width_px)
    return mask


def figures(said: Mask, truth: Mask) -> tuple[float, float, float]:
    """Dice, recall and precision of px."""
    both = int((said & truth).sum())
    return 2 * both / int(said.sum() + truth.sum()), both / int(truth.sum()), both / int(said.sum())


def main() -> None:
    model = read_model(PACKAGED / "nuclei")
    thresholds = model.operating_point.thresholds(NAME) if model.operating_point is not None else None
    if thresholds is None:
        raise ConfigError("model nuclei: expected an operating point for nucleus, got none")
    image, labels = read_image(settings().assets_dir)
    pixels, truth = np.ascontiguousarray(image[:, 256:]), labels[:, 256:] > 0
    reference = np.rint(network_scores(model, pixels) * SCORE_ONE) / SCORE_ONE
    predictor = Predictor(model, Runtime.OPENVINO, threads=1)
    rows = []
    at_half = replace(model, card=model.card.model_copy(update={"extraction": Extraction(extent_min=0.5, floor=0.5)}))
    for predictor.model, threshold, wanted in (
            (at_half, 0.5, {"Dice": DICE}),
            (model, thresholds.flag_at, {"recall": RECALL, "precision": PRECISION})):
        mine, theirs = found_px(predictor, pixels, threshold), reference >= threshold
        agreeing = float((mine == theirs).mean())
        of_mine, of_theirs = (dict(zip(("Dice", "recall", "precision"), figures(said, truth), strict=True))
                              for said in (mine, theirs))
        rows += [Row(f"nuclei on its held-out half, {name} of px at {threshold:g}", of_mine[name], "share", of_theirs[name],
                     "PyTorch in one piece, px by px", of_mine[name] / of_theirs[name], agreeing >= AGREEMENT, demanded,
                     Bound.OURS_AT_LEAST, {"share_of_px_that_agree": round(agreeing, 6)})
                 for name, demanded in wanted.items()]
    predictor.close()
    show(rows)


if __name__ == "__main__":
    main()
