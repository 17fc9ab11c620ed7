"""The command line from outside: what is said, where, and with which exit code, when something is not as it should be."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from segsvc.card import ModelCard
from tests.conftest import Answer, Program, Started
from tests.scenes import write_scenes

RUN = ("run", "in", "--model", "bright", "--out", "out")
NEVER_LOADED = ("torch", "ray", "boto3", "cv2", "openvino", "fastapi", "numba")


PROGRESS = re.compile(r"(?:[0-9]+ of [0-9]+ images|converting \S+ for this machine, once).*\n")


def complaint(answer: Answer, code: int) -> str:
    """What a failed command said on stderr, which must be one or two lines and all that it said."""
    assert answer.code == code, answer
    assert answer.stdout == ""
    said = PROGRESS.sub("", answer.stderr)
    lines = said.splitlines()
    assert 1 <= len(lines) <= 2, answer.stderr
    assert lines[0].startswith("segsvc: ")
    assert "Traceback" not in said
    assert "unexpected" not in said  # the word for faults of ours
    return said


@pytest.fixture(scope="module")
def place(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Program:
    """A folder with images, a finished run, damaged models, and everything else that a command may stumble over."""
    program = Program(environment, tmp_path_factory.mktemp("usage"))
    here, models = program.folder, Path(environment["SEGSVC_MODELS_DIR"])
    write_scenes(here / "in", 3)
    write_scenes(here / "other", 1)
    assert program(*RUN).code == 0
    for name in ("empty", "texts", "foreign"):
        (here / name).mkdir()
    for file in ("texts/a.txt", "texts/b.md", "foreign/notes.doc", "a-file"):
        (here / file).write_text("text")
    for name in ("no-json", "wrong-field", "wrong-tile", "other-weights", "no-weights"):
        shutil.copytree(models / "bright", here / name)
    card = bright.model_dump(mode="json")
    (here / "no-json" / "card.json").write_text("{")
    (here / "wrong-field" / "card.json").write_text(json.dumps({**card, "tile_px": "wide"}))
    (here / "wrong-tile" / "card.json").write_text(json.dumps({**card, "tile_px": 65}))
    with (here / "other-weights" / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    (here / "no-weights" / "model.safetensors").unlink()
    return program


def run_with(*, source: str = "in", model: str = "bright", out: str = "new", flags: str = "") -> tuple[str, ...]:
    return "run", source, "--model", model, "--out", out, *flags.split()


@pytest.mark.parametrize(("arguments", "words"), [
    ((), ("expected a command", "run", "export", "got none")),
    (("frobnicate",), ("no command 'frobnicate'", "doctor", "segsvc --help")),
    (("--frobnicate",), ("--frobnicate", "segsvc --help")),
    (("models",), ("expected a command", "list", "show")),
    (("models", "frobnicate"), ("no command 'frobnicate'", "list", "show")),
    (("models", "show"), ("NAME", "segsvc models show --help")),
    (("models", "show", "brihgt"), ("'brihgt'", "Did you mean 'bright'", "nuclei")),
    (("run",), ("INPUT",)),
    (("run", "in", "--out", "new"), ("--model",)),
    (("run", "in", "--model", "bright"), ("--out",)),
    (run_with(flags="--frobnicate"), ("--frobnicate", "segsvc run --help")),
    (run_with(source="nowhere"), ("INPUT", "'nowhere'")),
    (run_with(source="in/*.tif"), ("INPUT", "at least one image")),
    (run_with(source="empty"), ("INPUT", "at least one image", "empty")),
    (run_with(source="texts"), ("INPUT", "at least one image", "2 not an image by its ending")),
    (run_with(source="gopher://images"), ("file://", "gopher://images")),
    (run_with(model="nope"), ("'nope'", "Known:", "bright", "nuclei")),
    (run_with(model="./nowhere"), ("card.json", "./nowhere")),
    (run_with(model="./no-json"), ("no-json/card.json",)),
    (run_with(model="./wrong-field"), ("wrong-field/card.json", "tile_px", "'wide'")),
    (run_with(model="./wrong-tile"), ("wrong-tile/card.json", "multiple of stride_px", "65")),
    (run_with(model="./other-weights"), ("sha256", "other-weights/model.safetensors", "again")),
    (run_with(model="./no-weights"), ("no-weights/model.safetensors", "No such file")),
    (run_with(source="other", out="out"), ("another run", "input", "/in'", "/other'", "--out")),
    (run_with(out="out", flags="--limit 2 --shard-size 7"), ("another run", "limit", "shard_size", "64", "7")),
    (run_with(out="out", flags="--runtime torch-cpu"), ("another run", "runtime", "openvino", "torch-cpu")),
    (run_with(out="foreign"), ("OUT", "other files", "--out")),
    (run_with(out="a-file"), ("OUT", "a-file")),
    (run_with(out="a-file/below"), ("OUT", "a-file/below", "Not a directory")),
    (run_with(out="/proc/segsvc"), ("OUT", "/proc/segsvc")),
    (run_with(out="gopher://out"), ("file://", "gopher://out")),
    (run_with(flags="--recall 0.95"), ("--recall", "calibration", "bright has none", "--flag-at")),
    (run_with(model="nuclei", flags="--recall 0.95"), ("--recall", "measured, not guaranteed", "--flag-at")),
    (run_with(flags="--recall 0.95 --flag-at 0.5"), ("--recall", "--flag-at", "both")),
    (run_with(flags="--precision 0.95"), ("calibration", "--flag-at")),
    (run_with(flags="--accept-at 0.9"), ("--flag-at", "--accept-at alone")),
    (run_with(flags="--flag-at 0.9 --accept-at 0.5"), ("--accept-at", "at least --flag-at (0.9)", "0.5")),
    (run_with(flags="--flag-at 1.5"), ("--flag-at", "1.5", "0<=x<=1")),
    (run_with(flags="--flag-at nan"), ("flag_at", "nan")),
    (run_with(flags="--recall 1"), ("--recall", "0<x<1")),
    (run_with(flags="--limit 0"), ("--limit", "x>=1")),
    (run_with(flags="--workers none"), ("--workers", "none")),
    (run_with(flags="--executor moon"), ("--executor", "moon", "inline")),
    (("train", "in", "--out", "new"), ("Missing option '--task'. Choose from: semantic, instance, classification\n",)),
    (run_with(source="empty", flags="--dry-run"), ("INPUT", "at least one image")),
    (("band", "out"), ("--recall", "--flag-at", "got no bands")),
    (("band", "in", "--flag-at", "0.5"), ("OUT", "run's folder", "spec.json")),
    (("band", "out", "--flag-at", "0.9", "--accept-at", "0.5"), ("--accept-at", "at least --flag-at")),
    (("band", "out", "--recall", "0.9"), ("--recall", "calibration")),
    (("export", "out", "--to", "x"), ("--format",)),
    (("export", "out", "--format", "xml", "--to", "x"), ("'xml'", "coco", "parquet")),
    (("export", "in", "--format", "csv", "--to", "x.csv"), ("OUT", "run's folder")),
    (("export", "out", "--format", "csv", "--to", "a-file/x.csv"), ("can be written", "a-file/x.csv")),
    (("export", "out", "--format", "csv", "--to", "/proc/x.csv"), ("can be written", "/proc/x.csv", "another")),
    (("export", "out", "--format", "csv", "--to", "x.json"), (".csv", "x.json")),
    (("export", "out", "--format", "png", "--to", "in"), ("empty folder", "in")),
    (("export", "out", "--format", "csv", "--to", "x.csv", "--as-of", "yesterday"), ("--as-of", "2026", "'yesterday'")),
    (("export", "out", "--format", "csv", "--to", "x.csv", "--verdict", "maybe"), ("--verdict", "accepted", "all")),
    (("report", "nowhere"), ("'nowhere'", "spec.json", "bright")),
    (("report", "bright"), ("report.html", "bright")),
], ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else None)
def test_wrong_usage_is_answered_with_2_before_any_work(
    place: Program, arguments: tuple[str, ...], words: tuple[str, ...],
) -> None:
    said = complaint(place(*arguments), 2)
    assert [word for word in words if word not in said] == [], said
    assert not [name for name in ("new", "x", "x.csv", "x.json") if (place.folder / name).exists()]


@pytest.mark.parametrize(("name", "value", "words"), [
    ("SEGSVC_RUNTIME", "abacus", ("runtime", "'abacus'", "openvino")),
    ("SEGSVC_DECODE_LIMIT_BYTES", "many", ("decode_limit_bytes", "'many'")),
])
def test_a_wrong_setting_is_named_with_what_was_expected(place: Program, name: str, value: str,
                                                         words: tuple[str, ...]) -> None:
    said = complaint(place(*RUN, environment={name: value}), 2)
    assert [word for word in words if word not in said] == []


def test_a_settings_file_that_is_none_is_named(place: Program) -> None:
    (place.folder / "broken.toml").write_text("runtime = [")
    assert "broken.toml" in complaint(place(*RUN, environment={"SEGSVC_CONFIG": "broken.toml"}), 2)


def test_names_that_would_break_lines_or_steer_the_terminal_are_shown_escaped(place: Program) -> None:
    said = complaint(place("run", "in", "--model", "bright", "--out", "a-file/\n\x1b[31mred\u202e"), 2)
    assert "\x1b" not in said
    assert "\u202e" not in said
    complaint(place("export", "out", "--format", "csv", "--to", "a-file/one\ntwo\nthree.csv"), 2)
    complaint(place("models", "show", os.fsdecode(b"na\xffme")), 2)


def test_debug_shows_where_an_error_came_from(place: Program) -> None:
    answer = place("run", "nowhere", "--model", "bright", "--out", "new", "--debug")
    assert answer.code == 2
    assert "Traceback" in answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("segsvc: INPUT")


def test_failed_images_end_with_3_and_all_failed_does_too(place: Program) -> None:
    (place.folder / "bad").mkdir()
    (place.folder / "bad" / "a.png").write_bytes(b"no picture")
    answer = place("run", "bad", "--model", "bright", "--out", "bad-out")
    assert answer.code == 3
    assert "1 failed" in answer.stdout
    assert "--retry-failed" in answer.stdout
    assert "Traceback" not in answer.stderr


# -- interruptions ---------------------------------------------------------------------------------------------------


def begun(segsvc: Program, *flags: str, parts: int = 1) -> Started:
    """A run that has published so many shards of many."""
    write_scenes(segsvc.folder / "in", 30)
    process = segsvc.start(*RUN, "--shard-size", "1", "--threads", "1", *flags)
    deadline = time.monotonic() + 60
    while len(list((segsvc.folder / "out" / "images").glob("part-*"))) < parts and time.monotonic() < deadline:
        time.sleep(0.005)
    return process


def ended(process: Started) -> Answer:
    stdout, stderr = process.communicate(timeout=60)
    return Answer(process.returncode, stdout, stderr)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_with_130_and_says_what_is_kept_and_how_to_go_on(segsvc: Program, number: int) -> None:
    process = begun(segsvc, "--json")
    process.send_signal(number)
    said = complaint(ended(process), 130)
    assert "finished and kept in" in said
    assert "The same command goes on" in said
    assert json.loads((segsvc.folder / "out" / "run.json").read_text())["state"] == "cancelled"


def test_ctrl_c_while_a_model_is_converted_ends_at_once_without_a_trace(segsvc: Program, tmp_path: Path) -> None:
    write_scenes(segsvc.folder / "in", 1)
    process = subprocess.Popen(  # as on a terminal: all processes of the group get the signal
        [sys.executable, "-m", "segsvc", *RUN], cwd=segsvc.folder, text=True, start_new_session=True,
        env={**segsvc.environment, "SEGSVC_CACHE_DIR": str(tmp_path / "cache")}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE)
    if process.stderr is None:
        pytest.fail("no stderr")
    first = process.stderr.readline()
    assert first.startswith("converting bright")
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGINT)
    complaint(ended(process), 130)


@pytest.mark.parametrize("after_s", [0.1, 0.3, 0.6])
def test_ctrl_c_while_workers_start_shows_no_trace_of_theirs(segsvc: Program, after_s: float) -> None:
    write_scenes(segsvc.folder / "in", 30)
    process = subprocess.Popen(  # as on a terminal: all processes of the group get the signal
        [sys.executable, "-m", "segsvc", *RUN, "--workers", "2"], cwd=segsvc.folder, text=True, start_new_session=True,
        env=dict(segsvc.environment), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (segsvc.folder / "out" / "plan").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    answer = ended(process)
    if answer.code != 0:  # else the machine was quick, and the run was done
        complaint(answer, 130)


@pytest.mark.parametrize("take", [
    lambda out: out.rename(out.parent / "moved"),
    lambda out: (out / "spec.json").unlink(),
    lambda out: (out / "plan").rename(out.parent / "plan"),
    lambda out: ((out / "images").rename(out.parent / "images"), (out / "images").write_text("a file now")),
], ids=["out moved away", "spec.json removed", "plan removed", "images made a file"])
def test_out_that_is_taken_away_mid_run_ends_it_with_1(segsvc: Program, take: Callable[[Path], object]) -> None:
    process = begun(segsvc, parts=2)
    take(segsvc.folder / "out")
    said = complaint(ended(process), 1)
    assert "/out" in said or "plan" in said or "OUT" in said
    assert not (segsvc.folder / "out" / "report.html").exists()


# -- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("models", "list", "--json"), ("--help",), ("run", "--help"), (*RUN, "--json")],
                         ids=" ".join)
def test_a_reader_that_leaves_is_no_failure(place: Program, arguments: tuple[str, ...]) -> None:
    process = place.start_anew(*arguments)
    if process.stdout is None or process.stderr is None:
        pytest.fail("no pipes")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 0
    process.stderr.close()


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_failure(place: Program, closed: str) -> None:
    command = f'exec "$0" -m segsvc run in --model bright --out out {closed}'
    process = subprocess.run(["sh", "-c", command, sys.executable], cwd=place.folder, env=dict(place.environment),
                             capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_stdout_that_is_full_ends_with_1_in_one_line(place: Program) -> None:
    process = subprocess.run(["sh", "-c", 'exec "$0" -m segsvc models list > /dev/full', sys.executable],
                             cwd=place.folder, env=dict(place.environment), capture_output=True, text=True, timeout=60,
                             check=False)
    assert "No space left" in complaint(Answer(process.returncode, process.stdout, process.stderr), 1)


@pytest.mark.parametrize("arguments", [
    ("--help",), ("--version",), ("demo", "--help"), ("run", "--help"), ("band", "--help"), ("models", "--help"),
    ("models", "list", "--help"), ("models", "show", "--help"), ("models", "pull", "--help"), ("export", "--help"),
    ("report", "--help"), ("doctor", "--help"),
], ids=" ".join)
def test_help_is_on_stdout_and_loads_nothing_heavy(place: Program, arguments: tuple[str, ...]) -> None:
    probe = ("import atexit, sys\n"
             f"names = {NEVER_LOADED!r}\n"
             "atexit.register(lambda: print(*[name for name in names if name in sys.modules], file=sys.stderr))\n"
             "from segsvc.cli.main import main\n"
             f"main({list(arguments)!r})")
    process = subprocess.run([sys.executable, "-c", probe], cwd=place.folder, env=dict(place.environment),
                             capture_output=True, text=True, timeout=60, check=False)
    assert (process.returncode, process.stderr) == (0, "\n")
    assert process.stdout.startswith("segsvc, version 0." if arguments == ("--version",) else "Usage: segsvc")


def test_progress_goes_to_stderr_a_line_now_and_then_where_that_is_no_terminal(place: Program) -> None:
    answer = place("run", "in", "--model", "bright", "--out", "quiet", "--json")
    assert answer.code == 0
    assert "\r" not in answer.stderr
    json.loads(answer.stdout)
