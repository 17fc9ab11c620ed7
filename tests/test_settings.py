"""Settings: the environment wins over the file, the file over the default; what is wrong is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from segsvc.errors import ConfigError
from segsvc.settings import RuntimeChoice, Settings, settings


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No settings but those of the test."""
    import os

    for name in list(os.environ):
        if name.startswith("SEGSVC_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    settings.cache_clear()
    yield
    settings.cache_clear()


def test_the_defaults_lie_in_the_users_folders() -> None:
    values = settings()
    assert values.runtime is RuntimeChoice.AUTO
    assert values.models_dir.is_absolute()
    assert values.models_dir.name == "models"
    assert values.decode_limit_bytes == 512 * 1024 * 1024


def test_the_file_wins_over_the_default_and_the_environment_over_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("segsvc.toml").write_text('runtime = "torch-cpu"\nimage_timeout_s = 5\n')
    assert (settings().runtime, settings().image_timeout_s) == (RuntimeChoice.TORCH_CPU, 5.0)
    monkeypatch.setenv("SEGSVC_RUNTIME", "openvino")
    settings.cache_clear()
    assert (settings().runtime, settings().image_timeout_s) == (RuntimeChoice.OPENVINO, 5.0)


def test_a_flag_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGSVC_RUNTIME", "openvino")
    assert Settings(runtime=RuntimeChoice.TORCH_CPU).runtime is RuntimeChoice.TORCH_CPU


def test_another_file_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("lanes_extra = 3\n")
    monkeypatch.setenv("SEGSVC_CONFIG", str(tmp_path / "other.toml"))
    assert settings().lanes_extra == 3


@pytest.mark.parametrize(("name", "value", "said"), [
    ("SEGSVC_RUNTIME", "abacus", "runtime: Input should be 'auto', 'openvino', 'torch-cpu' or 'torch-cuda', got 'abacus'"),
    ("SEGSVC_DECODE_LIMIT_BYTES", "0", "decode_limit_bytes: Input should be greater than or equal to 1, got '0'"),
    ("SEGSVC_IMAGE_TIMEOUT_S", "soon", "image_timeout_s"),
])
def test_a_wrong_setting_is_named_with_what_was_expected_and_what_came(monkeypatch: pytest.MonkeyPatch, name: str,
                                                                       value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        settings()
    assert said in str(caught.value)


@pytest.mark.parametrize("text", ["runtime = ", "[[[", "\0", "runtime = 'abacus'"])
def test_a_damaged_settings_file_is_named(text: str) -> None:
    Path("segsvc.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"segsvc\.toml"):
        settings()


def test_a_settings_file_that_is_no_text_is_named() -> None:
    Path("segsvc.toml").write_bytes(b"\xff\xfe\0r")
    with pytest.raises(ConfigError, match=r"segsvc\.toml"):
        settings()
