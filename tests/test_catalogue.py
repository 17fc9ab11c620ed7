"""The catalogue says what is so, and what it names becomes a model that is held to its digest and its own library."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import segmentation_models_pytorch as smp
import timm
import torch
from torchvision.models import detection, get_model_weights

from segsvc.assets import SETS
from segsvc.card import Task
from segsvc.catalogue import CATALOGUE, HubFile, KnownModel, WebFile
from segsvc.errors import ConfigError
from segsvc.models.library import PACKAGED
from segsvc.pulling import LIMIT_BYTES, Pulled, pull_model
from segsvc.settings import settings
from tests.exchange.foreign import DECODER, ENCODER, smp_folder
from tests.https_server import Reply, Server, serve

NOWHERE = WebFile("https://127.0.0.1:9/weights.safetensors")  # the port of `discard`, where nobody answers


# -- the entries -------------------------------------------------------------------------------------------------------


def test_every_entry_has_a_name_of_its_own_and_says_whose_it_is() -> None:
    names = [known.name for known in CATALOGUE]
    taken = {each.name for each in SETS} | {folder.name for folder in PACKAGED.iterdir()}
    assert len(set(names)) == len(names)
    assert not taken & set(names)
    assert all(known.licence and known.trained_on and known.not_for for known in CATALOGUE)
    assert all(known.size_bytes is None or known.size_bytes < LIMIT_BYTES for known in CATALOGUE)


def test_what_the_hub_has_is_pinned_to_a_commit_or_known_to_have_no_digest() -> None:
    for known in CATALOGUE:
        if isinstance(known.file, HubFile):
            assert re.fullmatch("[0-9a-f]{40}", known.file.revision) if known.sha256 else known.file.revision == "main"


@pytest.mark.parametrize("known", [each for each in CATALOGUE if each.task is Task.INSTANCE], ids=lambda each: each.name)
def test_addresses_digests_and_sizes_of_torchvisions_are_those_it_knows_itself(known: KnownModel) -> None:
    weights = get_model_weights(known.arch)["COCO_V1"]
    assert known.file.url == weights.url
    beginning = re.search(r"-([0-9a-f]{8})\.pth$", weights.url)
    assert beginning is not None
    assert known.sha256 is not None
    assert known.sha256.startswith(beginning[1])
    assert known.size_bytes is not None
    assert known.size_bytes / 2**20 == pytest.approx(weights.meta["_file_size"], abs=0.0006)
    assert known.n_classes == len(set(weights.meta["categories"]) - {"N/A", "__background__"})


@pytest.mark.parametrize("known", [each for each in CATALOGUE if each.task is Task.CLASSIFICATION],
                         ids=lambda each: each.name)
def test_repositories_and_licences_of_timms_are_those_it_knows_itself(known: KnownModel) -> None:
    config = timm.get_pretrained_cfg(known.arch)
    assert isinstance(known.file, HubFile)
    assert (known.file.repository, known.licence.lower()) == (config.hf_hub_id, config.license)
    assert known.names is not None
    assert known.n_classes == len(known.names()) == config.num_classes


def published(known: KnownModel, file: Path) -> Path:
    """A file as the entry's publisher has it, of the entry's own network, with random weights."""
    file.parent.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if known.task is Task.INSTANCE:
            network = detection.__dict__[known.arch](weights=None, weights_backbone=None, num_classes=91)
        elif known.task is Task.SEMANTIC:
            network = smp.create_model(known.arch, known.encoder, encoder_weights=None, classes=known.n_classes,
                                       **known.options)
        else:
            network = timm.create_model(known.arch)
    if known.task is Task.INSTANCE:
        # the file of v1 is of frozen norms, which count nothing
        state = {name: value for name, value in network.state_dict().items()
                 if known.arch.endswith("_v2") or not name.endswith("num_batches_tracked")}
        torch.save(state, file)
    else:
        safetensors.torch.save_file(network.state_dict(), file)
    return file


def digest_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("known", CATALOGUE, ids=lambda each: each.name)
def test_every_entry_becomes_a_model_that_answers_as_its_library_does(tmp_path: Path, known: KnownModel) -> None:
    file = published(known, known.place(tmp_path / "assets"))
    if known.task is Task.CLASSIFICATION:
        assert file.stat().st_size == known.size_bytes
    done = pulled(replace(known, sha256=digest_of(file)), tmp_path)
    card = done.model.card
    assert (card.name, card.task, len(card.classes)) == (known.name, known.task, known.n_classes)
    assert not card.class_names[0].startswith("class_")
    assert card.source == f"{known.file.origin}, sha256 {digest_of(file)}"
    assert (card.licence, card.trained_on, card.not_for) == (known.licence, known.trained_on, known.not_for)
    assert card.description == f"{known.what}."


# -- pulling -----------------------------------------------------------------------------------------------------------


def small(file: WebFile | HubFile = NOWHERE, **changes: Any) -> KnownModel:
    """A small U-Net, which nobody publishes."""
    return KnownModel(**{
        "name": "small", "what": "Something small", "task": Task.SEMANTIC, "n_classes": 3, "file": file, "sha256": None,
        "size_bytes": None, "arch": "unet", "encoder": ENCODER, "options": DECODER, "names": lambda: ("a", "b", "c"),
        "licence": "CC0-1.0", "trained_on": "nothing", **changes})


def pulled(known: KnownModel, place: Path, **said: Any) -> Pulled:
    return pull_model(known, place / "assets", place / "models", say=lambda text: None, progress=lambda *progress: None,
                      **said)


def by_hand(known: KnownModel, place: Path) -> str:
    """Puts the file where it is looked for, and gives its sha256."""
    file = known.place(place / "assets")
    file.parent.mkdir(parents=True)
    (smp_folder(place / "saved") / "model.safetensors").rename(file)
    return digest_of(file)


def files(place: Path) -> list[str]:
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


def test_a_file_that_was_put_there_by_hand_is_checked_and_used_without_a_network(tmp_path: Path) -> None:
    known = small()
    digest = by_hand(known, tmp_path)
    done = pulled(replace(known, sha256=digest), tmp_path)
    assert done.new
    assert done.notes == ()
    assert done.model.folder == (tmp_path / "models" / "small").resolve()
    assert done.model.card.class_names == ("a", "b", "c")
    assert done.model.card.source == f"https://127.0.0.1:9/weights.safetensors, sha256 {digest}"
    assert files(tmp_path / "models") == ["small/card.json", "small/model.safetensors"]


def test_a_model_that_is_there_is_left_as_it_is_and_nothing_is_fetched(tmp_path: Path) -> None:
    known = small()
    digest = by_hand(known, tmp_path)
    first = pulled(known, tmp_path).model
    known.place(tmp_path / "assets").unlink()
    for said in ({}, {"sha256": digest}):
        again = pulled(known, tmp_path, **said)
        assert not again.new
        assert again.model == first
    with pytest.raises(ConfigError, match=r"there already, made of another file .*Move it away first"):
        pulled(known, tmp_path, sha256="0" * 64)


def test_a_file_without_a_known_digest_is_taken_as_it_comes_and_that_is_said(tmp_path: Path) -> None:
    known = small()
    digest = by_hand(known, tmp_path)
    done = pulled(known, tmp_path)
    assert done.notes == (f"no digest is known for {NOWHERE.url}; the file that came has sha256 {digest}",)
    assert done.model.card.source.endswith(f", sha256 {digest}")


def test_a_digest_that_the_user_demands_is_held_to(tmp_path: Path) -> None:
    known = small()
    digest = by_hand(known, tmp_path)
    with pytest.raises(ConfigError, match=f"expected sha256 {'0' * 64}, got [0-9]+ bytes with sha256 {digest}"):
        pulled(known, tmp_path, sha256="0" * 64)
    with pytest.raises(ConfigError, match=r"--sha256: expected a sha256 of 64 digits 0-9a-f, got 'abc'"):
        pulled(known, tmp_path, sha256="abc")
    with pytest.raises(ConfigError, match=f"the catalogue knows {'1' * 64} of small: leave it out"):
        pulled(replace(known, sha256="1" * 64), tmp_path, sha256=digest)
    assert pulled(known, tmp_path, sha256=digest).notes == ()


@pytest.mark.parametrize("change", ["cut", "changed"])
def test_another_file_is_refused_with_what_was_expected_and_what_came(tmp_path: Path, change: str) -> None:
    known = small()
    digest = by_hand(known, tmp_path)
    file = known.place(tmp_path / "assets")
    raw = file.read_bytes()
    file.write_bytes(raw[:-1000] if change == "cut" else raw[:-1] + bytes([raw[-1] ^ 1]))
    with pytest.raises(ConfigError) as caught:
        pulled(replace(known, sha256=digest, size_bytes=len(raw)), tmp_path)
    said = str(caught.value)
    assert f"{file}: expected {len(raw)} bytes with sha256 {digest}" in said
    assert f"got {file.stat().st_size} bytes with sha256 {digest_of(file)}" in said
    assert f"Remove it, and it is fetched; or put {NOWHERE.url} there." in said
    assert files(tmp_path / "models") == []
    assert file.exists()


def test_a_file_that_is_no_weights_is_refused_by_the_import_and_leaves_no_model(tmp_path: Path) -> None:
    file = small().place(tmp_path / "assets")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"<html>please log in</html>")
    with pytest.raises(ConfigError, match=f"expected a PyTorch checkpoint.*Remove {file} if that is not what it should be"):
        pulled(small(), tmp_path)
    with pytest.raises(ConfigError, match="expected a PyTorch checkpoint") as caught:
        pulled(replace(small(), sha256=digest_of(file)), tmp_path)
    assert "Remove" not in str(caught.value)
    assert list((tmp_path / "models").iterdir()) == []


@pytest.mark.parametrize("kind", ["pipe", "folder", "dead link"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    place = small().place(tmp_path / "assets")
    place.parent.mkdir(parents=True)
    {"pipe": os.mkfifo, "folder": Path.mkdir, "dead link": lambda path: path.symlink_to("nowhere")}[kind](place)
    with pytest.raises(ConfigError, match="expected a regular file, got another kind"):
        pulled(small(), tmp_path)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose certificate is trusted, with the weights of `small`."""
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "server").mkdir()
    with serve(tmp_path / "server") as started:
        monkeypatch.setenv("SSL_CERT_FILE", str(started.certificate))
        raw = (smp_folder(tmp_path / "server" / "saved") / "model.safetensors").read_bytes()
        started.replies["/small.safetensors"] = Reply(raw)
        yield started


