"""The DICOM door: a C-STORE and C-ECHO provider on pynetdicom. One instance, one `scans` event, one answer.

Success is answered only after the broker has confirmed the event. 0xA700 (out of resources) says: not stored, send it
again; 0xA900 and 0xC000: never takable as it is, kept in dead letters. Only image storage classes are negotiated, in
transfer syntaxes that the imaging worker decodes, so a sender learns beforehand what is of no use here.
Source: DICOM PS3.4 annex B (storage service class, statuses), PS3.7, PS3.8.
"""

import contextlib
import logging
import socket
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pydicom.uid
from pydicom.dataset import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.sop_class import Verification
from pynetdicom.transport import ThreadedAssociationServer

from streaming.clock import wall_ms
from streaming.errors import InvalidMessage, Unavailable
from streaming.gateways.delivery import Delivery
from streaming.gateways.drafts import Rules
from streaming.gateways.instances import Stored, scan_record
from streaming.metrics import Metrics

log = logging.getLogger(__name__)

DOOR = "dicom"
SUCCESS, OUT_OF_RESOURCES, DOES_NOT_MATCH, CANNOT_UNDERSTAND = 0x0000, 0xA700, 0xA900, 0xC000

TRANSFER_SYNTAXES = (
    pydicom.uid.ExplicitVRLittleEndian,
    pydicom.uid.ImplicitVRLittleEndian,
    pydicom.uid.ExplicitVRBigEndian,
    pydicom.uid.RLELossless,
    pydicom.uid.JPEGBaseline8Bit,
    pydicom.uid.JPEG2000Lossless,
    pydicom.uid.JPEG2000,
)
"""What NumPy and Pillow decode (streaming/dicom.py). Not the deflated one: 2 MB of it can hold 4 GiB."""

PDU_BYTES = 128 << 10
LARGEST_PDU_BYTES = 1 << 20
"""No PDU is larger: data come in PDV of at most `PDU_BYTES`, and an association request of 128 contexts has 100 kB."""
READ_BYTES = 64 << 10
CLOSING_S = 1.0
"""Of the time to stop, kept for ending the associations: instances in work are waited for until then."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one peer may take of this process. Times in seconds.

    `network_timeout_s` is for silence, and for the head and the rest of a PDU each.
    """

    instance_bytes: int = 256 << 20
    associations: int = 10
    network_timeout_s: float = 60.0
    stop_timeout_s: float = 30.0


