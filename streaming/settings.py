"""Settings, from the environment only (`WARDWATCH_*`). Owns names, defaults and bounds; no other file reads them."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from streaming.clock import ClockMode
from streaming.errors import ConfigError

ScoreMode = Literal["each", "coalesce", "auto"]

_SERVER = re.compile(r"(\[[\da-fA-F:.]+\]|[\w.-]+)(:(?P<port>\d{1,5}))?")


def _servers(text: str) -> str:
    """Here, since each Kafka client raises errors of its own for what is none."""
    for server in text.split(","):
        found = _SERVER.fullmatch(server.strip())
        if found is None or not 0 < int(found["port"] or 9092) < 65_536:
            raise PydanticCustomError("servers", "Input should be host:port, several comma separated")
    return text


def _redis_url(text: str) -> str:
    """Its text may hold a password: no error quotes it."""
    try:
        sound = text.startswith(("redis://", "rediss://", "unix://")) and urlsplit(text).port != 0
    except ValueError:
        sound = False
    if not sound:
        raise PydanticCustomError("redis_url", "Input should be a redis://, rediss:// or unix:// URL")
    return text


class Settings(BaseSettings):
    """What a worker or command needs to know of its surroundings."""

    model_config = SettingsConfigDict(env_prefix="WARDWATCH_", frozen=True, extra="ignore")

    kafka_bootstrap: Annotated[str, AfterValidator(_servers)] = Field(
        "127.0.0.1:9092", description="Kafka bootstrap servers, comma separated"
    )
    redis_url: Annotated[str, AfterValidator(_redis_url)] = Field(
        "redis://127.0.0.1:6379/0", description="Redis 7 or Valkey URL"
    )
    topic_prefix: str = Field("", pattern=r"^[A-Za-z0-9._-]*$", description="put before every topic, group and key")
    partitions: int = Field(8, ge=1, le=4096, description="partitions of every patient-keyed topic")
    replication: int = Field(1, ge=1, le=7, description="replication factor of created topics")
    site: str = Field("ward", min_length=1, description="which hospital: part of every alert id")
    clock: ClockMode = Field("wall", description="wall in service; events in a replay")
    score: ScoreMode = Field("auto", description="each event, coalesce per batch, or auto")
    auto_coalesce_ms: int = Field(250, ge=1, description="auto: waiting longer than this coalesces")
    model: str = Field("reference", description="artifact folder, or 'reference' for the one shipped")
    backend: str = Field("onnx", description="predictor backend, or `auto` for the best this machine has")
    instance: str = Field("", description="static member name: a restart under it takes over at once")
    role: Literal["fusion", "imaging", "all"] = Field("all", description="which worker")
    data_dir: Path = Field(Path(".wardwatch"), description="local stack, blobs and reports")
    blob_dir: Path | None = Field(None, description="claim-check store; default DATA_DIR/blobs")
    blob_url: str = Field("", description="claim-check store on S3 instead: s3://bucket/prefix (extra s3)")
    inline_limit_bytes: int = Field(8 << 20, ge=1024, description="a larger scan goes to the blob store")
    json_limit_bytes: int = Field(1 << 20, ge=1024, description="a larger note, vitals or correction is refused")
    future_tolerance_s: int = Field(300, ge=0, description="how far ahead an event may be dated")
    dead_letter_limit: int = Field(100, ge=1, description="this many refused in a row stop the worker")
    commit_interval_s: float = Field(1.0, gt=0, description="how often offsets are committed")
    session_timeout_s: float = Field(6.0, gt=0, description="Kafka session timeout")
    max_batch: int = Field(64, ge=1, description="scored updates per micro-batch at most")
    silence_minutes: float = Field(0.0, ge=0, description="technical alarm after this much silence; 0 = off")
    health_port: int = Field(
        0, ge=0, le=65534, description="loopback health and metrics, role all: imaging's is the next; 0 = any free port"
    )
    timezone: str = Field("", description="gateways: IANA zone of times without offset; empty = such times are refused")
    patient_issuer: str = Field("", description="gateways: the authority whose patient identifiers are the site's own")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    log_format: Literal["auto", "json", "text"] = Field("auto", description="auto: text on a terminal, else JSON")

    def __init__(self, **values: Any) -> None:
        """Reads the environment.

        Raises:
            ConfigError: a setting is wrong; the text does not quote it.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            name = ".".join(str(part) for part in first["loc"]).upper()
            raise ConfigError(f"a WARDWATCH_ setting is wrong: {name}: {first['msg']}") from None

    @property
    def engines(self) -> Path:
        """Folder of engines that `wardwatch export` builds."""
        return self.data_dir / "engines"

    @property
    def blobs(self) -> Path:
        """Folder of the claim-check store."""
        return self.blob_dir or self.data_dir / "blobs"
