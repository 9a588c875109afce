"""`wardwatch down`: stop what `up` started, and nothing else."""

from pathlib import Path

import click

from streaming.settings import Settings


@click.command(short_help="stop what `up` started")
@click.option("--data-dir", type=click.Path(path_type=Path), help="the folder given to `up` [WARDWATCH_DATA_DIR]")
def command(data_dir: Path | None) -> None:
    """Stops the local Kafka and Valkey; their data stays."""
    from streaming import local_stack

    stopped = local_stack.stop(data_dir or Settings().data_dir)
    click.echo("stopped" if stopped else "nothing was running from this folder")
