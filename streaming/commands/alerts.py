"""`wardwatch alerts`: subscribe to the alerts topic."""

import click

from streaming.settings import Settings


@click.command(short_help="subscribe to the alerts topic")
@click.option("--from", "start", type=click.Choice(["beginning", "latest"]), default="latest", show_default=True)
@click.option("--format", "style", type=click.Choice(["text", "json", "fhir"]), default="text", show_default=True)
@click.option("--exit-after", type=click.IntRange(1), help="end after N alerts")
@click.option("--timeout", type=click.FloatRange(0, min_open=True), help="end after this many s without an alert")
def command(start: str, style: str, exit_after: int | None, timeout: float | None) -> None:
    """Prints alerts as they come, each id once; JSON lines and FHIR DetectedIssue for machines."""
    import orjson

    from streaming.subscriber import AlertSubscriber, line, to_fhir, to_json

    settings = Settings()
    subscriber = AlertSubscriber(settings.kafka_bootstrap, settings.topic_prefix, start, timeout)  # type: ignore[arg-type]
    try:
        for number, alert in enumerate(subscriber, 1):
            if style == "json":
                click.echo(to_json(alert))
            elif style == "fhir":
                click.echo(orjson.dumps(to_fhir(alert)).decode())
            else:
                click.echo(line(alert.model_dump()))
            if number == exit_after:
                break
    finally:
        subscriber.close()
