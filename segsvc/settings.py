"""Settings: a flag wins over the environment, the environment over the file, the file over the default."""

from __future__ import annotations

import os
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
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


class LogFormat(StrEnum):
    """How what serves logs to stderr; AUTO: as text on a terminal, else as JSON."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


class S3Encryption(StrEnum):
    """How the server encrypts what is put."""

    AES256 = "AES256"
    KMS = "aws:kms"


class S3Settings(BaseModel):
    """How buckets are reached; what stays unset is left to AWS_* variables, profiles and the SDK's own chain."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint_url: str | None = Field(default=None, description="of a store that is not Amazon's: http(s)://host[:port]")
    region: str | None = Field(default=None, description="where the bucket is; another one is found out and followed")
    path_style: bool | None = Field(
        default=None, description="host/bucket/key, not bucket.host/key; by default where the endpoint is not Amazon's")
    requester_pays: bool = Field(default=False, description="this account pays for its requests")
    sse: S3Encryption | None = Field(default=None, description="how the server encrypts what a run writes")
    sse_kms_key_id: str | None = Field(default=None, description="the key for aws:kms")
    anonymous: bool = Field(default=False, description="requests are not signed: for public buckets")
    in_flight: Annotated[int, Field(ge=1, le=1024)] = Field(default=64, description="images that are fetched at once")
    attempts: Annotated[int, Field(ge=1, le=100)] = Field(default=10, description="how often a request is tried")
    connect_timeout_s: Annotated[float, Field(gt=0)] = Field(default=10.0, description="to reach the store")
    read_timeout_s: Annotated[float, Field(gt=0)] = Field(default=60.0, description="without a byte of the answer")


class RaySettings(BaseModel):
    """What workers take of a Ray cluster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gpus_per_worker: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="GPUs, or a fraction of one, that each worker takes; by default 1 with torch-cuda, else 0")
    cpus_per_worker: Annotated[float, Field(gt=0)] | None = Field(
        default=None, description="CPUs that each worker takes; by default as many as it has threads")
    start_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=300.0, description="how long workers may wait for a cluster's resources before the run gives up")
    runtime_env: dict[str, Any] = Field(
        default={}, description="Ray's runtime_env for the workers, as JSON; ours is merged with it")
    images_per_job: Annotated[int, Field(ge=1)] = Field(
        default=1_000_000, description="a run of more images, submitted by `segsvc serve`, is several jobs of the cluster")
    jobs_at_once: Annotated[int, Field(ge=1, le=100)] = Field(
        default=4, description="of these, so many at the same time; each takes its part of the cluster")
    away_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0, description="a cluster that answers nothing for so long has lost the jobs of `segsvc serve`")


class ServeSettings(BaseModel):
    """How `segsvc serve` meets browsers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hosts: tuple[str, ...] = Field(
        default=(), description="names that the server is called by, beside localhost and addresses in numbers")
    roots: tuple[Path, ...] = Field(
        default=(), description="folders that programs may name as INPUT, OUT or model, with all below them, where users "
                                "were made; without users, on this machine alone, any")
    buckets: tuple[str, ...] = Field(default=(), description="the same for buckets, by name, or name/prefix/")
    queue: str | None = Field(default=None, description="URL of an SQS queue whose events of buckets become runs")
    rules: Path | None = Field(
        default=None, description="YAML file that says which objects become which runs (docs/triggers.md)")
    webhooks: tuple[str, ...] = Field(default=(), description="URLs that are told of every state that a run comes into")
    webhook_hosts: tuple[str, ...] = Field(
        default=(), description="hosts that webhooks may go to, by name or name:port; none by default")
    webhook_networks: tuple[str, ...] = Field(
        default=(), description="private networks, such as 10.0.0.0/8, that such a host may lie in; by default public "
                                "addresses alone")
    runs_at_once: Annotated[int, Field(ge=0, le=64)] = Field(
        default=1, description="runs that this server works on at the same time; 0: it takes none, others do")
    lease_s: Annotated[float, Field(ge=1, le=3600)] = Field(
        default=30.0, description="a run whose worker was not heard of for so long is taken up by another; the same for all "
                                  "servers of a ledger")
    secure_cookies: bool = Field(default=False, description="browsers send the session by https alone: behind such a proxy")
    pictures_limit_bytes: Annotated[int, Field(ge=0)] = Field(
        default=4 * 1024**3, description="how much disk the pictures for view may take; those used longest ago go first")


