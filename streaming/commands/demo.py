"""`wardwatch demo`: the whole thing on one machine, from nothing to alerts and a latency report."""

import http.client
import os
import subprocess
import sys
import time
from pathlib import Path

import click

from streaming.errors import Fatal
from streaming.settings import Settings

READY_S = 60.0


@click.command(short_help="local Kafka and Redis, worker, board, replay, alerts, latency report")
@click.option("--data-dir", type=click.Path(path_type=Path), help="where data and logs lie [WARDWATCH_DATA_DIR]")
@click.option("--patients", type=click.IntRange(1), default=20, show_default=True)
@click.option("--rate", type=click.FloatRange(1), default=200.0, show_default=True, help="events/s of the live part")
def command(data_dir: Path | None, patients: int, rate: float) -> None:
    """Starts a real Kafka and Valkey, both workers and the ward board, replays a cohort, prints alerts and a latency
    report. On a terminal the board then stays up until Ctrl-C.

    Replays the MIMIC-III demo where WARDWATCH_DATA (default ../shared/data) has it, else a synthetic cohort. Stops
    what it started; a fresh topic prefix each time keeps runs apart.
    """
    from streaming import local_stack, topics

    settings = Settings()
    data_dir = (data_dir or settings.data_dir).absolute()
    click.echo("starting Kafka and Valkey ...")
    found = local_stack.find(data_dir)
    stack = local_stack.start(data_dir)
    prefix = f"demo-{time.strftime('%H%M%S')}."
    started: list[subprocess.Popen[bytes]] = []
    try:
        topics.create(stack.bootstrap, prefix, settings.partitions, 1)
        env = os.environ | {
            "WARDWATCH_KAFKA_BOOTSTRAP": stack.bootstrap,
            "WARDWATCH_REDIS_URL": stack.redis_url,
            "WARDWATCH_TOPIC_PREFIX": prefix,
            "WARDWATCH_CLOCK": "events",
            "WARDWATCH_DATA_DIR": str(data_dir),
            "WARDWATCH_HEALTH_PORT": str(health_port := _free_pair()),
        }
        log = data_dir / "worker.log"
        with log.open("wb") as sink:
            worker = subprocess.Popen([*_wardwatch(), "worker"], env=env, stderr=sink)
        started.append(worker)
        _wait_until_ready(worker, health_port, log)
        board = subprocess.Popen([*_wardwatch(), "board", "--port", "0"], env=env, stdout=subprocess.PIPE)
        started.append(board)
        url = _board_url(board)
        click.echo(f"ward board: {url}")
        report = data_dir / "demo-report.json"
        common = ["--alerts", "--report", str(report), "--worker-pid", str(worker.pid)]
        click.echo(f"replaying {patients} patients at {rate:.0f} events/s; alerts as they come:")
        cohort = _cohort(patients)
        done = subprocess.run([*_wardwatch(), "replay", *cohort, "--rate", str(rate), *common], env=env, check=False)
        if done.returncode:
            raise Fatal(f"the replay failed with status {done.returncode}; the worker's log is {log}")
        _judge(report)
        checked = subprocess.run([*_wardwatch(), "verify"], env=env, check=False, capture_output=True, text=True)
        click.echo(checked.stdout.strip().splitlines()[-1] if checked.returncode == 0 else checked.stdout)
        if checked.returncode:
            raise Fatal("the run's history does not hold")
        click.echo(f"latency report to look at: {report.with_suffix('.html')}")
        if sys.stdout.isatty():
            click.echo(f"the ward board stays up at {url} until Ctrl-C")
            board.wait()
    except KeyboardInterrupt:
        click.echo("stopping ...")
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()
        if stack != found:
            local_stack.stop(data_dir)


def _wardwatch() -> list[str]:
    return [sys.executable, "-m", "streaming"]


def _cohort(patients: int) -> list[str]:
    data = Path(os.environ.get("WARDWATCH_DATA", "../shared/data"))
    if not (data / "mimic3_demo").is_dir():
        return ["synthetic", "--patients", str(patients), "--hours", "24"]
    chosen = ["mimic3", "--root", str(data / "mimic3_demo"), "--patients", str(patients), "--limit", "5000"]
    if (data / "eicu_demo").is_dir():
        chosen += ["--notes", str(data / "eicu_demo")]
    if (data / "dicom").is_dir():
        chosen += ["--scans", str(data / "dicom")]
    return chosen


def _free_pair() -> int:
    """A port that is free like the one after it, for the health of both roles."""
    from streaming.local_stack import free_port

    port = free_port()
    while port > 65_534 or free_port(port + 1) != port + 1:
        port = free_port()
    return port


def _wait_until_ready(worker: subprocess.Popen[bytes], health_port: int, log: Path) -> None:
    """Both roles own partitions, by their own word on this port and the next."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if worker.poll() is not None:
            raise Fatal(f"the worker ended with status {worker.returncode}; its log is {log}")
        if _is_ready(health_port) and _is_ready(health_port + 1):
            return
        time.sleep(0.1)
    raise Fatal(f"the workers were not ready within {READY_S:.0f} s; their log is {log}")


def _is_ready(port: int) -> bool:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        link.request("GET", "/readyz")
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


def _board_url(board: subprocess.Popen[bytes]) -> str:
    assert board.stdout is not None
    said = board.stdout.readline().decode().split()
    if len(said) < 2:
        raise Fatal("the ward board did not start")
    return said[1]


def _judge(report: Path) -> None:
    import orjson

    counts = orjson.loads(report.read_bytes())["counts"]
    if counts["produced"] != counts["applied"] + counts["dead_lettered"]:
        raise Fatal(f"{counts['unaccounted']} events were lost")
    if not counts["alerts"]:
        raise Fatal("no alert came")
