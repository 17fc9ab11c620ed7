"""A foreign model -> a model's folder: told what it is, fitted, written aside, compared with its source, put in place."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from segsvc.card import ModelCard, Task
from segsvc.errors import ConfigError
from segsvc.exchange import onnx, smp, timm, torchvision
from segsvc.exchange.comparison import Comparison, compare
from segsvc.exchange.hub import fetch_repository
from segsvc.exchange.request import Draft, ImportRequest, Provenance, SourceKind
from segsvc.exchange.sources import has_masks_of_torchvision, is_hub_id, is_onnx, read_folder
from segsvc.models.checkpoint import read_regular, read_state, save_model, write_whole
from segsvc.models.library import WEIGHTS, Model, read_model


@dataclass(frozen=True, slots=True)
class Imported:
    """A model that was written, what it was compared with, and what the user should know of it."""

    model: Model
    kind: SourceKind
    comparison: Comparison
    notes: tuple[str, ...]


def import_model(request: ImportRequest, out: Path, say: Callable[[str], None]) -> Imported:
    """Writes the model's folder, which appears whole or not at all, and says what was done.

    Raises ConfigError where the source or the place will not do (nothing is written), Differs where the model does not
    answer as its source.
    """
    check_place(out)
    torch.set_num_threads(1)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as aside:
            kind, draft = _draft(request, Path(aside))
            say(f"{kind.value}: {draft.card.arch}" + (f" with {draft.card.encoder}" if draft.card.encoder else "")
                + f", {len(draft.card.classes)} classes")
            folder = Path(aside, "whole")
            model = _write(draft, folder, request)
            say(f"comparing with {draft.library} on random input ...")
            comparison = compare(model, draft)
            folder.chmod(0o755)
            folder.rename(out)
    except OSError as error:
        raise ConfigError(f"{out}: expected a place that can be written: {error.strerror or error}") from error
    return Imported(read_model(out), kind, comparison, draft.notes)


def check_place(out: Path) -> None:
    """Raises ConfigError where there is something at the place already."""
    try:
        if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
            raise ConfigError(f"--out {out}: expected a new folder, it is there already. Choose another, or remove it.")
    except OSError as error:
        raise ConfigError(f"--out {out}: expected a place that can be written: {error.strerror}") from error


def _draft(request: ImportRequest, aside: Path) -> tuple[SourceKind, Draft]:
    source = Path(request.source)
    if "://" in request.source:
        raise ConfigError(f"{request.source}: expected a file, a folder or OWNER/NAME of the Hugging Face hub. Fetch it "
                          "first.")
    if is_hub_id(request.source):
        source = fetch_repository(request.source, aside / "fetched")
    if source.is_dir():
        folder = read_folder(source)
        if request.kind not in (None, folder.kind):
            raise ConfigError(f"--kind {request.kind}: {request.source} is of the kind {folder.kind}")
        return folder.kind, (smp if folder.kind is SourceKind.SMP else timm).draft_of_folder(request, folder)
    if not source.exists():
        raise ConfigError(f"{request.source}: expected a file, a folder or OWNER/NAME of the Hugging Face hub, there is "
                          "none")
    if request.kind is SourceKind.ONNX or (request.kind is None and is_onnx(raw := read_regular(source))):
        return SourceKind.ONNX, onnx.draft_of_bytes(request, raw if request.kind is None else read_regular(source))
    state = read_state(source)
    notes = (f"weights from the entry {state.inside!r} of the checkpoint",) if state.inside is not None else ()
    kind, draft = _draft_of_tensors(request, state.tensors)
    return kind, replace(draft, notes=(*notes, *draft.notes))


def _draft_of_tensors(request: ImportRequest, tensors: dict[str, torch.Tensor]) -> tuple[SourceKind, Draft]:
    detector = request.kind is None and has_masks_of_torchvision(tensors)
    if request.kind is SourceKind.TORCHVISION or detector:
        return SourceKind.TORCHVISION, torchvision.draft_of_tensors(request, tensors)
    if request.kind is SourceKind.TIMM or request.task is Task.CLASSIFICATION:
        return SourceKind.STATE_DICT, timm.draft_of_tensors(request, tensors)
    if request.task is Task.INSTANCE:
        raise ConfigError("--task instance: expected weights of torchvision's Mask R-CNN (roi_heads.mask_predictor ...), "
                          f"got {', '.join(list(tensors)[:3])} ...")
    return SourceKind.STATE_DICT, smp.draft_of_tensors(request, tensors)


def _write(draft: Draft, folder: Path, request: ImportRequest) -> Model:
    folder.mkdir()
    digest = save_model(draft.state, folder / WEIGHTS, half=False)
    said = request.provenance or Provenance(
        description=f"Imported from {draft.library}.",
        source=request.source if is_hub_id(request.source) else Path(request.source).name)
    card: ModelCard = draft.card.model_copy(update={
        "weights_sha256": digest, "made_by": "segsvc models import", "source": said.source,
        "description": said.description, "trained_on": said.trained_on, "not_for": said.not_for})
    write_whole(folder / "card.json", card.to_json().encode())
    return read_model(folder)
