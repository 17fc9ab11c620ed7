"""`segsvc`: finds the command, and turns errors into one or two lines and an exit code.

Commands are imported when they are called, so that `segsvc --help` loads nothing heavy.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum
from io import TextIOWrapper
from pathlib import Path

import click

from segsvc import __version__, interrupts
from segsvc.errors import ConfigError, SegsvcError


class Exit(IntEnum):
    """Exit codes of every command."""

    DONE = 0
    FAILED = 1  # also: OUT that fails mid-run
    USAGE = 2  # wrong usage or configuration, found before any work
    SOME_FAILED = 3  # done, but some or all images failed
    INTERRUPTED = 130


# command: (module, one line of help). The help stands here so that listing commands imports none of them.
COMMANDS = {
    "demo": ("segsvc.cli.demo", "Run the packaged models on the images that came with the set-up."),
    "run": ("segsvc.cli.run", "Run a model over a folder of images; the same command again resumes."),
    "band": ("segsvc.cli.band", "Put other thresholds in force for a finished run: a query, not a second run."),
    "train": ("segsvc.cli.train", "Train a model on labelled images, and say how good it is."),
    "calibrate": ("segsvc.cli.calibrate", "Choose a model's thresholds so that a recall is promised."),
    "improve": ("segsvc.cli.improve", "Train a model on; the new version takes its place if it is shown to be no worse."),
    "evaluate": ("segsvc.cli.evaluate", "Measure a model on labelled images: metrics.json and report.html."),
    "models": ("segsvc.cli.models", "List, show and fetch models."),
    "datasets": ("segsvc.cli.datasets", "Check labelled images, all that is wrong at once; show what is in them."),
    "export": ("segsvc.cli.export", "Write what was found for other tools: coco, png, geojson, cutout, csv, parquet."),
    "sample": ("segsvc.cli.sample", "Draw whole images at random, for people to label."),
    "serve": ("segsvc.cli.serve", "Serve the review page and its API."),
    "submit": ("segsvc.cli.submit", "Ask a server for a run; --wait waits for its end."),
    "runs": ("segsvc.cli.runs", "Show the runs of a server."),
    "status": ("segsvc.cli.status", "Show how far a run of a server is."),
    "cancel": ("segsvc.cli.cancel", "End a run of a server; what is published is kept."),
    "resume": ("segsvc.cli.resume", "Go on with a run of a server that failed or was cancelled."),
    "trigger": ("segsvc.cli.trigger", "Start runs on the events of buckets that come to a queue."),
    "reconcile": ("segsvc.cli.reconcile", "Find by listing what no event told."),
    "report": ("segsvc.cli.report", "Write a run's report.html."),
    "review": ("segsvc.cli.review", "Take runs into the ledger, for people to review."),
    "users": ("segsvc.cli.users", "Who may review: people with passwords, and tokens for programs."),
    "audit": ("segsvc.cli.audit", "Check that no decision was changed, cut or swapped since it was made."),
    "ledger": ("segsvc.cli.ledger", "Back the ledger up while it runs, and restore it."),
    "doctor": ("segsvc.cli.doctor", "Look at versions, runtimes, rights and what came with the set-up."),
}


class CommandGroup(click.Group):
    """A group of commands that answers a missing or unknown one with those that there are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args:
            raise click.UsageError(f"expected a command ({', '.join(self.list_commands(ctx))}), got none", ctx)
        return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and not args[0].startswith("-") and args[0] not in known:
            raise click.UsageError(f"there is no command {args[0]!r}; commands: {', '.join(known)}", ctx)
        return super().resolve_command(ctx, args)


class LazyGroup(CommandGroup):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="segsvc")
def cli() -> None:
    """Segment and classify image collections; flag candidates at a threshold; export what was found.

    Every command knows --help, and --debug, which shows the traceback of an error.
    """


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM, with what is to be said of it."""


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of `segsvc`."""
    _open_closed_streams()
    sys.exit(_answer(list(sys.argv[1:] if arguments is None else arguments)))


def _open_closed_streams() -> None:
    """Puts /dev/null where stdin, stdout or stderr was closed, so that no file of ours takes its number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        continue
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (open as long as the process)
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files are bytes, and come out as they are


def _answer(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    interrupts.heed()
    try:
        code = _invoke(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _leave_stdout()  # its reader left: nothing more to say to it
        return Exit.DONE
    except (Exception, KeyboardInterrupt) as error:
        if debug:
            traceback.print_exc()
        message, code = _explained(error)
        _complain(message)
        return code


def _explained(error: BaseException) -> tuple[str, Exit]:
    """What is said of an error in one or two lines, and the exit code."""
    match error:
        case KeyboardInterrupt() | click.Abort():
            return f"interrupted. {error}".rstrip(), Exit.INTERRUPTED
        case click.ClickException():
            context = getattr(error, "ctx", None)
            path = context.command_path if context is not None else "segsvc"
            said = " ".join(error.format_message().split())  # it lists choices a line each
            return f"{said}\n`{path} --help` shows the usage.", Exit.USAGE
        case SegsvcError():
            return str(error), Exit.USAGE if isinstance(error, ConfigError) else Exit.FAILED
        case OSError():
            place = f" ({error.filename!r})" if error.filename is not None else ""
            return f"expected files and streams that work, got: {error.strerror or error}{place}", Exit.FAILED
        case _:  # a fault of ours: still no traceback unless asked for
            return (f"unexpected {type(error).__name__}: {error}. `--debug` shows where; please report it.", Exit.FAILED)


def _invoke(arguments: list[str]) -> int:
    """The command's exit code. Not by `cli.main`, which ends with 1 where the reader of stdout has left."""
    try:
        with cli.make_context("segsvc", arguments) as context:
            return int(cli.invoke(context) or 0)
    except click.exceptions.Exit as done:  # --help and --version
        return done.exit_code


def _complain(message: str) -> None:
    lines = f"segsvc: {message}".split("\n") if message.count("\n") == 1 else [f"segsvc: {message}"]
    click.echo("\n".join(_printable(line) for line in lines), err=True)
    try:
        sys.stdout.flush()
    except OSError:
        _leave_stdout()  # it may be what failed


def _leave_stdout() -> None:
    """Sends what is still to be written to stdout nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printable(line: str) -> str:
    """The line without what would break it, or steer a terminal: names of files may hold anything."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in line)


if __name__ == "__main__":
    main()
