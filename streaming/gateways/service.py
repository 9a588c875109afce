"""A gateway as a process: settings to a running door, health, signals, the end. The only wiring of the gateways."""

import asyncio
import ipaddress
import logging
import signal
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streaming import watched_loop
from streaming.blobs import open_store
from streaming.bootstrap import check_topics, configure_logging, limits
from streaming.errors import ConfigError
from streaming.gateways.delivery import Delivery
from streaming.gateways.drafts import Rules
from streaming.gateways.times import zone_of
from streaming.health import Health
from streaming.metrics import Metrics
from streaming.settings import Settings

if TYPE_CHECKING:
    from streaming.gateways import dicom, hl7

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listening:
    """Options that both gateways have."""

    host: str
    port: int
    timezone: str | None
    issuer: str | None
    confirm_timeout: float
    health_port: int


def run_dicom(
    settings: Settings, listening: Listening, bounds: "dicom.Bounds", ae_title: str, calling: Sequence[str]
) -> None:
    """Until SIGTERM.

    Raises:
        ConfigError, Unavailable: it cannot start.
    """
    try:
        from streaming.gateways.dicom import DicomGateway
    except ImportError:
        raise ConfigError("`listen dicom` needs pynetdicom: pip install pynetdicom") from None

    async def serve(delivery: Delivery, rules: Rules, metrics: Metrics, told: asyncio.Event) -> None:
        gateway = DicomGateway(delivery, rules, bounds, metrics, ae_title, calling)
        port = _open(lambda: gateway.start(listening.host, listening.port), listening)
        _announce("DICOM", listening.host, port, f"AE title {ae_title}")
        await told.wait()
        await asyncio.to_thread(gateway.stop)

    watched_loop.run(_run(settings, listening, "P", serve))


def run_hl7(settings: Settings, listening: Listening, bounds: "hl7.Bounds", processing_id: str) -> None:
    """Until SIGTERM.

    Raises:
        ConfigError, Unavailable: it cannot start.
    """
    from streaming.gateways.hl7 import Hl7Gateway

    async def serve(delivery: Delivery, rules: Rules, metrics: Metrics, told: asyncio.Event) -> None:
        gateway = Hl7Gateway(delivery, rules, bounds, metrics)
        try:
            port = await gateway.start(listening.host, listening.port)
        except OSError as error:
            raise _taken(listening, error) from error
        _announce("HL7 v2 (MLLP)", listening.host, port, f"processing id {processing_id}")
        await told.wait()
        await gateway.stop()

    watched_loop.run(_run(settings, listening, processing_id, serve))


Serve = Callable[[Delivery, Rules, Metrics, asyncio.Event], Awaitable[None]]


async def _run(settings: Settings, listening: Listening, processing_id: str, serve: Serve) -> None:
    configure_logging(settings)
    rules = Rules(
        own_issuer=settings.patient_issuer if listening.issuer is None else listening.issuer,
        zone=zone_of(settings.timezone if listening.timezone is None else listening.timezone),
        limits=limits(settings),
        processing_id=processing_id,
    )
    await asyncio.to_thread(check_topics, settings)
    metrics = Metrics()
    delivery = Delivery(
        settings.kafka_bootstrap,
        settings.topic_prefix,
        open_store(settings.blob_url, settings.blobs),
        listening.confirm_timeout,
    )
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    health = Health(metrics, lambda: "stopping" if told.is_set() else None)
    port = await health.start(listening.health_port)
    log.info("health on port %d", port)
    try:
        await serve(delivery, rules, metrics, told)
    finally:
        await asyncio.to_thread(delivery.close)
        await health.stop()


def _open(start: Callable[[], int], listening: Listening) -> int:
    try:
        return start()
    except OSError as error:
        raise _taken(listening, error) from error


def _taken(listening: Listening, error: OSError) -> ConfigError:
    return ConfigError(f"{listening.host}:{listening.port} cannot be had ({error.strerror or type(error).__name__})")


def _announce(what: str, host: str, port: int, more: str) -> None:
    log.info("%s gateway listens on %s:%d, %s", what, host, port, more)
    if not _is_loopback(host):
        log.warning(
            "%s neither encrypts nor knows who calls: %s must be reachable through a TLS proxy only", what, host
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
