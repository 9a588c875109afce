"""`make paper`'s stages on a few real stays."""

from dataclasses import replace

import orjson
import pytest

from training.paper import QUICK, Paper, run
from training.recipes import RECIPES


@pytest.fixture(scope="module")
def paper(data_root, tmp_path_factory):
    said = []
    folder = tmp_path_factory.mktemp("paper")
    recipe = replace(RECIPES["paper"](), epochs=1, bootstraps=5)
    size = replace(QUICK, stays=24, damaged=12)
    made = Paper(data_root, folder / "work", folder / "out", recipe, ("covid",), size, 1, said.append)
    run(made, ("crossval", "robustness", "studies", "report"))
    return made, said


def test_every_stage_ends_in_one_json_and_one_page(paper):
    made, _ = paper
    body = orjson.loads((made.out / "paper.json").read_bytes())
    task = body["tasks"]["covid.critical-course"]
    assert task["n"] == 24 and {"value", "low", "high"} == set(task["auroc"])
    assert "gradient-boosting" in task["peers"]
    assert {"fusions", "single modalities", "subsets", "many missing"} <= set(body["studies"]["covid.critical-course"])
    assert {"none", "only/scans", "missing/notes/0.9"} <= set(body["robustness"]["covid.critical-course"])
    assert "A quick run" in (made.out / "paper.html").read_text()


def test_a_stage_that_has_run_is_not_run_again_unless_something_changed(paper):
    made, said = paper
    said.clear()
    run(made, ("crossval", "robustness", "studies", "report"))
    assert any("have run" in line for line in said) and not any("epoch" in line for line in said)
    other = replace(made, seed=2)
    assert other.key("studies") != made.key("studies")


def test_a_report_without_its_stages_says_so(paper, tmp_path):
    made, _ = paper
    run(replace(made, work=tmp_path / "work", out=tmp_path / "out"), ("report",))
    assert "Cross-validation has not run." in (tmp_path / "out" / "paper.html").read_text()


def test_nobodys_rows_are_in_the_report(paper):
    made, _ = paper
    text = (made.out / "paper.json").read_text() + (made.out / "paper.html").read_text()
    assert "covid-" not in text  # stays' and patients' names begin so