class LogSettings(BaseModel):
    """What `segsvc serve` and `segsvc trigger` say of themselves."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: LogFormat = Field(
        default=LogFormat.AUTO, description="a line of JSON or of text per event; by default text on a terminal alone")


class RecordSettings(BaseModel):
    """How the ledger keeps the record of decisions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    anchors: str | None = Field(
        default=None, description="file or s3://bucket/prefix in which the chain's head is noted; by default anchors.jsonl "
                                  "beside a ledger in a folder, of a PostgreSQL in the folder of this user's data")
    anchor_every: Annotated[int, Field(ge=1)] = Field(default=100, description="decisions from one anchor to the next")
    anchor_minutes: Annotated[float, Field(gt=0)] = Field(default=5.0, description="or minutes, whichever comes first")
    idle_cap_s: Annotated[float, Field(gt=0)] = Field(
        default=60.0, description="the most seconds that one decision counts as work: who takes longer was away")
    bundled_sqlite: bool = Field(
        default=True, description="SQLite from the package pysqlite3, where it is there, and not Python's own")


class ReviewSettings(BaseModel):
    """How a run is reviewed that comes into the ledger and is told nothing else (`segsvc.ledger.records.ReviewPolicy`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    readers: Annotated[int, Field(ge=1, le=2)] = Field(default=1, description="people who read each candidate")
    blind: bool = Field(default=False, description="scores and others' verdicts are hidden until one has decided")
    audit_share: Annotated[float, Field(ge=0, le=1)] = Field(
        default=0.01, description="of what rules decided, so much is reviewed too")
    gold_share: Annotated[float, Field(ge=0, le=0.5)] = Field(
        default=0.02, description="of what is given out, so much has a known answer, where there are such candidates")
    seed: int | None = Field(
        default=None, description="of the audit sample and of the random order; by default drawn when a run first comes in, "
                                  "so that no reviewer knows who is in the sample")
    lease_s: Annotated[int, Field(ge=10, le=86_400)] = Field(
        default=300, description="candidates given to one are given to others after so long without a sign of life")


def user_data(folder: str) -> Path:
    """A folder of this user's data: models, fetched files, anchors."""
    return Path(platformdirs.user_data_dir("segsvc")) / folder


def _config_file() -> Path:
    named = os.environ.get("SEGSVC_CONFIG")
    return Path(named) if named else Path("segsvc.toml")


class Settings(BaseSettings):
    """What may be set for all commands: by environment (`SEGSVC_` before the name) or in `segsvc.toml`."""

    model_config = SettingsConfigDict(env_prefix="SEGSVC_", env_nested_delimiter="__", extra="ignore", frozen=True)

    models_dir: Path = Field(default_factory=lambda: user_data("models"), description="folder of the user's models")
    assets_dir: Path = Field(default_factory=lambda: user_data("assets"), description="folder of fetched files")
    cache_dir: Path = Field(default_factory=lambda: Path(platformdirs.user_cache_dir("segsvc")),
                            description="folder of converted models; may be deleted at any time")
    runtime: RuntimeChoice = Field(default=RuntimeChoice.AUTO, description="what computes the scores")
    decode_limit_bytes: Annotated[int, Field(ge=1)] = Field(
        default=512 * 1024 * 1024, description="the most bytes of pixels that may be decoded at once, per image")
    image_timeout_s: Annotated[float, Field(gt=0)] = Field(
        default=3600.0, description="an image that takes longer counts as one that killed its worker")
    lanes_extra: Annotated[int, Field(ge=1)] = Field(
        default=1, description="images that are read and merged ahead while the model uses all threads")
    s3: S3Settings = Field(default=S3Settings(), description="how buckets are reached")
    s3_buckets: dict[str, S3Settings] = Field(default={}, description="the same for one bucket, over what `s3` says")
    gpu_lanes: Annotated[int, Field(ge=1)] = Field(
        default=8, description="images that are read, decoded and merged at once beside a GPU")
    ray: RaySettings = Field(default=RaySettings(), description="what workers take of a Ray cluster")
    serve: ServeSettings = Field(default=ServeSettings(), description="how `segsvc serve` meets browsers")
    log: LogSettings = Field(default=LogSettings(), description="what `segsvc serve` and `segsvc trigger` say of themselves")

    server: str = Field(default="http://127.0.0.1:8765", description="the server that `segsvc submit` and its kin ask")
    token: SecretStr | None = Field(default=None, description="what they are let in by, as `segsvc users token` prints it")
    ledger: str = Field(default="./segsvc-data", description="folder or postgresql:// URL of the ledger")
    record: RecordSettings = Field(default=RecordSettings(), description="how the ledger keeps the record of decisions")
    review: ReviewSettings = Field(default=ReviewSettings(), description="how runs are reviewed")

    def s3_of(self, bucket: str) -> S3Settings:
        """How that bucket is reached."""
        own = self.s3_buckets.get(bucket)
        return self.s3 if own is None else self.s3.model_copy(
            update={name: getattr(own, name) for name in own.model_fields_set})

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
