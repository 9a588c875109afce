"""The ward board as a process on a real broker, read over HTTP as a browser does."""

import asyncio
import base64
import contextlib
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import aiohttp
import orjson
import pytest

from tests.helpers import HEART_RATE, NOON, observation
from tests.integration.conftest import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def url(site):
    """The board of a ward with one scored patient whose name is markup."""
    board = subprocess.Popen(
        [sys.executable, "-m", "streaming", "board", "--port", "0"], env=site.env, stdout=subprocess.PIPE, text=True
    )
    try:
        yield board.stdout.readline().split()[1]
    finally:
        board.terminate()
        assert board.wait(timeout=20) == 0


PATIENT = "<b>p1</b>"


def _score_one(site):
    site.start("fusion")
    site.send(
        "vitals", {"observations": [observation(HEART_RATE, 80, "/min", NOON)]}, patient=PATIENT, at_ms=NOON
    )  # fmt: skip
    eventually(lambda: site.read("risk"), "a score")


def _snapshot(url):
    with urllib.request.urlopen(f"{url}events", timeout=20) as stream:
        while True:
            line = stream.readline()
            if line.startswith(b"data: "):
                return orjson.loads(line[6:])


def test_the_stream_carries_the_score_and_only_to_this_machine(site, url):
    _score_one(site)
    (row,) = eventually(lambda: _snapshot(url)["rows"], "the score is on the board")
    assert row["patient"] == PATIENT
    assert row["risk"]["modalities"]["vitals"]["present"]
    with urllib.request.urlopen(url, timeout=20) as page:
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "Access-Control-Allow-Origin" not in page.headers
    other = urllib.request.Request(url, headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(other, timeout=20)
    assert refused.value.code == 403


@contextlib.asynccontextmanager
async def _browser(binary, profile):
    """A headless browser; gives a function that evaluates an expression in its page (Chrome DevTools Protocol)."""
    process = await asyncio.create_subprocess_exec(
        binary, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
        f"--user-data-dir={profile}", "about:blank", stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        port_file = profile / "DevToolsActivePort"
        while not port_file.exists() or "\n" not in port_file.read_text():
            assert process.returncode is None
            await asyncio.sleep(0.1)
        port = port_file.read_text().split()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as answer:
                page = next(one for one in await answer.json() if one["type"] == "page")
            async with session.ws_connect(page["webSocketDebuggerUrl"]) as link:

                async def call(method, **parameters):
                    await link.send_json({"id": 1, "method": method, "params": parameters})
                    while (said := await link.receive_json()).get("id") != 1:
                        pass
                    return said["result"]

                yield call
    finally:
        process.terminate()
        await process.wait()


async def _shown(binary, profile, url, screenshot):
    async with _browser(binary, profile) as call:
        await call("Page.navigate", url=url)
        rows = "document.querySelectorAll('#rows tr').length"
        while not (await call("Runtime.evaluate", expression=rows))["result"].get("value"):
            await asyncio.sleep(0.2)
        picture = await call("Page.captureScreenshot")
        screenshot.write_bytes(base64.b64decode(picture["data"]))
        text = await call("Runtime.evaluate", expression="document.body.innerText")
        elements = await call("Runtime.evaluate", expression="document.querySelectorAll('#rows b').length")
        return text["result"]["value"], elements["result"]["value"]


def test_a_browser_shows_names_as_text(site, url, tmp_path):
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium on this machine")
    _score_one(site)
    screenshot = tmp_path / "board.png"
    text, elements = asyncio.run(asyncio.wait_for(_shown(binary, tmp_path / "profile", url, screenshot), 60))
    assert PATIENT in text
    assert elements == 0
    assert "1 patients" in text
    assert "live" in text
    assert screenshot.stat().st_size > 10_000
