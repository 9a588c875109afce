"""README says what the committed results say."""

import shutil
from pathlib import Path

import orjson
import pytest

from streaming import readme_figures

ROOT = Path(__file__).parents[2]
CARD = "models/reference/card.json"
PAPER, MORTALITY = "benchmarks/paper/paper.json", "physionet2012.in-hospital-mortality"
RUN = "benchmarks/results/crossval_{}.json"


@pytest.fixture
def copied(tmp_path):
    """A copy of what the figures are made from, to be changed."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns("*.html"))
    (tmp_path / CARD).parent.mkdir(parents=True)
    shutil.copy(ROOT / CARD, tmp_path / CARD)
    return tmp_path


def test_readme_has_the_figures_of_the_committed_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_figures.written(readme, ROOT) == readme, "run `make figures`"


@pytest.mark.parametrize(
    ("file", "path", "value", "shown"),
    [
        ("benchmarks/latency.json", ("ratios", "200", "p99_vs_faust"), 7.777, "/ 7.78 |"),
        ("benchmarks/throughput.json", ("ratios", "wardwatch catch-up", "per_s_vs_faust"), 7.77, "(7.8 times)"),
        ("benchmarks/growth.json", ("bytes_per_patient", "100,000 patients", "redis"), 7 * 1024, "7.0 KiB in Redis"),
        ("benchmarks/engine.json", ("backends", "onnx", "update_of_whole"), 0.2, "1/5 of the whole model"),
        ("benchmarks/scale.json", ("places", "monitors at 1 Hz: 580,000 events/s", "workers"), 7777, "| 7,777 |"),
        (PAPER, ("tasks", "physionet2019.sepsis-6h", "auroc", "low"), 0.7777, "[0.778, "),
        (PAPER, ("tasks", MORTALITY, "peers", "qsofa", "auroc", "value"), 0.999, "| qSOFA 0.999 / "),
        (
            RUN.format("eicu_physionet2012"),
            ("tasks", MORTALITY, "peers", "late_fusion", "auroc", "value"),
            0.999,
            "| late fusion 0.999 / ",
        ),
        (
            RUN.format("luna16"),
            ("tasks", "blocks", "logistic_regression", "auroc", "value"),
            0.999,
            "| logistic regression 0.999 / ",
        ),
        (CARD, ("own_share", "sepsis-6h"), 0.25, "sepsis-6h 0.25"),
    ],
)
def test_another_result_makes_another_readme(copied, file, path, value, shown):
    before = readme_figures.block(copied)
    _change(copied / file, path, value)
    after = readme_figures.block(copied)
    assert shown in after and shown not in before


def test_two_workers_are_compared_round_by_round(copied):
    """A ratio of medians is not the median of what the interleaved rounds say."""
    file = copied / "benchmarks/throughput.json"
    runs = orjson.loads(file.read_bytes())["runs"]
    for place, run in enumerate(runs):
        if run["system"].startswith("two workers"):
            _change(file, ("runs", place, "per_s"), 7.77 * runs[place - 1]["per_s"])
    assert "carry 7.77 times what one does" in readme_figures.block(copied)


def test_what_the_model_says_by_one_modality_is_no_peer(copied):
    path = ("tasks", MORTALITY, "peers", "model_vitals_only", "auroc", "value")
    _change(copied / RUN.format("eicu_physionet2012"), path, 0.999)
    assert "0.999" not in readme_figures.block(copied)


def _change(file, path, value):
    report = orjson.loads(file.read_bytes())
    inner = report
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    file.write_bytes(orjson.dumps(report))


def test_text_around_the_figures_stays():
    text = f"before\n{readme_figures.START}of yesterday\n{readme_figures.END}after\n"
    found = readme_figures.written(text, ROOT)
    assert found.startswith("before\n") and found.endswith("after\n") and "of yesterday" not in found
