"""The board over HTTP: one static page and a stream of server-sent events, on the loopback address only.

There is no login, so there is no option to listen elsewhere: to show the board on other machines, put a proxy that
authenticates in front of it. A page of another site cannot read it: no CORS header is sent, and a Host that is not
this machine's (DNS rebinding) is refused. No URL holds a patient.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from aiohttp import web

from streaming.board.feed import Feed
from streaming.board.ward import Ward

HOST = "127.0.0.1"
HOSTS = frozenset({"127.0.0.1", "localhost"})
EVERY_S = 0.25
MAX_VIEWERS = 32
PAGE = Path(__file__).parent / "page"
FILES = {"/": "index.html", "/board.css": "board.css", "/board.js": "board.js"}
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server:
    """Serves one ward. `state` tells how its feed stands."""

    def __init__(self, ward: Ward, state: Callable[[], str]) -> None:
        self._ward, self._state = ward, state
        self._viewers = 0
        app = web.Application(middlewares=[_guard])
        for path in FILES:
            app.router.add_get(path, self._file)
        app.router.add_get("/events", self._events)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self, port: int) -> str:
        """Listens; port 0 takes any free one. Gives the URL.

        Raises:
            OSError: the port is taken.
        """
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, port).start()
        return f"http://{HOST}:{self._runner.addresses[0][1]}/"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _file(self, request: web.Request) -> web.Response:
        path = PAGE / FILES[request.path]
        return web.Response(body=path.read_bytes(), content_type=TYPES[path.suffix], charset="utf-8", headers=HEADERS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """A snapshot, then what changed, at most four times a second; a beat every time, so that silence shows."""
        if self._viewers >= MAX_VIEWERS:
            raise web.HTTPServiceUnavailable(text="too many viewers\n", headers=HEADERS)
        response = web.StreamResponse(headers={**HEADERS, "Content-Type": "text/event-stream"})
        await response.prepare(request)
        self._viewers += 1
        version, told, beat = -1, "", 0
        try:
            while True:
                state = self._state()
                if version < self._ward.version or state != told or beat == 0:
                    name = "snapshot" if version < 0 else "changes"
                    changes = self._ward.since(version)
                    body = orjson.dumps({**changes, "state": state, "unreadable": self._ward.unreadable})
                    await response.write(b"event: %s\ndata: %s\n\n" % (name.encode(), body))
                    version, told = changes["version"], state
                beat = (beat + 1) % 20
                await asyncio.sleep(EVERY_S)
        except ConnectionResetError:
            return response  # the viewer closed the page
        finally:
            self._viewers -= 1


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    if request.host.rsplit(":", 1)[0] not in HOSTS:
        raise web.HTTPForbidden(text="this board answers to its own address only\n", headers=HEADERS)
    return await handler(request)


async def serve(bootstrap: str, prefix: str, port: int, hours: float, ready: Callable[[str], None]) -> None:
    """Runs the board until it is cancelled or its feed fails.

    Raises:
        Unavailable: Kafka does not answer, or the topics are missing.
        OSError: the port is taken.
    """
    ward = Ward()
    feed = Feed(bootstrap, prefix, ward, hours)
    server = Server(ward, lambda: feed.state)
    await feed.start()
    try:
        ready(await server.start(port))
        while (failure := feed.failure()) is None:
            await asyncio.sleep(1.0)
        raise failure
    finally:
        await server.stop()
        await feed.stop()
