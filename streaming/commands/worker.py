"""`wardwatch worker`: one worker process, or both roles each in a process of its own."""

import os
import signal
import subprocess
import sys
import time

import click

from streaming.errors import Fatal
from streaming.settings import Settings

RESTART_PAUSE_S = 1.0
MOST_RESTARTS = 5
RESTARTS_WITHIN_S = 60.0


def _settings_help() -> str:
    lines = []
    for name, field in Settings.model_fields.items():
        lines.append(f"WARDWATCH_{name.upper()} [{field.default}]: {field.description}")
    return "\b\n" + "\n".join(lines)


@click.command(short_help="run the Faust workers", epilog=_settings_help())
@click.option("--role", type=click.Choice(["fusion", "imaging", "all"]), help="default: WARDWATCH_ROLE, else all")
def command(role: str | None) -> None:
    """Runs until SIGTERM, finishing what is in flight. `all` runs each role in a process and restarts one that died."""
    settings = Settings()
    role = role or settings.role
    if role == "all":
        _supervise()
    else:
        from streaming.bootstrap import run

        run(role, settings)


def _supervise() -> None:
    """Both roles as child processes. A child that ends is started again; too often, and all end."""
    stopping = False
    children: dict[str, subprocess.Popen[bytes]] = {}
    deaths: list[float] = []

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for child in children.values():
            child.terminate()

    def begin(role: str) -> None:
        if stopping:
            return
        children[role] = _start(role)
        if stopping:  # told so while it was being started: `stop` did not know of it
            children[role].terminate()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for role in ("fusion", "imaging"):
        begin(role)
    while not stopping:
        time.sleep(0.1)
        for role, child in children.items():
            if child.poll() is None or stopping:
                continue
            now = time.monotonic()
            deaths = [at for at in deaths if now - at < RESTARTS_WITHIN_S] + [now]
            click.echo(f"wardwatch: the {role} worker ended with status {child.returncode}", err=True)
            if len(deaths) > MOST_RESTARTS:
                stop()
                break
            time.sleep(RESTART_PAUSE_S)
            begin(role)
    for child in children.values():
        child.wait()
    if len(deaths) > MOST_RESTARTS:
        raise Fatal(f"workers died {len(deaths)} times within {RESTARTS_WITHIN_S:.0f} s")


def _start(role: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "streaming", "worker", "--role", role], env=_environment(role))


def _environment(role: str) -> dict[str, str]:
    """Two processes cannot listen on one health port: imaging's is the next."""
    port = Settings().health_port
    return os.environ | ({"WARDWATCH_HEALTH_PORT": str(port + 1)} if port and role == "imaging" else {})
