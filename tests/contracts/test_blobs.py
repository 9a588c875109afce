"""What every blob store must do: on files, and on S3 through a real S3 server (moto's) on loopback."""

import socket
import subprocess
import sys
import urllib.request

import pytest
from obstore.store import S3Store

from streaming.blobs import open_store
from streaming.errors import ConfigError, InvalidMessage, Unavailable
from tests.integration.conftest import eventually

NOWHERE = "blob:sha256/" + "0" * 64


class _S3:
    """A server of its own in a process; `away` ends it."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        eventually(lambda: self._answers(port), "the S3 server answers")
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/bucket", method="PUT")).close()

    def _answers(self, port: int) -> bool:
        assert self._process.poll() is None, "the S3 server ended"
        with socket.socket() as link:
            return link.connect_ex(("127.0.0.1", port)) == 0

    def away(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def s3():
    server = _S3()
    yield server
    server.away()


@pytest.fixture
def s3_environment(monkeypatch, request):
    def use(server):
        for name, value in {
            "AWS_ENDPOINT_URL": server.url, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)

    return use


@pytest.fixture(params=["files", "s3"])
def store_and_spoil(request, tmp_path, s3_environment):
    """A store, and a way to change a kept blob behind its back."""
    if request.param == "files":
        return open_store("", tmp_path), lambda digest, data: (tmp_path / digest[:2] / digest).write_bytes(data)
    server = request.getfixturevalue("s3")
    s3_environment(server)
    url = f"s3://bucket/{tmp_path.name}"
    behind = S3Store.from_url(url, client_options={"allow_http": True})
    return open_store(url, tmp_path), lambda digest, data: behind.put(f"{digest[:2]}/{digest}", data)


def _reason(call):
    with pytest.raises(InvalidMessage) as caught:
        call()
    return caught.value.reason


def test_what_is_put_comes_back_and_is_named_by_its_content(store_and_spoil):
    store, _ = store_and_spoil
    dataref, digest = store.put(b"data")
    assert store.put(b"data") == (dataref, digest)
    assert dataref == f"blob:sha256/{digest}"
    assert store.get(dataref, digest, 4) == b"data"


def test_a_large_scan_comes_back_whole(store_and_spoil):
    store, _ = store_and_spoil
    data = bytes(range(256)) * (100 << 10)  # 25 MiB: several parts of an upload
    assert store.get(*store.put(data), limit=len(data)) == data


def test_tampering_absence_and_size_are_noticed(store_and_spoil):
    store, spoil = store_and_spoil
    dataref, digest = store.put(b"whole")
    assert _reason(lambda: store.get(dataref, digest, 4)) == "too-large"
    assert _reason(lambda: store.get(dataref, "0" * 64, 100)) == "blob-mismatch"
    assert _reason(lambda: store.get(NOWHERE, "0" * 64, 100)) == "blob-missing"
    assert _reason(lambda: store.get("file:///etc/passwd", digest, 100)) == "blob-missing"
    spoil(digest, b"whose")
    assert _reason(lambda: store.get(dataref, digest, 100)) == "blob-mismatch"


def test_an_s3_server_or_bucket_that_is_away_is_no_fault_of_the_event(s3_environment, tmp_path):
    server = _S3()
    s3_environment(server)
    wrong = open_store("s3://no-such-bucket/x", tmp_path)
    for call in (lambda: wrong.put(b"data"), lambda: wrong.get(NOWHERE, "0" * 64, 100)):
        with pytest.raises(Unavailable):
            call()
    store = open_store("s3://bucket/x", tmp_path)
    dataref, digest = store.put(b"data")
    server.away()
    for call in (lambda: store.put(b"data"), lambda: store.get(dataref, digest, 100)):
        with pytest.raises(Unavailable):
            call()


@pytest.mark.parametrize("url", ["s3://", "http://host/bucket", "bucket"])
def test_another_url_than_s3_is_refused_in_one_line(url, tmp_path):
    with pytest.raises(ConfigError):
        open_store(url, tmp_path)