def offered(server: Server, **changes: Any) -> KnownModel:
    raw = server.replies["/small.safetensors"].body
    return small(WebFile(f"{server.url}/small.safetensors"), **{
        "sha256": hashlib.sha256(raw).hexdigest(), "size_bytes": len(raw), **changes})


def test_a_file_is_fetched_once_and_kept_beside_the_model(server: Server, tmp_path: Path) -> None:
    known = offered(server)
    assert pulled(known, tmp_path).new
    assert files(tmp_path / "assets") == ["small/small.safetensors"]
    assert files(tmp_path / "models") == ["small/card.json", "small/model.safetensors"]
    (tmp_path / "models" / "small").rename(tmp_path / "moved")
    assert pulled(known, tmp_path).new
    assert len(server.asked) == 1


@pytest.mark.parametrize(("changes", "reply", "message"), [
    ({"sha256": "0" * 64}, {}, "sha256 {zeros}, got {size} bytes with sha256 {digest}"),
    ({}, {"cut": 1000}, "the connection ended after 1000"),
    ({"size_bytes": 1000}, {}, "expected at most 1000 bytes from {url}, it has {size}"),
    ({}, {"status": 503}, "HTTP Error 503"),
], ids=["digest", "cut", "size", "status"])
def test_what_was_not_fetched_as_it_should_be_is_not_kept_and_the_way_by_hand_is_told(
    server: Server, tmp_path: Path, changes: dict[str, Any], reply: dict[str, Any], message: str,
) -> None:
    known = offered(server, **changes)
    raw = server.replies["/small.safetensors"].body
    server.replies["/small.safetensors"] = Reply(raw, **reply)
    with pytest.raises(ConfigError) as caught:
        pulled(known, tmp_path)
    said = str(caught.value)
    assert message.format(zeros="0" * 64, size=len(raw), digest=hashlib.sha256(raw).hexdigest(), url=known.file.url) in said
    assert (f"put there by hand: {known.file.url} ({known.size_bytes} bytes, sha256 {known.sha256}) as "
            f"{known.place(tmp_path / 'assets')}") in said
    assert files(tmp_path / "assets") == files(tmp_path / "models") == []
    assert list((tmp_path / "assets").iterdir()) == []


