"""`segsvc models versions` and `restore`, and `segsvc improve` where nothing can come of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.cli.test_usage import complaint
from tests.conftest import Program, write_model
from tests.test_documents import check


@pytest.fixture
def own(segsvc: Program, tmp_path: Path) -> Program:
    """`segsvc` with a models' folder of the test's own, in which `bright` is, and another version of it that is kept."""
    shutil.copytree(Path(segsvc.environment["SEGSVC_MODELS_DIR"]) / "bright", tmp_path / "models" / "bright")
    write_model(tmp_path / "models" / ".versions" / "bright", name="other", tile_px=128)
    return Program({**segsvc.environment, "SEGSVC_MODELS_DIR": str(tmp_path / "models")}, tmp_path)


def test_versions_are_listed_and_put_back(own: Program) -> None:
    listed = check("model_versions", own("models", "versions", "bright", "--json").stdout)["items"]
    assert [each["state"] for each in listed] == ["in_force", "candidate"]
    restored = own("models", "restore", "bright", listed[1]["digest"][:10])
    assert restored.code == 0, restored.stderr
    assert [line.split()[0] for line in restored.stdout.splitlines()] == ["VERSION", listed[1]["digest"][:12]]
    again = own("models", "restore", "bright", "--json")
    assert check("model_versions", again.stdout)["items"][0]["digest"] == listed[0]["digest"]
    assert "expected the beginning of one version's digest" in complaint(own("models", "restore", "bright", "zz"), 2)


def test_an_improvement_that_cannot_be_is_refused_with_what_is_missing(own: Program, tmp_path: Path) -> None:
    assert "there is no 'nowhere'" in complaint(own("improve", "bright", "--data", "nowhere"), 2)
    (tmp_path / "few.csv").write_text("uri,labels\n")
    said = complaint(own("improve", "bright", "--data", "few.csv"), 2)
    assert "expected labels for semantic or instance" in said
    assert own("improve", "bright", "--help").code == 0
