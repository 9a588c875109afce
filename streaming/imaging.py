"""The imaging worker's sequence: a scan's bytes to an embedding of a few hundred bytes, or a dead letter.

    process     parse -> fetch the claim check -> decode in a child (as many scans at once as keep all children busy)
                -> encode what waits (one thread)
    publish     embeddings and dead letters, confirmed by the broker, then the engine acknowledges

It has no state: a scan done twice gives a record of the same id, which the fusion worker's reducer drops.
"""

import asyncio
import base64
import hashlib
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from models.predictor import Predictor
from streaming.blobs import BlobStore
from streaming.clock import wall_ms
from streaming.dicom import DicomHeader
from streaming.envelope import Event, Limits, ScanBytes, headers_for
from streaming.errors import Fatal, InvalidMessage
from streaming.messages import EncodedScan
from streaming.pipeline import Publishes
from streaming.records import InRecord, OutRecord, dead_letter, parse_record
from streaming.session import Ahead, Batch

CLAIM_LIMIT_BYTES = 1 << 30


class Decodes(Protocol):
    """Fixed: one scan's failure is its own; raises `InvalidMessage` for it. `workers` decode at once."""

    workers: int

    async def decode(self, data: bytes) -> tuple[DicomHeader, NDArray[np.float32]]: ...


@dataclass(slots=True)
class ImagingOutcome:
    """Records to publish, in order."""

    records: list[OutRecord] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    stage_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class _Scan:
    record: InRecord
    event: Event | None = None
    sha256: str = ""
    header: DicomHeader | None = None
    pixels: NDArray[np.float32] | None = None
    encoded: OutRecord | None = None
    error: InvalidMessage | None = None


class ImagingPipeline:
    """What the engine runs in the imaging worker."""

    def __init__(
        self,
        publisher: Publishes,
        blobs: BlobStore,
        pool: Decodes,
        predictor: Predictor,
        limits: Limits,
        dead_letter_limit: int,
        executor: Executor,
    ) -> None:
        self._publisher, self._blobs, self._pool = publisher, blobs, pool
        self._predictor, self._limits, self._executor = predictor, limits, executor
        self._dead_letter_limit = dead_letter_limit
        self._refused_in_a_row = 0
        self.ahead: Ahead = {}

    async def take_over(self, committed: Mapping[int, Mapping[str, int | None]]) -> dict[int, dict[str, int]]:
        """Reading goes on where the group committed."""
        return {
            partition: {topic: offset or 0 for topic, offset in topics.items()}
            for partition, topics in committed.items()
        }

    async def process(self, batches: Sequence[Batch]) -> ImagingOutcome:
        """Raises `Unavailable` when the blob store is away: nothing has changed, call again."""
        started = time.perf_counter()
        scans = [_Scan(record) for batch in batches for record in batch.records]
        waiting = iter(scans)
        lanes = self._pool.workers + 1  # one fetches while the others decode
        found = await asyncio.gather(*(self._decode_each(waiting) for _ in range(lanes)), return_exceptions=True)
        for failure in found:
            if failure is not None:
                raise failure
        decoded = time.perf_counter()
        await self._encode([scan for scan in scans if scan.error is None])
        outcome = ImagingOutcome(
            stage_ms={"decode": (decoded - started) * 1e3, "encode": (time.perf_counter() - decoded) * 1e3}
        )
        in_a_row = self._refused_in_a_row
        for scan in scans:
            if scan.encoded is None:
                assert scan.error is not None
                in_a_row += 1
                if in_a_row >= self._dead_letter_limit:
                    raise Fatal(f"{in_a_row} scans in a row were refused, the last with {scan.error.reason}")
                letter = await asyncio.to_thread(dead_letter, scan.record, "scans", scan.error, self._blobs, wall_ms())
                outcome.records.append(letter)
                name = "refused:scans"
            else:
                in_a_row = 0
                outcome.records.append(scan.encoded)
                name = "applied:scans"
            outcome.counts[name] = outcome.counts.get(name, 0) + 1
        self._refused_in_a_row = in_a_row
        return outcome

    async def store(self, outcome: ImagingOutcome) -> None:
        """Nothing: this worker keeps no state."""

    def publish(self, outcome: ImagingOutcome) -> asyncio.Future[float]:
        return self._publisher.publish(outcome.records)

    async def forget(self, outcomes: Sequence[ImagingOutcome]) -> None:
        """Nothing: there is no outbox to clear."""

    async def _decode_each(self, waiting: Iterator[_Scan]) -> None:
        """One of several that take from the same scans. When it fails none begins another: the call is repeated."""
        for scan in waiting:
            try:
                await self._decode(scan)
            except BaseException:
                deque(waiting, maxlen=0)
                raise

    async def _decode(self, scan: _Scan) -> None:
        try:
            scan.event = parse_record("scans", scan.record, self._limits)
            data, scan.sha256 = await asyncio.to_thread(self._bytes, scan.event.data)
            scan.header, scan.pixels = await self._pool.decode(data)
        except InvalidMessage as error:
            scan.error = InvalidMessage(error.reason, error.detail)  # the frames of the one caught hold the bytes

    def _bytes(self, data: Any) -> tuple[bytes, str]:
        """The scan's bytes and their SHA-256. Reads and hashes up to a GiB: not on the event loop."""
        assert isinstance(data, ScanBytes)
        if data.inline is None:
            assert data.dataref is not None and data.sha256 is not None
            return self._blobs.get(data.dataref, data.sha256, CLAIM_LIMIT_BYTES), data.sha256
        sha256 = hashlib.sha256(data.inline).hexdigest()
        if data.sha256 and sha256 != data.sha256:
            raise InvalidMessage("blob-mismatch", "the value does not have the SHA-256 of ce_datasha256")
        return data.inline, sha256

    async def _encode(self, scans: Sequence[_Scan]) -> None:
        if not scans:
            return
        pixels = np.stack([scan.pixels for scan in scans if scan.pixels is not None])
        kinds = [scan.header.modality for scan in scans if scan.header is not None]
        loop = asyncio.get_running_loop()
        vectors = await loop.run_in_executor(self._executor, self._predictor.encode_scans, pixels, kinds)
        for scan, vector in zip(scans, vectors, strict=True):
            try:
                scan.encoded = self._encoded(scan, vector)
            except ValidationError:
                scan.error = InvalidMessage("unsupported-image", "the encoder made no finite embedding of it")

    def _encoded(self, scan: _Scan, vector: NDArray[np.float32]) -> OutRecord:
        event, header, record = scan.event, scan.header, scan.record
        assert event is not None and header is not None
        encoder = self._predictor.card.encoder_hashes["scans"]
        value = EncodedScan(
            study_uid=header.study_uid,
            series_uid=header.series_uid,
            instance_uid=header.instance_uid,
            modality=header.modality,
            content_sha256=scan.sha256,
            encoder=encoder,
            embedding=base64.b64encode(np.ascontiguousarray(vector, "<f4").tobytes()).decode(),
            scan_topic="scans",
            scan_partition=record.partition,
            scan_offset=record.offset,
        )
        named = f"scans|{record.partition}|{record.offset}|{encoder}"
        headers = headers_for(
            "encoded-scans",
            id=hashlib.blake2b(named.encode(), digest_size=16).hexdigest(),
            source="wardwatch/imaging",
            patient=event.patient,
            time_ms=event.time_ms,
            recorded_ms=event.recorded_ms,
            encounter=event.encounter,
            traceparent=event.traceparent,
        )
        return OutRecord(
            "encoded-scans", record.partition, event.patient.encode(), value.model_dump_json().encode(), headers
        )
