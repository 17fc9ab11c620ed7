"""`segsvc train`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from segsvc.card import IntensityScale, Task
from segsvc.cli.dataset_argument import called, resolve
from segsvc.cli.ledger_flag import labels_flag
from segsvc.cli.main import Exit, Interrupted
from segsvc.cli.models import model_document
from segsvc.cli.progress import say
from segsvc.documents import ModelDocument, printable_path
from segsvc.errors import ConfigError
from segsvc.loaded import available_cores
from segsvc.models.library import read_model


@click.command("train")
@click.argument("dataset")
@click.option("--task", required=True, type=click.Choice([task.value for task in Task]), help="What the model is to answer.")
@click.option("--out", required=True, help="The model's folder, new or empty.")
@click.option("--init", default="imagenet", show_default=True,
              help="What it starts from: imagenet, random, or a model's name or folder.")
@click.option("--freeze-encoder", is_flag=True, help="Hold the encoder fixed at first; it learns later, and slower.")
@click.option("--arch", help="The network. [default: unet, or the encoder itself for a classifier]")
@click.option("--encoder", help="The network's encoder. [default: EfficientNet-Lite0]")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the images. [default: by their number]")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True, help="Of all that is drawn.")
@click.option("--domain", type=click.Choice(["document", "photo", "any"]),
              help="What may be done to images: document is not mirrored, photo not turned upside down. [default: document "
                   "for a classifier, else photo]")
@click.option("--intensity", type=click.Choice([scale.value for scale in IntensityScale]),
              help="dtype: stored values as they are. percentile: each image by its own percentiles. [default: by its bits]")
@click.option("--licence", default="unstated", help="What the model's card says of its licence.")
@click.option("--executor", type=click.Choice(["inline", "ray"]), default="inline", show_default=True,
              help="inline: this process. ray: workers of the cluster at RAY_ADDRESS, else of one on this machine.")
@click.option("--workers", type=click.IntRange(1), help="Workers by ray: they share every batch. [default: as fit]")
@click.option("--threads", type=click.IntRange(1), help="Threads, of each worker. [default: all cores]")
@click.option("--resume", is_flag=True, help="Go on with a training of the same command that was interrupted.")
@labels_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(dataset: str, task: str, out: str, init: str, freeze_encoder: bool, arch: str | None, encoder: str | None,
            epochs: int | None, seed: int, domain: str | None, intensity: str | None, licence: str, executor: str,
            workers: int | None, threads: int | None, resume: bool, ledger: str, as_json: bool) -> int:
    """Train a model on DATASET: labelled images in any layout that `segsvc datasets check` knows.

    The data are checked first; then the model is trained, judged on images that it did not learn from, and written to
    --out with a report.
    """
    place = _place(out)
    from segsvc.training.augment import Domain
    from segsvc.training.recipe import TrainingRequest
    from segsvc.training.trainer import train

    request = TrainingRequest(
        dataset=resolve(dataset, ledger), called=called(dataset), task=Task(task), out=place, init=init,
        freeze_encoder=freeze_encoder, arch=arch, encoder=encoder, epochs=epochs, seed=seed,
        domain=Domain(domain) if domain is not None else None, licence=licence,
        scale=IntensityScale(intensity) if intensity is not None else None, resume=resume,
        threads=threads or available_cores())
    if resume and not any(path.is_file() for path in place.rglob("*")):  # what was stopped before its first round left none
        say(f"no training at {printable_path(place)} to go on with: it begins anew")
    try:
        if executor == "ray":
            from jobs.train import train_by_ray

            folder = train_by_ray(request, say, workers=workers, threads=threads)
        elif workers not in (None, 1):
            raise ConfigError(f"--workers: expected --executor ray with it, got {workers} workers inline, where one process "
                              "takes all cores by --threads")
        else:
            folder = train(request, say)
    except KeyboardInterrupt as error:
        raise Interrupted("What was learnt is kept: the same command with --resume goes on.") from error
    model = read_model(folder)
    document = model_document(model, weights_ok=True)
    click.echo(document.model_dump_json(indent=2) if as_json else _text(document, folder))
    return Exit.DONE


def _place(out: str) -> Path:
    """The folder that --out names. Training keeps its state in it as it goes, so it lies on a disk."""
    if "://" in out:
        raise ConfigError(f"--out {out}: expected a folder on this machine. `segsvc models export` copies the model to a "
                          "bucket.")
    if not out.strip():
        raise ConfigError(f"--out {out!r}: expected a folder for the model, new or empty")
    return Path(out)


def _text(document: ModelDocument, folder: Path) -> str:
    figures = (document.metrics or {}).get("figures", {})
    shown = [f"{name} {_figure(each)}" for name, each in figures.items() if each.get("value") is not None]
    return "\n".join([f"model       {printable_path(folder)}", f"figures     {', '.join(shown)}",
                      f"report      {printable_path(folder / 'report.html')}",
                      f"next        segsvc run INPUT --model {printable_path(folder)} --out OUT"])


def _figure(figure: Mapping[str, Any]) -> str:
    between = f" ({figure['low']:.3f} to {figure['high']:.3f})" if figure.get("low") is not None else ""
    return f"{figure['value']:.3f}{between}"
