"""The imaging worker's sequence on a decoder and an encoder of the test's own."""

import asyncio
import base64
import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import orjson
import pytest

from streaming.blobs import dataref_of
from streaming.dicom import DicomHeader
from streaming.envelope import Limits
from streaming.errors import InvalidMessage, Unavailable
from streaming.imaging import ImagingPipeline
from streaming.session import Batch
from tests.helpers import NOON
from tests.streaming.test_merge import record


class _Bytes(bytes):
    """A scan that can be counted."""

    alive = most = 0
    _lock = threading.RLock()

    def __new__(cls, *given):
        with cls._lock:
            cls.alive += 1
            cls.most = max(cls.most, cls.alive)
        return super().__new__(cls, *given)

    def __del__(self):
        with self._lock:
            type(self).alive -= 1


class _Blobs:
    away = False

    def get(self, dataref, sha256, limit):
        if self.away:
            raise Unavailable("the blob store is away")
        return _Bytes(dataref.encode())


class _Pool:
    """Decodes what it is given, `workers` at once, or refuses it all as the real one refuses."""

    def __init__(self, workers=2):
        self.workers, self._free = workers, asyncio.Semaphore(workers)
        self.asked = self.running = 0
        self.refuses, self.turns = False, 1

    async def decode(self, data):
        self.asked += 1
        self.running += 1
        try:
            async with self._free:
                for _ in range(self.turns):
                    await asyncio.sleep(0)
                return self._decoded(data)
        finally:
            self.running -= 1

    def _decoded(self, data):
        try:
            if self.refuses:
                raise TimeoutError
        except TimeoutError:
            raise InvalidMessage("decode-limit", "as the test wants") from None
        return DicomHeader("1", "2", "3", "CR"), np.zeros((224, 224), np.float32)


class _Encoder:
    card = SimpleNamespace(encoder_hashes={"scans": "e"})

    def __init__(self, *vectors):
        self.vectors = vectors

    def encode_scans(self, pixels, kinds):
        return np.array(self.vectors, np.float32) if self.vectors else np.full((len(pixels), 64), 0.5, np.float32)


def _inline(number, sha256=None):
    one = record("scans", {}, "p", NOON, id=str(number), offset=number)
    one.value = f"scan {number}".encode()
    if sha256 is not None:
        one.headers.append(("ce_datasha256", sha256.encode()))
    return one


def _claimed(number):
    one, digest = _inline(number), f"{number:064x}"
    one.value = None
    one.headers += [("ce_dataref", dataref_of(digest).encode()), ("ce_datasha256", digest.encode())]
    return one


@pytest.fixture
def made():
    """A pipeline and what it works with; `made.process(*records)` gives what it would publish."""
    pool, blobs, encoder = _Pool(), _Blobs(), _Encoder()
    with ThreadPoolExecutor(1) as executor:
        pipeline = ImagingPipeline(None, blobs, pool, encoder, Limits(), 1_000, executor)

        def process(*records):
            return asyncio.run(pipeline.process([Batch("scans", 0, records, 0.0)])).records

        yield SimpleNamespace(pipeline=pipeline, pool=pool, blobs=blobs, encoder=encoder, process=process)


def _told(out):
    headers = dict(out.headers)
    return headers["ww_reason"].decode() if out.kind == "dead-letters" else out.kind


@pytest.mark.parametrize("refuses", [False, True])
def test_few_more_claim_checks_are_held_than_decode_at_once(made, refuses):
    _Bytes.most = _Bytes.alive = 0
    made.pool.refuses = refuses
    told = made.process(*(_claimed(number) for number in range(64)))
    assert [_told(out) for out in told] == ["decode-limit" if refuses else "encoded-scans"] * 64
    assert _Bytes.most <= 2 * (made.pool.workers + 1)  # a thread lets go a moment after it has handed over
    assert _Bytes.alive == 0


def test_what_is_published_keeps_the_order_and_names_the_bytes(made):
    told = made.process(*(_claimed(number) if number % 3 else _inline(number) for number in range(20)))
    said = [orjson.loads(out.value) for out in told]
    assert [one["scan_offset"] for one in said] == list(range(20))
    for number, one in enumerate(said):
        inline = hashlib.sha256(f"scan {number}".encode()).hexdigest()
        assert one["content_sha256"] == (f"{number:064x}" if number % 3 else inline)


def test_bytes_that_are_not_those_of_the_hash_are_refused(made):
    good = hashlib.sha256(b"scan 1").hexdigest()
    assert [_told(out) for out in made.process(_inline(1, good), _inline(2, good))] == [
        "encoded-scans",
        "blob-mismatch",
    ]


def test_no_scan_is_hashed_on_the_event_loop(made, monkeypatch):
    threads, real = [], hashlib.sha256

    def spying(data=b"", **more):
        threads.append(threading.get_ident())
        return real(data, **more)

    monkeypatch.setattr(hashlib, "sha256", spying)
    made.process(_inline(1), _claimed(2), _inline(3, real(b"scan 3").hexdigest()))
    assert threads and threading.main_thread().ident not in threads


def test_while_the_blob_store_is_away_each_try_ends_all_that_it_began(made):
    records = [_claimed(0), *(_inline(number) for number in range(1, 40))]

    async def scenario():
        made.blobs.away, made.pool.turns = True, 500  # others still decode when the first one fails
        for tries in range(1, 4):
            with pytest.raises(Unavailable):
                await made.pipeline.process([Batch("scans", 0, records, 0.0)])
            assert made.pool.running == 0
            assert len(asyncio.all_tasks()) == 1
            assert made.pool.asked <= made.pool.workers * tries
        made.blobs.away = False
        return await made.pipeline.process([Batch("scans", 0, records, 0.0)])

    outcome = asyncio.run(scenario())
    assert outcome.counts == {"applied:scans": 40}


@pytest.mark.parametrize("number", [np.nan, np.inf, 3e38])
def test_an_encoders_answer_that_is_no_embedding_costs_its_scan_alone(made, number):
    made.encoder.vectors = (np.full(64, 0.25), np.append(np.full(63, 0.25), number), np.full(64, 0.75))
    told = made.process(*(_inline(place) for place in range(3)))
    assert [_told(out) for out in told] == ["encoded-scans", "unsupported-image", "encoded-scans"]
    assert told[1].value == b"scan 1"
    for out, value in ((told[0], 0.25), (told[2], 0.75)):
        vector = np.frombuffer(base64.b64decode(orjson.loads(out.value)["embedding"]), "<f4")
        assert (vector == np.float32(value)).all()
