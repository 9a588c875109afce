"""`wardwatch bench`: the live path beside bare clients in one run, and the engine by itself."""

from pathlib import Path

import click

from streaming.settings import Settings


@click.group(short_help="measure the live path beside bare clients")
def command() -> None:
    """Benchmarks on WARDWATCH_KAFKA_BOOTSTRAP and WARDWATCH_REDIS_URL (`wardwatch up` starts both)."""


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


@command.command()
@click.option("--rates", type=Rates(), default="200", show_default=True, help="events/s")
@click.option("--seconds", type=click.IntRange(2, 120), default=10, show_default=True, help="per round")
@click.option("--rounds", type=click.IntRange(1, 20), default=5, show_default=True, help="interleaved; medians count")
@click.option("--json", "out", type=click.Path(path_type=Path), help="write runs and ratios as JSON")
def latency(rates: tuple[int, ...], seconds: int, rounds: int, out: Path | None) -> None:
    """Produced to received, p50 and p99: Wardwatch with every guarantee on, a bare Faust agent, a bare aiokafka loop."""
    import orjson

    from streaming.bench_latency import measure

    report = measure(Settings(), rates, seconds, rounds, click.echo)
    for rate, ratios in report["ratios"].items():
        click.echo(f"{rate} events/s: " + "  ".join(f"{name} {value:.2f}" for name, value in ratios.items()))
    if out:
        out.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")


@command.command()
@click.option("--artifact", "name", default="reference", show_default=True, help="an artifact folder, or `reference`")
@click.option("--backend", "wanted", multiple=True, help="only these; default: all")
@click.option("--json", "out", type=click.Path(path_type=Path), help="write all figures as JSON, and a page beside it")
def engine(name: str, wanted: tuple[str, ...], out: Path | None) -> None:
    """Every backend that runs here, by part and rows; a cached vitals update against the whole model; cold starts."""
    from models import artifact, backends
    from streaming import bench_engine, bench_page

    unknown = [one for one in wanted if one not in backends.BACKENDS]
    if unknown:
        raise click.BadParameter(f"no backend {unknown[0]!r}; there are {', '.join(backends.BACKENDS)}")
    chosen = wanted or tuple(backends.BACKENDS)
    report = bench_engine.measure(artifact.locate(name), chosen, Settings().engines, click.echo)
    if out:
        click.echo(f"figures in {out}, plots in {bench_page.write(report, out)}")
