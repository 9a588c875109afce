"""`wardwatch bench`: the live path beside bare clients in one run, and the engine by itself."""

import logging
import os
from pathlib import Path
from typing import Any

import click

from streaming.settings import Settings


@click.group(short_help="measure the live path beside bare clients")
def command() -> None:
    """Benchmarks on WARDWATCH_KAFKA_BOOTSTRAP and WARDWATCH_REDIS_URL (`wardwatch up` starts both)."""
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # topics just made have no leader yet; it is asked again


class Rates(click.ParamType):
    """Comma-separated events/s."""

    name = "N,N,..."

    def convert(self, value, param, ctx):  # type: ignore[no-untyped-def]
        if isinstance(value, tuple):
            return value
        try:
            rates = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail("must be whole numbers, comma-separated", param, ctx)
        if not all(0 < rate <= 20_000 for rate in rates):
            self.fail("each rate must be from 1 to 20000", param, ctx)
        return rates


_rounds = click.option(
    "--rounds", type=click.IntRange(1, 20), default=5, show_default=True, help="interleaved; medians count"
)
_json = click.option(
    "--json", "out", type=click.Path(path_type=Path), help="write all figures as JSON, and a page with plots beside it"
)


def _told(report: dict[str, Any], unit: str = "") -> None:
    for name, ratios in report["ratios"].items():
        click.echo(f"{name}{unit}: " + "  ".join(f"{ratio} {value:.2f}" for ratio, value in ratios.items()))


def _kept(bench: str, report: dict[str, Any], out: Path | None) -> None:
    from streaming import bench_page

    if out:
        click.echo(f"figures in {out}, plots in {bench_page.write(bench, report, out)}")


@command.command()
@click.option("--rates", type=Rates(), default="200", show_default=True, help="events/s")
@click.option("--seconds", type=click.IntRange(2, 120), default=10, show_default=True, help="per round")
@_rounds
@_json
def latency(rates: tuple[int, ...], seconds: int, rounds: int, out: Path | None) -> None:
    """Produced to received, p50 and p99: Wardwatch with every guarantee on, a bare Faust agent, a bare aiokafka loop."""
    from streaming.bench_latency import measure

    report = measure(Settings(), rates, seconds, rounds, click.echo)
    _told(report, " events/s")
    _kept("latency", report, out)


@command.command()
@_rounds
@_json
def throughput(rounds: int, out: Path | None) -> None:
    """Saturation: events that wait are taken as fast as they can be, one and two workers, beside bare clients."""
    from streaming.bench_throughput import measure

    report = measure(Settings(), rounds, click.echo)
    _told(report)
    _kept("throughput", report, out)


@command.command()
@click.option("--patients", type=click.IntRange(1_000, 1_000_000), default=100_000, show_default=True, help="at most")
@click.option("--rate", type=click.IntRange(1, 20_000), default=200, show_default=True, help="events/s")
@_rounds
@_json
def growth(patients: int, rate: int, rounds: int, out: Path | None) -> None:
    """Latency and memory as the patients in state grow, and their histories."""
    from streaming.bench_growth import measure

    report = measure(Settings(), patients, rate, rounds, click.echo)
    _told(report)
    _kept("growth", report, out)


@command.command()
@click.option("--rate", type=click.IntRange(1, 20_000), default=200, show_default=True, help="vitals events/s")
@click.option("--notes", type=click.FloatRange(0.1, 100), default=2.0, show_default=True, help="notes/s")
@click.option("--burst", type=click.IntRange(1, 1000), default=1, show_default=True, help="notes that come at once")
@click.option("--scans", type=click.FloatRange(0.1, 100), default=1.0, show_default=True, help="scans/s")
@click.option("--seconds", type=click.IntRange(2, 120), default=10, show_default=True, help="per round")
@_rounds
@_json
def mix(rate: int, notes: float, burst: int, scans: float, seconds: int, rounds: int, out: Path | None) -> None:
    """Vitals alone, and with notes and scans among them (real ones where WARDWATCH_DATA, default ../shared/data, is)."""
    from streaming.bench_mix import measure
    from streaming.bench_mix_load import Mix

    data = Path(os.environ.get("WARDWATCH_DATA", "../shared/data"))
    report = measure(Settings(), Mix.of(data, rate, notes, scans, burst), seconds, rounds, click.echo)
    _told(report)
    for system, held_up in report["held_up_ms"].items():
        for name, ms in held_up.items():
            click.echo(f"{system}, {name}: later by p50 {ms['p50']:.2f} ms  p99 {ms['p99']:.2f} ms")
    _kept("mix", report, out)


@command.command()
@click.option("--artifact", "name", default="reference", show_default=True, help="an artifact folder, or `reference`")
@click.option("--backend", "wanted", multiple=True, help="only these; default: all")
@_json
def engine(name: str, wanted: tuple[str, ...], out: Path | None) -> None:
    """Every backend that runs here, by part and rows; a cached vitals update against the whole model; cold starts."""
    from models import artifact, backends
    from streaming import bench_engine

    unknown = [one for one in wanted if one not in backends.BACKENDS]
    if unknown:
        raise click.BadParameter(f"no backend {unknown[0]!r}; there are {', '.join(backends.BACKENDS)}")
    chosen = wanted or tuple(backends.BACKENDS)
    report = bench_engine.measure(artifact.locate(name), chosen, Settings().engines, click.echo)
    _kept("engine", report, out)


@command.command()
@click.option("--latency", "latency_file", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--throughput", "throughput_file", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--growth", "growth_file", type=click.Path(path_type=Path, exists=True), required=True)
@click.option("--seed", type=int, default=1, show_default=True)
@_json
def scale(latency_file: Path, throughput_file: Path, growth_file: Path, seed: int, out: Path | None) -> None:
    """Measured costs put into a queueing simulation: workers and partitions for a hospital, a country, 1 Hz vitals."""
    import orjson

    from streaming.bench_scale import plan

    measured = (orjson.loads(file.read_bytes()) for file in (latency_file, throughput_file, growth_file))
    found = plan(*measured, seed)
    for name, place in found["places"].items():
        click.echo(
            f"{name}: {place['events_per_s']:.0f} events/s, {place['workers']} workers, {place['partitions']} partitions,"
            f" p50 {place['p50_ms']:.1f} ms, p99 {place['p99_ms']:.1f} ms, {place['redis_gib']:.1f} GiB in Redis"
        )
    _kept("scale", found, out)
