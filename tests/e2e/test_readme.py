"""What the README says to type works as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from segsvc.assets import demo_images
from segsvc.settings import Settings
from tests.conftest import Program
from tests.s3_servers import seaweedfs

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with real nuclei, as the set-up fetched them."""
    folder = tmp_path / "FOLDER"
    folder.mkdir()
    for image in demo_images(Settings().assets_dir, "nuclei").iterdir():
        (folder / image.name).write_bytes(image.read_bytes())
    return folder


def test_every_make_target_of_the_readme_is_in_the_makefile() -> None:
    targets = re.findall(r"^make (\w+)$", README, re.MULTILINE)
    assert targets[:2] == ["setup", "demo"]
    makefile = (ROOT / "Makefile").read_text()
    assert [target for target in targets if not re.search(rf"^{target}:.*##", makefile, re.MULTILINE)] == []


def test_the_readmes_commands_run_one_after_the_other(segsvc: Program, images: Path) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith(".venv/bin/segsvc")]
    assert len(commands) >= 3
    for command in commands:
        answer = segsvc(*shlex.split(command.removeprefix(".venv/bin/segsvc")))
        assert answer.code == 0, (command, answer.stderr)
    assert (segsvc.folder / "OUT" / "report.html").stat().st_size > 10_000
    assert (segsvc.folder / "OUT-coco.json").is_file()


def test_the_readmes_python_runs(segsvc: Program, images: Path) -> None:
    assert segsvc("run", images, "--model", "nuclei", "--out", "OUT").code == 0
    (segsvc.folder / "cells.tif").write_bytes((images / "img2d.tif").read_bytes())
    [code] = blocks("python")
    code = code.replace(".to_pandas()", ".to_pylist()[0]")  # pandas is the reader's own
    done = subprocess.run([sys.executable, "-c", code], cwd=segsvc.folder, env=dict(segsvc.environment), text=True,
                          capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "nucleus" in done.stdout


def test_the_files_that_the_readme_links_are_there() -> None:
    assert [name for name in re.findall(r"\]\((\w+\.md)\)", README) if not (ROOT / name).is_file()] == []


def test_the_demo_segments_real_nuclei_and_classifies_real_photos_offline(segsvc: Program) -> None:
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    answer = segsvc("demo", "--out", "demo", "--no-serve",
                    environment={"SEGSVC_MODELS_DIR": str(Settings().models_dir), **nowhere})
    assert answer.code == 0, answer.stderr
    assert "measured, not guaranteed" in answer.stdout
    for out in (segsvc.folder / "demo", segsvc.folder / "demo" / "imagenet"):
        assert (out / "report.html").stat().st_size > 50_000
    classes = subprocess.run(
        [sys.executable, "-c", "import segsvc; t = segsvc.open_run('demo/imagenet').candidates(); "
         "print(*zip(t['image_uri'].to_pylist(), t['class_name'].to_pylist()), sep='\\n')"],
        cwd=segsvc.folder, env={**os.environ, **segsvc.environment}, text=True, capture_output=True, check=True).stdout
    assert re.search(r"chelsea\.png.*(tabby|tiger cat|Egyptian cat)", classes)
    assert re.search(r"coffee\.png.*espresso", classes)


def test_the_readmes_commands_for_buckets_and_ray_run_on_a_real_server(segsvc: Program, images: Path, tmp_path: Path
                                                                       ) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("segsvc run s3://")]
    assert len(commands) == 2
    with seaweedfs(tmp_path / "server") as server:
        client = server.client()
        for bucket in ("photos", "models", "results"):
            client.create_bucket(Bucket=bucket)
        for image in images.iterdir():
            client.upload_file(str(image), "photos", f"2026/{image.name}")
        for file in (ROOT / "segsvc" / "packaged_models" / "nuclei").iterdir():
            client.upload_file(str(file), "models", f"street/{file.name}")
        environment = {**server.environment, "RAY_ADDRESS": "local"}
        for command in commands:
            answer = segsvc(*shlex.split(command.removeprefix("segsvc ")), environment=environment)
            assert answer.code == 0, (command, answer.stderr)
        parts = [{key["Key"].partition("/")[2]: key["ETag"] for key in client.list_objects_v2(Bucket="results", Prefix=run)[
            "Contents"] if "/images/" in key["Key"] or "/candidates/" in key["Key"]} for run in ("nuclei-2026/", "street/")]
        assert len(parts[0]) == 2
        assert parts[0] == parts[1]
