"""Names of classes as they are given to an import: a list, or a file with a tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from segsvc.errors import ConfigError
from segsvc.exchange.request import parse_classes


def test_names_by_comma() -> None:
    assert [(node.name, node.parent) for node in parse_classes("road, sky")] == [("road", None), ("sky", None)]
    assert [(node.name, node.parent) for node in parse_classes("trailer < car, car")] == [("trailer", "car"), ("car", None)]


def test_a_file_that_is_not_there_is_no_name() -> None:
    with pytest.raises(ConfigError, match=r"--classes names\.txt: expected names by comma, or a file"):
        parse_classes("names.txt")


def test_a_file_gives_an_output_a_line_and_a_tree(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("trailer < car < traffic\n\ncar\ntraffic\nsky\n")
    assert [(node.name, node.parent) for node in parse_classes(str(file))] == [
        ("trailer", "car"), ("car", "traffic"), ("traffic", None), ("sky", None)]


@pytest.mark.parametrize(("text", "said"), [
    ("car\ncar\n", "got 'car' twice"),
    ("trailer < car\n", "'car' is a parent but has no line"),
    ("a < b\nb < a\n", "is its own ancestor"),
    ("a < b\na2 < a < c\nb\nc\n", "'a' has the parent 'b' in one line, 'c' in another"),
    ("a <\n", "got an empty one"),
    ("", "expected names"),
])
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "classes.txt"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        parse_classes(str(file))
