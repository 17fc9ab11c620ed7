"""`POST /v1/predict`: one image, candidates at once, by models that stay loaded in processes of their own."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import struct
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest

import segsvc
from jobs.predict_answers import PredictAnswer
from jobs.predicting import AT_ONCE, Predictors
from review_ui.app import create_app
from review_ui.picture_cache import PictureCache
from review_ui.pictures import Pictures
from review_ui.service import Service
from segsvc import plugins
from segsvc.card import ModelCard
from segsvc.errors import ImageError, RunError
from segsvc.ledger import users
from segsvc.ledger.opening import Ledger, open_ledger
from segsvc.ledger.records import Role
from segsvc.models.library import find_model
from segsvc.readers import ReadLimits
from segsvc.settings import settings
from tests.chaos.network import until
from tests.conftest import write_model
from tests.review_ui.serving import serving
from tests.scenes import write_scenes

Ask = Callable[..., httpx.Response]


class Asked:
    """A server, and a client of it."""

    def __init__(self, url: str, ledger: Ledger, predictors: Predictors) -> None:
        self.url, self.ledger, self.predictors = url, ledger, predictors

    def raw(self, image: bytes, model: str | None = "bright", kind: str = "image/png", **headers: str) -> httpx.Response:
        return httpx.post(f"{self.url}/v1/predict", content=image, params={"model": model} if model is not None else {},
                          headers={"Content-Type": kind, **headers}, timeout=100)


@pytest.fixture(scope="module")
def asked(environment: dict[str, str], bright: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp("predict")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            if name.startswith("SEGSVC_") or name == "PYTHONPATH":
                patch.setenv(name, value)
        settings.cache_clear()
        plugins.forget()
        predictors = Predictors(keep=2)
        with open_ledger(str(folder / "ledger"), serving=True) as ledger:
            pictures = Pictures(PictureCache(folder / "pictures", limit_bytes=10**8), ReadLimits())
            service = Service(ledger, pictures, is_local=True, predictors=predictors)
            with serving(create_app(service)) as url:
                yield Asked(url, ledger, predictors)
        predictors.close()
    settings.cache_clear()


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scene"), 1)[0]


def problem(answer: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    assert (answer.status_code, answer.json().get("type")) == (status, f"urn:segsvc:problem:{kind}"), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    return found


def processes() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid is not None}


def test_it_answers_with_what_the_model_finds_in_python(asked: Asked, scene: Path) -> None:
    model, found = find_model("bright"), segsvc.load("bright").segment(scene)
    assert found.candidates
    wanted = PredictAnswer.of(found, model.card, model.operating_point).model_dump(mode="json")
    assert [(each["x0"], each["y0"], each["x1"], each["y1"], each["score"], each["mask_rle"])
            for each in wanted["candidates"]] == [
        (each.box.x0, each.box.y0, each.box.x1, each.box.y1, each.score, (each.mask_rle or b"").decode())
        for each in found.candidates]
    image = scene.read_bytes()
    answers = [asked.raw(image), asked.raw(image, kind="application/octet-stream"), httpx.post(
        f"{asked.url}/v1/predict", files={"image": ("a.png", image)}, data={"model": "bright"}, timeout=100)]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, wanted)] * 3
    assert (wanted["model_digest"], wanted["width_px"], wanted["height_px"]) == (model.digest, 160, 120)
    assert {(each["band"], each["probability"]) for each in wanted["candidates"]} == {("review", None)}


def test_bands_are_those_of_the_models_operating_point_as_it_is_now(asked: Asked, scene: Path, bright: ModelCard) -> None:
    point = find_model("bright").folder / "operating_point.json"
    point.write_text(json.dumps({"basis": "measured", "classes": {"*": {"flag_at": 0.92, "accept_at": 0.95}}}))
    try:
        found = asked.raw(scene.read_bytes()).json()["candidates"]
    finally:
        point.unlink()
    assert {each["band"] for each in found} == {
        "accepted" if each["score"] >= 0.95 else "review" if each["score"] >= 0.92 else "rejected" for each in found}
    assert "accepted" in {each["band"] for each in found}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


VAST = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 16, 6, 0, 0, 0)) + chunk(
    b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("image", "kind"), [
    (b"", "empty"), (b"no picture at all", "unsupported"), (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
    (VAST, "too_large"), (VAST[:30], "corrupt")])
def test_what_is_no_image_is_refused_and_the_next_one_is_answered(asked: Asked, scene: Path, image: bytes,
                                                                  kind: str) -> None:
    assert problem(asked.raw(image), 422, "image-refused")["error_kind"] == kind
    assert problem(httpx.post(f"{asked.url}/v1/predict", files={"image": ("a", image)}, data={"model": "bright"},
                              timeout=100), 422, "image-refused")["error_kind"] == kind
    assert asked.raw(scene.read_bytes()).status_code == 200


def test_a_truncated_image_is_refused(asked: Asked, scene: Path) -> None:
    image = scene.read_bytes()
    assert problem(asked.raw(image[: len(image) // 2]), 422, "image-refused")["error_kind"] == "corrupt"


@pytest.mark.parametrize(("model", "words"), [
    ("brigth", "Did you mean 'bright'"), ("", "1 to 4096"), ("a\0b", "printable"), (None, "?model="),
    ("/nowhere/at/all", "card.json"), ("..", "card.json"), ("x" * 4000, "no model")])
def test_an_unknown_model_is_answered_with_the_known_ones(asked: Asked, scene: Path, model: str | None, words: str) -> None:
    assert words in problem(asked.raw(scene.read_bytes(), model), 422, "invalid")["detail"]


def test_what_is_no_such_request_is_said_to_be_so(asked: Asked, scene: Path) -> None:
    image = scene.read_bytes()
    for kind in ("application/json", "text/html", ""):
        assert "Content-Type" in problem(asked.raw(image, kind=kind), 422, "invalid")["detail"]
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x"):
        problem(asked.raw(image, kind=kind), 422, "invalid")
    address = f"{asked.url}/v1/predict"
    problem(httpx.post(address, files={"picture": image}, data={"model": "bright"}, timeout=100), 422, "invalid")
    problem(httpx.post(address, files={"image": image}, timeout=100), 422, "invalid")
    problem(httpx.post(address, files=[("image", image), ("image", image)], data={"model": "bright"}, timeout=100),
            422, "invalid")


def test_an_image_may_be_larger_than_other_bodies_but_not_of_any_size(asked: Asked) -> None:
    problem(asked.raw(bytes(6_000_000)), 422, "image-refused")
    with socket.create_connection(("127.0.0.1", int(asked.url.rpartition(":")[2])), timeout=60) as connection:
        connection.sendall(b"POST /v1/predict?model=bright HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
                           b"Content-Length: %d\r\n\r\n" % (65 * 1024**2))
        assert connection.recv(12) == b"HTTP/1.1 413"  # before any of it was sent
    problem(httpx.post(f"{asked.url}/v1/runs", content=bytes(6_000_000), timeout=100), 413, "too-large")


def test_a_process_that_is_killed_between_or_amid_images_is_replaced(asked: Asked, scene: Path) -> None:
    image = scene.read_bytes()
    assert asked.raw(image).status_code == 200
    for pid in processes():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not processes(), "its end")
    assert asked.raw(image).status_code == 200
    (pid,) = processes()
    with ThreadPoolExecutor(1) as thread:
        os.kill(pid, signal.SIGSTOP)  # it holds the image now, and does not go on
        pending = thread.submit(asked.raw, image)
        time.sleep(0.5)
        os.kill(pid, signal.SIGKILL)
        answer = pending.result()
    assert "ended" in problem(answer, 503, "ended")["detail"]
    assert answer.headers["retry-after"] == "1"
    assert asked.raw(image).status_code == 200


def test_an_image_that_takes_its_process_down_is_refused(bright: ModelCard, in_process: Callable[[], None],
                                                         scene: Path) -> None:
    model, image, predictors = find_model("bright"), scene.read_bytes(), Predictors(timeout_s=3)
    others = processes()
    try:
        wanted = predictors.ask(model, image)
        for number, words in ((signal.SIGSEGV, "signal SIGSEGV"), (None, "at most 3 s")):
            (pid,) = processes() - others
            os.kill(pid, signal.SIGSTOP)
            with ThreadPoolExecutor(1) as thread:
                pending = thread.submit(predictors.ask, model, image)
                if number is not None:
                    time.sleep(0.5)
                    os.kill(pid, number)
                    os.kill(pid, signal.SIGCONT)
                with pytest.raises(ImageError, match=words):
                    pending.result()
            assert predictors.ask(model, image) == wanted
    finally:
        predictors.close()
    assert processes() <= others
    with pytest.raises(RunError, match="ending"):
        predictors.ask(model, image)


def test_images_at_once_are_all_answered_by_one_process_a_model(asked: Asked, tmp_path: Path) -> None:
    images = [path.read_bytes() for path in write_scenes(tmp_path, AT_ONCE)]
    alone = [asked.raw(image).json() for image in images]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        assert [answer.json() for answer in threads.map(asked.raw, images)] == alone
    assert len(processes()) == 1


def test_more_at_once_than_may_wait_are_told_to_come_again(asked: Asked, scene: Path) -> None:
    image = scene.read_bytes()
    assert asked.raw(image).status_code == 200
    (pid,) = processes()
    os.kill(pid, signal.SIGSTOP)
    with ThreadPoolExecutor(AT_ONCE) as threads:
        waiting = [threads.submit(asked.raw, image) for _ in range(AT_ONCE)]
        time.sleep(1)
        refused = asked.raw(bytes(3_000_000))
        os.kill(pid, signal.SIGCONT)
        assert [each.result().status_code for each in waiting] == [200] * AT_ONCE
    problem(refused, 503, "busy")
    assert refused.headers["retry-after"] == "1"


def test_the_models_that_were_asked_for_last_stay_loaded(asked: Asked, scene: Path, tmp_path: Path) -> None:
    image = scene.read_bytes()
    for name in ("one", "two", "three"):
        write_model(tmp_path, name=name, tile_px=96 if name == "two" else 128)
        answer = asked.raw(image, str(tmp_path / name))
        assert (answer.status_code, answer.json()["model"]) == (200, name), answer.text
        assert len(processes()) <= 2
    kept = processes()
    assert asked.raw(image, str(tmp_path / "two")).status_code == 200
    assert processes() == kept


def test_a_model_with_damaged_weights_is_named(asked: Asked, scene: Path, tmp_path: Path) -> None:
    write_model(tmp_path, name="damaged", tile_px=160)
    with (tmp_path / "damaged" / "model.safetensors").open("ab") as weights:
        weights.write(b"x")
    said = problem(asked.raw(scene.read_bytes(), str(tmp_path / "damaged")), 422, "invalid")["detail"]
    assert "damaged" in said and "sha256" in said


def test_where_users_were_made_models_lie_within_reach(asked: Asked, scene: Path, tmp_path: Path) -> None:
    """Last: the ledger has users from here on."""
    write_model(tmp_path, name="elsewhere")
    users.add(asked.ledger, "rae", Role.REVIEWER, "correct horse battery staple")
    assert asked.raw(scene.read_bytes()).status_code == 401
    own = {"Authorization": f"Bearer {users.new_token(asked.ledger, 'rae')}"}
    assert asked.raw(scene.read_bytes(), **own).status_code == 200
    for place in (str(tmp_path / "elsewhere"), "/etc", "s3://bucket/model"):
        said = problem(asked.raw(scene.read_bytes(), place, **own), 422, "invalid")["detail"]
        assert "that this server may use" in said
