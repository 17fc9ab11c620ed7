"""Rules say which objects become which runs; a file that is wrong says where, what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.rules import RulesFile, read_rules
from segsvc.errors import ConfigError
from segsvc.reach import Reach

GOOD = """
rules:
  - name: street
    prefix: s3://photos/street/
    suffixes: [.jpg, .png]
    model: bright
    out: s3://results/street
    flag_at: 0.5
    gather: {seconds: 5, images: 10}
  - name: rest
    prefix: s3://photos
    model: bright
    out: /data/rest
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text)
    return path


def test_the_first_rule_that_takes_an_object_has_it(tmp_path: Path) -> None:
    rules = read_rules(written(tmp_path, GOOD))
    found = {uri: rules.place_of(uri) for uri in (
        "s3://photos/street/a.jpg", "s3://photos/street/a.tif", "s3://photos/b.jpg", "s3://photos2/b.jpg")}
    assert list(found.values()) == [0, 1, 1, None]
    assert rules.rules[1].gather.seconds == 60
    assert "not below s3://photos/" in rules.why_none("s3://photos2/b.jpg")


@pytest.mark.parametrize(("key", "why"), [
    ("notes.txt", "no image by its ending"), ("deep/.cache/a.png", "hidden"), (".a.png", "hidden"), ("deep/", "a folder")])
def test_what_a_listing_passes_over_no_rule_takes(tmp_path: Path, key: str, why: str) -> None:
    rules = read_rules(written(tmp_path, GOOD))
    assert rules.place_of(f"s3://photos/{key}") is None
    assert f"rest: {why}" in rules.why_none(f"s3://photos/{key}")


@pytest.mark.parametrize(("before", "after", "says"), [
    ("suffixes", "sufixes", "rule 'street', sufixes: expected one of name, prefix, suffixes"),
    ("gather: {seconds: 5", "gather: {secs: 5", "rule 'street', gather.secs: expected one of seconds, images, got a field"),
    ("seconds: 5", "seconds: -1", "rule 'street', gather.seconds: expected otherwise: Input should be greater than or equal "
                                  "to 0, got -1"),
    ("name: rest\n", "title: rest\n", "rule number 2, name: expected a value, it is missing"),
    ("s3://photos/street/", "/photos", "rule 'street', prefix: expected s3://bucket/ or s3://bucket/prefix/, got '/photos'"),
    ("s3://photos/street/", "s3://photos/.hidden/", "rule 'street', prefix: expected a prefix without hidden folders"),
    ("s3://results/street", "s3://photos/street/out", "rule 'street', out: expected a place that does not lie below prefix"),
    ("s3://results/street", "s3://photos/out", "rule 'street', out: expected a place below no rule's prefix"),
    ("name: rest", "name: street", "expected rules with names of their own, got several called 'street'"),
    ("flag_at: 0.5", "flag_at: 5", "rule 'street', flag_at: "), ("rules:", "roles:", "the document, rules"),
    ("rules:", "rules: [", "expected YAML"), ("- name: street", "- !!python/object:os.system {}", "expected YAML")])
def test_a_file_that_is_wrong_says_where(tmp_path: Path, before: str, after: str, says: str) -> None:
    assert before in GOOD
    with pytest.raises(ConfigError) as wrong:
        read_rules(written(tmp_path, GOOD.replace(before, after, 1)))
    assert says in str(wrong.value)
    assert "rules.yaml" in str(wrong.value)


@pytest.mark.parametrize("text", ["", "7", "rules: []", "rules: 7", "- a", "rules: [7]", "\x00"])
def test_what_is_no_file_of_rules_is_told(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="expected"):
        read_rules(written(tmp_path, text))


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a YAML file"):
        read_rules(tmp_path / "none.yaml")


def test_a_changed_file_is_read_again_and_a_wrong_one_is_not_put_in_force(
        tmp_path: Path, in_process: Callable[[], None]) -> None:
    path = written(tmp_path, GOOD)
    file = RulesFile(path, lambda: None)
    written(tmp_path, GOOD.replace("name: rest", "name: others"))
    assert [rule.name for rule in file.current().rules] == ["street", "others"]
    written(tmp_path, "rules: [")
    assert [rule.name for rule in file.current().rules] == ["street", "others"]


def test_places_off_the_list_and_unknown_models_are_refused(tmp_path: Path, in_process: Callable[[], None]) -> None:
    path = written(tmp_path, GOOD)
    with pytest.raises(ConfigError, match=r"rule 'street', out: expected a place in the buckets .*photos.* got 's3://results"):
        RulesFile(path, lambda: Reach((), ("photos",)))
    with pytest.raises(ConfigError, match="rule 'rest', out: expected a place in the folders"):
        RulesFile(path, lambda: Reach((), ("photos", "results")))
    RulesFile(path, lambda: Reach(("/data",), ("photos", "results")))
    with pytest.raises(ConfigError, match=r"rule 'street', model: no model is called 'dark'"):
        RulesFile(written(tmp_path, GOOD.replace("model: bright", "model: dark", 1)), lambda: None)
