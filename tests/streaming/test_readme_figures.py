"""README says what the committed results say."""

import shutil
from pathlib import Path

import orjson
import pytest

from streaming import readme_figures

ROOT = Path(__file__).parents[2]


@pytest.fixture
def results(tmp_path):
    """A copy of the committed results, to be changed."""
    shutil.copytree(ROOT / "benchmarks", tmp_path / "results", ignore=shutil.ignore_patterns("*.html"))
    return tmp_path / "results"


def test_readme_has_the_figures_of_the_committed_results():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme_figures.written(readme, ROOT / "benchmarks") == readme, "run `make figures`"


@pytest.mark.parametrize(
    ("file", "path", "value", "shown"),
    [
        ("latency.json", ("ratios", "200", "p99_vs_faust"), 7.777, "/ 7.78 |"),
        ("throughput.json", ("ratios", "wardwatch catch-up", "per_s_vs_faust"), 7.77, "(7.8 times)"),
        ("growth.json", ("bytes_per_patient", "100,000 patients", "redis"), 7 * 1024, "7.0 KiB in Redis"),
        ("engine.json", ("backends", "onnx", "update_of_whole"), 0.2, "1/5 of the whole model"),
        ("scale.json", ("places", "monitors at 1 Hz: 580,000 events/s", "workers"), 7777, "| 7,777 |"),
        ("paper/paper.json", ("tasks", "physionet2019.sepsis-6h", "auroc", "low"), 0.7777, "[0.778, "),
    ],
)
def test_another_result_makes_another_readme(results, file, path, value, shown):
    before = readme_figures.block(results)
    report = orjson.loads((results / file).read_bytes())
    inner = report
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    (results / file).write_bytes(orjson.dumps(report))
    after = readme_figures.block(results)
    assert shown in after and shown not in before


def test_text_around_the_figures_stays():
    text = f"before\n{readme_figures.START}of yesterday\n{readme_figures.END}after\n"
    found = readme_figures.written(text, ROOT / "benchmarks")
    assert found.startswith("before\n") and found.endswith("after\n") and "of yesterday" not in found
