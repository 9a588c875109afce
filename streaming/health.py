"""Health and metrics over HTTP, on the loopback address only."""

import asyncio
import os
from collections.abc import Callable

from aiohttp import web

from streaming.errors import ConfigError
from streaming.metrics import Metrics
from streaming.watched_loop import WatchedLoop

HOST = "127.0.0.1"


class Health:
    """`/healthz` alive, `/readyz` able to work (503 with the reason while not), `/metrics`."""

    def __init__(self, metrics: Metrics, not_ready: Callable[[], str | None]) -> None:
        self._metrics = metrics
        self._not_ready = not_ready
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._render)
        self._runner = web.AppRunner(app, access_log=None)

    async def start(self, port: int) -> int:
        """Listens; port 0 takes any free one. Gives the port.

        Raises:
            ConfigError: the port cannot be had.
        """
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, HOST, port).start()
        except OSError as error:
            await self.stop()
            why = os.strerror(error.errno or 0)
            raise ConfigError(f"health port {port} cannot be had ({why}): choose another") from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        reason = self._not_ready()
        return web.Response(text=f"{reason or 'ready'}\n", status=503 if reason else 200)

    async def _render(self, request: web.Request) -> web.Response:
        loop = asyncio.get_running_loop()
        if isinstance(loop, WatchedLoop):
            self._metrics.set("wardwatch_loop_held_seconds_max", loop.held_s)
        return web.Response(text=self._metrics.render(), content_type="text/plain")
