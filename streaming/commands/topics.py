"""`wardwatch topics create | check`."""

import click

from streaming.errors import ConfigError
from streaming.settings import Settings


@click.group(short_help="create or check the topics")
def command() -> None:
    """The topics of WARDWATCH_TOPIC_PREFIX on WARDWATCH_KAFKA_BOOTSTRAP."""


@command.command()
def create() -> None:
    """Creates what is missing."""
    from streaming import topics

    settings = Settings()
    made = topics.create(settings.kafka_bootstrap, settings.topic_prefix, settings.partitions, settings.replication)
    click.echo("\n".join(f"created {name}" for name in made) or "all topics exist")


@command.command()
def check() -> None:
    """Compares with the table; status 1 when something differs."""
    from streaming import topics

    settings = Settings()
    wrong = topics.check(settings.kafka_bootstrap, settings.topic_prefix, settings.partitions)
    if wrong:
        click.echo("\n".join(wrong))
        raise ConfigError(f"{len(wrong)} differences; `wardwatch topics create` makes what is missing")
    click.echo("all topics are as they should be")
