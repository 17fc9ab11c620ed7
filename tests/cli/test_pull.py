"""`segsvc models pull` from outside."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import segmentation_models_pytorch as smp
import torch

from segsvc.catalogue import CATALOGUE, HubFile
from tests.cli.test_usage import complaint
from tests.conftest import Answer, Program
from tests.https_server import Reply, Server, serve
from tests.test_documents import check

KNOWN = {each.name: each for each in CATALOGUE}
STREETS, COCO, RESNET = KNOWN["streets-b0"], KNOWN["coco-instances"], KNOWN["imagenet-resnet50"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Folders of the test's own, and no network: a proxy where nobody answers, and a hub that is offline."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        yield {"SEGSVC_MODELS_DIR": str(tmp_path / "models"), "SEGSVC_ASSETS_DIR": str(tmp_path / "assets"),
               "HF_HOME": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1", "NO_PROXY": "", "no_proxy": "",
               "https_proxy": f"http://127.0.0.1:{closed.getsockname()[1]}"}


@pytest.fixture(scope="module")
def streets(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the hub may have for `streets-b0`: weights of its network, drawn at random."""
    folder = tmp_path_factory.mktemp("streets")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        smp.Segformer(STREETS.encoder, encoder_weights=None, classes=19, **STREETS.options).save_pretrained(folder)
    return (folder / "model.safetensors").read_bytes()


def last_line(answer: Answer, code: int) -> str:
    """The complaint that ends what a failed command said."""
    assert answer.code == code, answer
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    said = answer.stderr.splitlines()[-1]
    assert said.startswith("segsvc: ")
    return said


def left(tmp_path: Path) -> list[str]:
    return [path.name for folder in ("assets", "models") if (tmp_path / folder).is_dir()
            for path in (tmp_path / folder).iterdir()]


def test_the_list_says_what_can_be_pulled_whose_it_is_and_what_is_here(segsvc: Program) -> None:
    document = check("catalogue", segsvc("models", "pull", "--list", "--json").stdout)
    items = {item["name"]: item for item in document["items"]}
    assert list(items) == ["imagenet", "demo", *KNOWN]
    assert (items["demo"]["here"], items["demo"]["digest_known"], items["demo"]["sha256"]) == (True, True, None)
    assert items["coco-instances"]["sha256"] == COCO.sha256
    assert items["streets-b0"]["digest_known"] is False
    assert items["streets-b0"]["file"].endswith("/streets-b0/model.safetensors")
    lines = segsvc("models", "pull", "--list").stdout.splitlines()
    assert lines[0].split() == ["NAME", "TASK", "CLASSES", "SIZE", "DIGEST", "HERE", "FROM", "LICENCE"]
    row = next(line for line in lines if line.startswith("coco-instances "))
    assert row.split()[1:7] == ["instance", "80", "178", "MB", "known", "no"]
    assert len(lines) == 1 + len(items)


def test_what_does_not_go_together_is_refused(segsvc: Program) -> None:
    for arguments, message in ((("imagenet", "--list"), "NAME: leave it out with --list"),
                               (("--json",), "--json: leave it out without --list"),
                               (("imagenet", "--sha256", "0" * 64), "--sha256: leave it out for what comes from packages"),
                               (("streets-b0", "--sha256", "0"), "--sha256: expected a sha256 of 64 digits")):
        assert message in complaint(segsvc("models", "pull", *arguments), 2)


def test_an_unknown_name_is_answered_with_what_can_be_pulled(segsvc: Program) -> None:
    said = complaint(segsvc("models", "pull", "coco-instance"), 2)
    assert "Did you mean 'coco-instances'?" in said
    assert all(name in said for name in ("imagenet", "demo", *KNOWN))


@pytest.mark.parametrize("name", KNOWN)
def test_without_a_network_it_says_what_to_fetch_and_where_to_put_it_and_leaves_nothing(
    segsvc: Program, tmp_path: Path, own: Mapping[str, str], name: str,
) -> None:
    known = KNOWN[name]
    said = last_line(segsvc("models", "pull", name, environment=own), 2)
    digest = f"sha256 {known.sha256}" if known.sha256 is not None else "no digest is known"
    assert f"put there by hand: {known.file.url} (" in said
    assert f"{digest}) as {tmp_path}/assets/{name}/{known.file.name}" in said
    assert ("offline mode" if isinstance(known.file, HubFile) else "Connection refused") in said
    assert left(tmp_path) == []


