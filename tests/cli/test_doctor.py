"""`segsvc doctor` from outside: 0 where all is well, 1 where something must be mended."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from segsvc.diagnosis import wal_is_safe
from tests.conftest import Program


def doctor(segsvc: Program, **settings: str) -> tuple[int, dict[str, dict[str, object]]]:
    answer = segsvc("doctor", "--json", environment=settings)
    assert answer.stderr == ""
    document = json.loads(answer.stdout)
    assert document["ok"] is (answer.code == 0)
    for check in document["checks"]:
        assert check["ok"] or check["advice"], check  # what is wrong comes with what to do
    return answer.code, {check["name"]: check for check in document["checks"]}


def test_a_sound_machine_ends_with_0(segsvc: Program) -> None:
    code, checks = doctor(segsvc)
    assert code == 0, checks
    assert {"python", "machine", "packages", "sqlite", "store", "gpu", "models_dir", "cache_dir", "model bright",
            "model nuclei", "set-up"} <= checks.keys()


def test_a_damaged_model_ends_with_1_and_is_named(segsvc: Program, tmp_path: Path) -> None:
    shutil.copytree(Path(segsvc.environment["SEGSVC_MODELS_DIR"]) / "bright", tmp_path / "models" / "bright")
    with (tmp_path / "models" / "bright" / "model.safetensors").open("ab") as file:
        file.write(b"x")
    code, checks = doctor(segsvc, SEGSVC_MODELS_DIR=str(tmp_path / "models"))
    assert code == 1
    assert [name for name, check in checks.items() if not check["ok"]] == ["model bright"]
    plain = segsvc("doctor", environment={"SEGSVC_MODELS_DIR": str(tmp_path / "models")})
    assert plain.code == 1
    failed = [line for line in plain.stdout.splitlines() if line.startswith("FAIL")]
    assert [line.split()[:3] for line in failed] == [["FAIL", "model", "bright"]]


def test_a_wrong_setting_ends_with_1_and_is_said_once(segsvc: Program) -> None:
    code, checks = doctor(segsvc, SEGSVC_RUNTIME="abacus")
    assert code == 1
    wrong = [check for check in checks.values() if not check["ok"]]
    assert [check["name"] for check in wrong] == ["settings"]
    assert "abacus" in str(wrong[0]["found"])


def test_the_releases_of_sqlite_that_lose_writes_in_wal_mode_are_known() -> None:
    safe = {release: wal_is_safe(release) for release in (
        (3, 6, 23), (3, 7, 0), (3, 40, 1), (3, 44, 5), (3, 44, 6), (3, 50, 6), (3, 50, 7), (3, 51, 2), (3, 51, 3),
        (3, 52, 0))}
    assert [release for release, is_safe in safe.items() if not is_safe] == [
        (3, 7, 0), (3, 40, 1), (3, 44, 5), (3, 50, 6), (3, 51, 2)]
