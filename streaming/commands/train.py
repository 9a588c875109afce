"""`wardwatch train`: a named recipe over the open data to an artifact folder."""

from pathlib import Path

import click

from streaming.errors import ConfigError


@click.command(short_help="train a model from a named recipe")
@click.argument("recipe")
@click.option("--data", "root", type=click.Path(path_type=Path, exists=True), required=True, help="folder of data sets")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="artifact folder to write")
@click.option("--seed", type=int, help="instead of the recipe's")
def command(recipe: str, root: Path, out: Path, seed: int | None) -> None:
    """Trains RECIPE and writes an artifact. Needs the extra `train` (torch)."""
    try:
        from training.run import run
    except ImportError as error:
        raise ConfigError("training needs torch: install wardwatch[train]") from error
    run(recipe, root, out, seed, click.echo)
