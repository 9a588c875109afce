"""`wardwatch verify`: check a run's history from the topics alone."""

from dataclasses import asdict
from pathlib import Path

import click

from streaming.errors import WardwatchError
from streaming.settings import Settings


@click.command(short_help="check a run's history from the topics alone")
@click.option("--json", "out", type=click.Path(path_type=Path), help="write the verdict as JSON")
def command(out: Path | None) -> None:
    """Recomputes every score from the events up to its recorded offsets, and the alerts from the scores.

    Status 1 when anything is lost, doubled, uncovered or different. Meant for the whole topics of one run.
    """
    import orjson

    from streaming import bootstrap, verify

    settings = Settings()
    predictor = bootstrap.load_predictor(settings)
    verdict = verify.run(
        settings.kafka_bootstrap, settings.topic_prefix, predictor, bootstrap.limits(settings), bootstrap.partitioner
    )
    for name, count in sorted(verdict.counts.items()):
        click.echo(f"{name:>28}  {count}")
    click.echo(f"{'largest difference':>28}  {verdict.largest_difference:.2g}")
    for line in verdict.violations:
        click.echo(f"  {line}")
    if out:
        out.write_bytes(orjson.dumps(asdict(verdict), option=orjson.OPT_INDENT_2) + b"\n")
    if verdict.violations:
        raise WardwatchError(f"{verdict.counts['violations']} violations")
    click.echo("the run's history holds")
