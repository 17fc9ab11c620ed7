"""What a server says of itself: ids, states and numbers, and nobody's name, whatever its images are called."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time

import httpx2 as httpx

from segsvc import logs
from tests.cli.test_serve import started, with_password
from tests.conftest import Program
from tests.scenes import write_scenes
from tests.test_house import modules

PATIENT, TOKEN, USER = "Erika-Mustermann", "sk-NOT-A-TOKEN-5309", "ruth"  # no digits of ids
_SAYS = """
import logging, threading, warnings
from segsvc import logs
logs.begin()
log = logging.getLogger("jobs.supervisor")
log.info("run taken", extra={"run_id": "ab12", "out": "s3://scans/Erika-Mustermann", "token": "sk-NOT-A-TOKEN-5309"})
log.warning("rule %s: %d images wait: %s", "Erika-Mustermann", 4, ValueError("Erika-Mustermann"))
log.info("taking in /scans/Erika-Mustermann/1.png")
logging.getLogger("library").warning("cannot open 'Erika-Mustermann.png'")
logging.getLogger("library").info("not of interest")
with logs.bound(run_id="ab12", shard=3):
    try:
        open("/nowhere/Erika-Mustermann")
    except OSError:
        log.exception("image failed")
thread = threading.Thread(target=lambda: {}["Erika-Mustermann"])
thread.start(); thread.join()
warnings.warn("Erika-Mustermann")
raise RuntimeError("Erika-Mustermann")
"""


def said_by(code: str, environment: dict[str, str], **more: str) -> str:
    return subprocess.run([sys.executable, "-c", code], env={**environment, **more}, capture_output=True, text=True,
                          timeout=100, check=False).stderr


def test_what_may_be_a_name_is_left_out_whoever_says_it(environment: dict[str, str]) -> None:
    stderr = said_by(_SAYS, environment)
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert [(line["level"], line["event"]) for line in lines] == [
        ("info", "run taken"), ("warning", "rule …: 4 images wait: ValueError"), ("info", "taking in"),
        ("warning", "cannot open"), ("error", "image failed"), ("critical", "ended by an error"), ("warning", ""),
        ("critical", "ended by an error")]
    assert lines[0]["run_id"] == "ab12"
    assert (lines[4]["shard"], lines[4]["raised"], lines[4]["where"]) == (3, "FileNotFoundError", ["__main__:13 <module>"])
    assert (lines[5]["raised"], lines[7]["raised"]) == ("KeyError", "RuntimeError")
    assert PATIENT not in stderr and TOKEN not in stderr


def test_for_people_it_is_text(environment: dict[str, str]) -> None:
    stderr = said_by(_SAYS, environment, SEGSVC_LOG__FORMAT="text")
    assert "run taken" in stderr and "run_id=ab12" in stderr and "FileNotFoundError" in stderr
    assert "{" not in stderr and PATIENT not in stderr


def test_ids_are_those_of_the_innermost_block() -> None:
    with logs.bound(run_id="a", attempt=1):
        with logs.bound(attempt=2, shard=0):
            assert logs.ids() == {"run_id": "a", "attempt": 2, "shard": 0}
        assert logs.ids() == {"run_id": "a", "attempt": 1}
    assert logs.ids() == {}


def ended(client: httpx.Client, run_id: str) -> dict[str, object]:
    """The run once it is over."""
    while True:
        run: dict[str, object] = client.get(f"/v1/runs/{run_id}").json()
        if run["state"] not in ("queued", "running"):
            return run
        time.sleep(0.1)


def test_a_server_names_runs_and_images_by_their_ids_alone(segsvc: Program, bright: object) -> None:
    images = segsvc.folder / PATIENT / "scans"
    write_scenes(images, 2)
    (images / f"{PATIENT}-broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    body = {"input": str(images), "model": "bright", "flag_at": 0.5, "out": str(segsvc.folder / PATIENT / "OUT")}
    with started(segsvc) as (process, url):
        with httpx.Client(base_url=url.removesuffix("/review"), timeout=60) as client:
            done = client.post("/v1/runs", json=body)
            assert done.status_code == 202, done.text
            run = ended(client, done.json()["id"])
            bad = client.post("/v1/runs", json={**body, "input": str(images / "nothing"), "out": f"{PATIENT}-2"})
            assert bad.status_code == 422
            assert with_password(segsvc, "users", "add", USER, "--role", "admin").code == 0
            refused = client.get("/v1/runs", headers={"Authorization": f"Bearer {TOKEN}", "X-Patient": PATIENT})
            assert refused.status_code == 401
        process.terminate()
        stderr = process.communicate(timeout=60)[1]
    assert (run["state"], run["images"]["failed"]) == ("succeeded", 1)  # type: ignore[index]
    lines = [json.loads(line) for line in stderr.splitlines()]
    of_run = [line for line in lines if line.get("run_id") == run["id"]]
    assert [line["event"] for line in of_run] == [
        "run taken", "image failed", "run done, its review band is taken in", "run succeeded"]
    assert all(line["attempt"] == 1 for line in of_run)
    [failed] = [line for line in lines if line["event"] == "image failed"]
    assert (failed["shard"], failed["kind"], len(failed["image_id"])) == (0, "corrupt", 32)
    assert lines[0]["event"] == "serving"
    for name in (PATIENT, TOKEN, "long enough", USER, str(segsvc.folder)):
        assert name not in stderr, name


def test_what_is_logged_is_a_constant_text() -> None:
    saying = {f"{name}.{how}" for name in ("log", "_LOG", "LOG") for how in (
        "debug", "info", "warning", "error", "exception", "critical")}
    said = [(module.path.name, node.lineno, node.args[0]) for module in modules() for node in ast.walk(module.tree)
            if isinstance(node, ast.Call) and ast.unparse(node.func) in saying]
    assert len(said) > 10
    assert [each for each in said if not isinstance(each[2], ast.Constant)] == []


def test_no_field_is_for_what_may_be_a_name() -> None:
    assert not logs.FIELDS & {"out", "uri", "path", "reader", "name", "token", "password", "headers", "input", "reason",
                              "error"}
