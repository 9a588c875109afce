"""`wardwatch listen dicom | hl7`: the gateways."""

from collections.abc import Callable
from typing import Any

import click

from streaming.settings import Settings

_COMMON = [
    click.option("--host", default="127.0.0.1", show_default=True,
                 help="address to listen on; another than loopback only behind a TLS proxy"),
    click.option("--timezone", help="IANA zone of times without offset, like Europe/Berlin [WARDWATCH_TIMEZONE]"),
    click.option("--issuer", help="authority whose patient identifiers are the site's own [WARDWATCH_PATIENT_ISSUER]"),
    click.option("--confirm-timeout", type=click.FloatRange(1, 300), default=10.0, show_default=True,
                 help="s to wait for Kafka's word before the sender is told to try again"),
    click.option("--health-port", type=click.IntRange(0, 65535), default=0, help="loopback; 0 = any free port"),
]  # fmt: skip


def _common(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_COMMON):
        function = option(function)
    return function


@click.group(short_help="gateways: DICOM C-STORE, HL7 v2 over MLLP")
def command() -> None:
    """Takes what hospital systems send, and answers each message only when Kafka has confirmed it.

    Neither protocol encrypts or knows who calls: both listen on loopback, for a TLS proxy in front (stunnel, HAProxy,
    Envoy) that lets in known peers only. Stop with SIGTERM or Ctrl-C: what is in work is finished and answered.
    """


@command.command(epilog="""\b
Examples:
  wardwatch listen dicom --timezone Europe/Berlin
  wardwatch listen dicom --ae-title WARD7 --calling CT1 --calling PACS --issuer HOSPITAL
  storescu -aet CT1 -aec WARD7 127.0.0.1 11112 slice.dcm        (DCMTK; any C-STORE sender)""")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=11112, show_default=True, help="0 = any free port")
@click.option("--ae-title", default="WARDWATCH", show_default=True, help="senders must call this title")
@click.option("--calling", multiple=True, metavar="TITLE", help="admit only these senders; again for more")
@click.option("--associations", type=click.IntRange(1, 200), default=10, show_default=True, help="at once")
@click.option("--max-instance-mb", type=click.IntRange(1, 1024), default=256, show_default=True)
@click.option("--network-timeout", type=click.FloatRange(1), default=60.0, show_default=True, help="s of silence")
@_common
def dicom(port: int, ae_title: str, calling: tuple[str, ...], associations: int, max_instance_mb: int,
          network_timeout: float, **common: Any) -> None:  # fmt: skip
    """DICOM storage provider (C-STORE, C-ECHO): every instance becomes one event on `scans`."""
    from streaming.gateways import service
    from streaming.gateways.dicom import Bounds

    for title in (ae_title, *calling):
        if not 1 <= len(title.strip()) <= 16 or not title.isascii() or "\\" in title:
            raise click.BadParameter("an AE title has 1 to 16 ASCII characters, no backslash")
    bounds = Bounds(max_instance_mb << 20, associations, network_timeout)
    service.run_dicom(Settings(), service.Listening(port=port, **common), bounds, ae_title, calling)


@command.command(epilog="""\b
Examples:
  wardwatch listen hl7 --timezone Europe/Berlin
  wardwatch listen hl7 --port 2575 --issuer HOSPITAL --max-message-mb 8
  mllp_send --port 2575 --file oru.hl7 127.0.0.1               (of the hl7 package; any MLLP sender)""")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=2575, show_default=True, help="0 = any free port")
@click.option("--connections", type=click.IntRange(1, 1000), default=64, show_default=True, help="at once")
@click.option("--max-message-mb", type=click.IntRange(1, 64), default=4, show_default=True)
@click.option("--idle-timeout", type=click.FloatRange(1), default=3600.0, show_default=True, help="s between messages")
@click.option("--processing-id", type=click.Choice(["P", "T", "D"]), default="P", show_default=True,
              help="MSH-11 that is taken: production, training, debugging")  # fmt: skip
@_common
def hl7(port: int, connections: int, max_message_mb: int, idle_timeout: float, processing_id: str,
        **common: Any) -> None:  # fmt: skip
    """HL7 v2 over MLLP: results (ORU^R01), documents (MDM^T02, T08, T11) and patient merges (ADT^A40)."""
    from streaming.gateways import service
    from streaming.gateways.hl7 import Bounds

    bounds = Bounds(max_message_mb << 20, connections, idle_timeout_s=idle_timeout)
    service.run_hl7(Settings(), service.Listening(port=port, **common), bounds, processing_id)