@pytest.mark.parametrize("folder", ["assets", "models"])
def test_a_folder_that_cannot_be_written_is_named_before_anything_is_fetched(
    server: Server, tmp_path: Path, folder: str,
) -> None:
    (tmp_path / folder).write_bytes(b"")
    with pytest.raises(ConfigError, match=f"{tmp_path / folder}.*: expected a .* that can be written.*"
                                          f"SEGSVC_{folder.upper()}_DIR"):
        pulled(offered(server), tmp_path)
    assert server.asked == []


def test_what_is_no_model_in_its_place_is_left_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / "models" / "small").mkdir(parents=True)
    (tmp_path / "models" / "small" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="expected a model or nothing, got something else there"):
        pulled(offered(server), tmp_path)
    assert files(tmp_path / "models") == ["small/notes.txt"]
    assert server.asked == []


@pytest.mark.parametrize("changes", [{"file": WebFile("http://example.org/x.pth")}, {"sha256": "bf2d0c1e"}])
def test_an_entry_is_of_https_and_with_a_whole_digest(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="small: expected"):
        small(**changes)


def test_the_sets_of_the_setup_have_the_sizes_that_they_are_listed_with() -> None:
    for each in SETS:
        assert each.size_bytes == sum((settings().assets_dir / file.name).stat().st_size for file in each.files)