def test_what_was_put_there_becomes_a_model_that_runs_and_its_digest_is_told(
    segsvc: Program, tmp_path: Path, own: Mapping[str, str], streets: bytes,
) -> None:
    (tmp_path / "assets" / "streets-b0").mkdir(parents=True)
    (tmp_path / "assets" / "streets-b0" / "model.safetensors").write_bytes(streets)
    digest = hashlib.sha256(streets).hexdigest()
    assert "expected sha256 000" in complaint(
        segsvc("models", "pull", "streets-b0", "--sha256", "0" * 64, environment=own), 2)
    first = segsvc("models", "pull", "streets-b0", environment=own)
    assert first.code == 0, first.stderr
    assert first.stdout.splitlines() == [
        f"model streets-b0: {tmp_path}/models/streets-b0",
        f"licence: {STREETS.licence}; trained on {STREETS.trained_on}"]
    assert f"no digest is known for {STREETS.file.origin}; the file that came has sha256 {digest}" in first.stderr
    again = segsvc("models", "pull", "streets-b0", environment=own)
    assert (again.code, again.stderr) == (0, "")
    assert "streets-b0 was there; from model.safetensors of smp-hub/" in again.stdout
    shown = json.loads(segsvc("models", "show", "streets-b0", "--json", environment=own).stdout)
    assert shown["card"]["source"] == f"{STREETS.file.origin}, sha256 {digest}"
    listed = check("catalogue", segsvc("models", "pull", "--list", "--json", environment=own).stdout)
    assert [item["name"] for item in listed["items"] if item["here"]] == ["streets-b0"]


def test_a_wrong_file_is_refused(segsvc: Program, tmp_path: Path, own: Mapping[str, str]) -> None:
    place = COCO.place(tmp_path / "assets")
    place.parent.mkdir(parents=True)
    place.write_bytes(b"not these weights")
    said = complaint(segsvc("models", "pull", "coco-instances", environment=own), 2)
    assert f"{place}: expected {COCO.size_bytes} bytes with sha256 {COCO.sha256}, got 17 bytes with sha256" in said
    assert not list((tmp_path / "models").iterdir())


@pytest.fixture
def hub(tmp_path: Path, streets: bytes) -> Iterator[Server]:
    """What speaks the hub's language, on this machine."""
    with serve(tmp_path, tls=False) as started:
        about = {"X-Repo-Commit": "0123456789" * 4, "ETag": f'"{hashlib.sha256(streets).hexdigest()}"'}
        for known in (STREETS, RESNET):
            started.replies[known.file.url.removeprefix("https://huggingface.co")] = Reply(streets, headers=about)
        yield started


def of_hub(hub: Server, own: Mapping[str, str]) -> dict[str, str]:
    return {**own, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "no_proxy": "*", "NO_PROXY": "*"}


def test_a_model_comes_from_the_hub_with_the_digest_that_the_user_demands(
    segsvc: Program, tmp_path: Path, own: Mapping[str, str], hub: Server, streets: bytes,
) -> None:
    digest = hashlib.sha256(streets).hexdigest().upper()
    answer = segsvc("models", "pull", "streets-b0", "--sha256", digest, environment=of_hub(hub, own))
    assert answer.code == 0, answer.stderr
    assert "no digest is known" not in answer.stderr
    assert sorted(left(tmp_path)) == ["streets-b0", "streets-b0"]
    assert [path.name for path in (tmp_path / "assets" / "streets-b0").iterdir()] == ["model.safetensors"]


def test_another_file_on_the_hub_is_refused_before_it_is_used(
    segsvc: Program, tmp_path: Path, own: Mapping[str, str], hub: Server, streets: bytes,
) -> None:
    said = last_line(segsvc("models", "pull", RESNET.name, environment=of_hub(hub, own)), 2)
    assert f"expected {RESNET.size_bytes} bytes with sha256 {RESNET.sha256}, got {len(streets)} bytes with sha256" in said
    assert left(tmp_path) == []


def test_a_file_on_the_hub_that_is_not_there_or_too_large_is_not_fetched(
    segsvc: Program, tmp_path: Path, own: Mapping[str, str], hub: Server,
) -> None:
    path = next(each for each in hub.replies if RESNET.file.name in each and "resnet" in each)
    hub.replies[path] = Reply(headers={**hub.replies[path].headers, "X-Linked-Size": str(10**10)})
    said = last_line(segsvc("models", "pull", RESNET.name, environment=of_hub(hub, own)), 2)
    assert f"expected at most {RESNET.size_bytes} bytes of model.safetensors of timm/resnet50.a1_in1k" in said
    del hub.replies[path]
    assert "404" in last_line(segsvc("models", "pull", RESNET.name, environment=of_hub(hub, own)), 2)
    assert ("GET", path) not in hub.asked
    assert left(tmp_path) == []
