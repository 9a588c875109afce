"""`wardwatch up`: start the local stack and create the topics."""

from pathlib import Path

import click

from streaming.settings import Settings


@click.command(short_help="start the local Kafka and Redis")
@click.option("--data-dir", type=click.Path(path_type=Path), help="where data and logs lie [WARDWATCH_DATA_DIR]")
@click.option("--brokers", type=click.IntRange(1, 3), default=1, show_default=True)
def command(data_dir: Path | None, brokers: int) -> None:
    """Starts a real Kafka and a real Valkey on this machine, creates the topics, and prints where they are."""
    from streaming import local_stack, topics

    settings = Settings()
    stack = local_stack.start(data_dir or settings.data_dir, brokers)
    topics.create(stack.bootstrap, settings.topic_prefix, settings.partitions, brokers)
    click.echo(f"export WARDWATCH_KAFKA_BOOTSTRAP={stack.bootstrap}")
    click.echo(f"export WARDWATCH_REDIS_URL={stack.redis_url}")
