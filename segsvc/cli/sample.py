"""`segsvc sample`."""

from __future__ import annotations

from pathlib import Path

import click

from segsvc.cli.ledger_flag import ledger_flag
from segsvc.cli.main import Exit
from segsvc.cli.progress import say
from segsvc.ledger.label_records import LabelTask, WhereDiffer
from segsvc.ledger_documents import SampleDocument


@click.command("sample")
@click.argument("source", metavar="INPUT_OR_OUT")
@click.option("--n", type=click.IntRange(1), required=True, help="How many to draw: images, or groups with --group.")
@click.option("--name", required=True, metavar="SET", help="The label set; it is then a DATASET, label:SET.")
@click.option("--group", "grouped_by", metavar="COLUMN", help="Draw groups of images that are alike: all with one value in "
                                                              "COLUMN of a manifest together.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the order of drawing.")
@click.option("--class", "class_names", multiple=True, metavar="NAME",
              help="A class that is to be marked; may be repeated. [default: those of the run or of --model]")
@click.option("--task", type=click.Choice([task.value for task in LabelTask]),
              help="What is marked: objects, or classes of whole images. [default: as the model's task, else objects]")
@click.option("--model", metavar="MODEL", help="A model whose classes are to be marked.")
@click.option("--readers", type=click.IntRange(1, 2), default=1, show_default=True, help="How many label each image.")
@click.option("--where-differ", type=click.Choice([each.value for each in WhereDiffer]), default=WhereDiffer.EITHER.value,
              show_default=True, help="What two who differ mean: an object of either counts, or a third person decides.")
@click.option("--more", is_flag=True, help="Draw N further ones into SET: the next of the same order.")
@ledger_flag
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(source: str, n: int, name: str, grouped_by: str | None, seed: int, class_names: tuple[str, ...],
            task: str | None, model: str | None, readers: int, where_differ: str, more: bool, place: str,
            as_json: bool) -> int:
    """Draw whole images at random for people to label, from INPUT or out of a finished run's OUT.

    Every image (or group) has the same chance, and what it was drawn from is written down. People label the images at
    /label of `segsvc serve`; the set is then a DATASET for `segsvc calibrate`, `evaluate` and `train`.
    """
    from segsvc.cli.errand import do  # these load the ledger: not for `segsvc sample --help`
    from segsvc.ledger.errands import DrawSample

    done = do(place, DrawSample(
        source=_whole(source), n=n, name=name, seed=seed, grouped_by=grouped_by, class_names=list(class_names),
        task=LabelTask(task) if task is not None else None, model=model, readers=readers,
        where_differ=WhereDiffer(where_differ), more=more), SampleDocument)
    for why, count in done.skipped.items():
        say(f"skipped: {count} ({why})")
    click.echo(done.model_dump_json(indent=2) if as_json else _text(done))
    return Exit.DONE


def _whole(source: str) -> str:
    """The place as a server knows it too, which runs elsewhere."""
    return source if "://" in source or not source else str(Path(source).absolute())


def _text(done: SampleDocument) -> str:
    units = "groups" if done.grouped_by is not None else "images"
    cannot = f", {done.unreadable} of which cannot be opened" if done.unreadable else ""
    return "\n".join([
        f"label set   {done.dataset}: {done.drawn} images{cannot}; {done.new_images} drawn now",
        f"drawn from  {done.frame_units} {units} of {done.input}, seed {done.seed}",
        f"classes     {', '.join(done.classes)}",
        f"frame       {done.frame}",
        f"next        segsvc serve --ledger {done.ledger}, then label them at /label/{done.name}"])
