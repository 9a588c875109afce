"""The wiring: settings to a running worker. Everything else takes its collaborators as arguments."""

import asyncio
import logging
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import orjson
from aiokafka.partitioner import DefaultPartitioner

from models import artifact, backends
from models.golden import GoldenMismatch
from models.predictor import Predictor
from streaming import alerting, garbage, topics, turns, watched_loop
from streaming.agent import Worker
from streaming.blobs import open_store
from streaming.clock import make_clock, wall_ms
from streaming.envelope import Limits
from streaming.errors import ConfigError, Unavailable, WardwatchError
from streaming.health import Health
from streaming.metrics import Metrics
from streaming.outbox import Publisher
from streaming.past import Past
from streaming.pipeline import INPUTS, Pipeline, Rules
from streaming.scoring import Scorer
from streaming.settings import Settings
from streaming.state import PatientState
from streaming.store import Store

log = logging.getLogger(__name__)

FORGET_EVERY_S = 600.0


def load_serving(settings: Settings) -> backends.Serving:
    """The checked artifact behind the chosen backend, or behind the fall-back, with one line that says why.

    Raises:
        ConfigError: the artifact must not serve, or there is no such backend.
    """
    try:
        return backends.serve(artifact.locate(settings.model), settings.backend, settings.engines)
    except (artifact.ArtifactCorrupt, GoldenMismatch, backends.BackendUnavailable, ValueError) as error:
        raise ConfigError(f"the model must not serve: {error}") from error


def load_predictor(settings: Settings) -> Predictor:
    """As `load_serving`, for who only wants scores."""
    return load_serving(settings).predictor


def _serving(settings: Settings, metrics: Metrics) -> Predictor:
    """A worker's predictor. A backend that was wanted and may not serve is told in the log and in the metrics."""
    serving = load_serving(settings)
    for line in serving.refused if settings.backend != "auto" else ():
        log.warning("%s; serving on %s instead", line, serving.backend)
    metrics.serving(serving.backend, wanted=settings.backend in ("auto", serving.backend))
    return serving.predictor


def limits(settings: Settings) -> Limits:
    return Limits(
        json_bytes=settings.json_limit_bytes,
        inline_bytes=settings.inline_limit_bytes,
        future_ms=settings.future_tolerance_s * 1000,
        live=settings.clock == "wall",
    )


def partitioner(partitions: int):  # type: ignore[no-untyped-def]  # Callable[[bytes], int]
    """Kafka's default partitioner (murmur2), which every keyed producer should use."""
    default, everyone = DefaultPartitioner(), list(range(partitions))
    return lambda key: default(key, everyone, everyone)


async def run_fusion(settings: Settings) -> None:
    """The fusion worker until SIGTERM. Raises what ended it otherwise."""
    check_topics(settings)
    metrics = Metrics()
    predictor = _serving(settings, metrics)
    scorer = Scorer(predictor)
    scorer.score(scorer.embed([PatientState("dry-run")]), [0])  # every part answers before the first patient
    store = Store(settings.redis_url, settings.topic_prefix or "live")
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix)
    with ThreadPoolExecutor(1, thread_name_prefix="scoring") as executor:
        pipeline = Pipeline(
            store,
            publisher,
            open_store(settings.blob_url, settings.blobs),
            scorer,
            alerting.Policy.from_card(predictor.card),
            make_clock(settings.clock),
            Rules(
                site=settings.site,
                score=settings.score,
                auto_coalesce_ms=settings.auto_coalesce_ms,
                max_rows=settings.max_batch,
                dead_letter_limit=settings.dead_letter_limit,
                limits=limits(settings),
                partition_of=partitioner(settings.partitions),
                silence_ms=_silence_ms(settings),
            ),
            executor,
            Past(settings.kafka_bootstrap, settings.topic_prefix),
        )
        worker = Worker("fusion", INPUTS, pipeline, metrics, settings)
        await publisher.start()
        beside = [
            asyncio.create_task(worker.beside(work))
            for work in (_listen_for_silence(worker, pipeline, settings), _forget_patients(worker, pipeline))
        ]
        try:
            await _run(worker, metrics, settings, predictor.card.model_hash)
        finally:
            for task in beside:
                task.cancel()
            await publisher.stop()
            await store.close()


def _silence_ms(settings: Settings) -> int:
    """In service only: in a replay no clock runs while a patient's data is silent."""
    return int(settings.silence_minutes * 60_000) if settings.clock == "wall" else 0


