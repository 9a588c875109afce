"""`wardwatch evaluate`: an artifact on the labelled stays of a data set, through the live reducer and scorer."""

from pathlib import Path

import click
import orjson

from models import artifact, backends
from streaming.errors import ConfigError


@click.command(short_help="measure an artifact on a data set's labelled stays")
@click.option("--artifact", "name", default="reference", show_default=True, help="an artifact folder, or `reference`")
@click.option("--dataset", required=True, help="physionet2012, physionet2019, eicu, covid, luna16 or mimic3")
@click.option("--root", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--robustness", "robust", is_flag=True, help="also with data missing or spoilt on purpose (takes long)")
@click.option("--json", "out", type=click.Path(path_type=Path), help="write every figure as JSON")
def command(name: str, dataset: str, root: Path, robust: bool, out: Path | None) -> None:
    """Figures with bootstrap 95 % intervals by patient; hourly conditions at every hour, others once a stay.

    Needs the extra `train`. Accuracy, precision, recall, F1 and score 1 are at the artifact's warning threshold, the
    2019 utility at its watch threshold.
    """
    try:
        from training.evaluation import evaluate_dataset
        from training.sources import data_hash
    except ImportError as error:
        raise ConfigError("evaluation needs scikit-learn: install wardwatch[train]") from error
    folder = artifact.locate(name)
    try:
        predictor = backends.load(folder)
        loaded = artifact.load(folder)
    except artifact.ArtifactCorrupt as error:
        raise ConfigError(str(error)) from error
    found = evaluate_dataset(predictor, dataset, root, lambda line: click.echo(line, err=True), robust)
    found["trained_on"] = loaded.about.get("data_sha256", {}).get(dataset) == data_hash(root)
    if found["trained_on"]:
        click.echo("most of these patients were in this artifact's training: the figures are no test of it")
    for task, figures in found["tasks"].items():
        click.echo(f"{task}: n {figures['n']}, positives {figures['positives']}")
        for metric, figure in figures.items():
            if isinstance(figure, dict) and "low" in figure:
                click.echo(f"  {metric:<9} {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]")
    if out:
        out.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")
