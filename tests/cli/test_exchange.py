"""`segsvc models import` and `segsvc models export` from outside."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.cli.test_usage import complaint
from tests.conftest import Program
from tests.exchange.foreign import smp_folder
from tests.test_documents import check


def test_an_imported_model_runs_by_its_name(segsvc: Program, tmp_path: Path) -> None:
    own = {"SEGSVC_MODELS_DIR": str(tmp_path / "models")}
    smp_folder(tmp_path / "saved")
    (tmp_path / "classes.txt").write_text("trailer < car\ncar\nroad\n")
    answer = segsvc("models", "import", "saved", "--out", "mine", "--classes", "classes.txt", "--json", environment=own)
    assert answer.code == 0, answer.stderr
    document = check("model_import", answer.stdout)
    assert document["folder"] == str(tmp_path / "models" / "mine")
    assert document["largest_difference"] < 1e-4
    assert document["card"]["classes"][0] == {"name": "trailer", "parent": "car"}
    assert "comparing with segmentation-models-pytorch" in answer.stderr
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    ran = segsvc("run", "a.png", "--model", "mine", "--out", "out", "--flag-at", "0.5", "--json", environment=own)
    assert ran.code == 0, ran.stderr
    copied = segsvc("models", "export", "mine", "--to", "copy", "--json", environment=own)
    assert check("model_export", copied.stdout)["digest"] == document["digest"]
    assert json.loads(segsvc("models", "show", "./copy", "--json").stdout)["digest"] == document["digest"]


def test_without_a_network_a_hub_id_is_answered_with_what_to_fetch_and_where_to_put_it(
    segsvc: Program, tmp_path: Path,
) -> None:
    answer = segsvc("models", "import", "someone/streets", "--out", "streets",
                    environment={"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"),
                                 "SEGSVC_MODELS_DIR": str(tmp_path / "models")})
    said = complaint(answer, 2)
    for file in ("config.json", "model.safetensors"):
        assert f"https://huggingface.co/someone/streets/resolve/main/{file}" in said
    assert "put both into a folder, and import that folder" in said
    assert list((tmp_path / "models").iterdir()) == []


def test_what_cannot_be_meant_ends_with_2(segsvc: Program, tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    assert "expected a PyTorch checkpoint" in complaint(segsvc("models", "import", "weights.pth", "--out", "./m"), 2)
    assert not (tmp_path / "m").exists()
    assert "s3://b/m: expected a folder" in complaint(segsvc("models", "import", "weights.pth", "--out", "s3://b/m"), 2)
