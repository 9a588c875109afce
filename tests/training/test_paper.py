"""`make paper`'s stages on a few real stays."""

from dataclasses import replace

import orjson
import pytest

from training.paper import QUICK, Paper, run
from training.recipes import RECIPES
from training.studies import variants


@pytest.fixture(scope="module")
def paper(data_root, tmp_path_factory):
    said = []
    folder = tmp_path_factory.mktemp("paper")
    recipe = replace(RECIPES["paper"](), epochs=1, bootstraps=5)
    size = replace(QUICK, stays=40, damaged=40)
    made = Paper(data_root, folder / "work", folder / "out", recipe, ("covid", "luna16"), size, 1, said.append)
    run(made, ("crossval", "report"))  # the studies train a dozen more models: minutes
    return made, said


def test_every_stage_ends_in_one_json_and_one_page(paper):
    made, _ = paper
    body = orjson.loads((made.out / "paper.json").read_bytes())
    task = body["tasks"]["covid.critical-course"]
    assert task["n"] == 40 and {"value", "low", "high"} == set(task["auroc"])
    assert "gradient-boosting" in task["peers"]
    assert {"none", "only/scans", "missing/notes/0.9"} <= set(body["robustness"]["covid.critical-course"])
    page = (made.out / "paper.html").read_text()
    assert "A quick run" in page and "ablations were not measured" in page


def test_a_stage_that_has_run_is_not_run_again_unless_something_changed(paper):
    made, said = paper
    said.clear()
    run(made, ("crossval", "report"))
    assert any("has run" in line for line in said) and not any("epoch" in line for line in said)
    other = replace(made, seed=2)
    assert other.key("studies") != made.key("studies")


def test_an_interrupted_stage_goes_on_at_the_fold_it_was_in(paper):
    made, said = paper
    before = (made.out / "paper.json").read_bytes()
    (made.work / "crossval.json").unlink()
    (made.work / "crossval" / "model-1.npz").unlink()
    said.clear()
    run(made, ("crossval", "report"))
    after_fold_two = said[said.index("fold 2/2: model") :]
    assert sum("epoch 1/1" in line for line in said) == sum("epoch 1/1" in line for line in after_fold_two) > 0
    assert (made.out / "paper.json").read_bytes() == before


def test_a_report_without_its_stages_says_so(paper, tmp_path):
    made, _ = paper
    run(replace(made, work=tmp_path / "work", out=tmp_path / "out"), ("report",))
    assert "Cross-validation has not run." in (tmp_path / "out" / "paper.html").read_text()


def test_nobodys_rows_are_in_the_report(paper):
    made, _ = paper
    text = (made.out / "paper.json").read_text() + (made.out / "paper.html").read_text()
    assert "covid-" not in text  # stays' and patients' names begin so


def test_a_study_changes_one_part_and_leaves_out_what_the_recipe_has_not():
    recipe = RECIPES["reference"]()
    made = variants(recipe, ("vitals", "notes", "scans"))
    names = {(one.study, one.name) for one in made}
    assert len(names) == len(made)
    assert {
        ("fusions", "splicing"),
        ("single modalities", "only notes"),
        ("pairs of modalities", "only vitals+scans"),
    } <= names
    assert ("fusions", recipe.fusion) not in names
    bare = replace(recipe, drop_modality=0.0)
    gone = {one.name for one in made} - {one.name for one in variants(bare, ("vitals", "notes", "scans"))}
    assert gone == {"without modalities dropped in training"}
