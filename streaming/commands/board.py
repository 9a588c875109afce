"""`wardwatch board`: the live ward board in the browser."""

import click

from streaming.settings import Settings


@click.command(short_help="live ward board in the browser")
@click.option("--port", type=click.IntRange(0, 65535), default=8484, show_default=True, help="0 = any free port")
@click.option("--hours", type=click.FloatRange(0, min_open=True), default=6.0, show_default=True,
              help="a patient of whom nothing came for so long, and without an alert, leaves the board")  # fmt: skip
def command(port: int, hours: float) -> None:
    """Shows patients by risk, what each score rests on, and alerts as they come; on this machine only."""
    import asyncio
    import signal

    from streaming.board.server import serve
    from streaming.errors import ConfigError

    settings = Settings()

    async def run() -> None:
        serving = asyncio.ensure_future(
            serve(settings.kafka_bootstrap, settings.topic_prefix, port, hours,
                  lambda url: click.echo(f"board: {url}  (Ctrl-C ends it)"))
        )  # fmt: skip
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
        try:
            await serving
        except asyncio.CancelledError:
            return
        except OSError as error:
            raise ConfigError(f"port {port} cannot be had ({error.strerror}): choose another with --port") from error

    asyncio.run(run())