class DicomGateway:
    """Listens from `start` to `stop`; pynetdicom gives every association a thread."""

    def __init__(
        self,
        delivery: Delivery,
        rules: Rules,
        bounds: Bounds,
        metrics: Metrics,
        ae_title: str,
        calling: Sequence[str] = (),
    ) -> None:
        self._delivery, self._rules, self._bounds, self._metrics = delivery, rules, bounds, metrics
        self._stopping = False
        self._unanswered: set[Any] = set()  # associations with an instance in work; one has one at a time
        self._changed = threading.Condition()
        self._server: ThreadedAssociationServer | None = None
        # pynetdicom's own lines show data sets, names and all; pydicom's warnings quote values.
        for name in ("pynetdicom", "pydicom"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module="pydicom")
        _config.LOG_HANDLER_LEVEL = "none"
        self._ae = AE(ae_title=ae_title)
        self._ae.maximum_pdu_size = PDU_BYTES
        self._ae.maximum_associations = bounds.associations
        self._ae.network_timeout = bounds.network_timeout_s
        self._ae.acse_timeout = self._ae.dimse_timeout = bounds.network_timeout_s
        self._ae.require_called_aet = True
        self._ae.require_calling_aet = list(calling)
        self._ae.add_supported_context(Verification)
        for context in AllStoragePresentationContexts:
            if "Image Storage" in pydicom.uid.UID(context.abstract_syntax or "").name:
                self._ae.add_supported_context(context.abstract_syntax, list(TRANSFER_SYNTAXES))

    def start(self, host: str, port: int) -> int:
        """Listens; port 0 takes any free one. Gives the port.

        Raises:
            OSError: the address cannot be had.
        """
        handlers: list[Any] = [
            (evt.EVT_CONN_OPEN, self._opened),
            (evt.EVT_CONN_CLOSE, self._closed),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_PDU_SENT, self._sent),
        ]
        self._server = self._ae.start_server((host, port), block=False, evt_handlers=handlers)
        assert self._server is not None
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Lets nobody in; answers instances in work, later ones with 0xA700; then ends the associations.

        Takes no longer than `stop_timeout_s` (and what the listening socket needs to close, half a second), whatever
        the senders do.
        """
        self._stopping = True
        if self._server is not None:
            self._server.shutdown()
            self._server = None
        deadline = time.monotonic() + self._bounds.stop_timeout_s
        with self._changed:
            while self._unanswered and (left := deadline - CLOSING_S - time.monotonic()) > 0:
                self._changed.wait(left)
        # Not `AE.shutdown`: it waits for each association in turn, for as long as its peer drips a PDU.
        associations = self._ae.active_associations
        for association in associations:
            if association.is_established:
                association.abort(block=False)
            if isinstance(reader := association.dul.socket.recv, _Bounded):
                reader.end()
        for association in associations:
            if association.dul.is_alive():
                association.dul.join(max(0.0, deadline - time.monotonic()))
            _hang_up(association.dul.socket, socket.SHUT_RDWR)  # of one whose peer does not read what is sent

    def _opened(self, event: evt.Event) -> None:
        # pynetdicom reads a PDU of any length that its header claims, and waits for ever for the rest of it.
        connection = event.assoc.dul.socket
        connection.recv = _Bounded(connection, self._bounds)
        self._metrics.set("wardwatch_gateway_connections", len(self._ae.active_associations))
        log.info("dicom connection %s open", event.assoc.name)

    def _sent(self, event: evt.Event) -> None:
        if isinstance(event.pdu, P_DATA_TF):  # the answer, on its way
            self._answered(event.assoc)

    def _answered(self, association: Any) -> None:
        with self._changed:
            self._unanswered.discard(association)
            self._changed.notify_all()

    def _closed(self, event: evt.Event) -> None:
        self._answered(event.assoc)
        self._metrics.set("wardwatch_gateway_connections", max(0, len(self._ae.active_associations) - 1))
        reader = event.assoc.dul.socket.recv
        instances = reader.instances if isinstance(reader, _Bounded) else 0
        log.info("dicom connection %s closed after %d instances", event.assoc.name, instances)

    def _store(self, event: evt.Event) -> Dataset:
        with self._changed:
            self._unanswered.add(event.assoc)
        try:
            status, outcome, comment = self._take(event)
        except Exception as error:
            # The text of a foreign error may quote the data set: only its kind is told.
            log.error("dicom: unexpected %s", type(error).__name__, exc_info=log.isEnabledFor(logging.DEBUG))
            status, outcome, comment = OUT_OF_RESOURCES, "failed", "internal error"
        finally:
            if isinstance(reader := event.assoc.dul.socket.recv, _Bounded):
                reader.next_instance()
        self._metrics.count("wardwatch_gateway_messages_total", 1, gateway=DOOR, outcome=outcome)
        return _status(status, comment)

    def _take(self, event: evt.Event) -> tuple[int, str, str]:
        if self._stopping:
            return OUT_OF_RESOURCES, "unavailable", "the gateway stops: send it again later"
        if event.request.DataSet is None:
            return CANNOT_UNDERSTAND, "refused:bad-dicom", "no data set"
        dataset = event.request.DataSet.getbuffer()
        stored = Stored(event.encoded_dataset(), dataset, str(event.request.AffectedSOPInstanceUID))
        try:
            try:
                record = scan_record(stored, self._rules, self._delivery.blobs, wall_ms())
            except InvalidMessage as error:
                self._delivery.refuse(DOOR, None, stored.part10, error)
                status = CANNOT_UNDERSTAND if error.reason in ("bad-dicom", "decode-limit") else DOES_NOT_MATCH
                return status, f"refused:{error.reason}", str(error)
            self._delivery.deliver([record])
        except Unavailable:
            return OUT_OF_RESOURCES, "unavailable", "not stored: send it again later"
        return SUCCESS, "accepted", ""


class _Bounded:
    """An association socket's `recv` that refuses PDU over the limit, too slow ones, and an instance that never ends.

    pynetdicom asks for the head of a PDU, then for the rest of it: each has to come within the network timeout.
    """

    def __init__(self, connection: Any, bounds: Bounds) -> None:
        self._connection, self._bounds, self._read = connection, bounds, 0
        self._ended = False
        self.instances = 0
        connection.socket.settimeout(bounds.network_timeout_s)

    def next_instance(self) -> None:
        self._read = 0
        self.instances += 1

    def end(self) -> None:
        """Nothing is read any more; a read that waits ends."""
        self._ended = True
        _hang_up(self._connection, socket.SHUT_RD)

    def __call__(self, nr_bytes: int) -> bytearray:
        self._read += nr_bytes
        if nr_bytes > LARGEST_PDU_BYTES or self._read > self._bounds.instance_bytes:
            log.warning("dicom connection ended: a PDU or an instance over the limit")
            raise OSError("over the limit")  # pynetdicom takes it for a lost connection
        link, timeout_s, received = self._connection.socket, self._bounds.network_timeout_s, bytearray()
        deadline = time.monotonic() + timeout_s
        while len(received) < nr_bytes:
            left = deadline - time.monotonic()
            if self._ended or link is None:
                raise OSError("the gateway stops")
            if left <= 0:
                log.warning("dicom connection ended: a PDU came too slowly")
                raise OSError("too slow")
            link.settimeout(left)
            piece = link.recv(min(READ_BYTES, nr_bytes - len(received)))
            if not piece:
                break
            received += piece
        if link is not None:
            link.settimeout(timeout_s)
        return received


def _hang_up(connection: Any, how: int) -> None:
    link = connection.socket
    if link is not None:
        with contextlib.suppress(OSError):  # it is closed
            link.shutdown(how)


def _status(code: int, comment: str) -> Dataset:
    status = Dataset()
    status.Status = code
    if comment:
        status.ErrorComment = comment[:64]  # an LO
    return status
