"""The ward board as a process on a real broker, read over HTTP as a browser does."""

import asyncio
import base64
import contextlib
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request

import aiohttp
import orjson
import pytest

from streaming.board.server import Server
from streaming.board.ward import Ward
from streaming.clock import from_ms, wall_ms
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


@pytest.fixture
def looking(tmp_path):
    """Awaits a coroutine over a browser that shows a board: it is given functions that call it and evaluate in its page."""
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    if binary is None:
        pytest.skip("no Chromium on this machine")

    async def looking(url, see):
        async with asyncio.timeout(60), _browser(binary, tmp_path / "profile") as call:

            async def value(expression):
                return (await call("Runtime.evaluate", expression=expression))["result"].get("value")

            await call("Page.navigate", url=url)
            await _until(value, "document.querySelectorAll('#rows tr').length")
            return await see(call, value)

    return looking


@pytest.fixture
def look(url, looking):
    """Runs it over the board of the site."""
    return lambda see: asyncio.run(looking(url, see))


async def _until(value, expression):
    while not (found := await value(expression)):
        await asyncio.sleep(0.2)
    return found


def test_a_browser_shows_names_as_text(site, look, tmp_path):
    screenshot = tmp_path / "board.png"

    async def see(call, value):
        picture = await call("Page.captureScreenshot")
        screenshot.write_bytes(base64.b64decode(picture["data"]))
        return await value("document.body.innerText"), await value("document.querySelectorAll('#rows b').length")

    _score_one(site)
    text, elements = look(see)
    assert PATIENT in text
    assert elements == 0
    assert "1 patients" in text
    assert "live" in text
    assert screenshot.stat().st_size > 10_000


def _scored(site, patient, ago_s):
    """A score as a worker published it so long ago; its heart rate was then five seconds old."""
    body = {
        "patient": patient, "encounter": None, "as_of": from_ms(NOON), "news2": 3, "model": "m",
        "scores": [{"condition": "mortality", "probability": 0.2, "low": 0.1, "high": 0.3}],
        "modalities": {"vitals": {"present": True, "items": 4, "age_s": 5.0}},
        "times": {"decision": from_ms(wall_ms() - ago_s * 1000)},
    }  # fmt: skip
    site.raw("risk", patient.encode(), orjson.dumps(body), [])


NEWEST = "document.querySelector('#newest').textContent"
MARKED = "document.querySelector('#newest').matches('.old')"
CELLS = "[...document.querySelectorAll('#rows td')]"


def test_a_browser_shows_how_old_the_scores_are_when_no_worker_scores_any_more(site, look):
    async def see(_, value):
        text = await value("document.body.innerText")
        day = await value(f"new Date(Date.now() - {3 * 86_400_000}).toLocaleDateString()")
        assert "newest score 3 d ago" in text and await value(MARKED)
        assert "vitals 4, 3 d old" in text
        assert f"3 d ago\n{day}" in text
        _scored(site, "p2", 20)
        first = await _until(value, f"{NEWEST}.endsWith(' s ago') && {NEWEST}")
        assert not await value(MARKED)
        await value("source.close()")  # the board is gone: ages grow all the same
        await value(f"{CELLS}.forEach((cell) => {{ cell.stays = true; }})")
        await _until(value, f"{NEWEST} !== '{first}'")
        text = await value("document.body.innerText")
        seconds = int(re.search(r"newest score (\d+) s ago", text)[1])
        assert f"vitals 4, {5 + seconds} s old" in text
        assert text.count(f"{seconds} s ago") == 2  # in the header and in the row
        assert await value(f"{CELLS}.every((cell) => cell.stays)")  # no row was built anew

    _scored(site, "p1", 3 * 24 * 3600)
    look(see)


ALERTED = "[...document.querySelectorAll('#alerts strong')].map((one) => one.textContent.trim()).join()"


def _alerted(ward, patient, at_ms):
    body = {
        "id": patient, "patient": patient, "condition": "mortality", "level": "watch", "revision": 1,
        "action": "raised", "reason": "why", "probability": 0.2, "low": 0.1, "high": 0.3, "missing": [],
        "as_of": from_ms(NOON), "episode": {"topic": "vitals", "partition": 0, "offset": 0},
        "times": {"decision": from_ms(at_ms)},
    }  # fmt: skip
    ward.take_alert(orjson.dumps(body), at_ms)


def test_a_browser_shows_the_newest_alerts_first_however_they_come(looking):
    ward = Ward()

    async def see(_, value):
        for patient, at_ms in (("third", NOON - 2), ("first", NOON), ("last", NOON - 3)):
            _alerted(ward, patient, at_ms)
            await _until(value, f"{ALERTED}.includes('{patient}')")
        return await value(ALERTED)

    async def shown():
        _alerted(ward, "second", NOON - 1)
        server = Server(ward, lambda: "catching-up")
        try:
            return await looking(await server.start(0), see)
        finally:
            await server.stop()

    assert asyncio.run(shown()) == "first,second,third,last"
