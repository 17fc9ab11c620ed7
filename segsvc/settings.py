"""Settings: a flag wins over the environment, the environment over the file, the file over the default."""

from __future__ import annotations

import os
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated

import platformdirs
from pydantic import Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from segsvc.card import describe
from segsvc.errors import ConfigError


class RuntimeChoice(StrEnum):
    """What computes the scores; AUTO takes CUDA where there is a GPU, else OpenVINO, else PyTorch."""

    AUTO = "auto"
    OPENVINO = "openvino"
    TORCH_CPU = "torch-cpu"
    TORCH_CUDA = "torch-cuda"


def _user_data(folder: str) -> Path:
    return Path(platformdirs.user_data_dir("segsvc")) / folder


def _config_file() -> Path:
    named = os.environ.get("SEGSVC_CONFIG")
    return Path(named) if named else Path("segsvc.toml")


class Settings(BaseSettings):
    """What may be set for all commands: by environment (`SEGSVC_` before the name) or in `segsvc.toml`."""

    model_config = SettingsConfigDict(env_prefix="SEGSVC_", extra="ignore", frozen=True)

    models_dir: Path = Field(default_factory=lambda: _user_data("models"), description="folder of the user's models")
    assets_dir: Path = Field(default_factory=lambda: _user_data("assets"), description="folder of fetched files")
    cache_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_cache_dir("segsvc")),
                            description="folder of converted models; may be deleted at any time")
    runtime: RuntimeChoice = Field(default=RuntimeChoice.AUTO, description="what computes the scores")
    decode_limit_bytes: Annotated[int, Field(ge=1)] = Field(
        default=512 * 1024 * 1024, description="the most bytes of pixels that may be decoded at once, per image")
    image_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=3600.0, description="an image that takes longer counts as one that killed its worker")
    lanes_extra: Annotated[int, Field(ge=1)] = Field(
        default=1, description="images that are read and merged ahead while the model uses all threads")

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource, dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, _config_file())


@cache
def settings() -> Settings:
    """The settings in force, read once. Raises ConfigError that names the setting, what was expected and what came."""
    try:
        return Settings()
    except ValidationError as error:
        raise ConfigError(f"settings (environment SEGSVC_* or {_config_file()}): {describe(error)}") from error
    except ValueError as error:  # a file that is no TOML
        raise ConfigError(f"settings file {_config_file()}: {error}") from error