async def _listen_for_silence(worker: Worker, pipeline: Pipeline, settings: Settings) -> None:
    limit_ms = _silence_ms(settings)
    if not limit_ms:
        return
    while True:
        await asyncio.sleep(min(10.0, limit_ms / 6000))
        now_ms = wall_ms()
        try:
            arrived = await worker.arrived()
        except Unavailable:
            continue  # nothing can be called silent while Kafka is
        await worker.engine.interject(partial(pipeline.silence, now_ms, arrived))


async def _forget_patients(worker: Worker, pipeline: Pipeline) -> None:
    while True:
        await asyncio.sleep(FORGET_EVERY_S)
        await worker.engine.interject(partial(pipeline.forget_patients, wall_ms()))


async def run_imaging(settings: Settings) -> None:
    """The imaging worker until SIGTERM. Raises what ended it otherwise."""
    from streaming.decode_pool import DecodePool
    from streaming.imaging import ImagingPipeline

    check_topics(settings)
    metrics = Metrics()
    predictor = _serving(settings, metrics)
    publisher = Publisher(settings.kafka_bootstrap, settings.topic_prefix)
    with ThreadPoolExecutor(1, thread_name_prefix="encoding") as executor:
        async with DecodePool() as pool:
            pipeline = ImagingPipeline(
                publisher,
                open_store(settings.blob_url, settings.blobs),
                pool,
                predictor,
                limits(settings),
                settings.dead_letter_limit,
                executor,
            )
            worker = Worker("imaging", ("scans",), pipeline, metrics, settings)
            await publisher.start()
            try:
                await _run(worker, metrics, settings, predictor.card.model_hash)
            finally:
                await publisher.stop()


async def _run(worker: Worker, metrics: Metrics, settings: Settings, model_hash: str) -> None:
    def not_ready() -> str | None:
        metrics.set("wardwatch_assigned_partitions", worker.assigned)
        if metrics.paused_by:
            return f"paused: {metrics.paused_by}"
        return None if worker.assigned else "no partitions assigned"

    health = Health(metrics, not_ready)
    port = await health.start(settings.health_port)
    log.info("%s worker starting, model %s, health on port %d", worker.role, model_hash[:12], port)
    garbage.on_our_terms()
    turns.before_threads()
    try:
        await worker.run()
    finally:
        await health.stop()


def check_topics(settings: Settings) -> None:
    """Waits for Kafka, then refuses to start on topics that differ from the table where it matters.

    Raises:
        Unavailable: Kafka does not answer for 30 s.
        ConfigError: a topic is missing or has another number of partitions.
    """
    deadline = time.monotonic() + 30
    while True:
        try:
            wrong = topics.check(settings.kafka_bootstrap, settings.topic_prefix, settings.partitions)
            break
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    fatal = [line for line in wrong if line.endswith("missing") or "partitions" in line]
    if fatal:
        raise ConfigError(f"topics are not as they must be ({fatal[0]}); see `wardwatch topics create`")
    for line in wrong:
        log.warning("topic setting differs: %s", line)


def configure_logging(settings: Settings) -> None:
    """One structured line per record on stderr: text on a terminal, JSON elsewhere."""
    handler = logging.StreamHandler(sys.stderr)
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    if as_text:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    else:
        handler.setFormatter(_JsonFormatter())
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for name in ("aiokafka", "faust", "mode", "kafka", "asyncio"):  # they build debug lines and throw them away
        logging.getLogger(name).setLevel(logging.ERROR)


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": wall_ms(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        return orjson.dumps(line).decode()


def run(role: str, settings: Settings) -> None:
    """One worker process of a role."""
    configure_logging(settings)
    watched_loop.run(_run_or_exit(role, settings))


async def _run_or_exit(role: str, settings: Settings) -> None:
    """An error ends the process at once, with one line. Nothing may run on that could acknowledge or commit: Faust's
    consumer thread and its tasks do not end by being cancelled.
    """
    try:
        await (run_fusion(settings) if role == "fusion" else run_imaging(settings))
    except ConfigError:
        raise
    except Exception as error:
        text = str(error) if isinstance(error, WardwatchError) else f"unexpected {type(error).__name__}"
        log.critical("the %s worker ends: %s", role, text, exc_info=log.isEnabledFor(logging.DEBUG))
        logging.shutdown()
        os._exit(1)
