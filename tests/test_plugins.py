"""One new thing costs one new file, or an entry point of another package."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from segsvc import plugins
from segsvc.errors import ConfigError, ImageError, UnknownName
from segsvc.loaded import BytesBlob
from segsvc.plugins import PluginKind
from segsvc.readers import ReadLimits, open_source
from segsvc.types import Box

READER = '''
import numpy as np
from segsvc.loaded import ArraySource

class Reader:
    name = "checkers"
    endings = (".chk",)

    def sniff(self, head):
        return head.startswith(b"CHECKERS")

    def open(self, blob, limits):
        side = int(blob.read_all().removeprefix(b"CHECKERS"))
        return ArraySource((np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8))

    def example(self):
        return b"CHECKERS9"

PLUGIN = Reader()
'''


@pytest.fixture
def more_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder whose modules count as files of `segsvc/readers/`."""
    import segsvc.readers

    monkeypatch.setattr(segsvc.readers, "__path__", [*segsvc.readers.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    before = set(sys.modules)
    plugins.forget()
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("segsvc.readers."):
            del sys.modules[name]
    monkeypatch.undo()
    plugins.forget()


class Broken:
    """An entry point of a package that is damaged in some way."""

    def __init__(self, folder: Path, target: str) -> None:
        info = folder / "damaged-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: damaged\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[segsvc.readers]\ndamaged = {target}\n")


def test_a_reader_is_added_by_one_file(more_readers: Path) -> None:
    (more_readers / "checkers.py").write_text(READER)
    plugins.forget()
    assert "checkers" in plugins.names(PluginKind.READER)
    source = open_source(BytesBlob(b"CHECKERS6"), ReadLimits())
    assert (source.width_px, source.height_px) == (6, 6)
    assert source.read(Box(0, 0, 2, 1)).tolist() == [[[0], [255]]]


def test_without_the_file_there_is_no_such_reader() -> None:
    assert "checkers" not in plugins.names(PluginKind.READER)
    with pytest.raises(ImageError, match="expected an image of a known format"):
        open_source(BytesBlob(b"CHECKERS6"), ReadLimits())


def test_a_reader_is_added_by_an_entry_point() -> None:
    assert "lines" in plugins.names(PluginKind.READER)
    source = open_source(BytesBlob(b"LINES\n019\n990\n"), ReadLimits())
    assert source.read(Box(0, 0, 3, 2))[:, :, 0].tolist() == [[0, 28, 252], [252, 252, 0]]


def test_an_entry_point_wins_over_a_file_of_the_same_name(more_readers: Path) -> None:
    (more_readers / "lines.py").write_text(READER.replace("checkers", "lines"))
    plugins.forget()
    assert plugins.names(PluginKind.READER).count("lines") == 1
    assert type(plugins.load(PluginKind.READER, "lines")).__name__ == "LinesReader"


@pytest.mark.parametrize("kind", [PluginKind.READER, PluginKind.WRITER, PluginKind.STORE, PluginKind.MODEL])
def test_every_name_that_is_told_can_be_loaded_and_is_told_in_order(kind: PluginKind) -> None:
    names = plugins.names(kind)
    assert list(names) == sorted(set(names))
    assert names
    for name in names:
        assert plugins.load(kind, name) is plugins.load(kind, name)


@pytest.mark.parametrize("name", ["pgn", "runtime", "__init__", "../readers/png", ""])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownName) as caught:
        plugins.load(PluginKind.READER, name)
    assert "png" in caught.value.known
    assert "Known: " in str(caught.value)
    assert "no reader is called" in str(caught.value)


def test_files_that_begin_with_an_underscore_or_are_shared_are_no_plugins(more_readers: Path) -> None:
    (more_readers / "_private.py").write_text("raise RuntimeError")
    plugins.forget()
    names = plugins.names(PluginKind.READER)
    assert not {"_private", "limits", "orientation", "decoded"} & set(names)


@pytest.mark.parametrize(("target", "said"), [
    ("no_such_module:PLUGIN", "No module named 'no_such_module'"), ("json:NOTHING", "NOTHING"),
    ("module_that_raises:PLUGIN", "RuntimeError: out of luck"), ("module_of_bad_syntax:PLUGIN", "SyntaxError")])
def test_a_broken_entry_point_is_a_config_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                              target: str, said: str) -> None:
    (tmp_path / "module_that_raises.py").write_text("raise RuntimeError('out of luck')")
    (tmp_path / "module_of_bad_syntax.py").write_text("def :")
    Broken(tmp_path, target)
    monkeypatch.syspath_prepend(tmp_path)
    plugins.forget()
    try:
        assert "damaged" in plugins.names(PluginKind.READER)
        with pytest.raises(ConfigError) as caught:
            plugins.load(PluginKind.READER, "damaged")
    finally:
        monkeypatch.undo()
        plugins.forget()
    assert f"'damaged' ({target}) cannot be loaded" in str(caught.value)
    assert said in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("import no_such_library\nPLUGIN = 1\n", "no_such_library"),
                                            ("NAME = 1\n", "PLUGIN")])
def test_a_file_that_cannot_be_loaded_is_a_config_error_that_names_it(more_readers: Path, text: str, said: str) -> None:
    (more_readers / "halfway.py").write_text(text)
    plugins.forget()
    with pytest.raises(ConfigError, match="'halfway'") as caught:
        plugins.load(PluginKind.READER, "halfway")
    assert said in str(caught.value)
