"""`segsvc models import` and `segsvc models export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from segsvc.card import Activation, Task
from segsvc.cli.main import Exit
from segsvc.cli.progress import say
from segsvc.documents import ImportDocument, ModelExportDocument, printable_path
from segsvc.errors import ConfigError
from segsvc.exchange.request import ImportRequest, SourceKind, parse_classes
from segsvc.models.library import find_model
from segsvc.settings import settings


@click.command("import")
@click.argument("source")
@click.option("--out", required=True, help="The model's folder, new; or a bare name: then among your models.")
@click.option("--name", help="The model's name. [default: the last step of --out]")
@click.option("--kind", type=click.Choice([kind.value for kind in SourceKind]), help="What SOURCE is. [default: by content]")
@click.option("--task", type=click.Choice([task.value for task in Task]), help="What it answers. [default: by content]")
@click.option("--arch", help="The network, where SOURCE holds tensors alone, e.g. unet.")
@click.option("--encoder", help="Its encoder, e.g. resnet34.")
@click.option("--option", "options", multiple=True, metavar="NAME=JSON",
              help="A setting of the network by its library's name, e.g. decoder_channels=[64,32,16,8,8].")
@click.option("--classes", help="a,b,c, or a file with a line for each output: NAME, or NAME < PARENT < ITS PARENT.")
@click.option("--activation", type=click.Choice([each.value for each in Activation]),
              help="softmax: one class holds. sigmoid: several may. [default: softmax from two outputs on]")
@click.option("--background", is_flag=True, help="The first output is background, and no class.")
@click.option("--mean", help="Of each channel, for values between 0 and 1, e.g. 0.5,0.5,0.5. [default: the source's, else "
                             "ImageNet's]")
@click.option("--std", help="Of each channel, as --mean.")
@click.option("--prefix", help="What the tensors' names begin with, e.g. model. with the dot. [default: found]")
@click.option("--anchor-sizes", help="Of a detector with anchors of its own, in px: levels by ;, sizes by comma.")
@click.option("--anchor-ratios", help="Of a detector with anchors of its own: height / width, by comma.")
@click.option("--norm-eps", type=click.FloatRange(0, 1), help="Of a detector's frozen norms. [default: 0]")
@click.option("--licence", default="unstated", show_default=True, help="What the model's card says of its licence.")
@click.option("--tile-px", type=click.IntRange(32, 16384), help="Side of the tiles that images are cut into.")
@click.option("--crop-px", type=click.IntRange(16, 4096), help="Side of a classifier's input. [default: the source's]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def import_model(source: str, out: str, name: str | None, kind: str | None, task: str | None, arch: str | None,
                 encoder: str | None, options: tuple[str, ...], classes: str | None, activation: str | None,
                 background: bool, mean: str | None, std: str | None, prefix: str | None, anchor_sizes: str | None,
                 anchor_ratios: str | None, norm_eps: float | None, licence: str, tile_px: int | None, crop_px: int | None,
                 as_json: bool) -> int:
    """Make a model's folder of SOURCE, and compare the two.

    SOURCE: a folder that segmentation-models-pytorch or timm has saved, OWNER/NAME of the Hugging Face hub, a file with
    tensors (safetensors, a PyTorch or Lightning checkpoint), weights of torchvision's Mask R-CNN, or ONNX. No code in it is
    run.
    """
    folder = _place(out)
    request = ImportRequest(
        source=source, name=name or folder.name, kind=SourceKind(kind) if kind else None, task=Task(task) if task else None,
        arch=arch, encoder=encoder, options=dict(_option(text) for text in options),
        classes=parse_classes(classes) if classes is not None else None,
        activation=Activation(activation) if activation else None, background=background, mean=_numbers("mean", mean),
        std=_numbers("std", std), prefix=prefix, anchor_sizes_px=_levels(anchor_sizes),
        anchor_ratios=_numbers("anchor-ratios", anchor_ratios), norm_eps=norm_eps, licence=licence, tile_px=tile_px,
        crop_px=crop_px)
    from segsvc.exchange import importing

    importing.check_place(folder)
    done = importing.import_model(request, folder, say)
    compared = done.comparison
    document = ImportDocument(
        name=done.model.name, digest=done.model.digest, folder=printable_path(done.model.folder), kind=done.kind.value,
        library=compared.library, compared_sizes_px=list(compared.sizes_px), compared_scores=compared.n_scores,
        largest_difference=compared.worst, notes=list(done.notes), card=done.model.card)
    click.echo(document.model_dump_json(indent=2) if as_json else _text(document))
    return Exit.DONE


@click.command("export")
@click.argument("name")
@click.option("--to", "to", required=True, help="A folder, or s3://bucket/prefix.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def export_model(name: str, to: str, as_json: bool) -> int:
    """Copy a model whole, NAME or folder, to a new place; --model takes that place as it is."""
    from segsvc.exchange import exporting

    model = find_model(name)
    done = exporting.export_model(model, to)
    document = ModelExportDocument(name=model.name, digest=model.digest, to=printable_path(done.uri), files=done.files,
                                   kept=done.kept)
    there = f" ({done.kept} were there)" if done.kept else ""
    click.echo(document.model_dump_json(indent=2) if as_json else
               f"{document.name}  {document.digest[:12]}  {done.files} files{there}  {document.to}")
    return Exit.DONE


def _place(out: str) -> Path:
    if "://" in out:
        raise ConfigError(f"--out {out}: expected a folder or a name. `segsvc models export` copies a model to a bucket.")
    if not out.strip("/. "):
        raise ConfigError(f"--out {out!r}: expected a new folder, or a name")
    return Path(out) if "/" in out else settings().models_dir / out


def _numbers(name: str, text: str | None) -> tuple[float, ...] | None:
    try:
        return tuple(float(each) for each in text.split(",")) if text is not None else None
    except ValueError as error:
        raise ConfigError(f"--{name}: expected numbers by comma, got {text!r}") from error


def _levels(text: str | None) -> tuple[tuple[float, ...], ...] | None:
    if text is None:
        return None
    return tuple(_numbers("anchor-sizes", level) or () for level in text.split(";"))


def _option(text: str) -> tuple[str, Any]:
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise ConfigError(f"--option {text}: expected NAME=JSON, e.g. encoder_depth=4")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value  # a word


def _text(document: ImportDocument) -> str:
    sizes = " and ".join(f"{width} x {height}" for width, height in document.compared_sizes_px)
    names = document.card.class_names
    rows = [("model", document.folder), ("digest", document.digest),
            ("network", ", ".join(filter(None, (document.card.arch, document.card.encoder)))),
            ("classes", ", ".join(names[:8]) + (f" ... ({len(names)} in all)" if len(names) > 8 else "")),
            ("compared", f"{document.compared_scores} scores with {document.library}'s on random input of {sizes} px: they "
                         f"differ by {document.largest_difference:.1g} at most")]
    rows += [("note", note) for note in document.notes]
    rows.append(("next", f"segsvc run INPUT --model {document.folder} --out OUT"))
    return "\n".join(f"{name:10}  {value}" for name, value in rows)
