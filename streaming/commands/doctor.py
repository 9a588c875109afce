"""`wardwatch doctor`: what is wrong here, and how to mend it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import click

from streaming.errors import ConfigError, WardwatchError
from streaming.settings import Settings


@click.command(short_help="check Kafka, Redis, topics, model and clock")
def command() -> None:
    """Checks each thing a worker needs; status 1 when one is not well."""
    settings = Settings()
    checks: list[tuple[str, Callable[[Settings], str], str]] = [
        ("Kafka", _kafka, "start it with `wardwatch up`, or set WARDWATCH_KAFKA_BOOTSTRAP"),
        ("Redis", _redis, "start it with `wardwatch up`, or set WARDWATCH_REDIS_URL"),
        ("topics", _topics, "`wardwatch topics create` makes what is missing"),
        ("blobs", _blobs, "make WARDWATCH_BLOB_DIR writable, or mend WARDWATCH_BLOB_URL and the AWS_ variables"),
        (
            "model",
            _model,
            "set WARDWATCH_MODEL to a whole artifact, WARDWATCH_BACKEND to what runs here, or unset both",
        ),
        ("GPU", _gpu, ""),
        ("clock", _clock, "set this machine's clock, for example with chrony"),
    ]
    ill = 0
    for name, check, mend in checks:
        try:
            click.echo(f"{name:>8}  ok    {check(settings)}")
        except WardwatchError as error:
            ill += 1
            click.echo(f"{name:>8}  ILL   {error}\n{'':>16}mend: {mend}")
    if ill:
        raise ConfigError(f"{ill} of {len(checks)} checks failed")


def _kafka(settings: Settings) -> str:
    from streaming.topics import broker_count

    return f"{broker_count(settings.kafka_bootstrap)} broker(s) at {settings.kafka_bootstrap}"


def _redis(settings: Settings) -> str:
    from streaming.store import Store

    async def ping() -> None:
        store = Store(settings.redis_url, "doctor")
        try:
            await store.ping()
        finally:
            await store.close()

    asyncio.run(ping())
    return "answers"


def _topics(settings: Settings) -> str:
    from streaming import topics

    wrong = topics.check(settings.kafka_bootstrap, settings.topic_prefix, settings.partitions)
    if wrong:
        raise ConfigError("; ".join(wrong))
    return f"all there, {settings.partitions} partitions each"


def _blobs(settings: Settings) -> str:
    from streaming.blobs import open_store

    store = open_store(settings.blob_url, settings.blobs)
    dataref, digest = store.put(b"wardwatch doctor")
    store.get(dataref, digest, 1024)
    return f"keeps and gives back, in {settings.blob_url or settings.blobs}"


def _model(settings: Settings) -> str:
    from streaming.bootstrap import load_serving

    started = time.perf_counter()
    serving = load_serving(settings)
    took = time.perf_counter() - started
    if serving.refused and settings.backend != "auto":
        raise ConfigError(f"{serving.refused[0]}; workers serve on {serving.backend} instead")
    model = serving.predictor.card.model_hash[:12]
    return f"{model} on {serving.backend}: hashes and golden outputs hold ({took:.1f} s)"


def _gpu(settings: Settings) -> str:
    found = list(Path("/proc/driver/nvidia/gpus").glob("*"))  # where NVIDIA's Linux driver lists them
    if not found:
        return "none: serving on the CPU"
    idle = settings.backend in ("onnx", "openvino", "openvino-bf16", "torch")
    return f"{len(found)} by NVIDIA" + (", not used: WARDWATCH_BACKEND=auto would" if idle else "")


def _clock(settings: Settings) -> str:
    if time.time() < 1_767_225_600:  # 2026-01-01: before this software was written
        raise ConfigError("this machine's clock is in the past")
    return f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}, patients' time: {settings.clock}"
