"""`segsvc`: finds the command, and turns errors into one or two lines and an exit code.

Commands are imported when they are called, so that `segsvc --help` loads nothing heavy.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum
from types import FrameType

import click

from segsvc import __version__
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
    "models": ("segsvc.cli.models", "List, show and fetch models."),
    "export": ("segsvc.cli.export", "Write what was found for other tools: coco, png, geojson, cutout, csv, parquet."),
    "report": ("segsvc.cli.report", "Write a run's report.html."),
    "doctor": ("segsvc.cli.doctor", "Look at versions, runtimes, rights and what came with the set-up."),
}


class LazyGroup(click.Group):
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

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(f"there is no command {args[0]!r}; commands: {', '.join(COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="segsvc")
def cli() -> None:
    """Segment and classify image collections; flag candidates at a threshold; export what was found.

    Every command knows --help, and --debug, which shows the traceback of an error.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point of `segsvc`."""
    sys.exit(_answer(list(sys.argv[1:] if arguments is None else arguments)))


def _answer(arguments: list[str]) -> int:
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = cli.main(arguments, prog_name="segsvc", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except (KeyboardInterrupt, click.Abort):
        return Exit.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nothing more to say to it
        return Exit.DONE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "segsvc"
        return _complain(f"{error.format_message()}\n`{path} --help` shows the usage.", Exit.USAGE, debug=debug)
    except SegsvcError as error:
        code = Exit.USAGE if isinstance(error, ConfigError) else Exit.FAILED
        return _complain(str(error), code, debug=debug)
    except Exception as error:  # a fault of ours: still no traceback unless asked for
        return _complain(f"unexpected {type(error).__name__}: {error}. `--debug` shows where; please report it.",
                         Exit.FAILED, debug=debug)


def _complain(message: str, code: Exit, *, debug: bool) -> Exit:
    if debug:
        traceback.print_exc()
    click.echo(f"segsvc: {message}", err=True)
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
