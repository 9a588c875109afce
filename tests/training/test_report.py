"""The report on made-up predictions: what it shows, what it says, and what it must not say."""

import re

import numpy as np
import orjson
import pytest

from models.window import MODALITIES
from training import figures, report, words
from training.bootstrap import FEW
from training.predictions import Task, load, save
from training.recipes import reference
from training.studies import variants

ABOUT = {
    "recipe": {"name": "test"}, "folds": 2, "study_folds": 2, "rounds": 60, "seed": 1, "quick": False, "sources": ["a"],
    "data_sha256": {"a": "0" * 64}, "versions": {"numpy": "2"}, "slice_rounds": 33, "damaged": 4321, "damaged_rounds": 77,
}  # fmt: skip


def _task(rng, stays=240, hours=1, name="physionet2012.in-hospital-mortality"):
    stay = np.repeat(np.arange(stays), hours)
    ill = rng.random(stays) < 0.3
    place = np.tile(np.arange(hours), stays)
    label = (ill[stay] & (place >= (hours * 2) // 3)).astype(np.float32)
    logit = rng.normal(-1.5, 1, len(stay)) + 1.5 * label
    good = (1 / (1 + np.exp(-logit))).astype(np.float32)
    return Task(
        name=name,
        label=label,
        fold=(stay % 2).astype(np.int64),
        cluster=stay.astype(str),
        stay=stay.astype(str),
        hour=place,
        first_event=np.where(ill[stay] & (hours > 1), (hours * 2) // 3, np.nan).astype(np.float32),
        site=np.where(stay % 3 == 0, "MICU", "SICU"),
        age=np.where(stay % 10 == 0, np.nan, 40 + stay % 50).astype(np.float32),
        male=(stay % 2).astype(np.float32),
        present=np.ones((len(stay), 3), bool),
        probability={
            "model": good,
            "gradient-boosting": (good * 0.9).astype(np.float32),  # ranks the same: never above nor below
            "news2": rng.integers(0, 12, len(stay)).astype(np.float32),
        },
    )


@pytest.fixture(scope="module")
def standing():
    return figures.of_task(_task(np.random.default_rng(0)), rounds=60)


@pytest.fixture(scope="module")
def hourly():
    return figures.of_task(_task(np.random.default_rng(1), 150, 30, "physionet2019.sepsis-6h"), rounds=60)


def test_a_task_has_every_figure_with_its_interval(standing, hourly):
    for told, metric in ((standing, "score1"), (hourly, "utility")):
        for name in ("auroc", "auprc", "accuracy", "precision", "recall", "f1", "brier", "ece", metric):
            assert set(told[name]) == {"value", "low", "high"}
    assert {"n", "positives", "patients", "calibration", "slices", "abstention"} <= set(standing)
    assert {"age: 45 to 64", "sex: female", "site: MICU"} <= set(standing["slices"])
    assert hourly["alarms"]["model"][0]["alerts_per_patient_day"]["value"] > 0


def test_points_of_a_rule_have_no_calibration(standing):
    assert "ece" in standing["peers"]["gradient-boosting"]
    assert "ece" not in standing["peers"]["news2"] and "brier" not in standing["peers"]["news2"]


def test_a_rule_of_few_points_is_no_probability_either():
    """As qSOFA, which hardly ever gave a second point to one of few patients."""
    task = _task(np.random.default_rng(4))
    points = (task.probability["news2"] > 6).astype(np.float32)
    told = figures.of_task(task.scored(task.probability | {"qsofa": points}), rounds=20)["peers"]["qsofa"]
    assert "auroc" in told and "ece" not in told and "brier" not in told


def test_nothing_is_called_a_difference_of_too_few_patients():
    told = figures.of_task(_task(np.random.default_rng(0), 60), rounds=60)
    assert told["rarer"] < FEW and told["peers"]["news2"]["difference"]["auroc"]["low"] > 0
    said = " ".join(words.task(told))
    assert "no difference is called one" in said and "NEWS2" not in said
    page = report.page({"about": ABOUT, "tasks": {"covid.critical-course": told}})
    assert not re.search(r'class="(above|below)"', page) and "Model minus peer" not in page
    compared = figures.compared(_task(np.random.default_rng(0), 60), "model", rounds=60)
    assert words.study(compared) == [words.too_few(compared)]
    assert words.bars({"only notes": compared}, "subsets").startswith("Too few patients")
    assert words.damage({"none": compared, "only/notes": compared}) == [words.too_few(compared)]


def test_what_counts_hours_says_so(standing, hourly):
    assert (standing["unit"], hourly["unit"]) == ("stays", "hours")
    for told, unit in ((standing, "stays"), (hourly, "hours")):
        page = report.page({"about": ABOUT, "tasks": {"physionet2019.sepsis-6h": told}})
        assert words.task(told)[0].startswith(f"{told['n']:,} {unit} of ")
        assert f"{unit} that abstain" in page and f"counts {unit}, not patients" in page


def test_the_page_says_how_much_was_damaged_and_how_often_it_was_drawn():
    page = report.page({"about": ABOUT})
    assert "first 4,321 stays" in page and "with 77 draws" in page and "of 33 draws" in page
    assert "no notes and no scans" in page and "90 days" in page


def test_the_text_calls_a_difference_one_only_where_the_paired_interval_excludes_zero(standing):
    said = " ".join(words.task(standing))
    assert "not told apart from gradient boosting in AUROC" in said
    assert "above NEWS2 in AUROC" in said
    assert standing["peers"]["news2"]["difference"]["auroc"]["low"] > 0


def test_prediction_sets_cover_each_class_at_about_their_level(standing):
    for one in standing["abstention"]:
        for which in ("coverage_event", "coverage_no_event"):
            assert one[which]["high"] >= one["level"] - 0.03


def test_the_page_is_whole_without_stages_that_did_not_run(standing):
    made = report.page({"about": ABOUT, "tasks": {"physionet2012.in-hospital-mortality": standing}})
    assert "were not measured" in made and "PhysioNet 2012" in made
    assert "Cross-validation has not run." in report.page({"about": ABOUT})


def test_the_page_stands_alone_and_shows_no_broken_number(standing, hourly, tmp_path):
    tasks = {"physionet2012.in-hospital-mortality": standing, "physionet2019.sepsis-6h": hourly}
    curve = {"none": standing | {"without_data": 0}}
    for name in ("only/notes", "only/vitals", "missing/vitals/0.5", "missing/notes/0.9", "notes/diagnoses/masked"):
        change = {"auroc": {"value": -0.1, "low": -0.2, "high": -0.05, "verdict": "below"}}
        curve[name] = curve["none"] | {"change": change}
    compared = figures.compared(_task(np.random.default_rng(2)), "model", rounds=30)
    studies = {"eicu.in-hospital-mortality": {"fusions": compared, "subsets": {"only vitals": compared}}}
    body = {"about": ABOUT, "tasks": tasks, "robustness": {"eicu.in-hospital-mortality": curve}, "studies": studies}
    report.write(body, tmp_path)
    made = (tmp_path / "paper.html").read_text()
    assert not re.search(r"<script|https?://|src=|@import", made)
    assert not re.search(r"\bnan\b|\binf\b|None", made)
    assert made.count("<svg") > 10 and "diagnosis words masked" in made
    assert orjson.loads((tmp_path / "paper.json").read_bytes())["tasks"]["physionet2019.sepsis-6h"]["utility"]


def test_every_study_that_is_made_is_shown():
    compared = figures.compared(_task(np.random.default_rng(2)), "model", rounds=30)
    made = {variant.study for variant in variants(reference(), MODALITIES)} | {"subsets", "many missing"}
    told = {study: compared if study not in ("subsets", "many missing") else {"one": compared} for study in made}
    page = report.page({"about": ABOUT, "studies": {"eicu.in-hospital-mortality": told}})
    assert page.count("<h3>") == len(made) == 7


def test_predictions_come_back_as_they_were_saved(tmp_path):
    task = _task(np.random.default_rng(3))
    save([task], tmp_path)
    (again,) = load(tmp_path)
    assert again.name == task.name and set(again.probability) == set(task.probability)
    np.testing.assert_array_equal(again.probability["model"], task.probability["model"])
    for name in ("cluster", "hour", "first_event"):
        np.testing.assert_array_equal(getattr(again, name), getattr(task, name))


def test_a_study_names_those_it_is_told_apart_from_and_the_others_at_once():
    def gap(verdict):
        one = {"value": 0.1, "low": 0.05, "high": 0.2, "verdict": verdict}
        return {"difference": {"auroc": one, "auprc": one | {"verdict": "not told apart"}}}

    alike = {name: gap("not told apart") for name in ("without ages", "without trees")}
    told = {"rarer": FEW, "scores": {"model": {}, "only notes": gap("above"), **alike}}
    assert words.study(told) == [
        "The model is above one of only notes in AUROC (.100 [.050, .200]) and not told apart from it in AUPRC "
        "(.100 [.050, .200]).",
        "The model is told apart neither in AUROC nor in AUPRC from itself without ages and without trees.",
    ]


def test_subset_and_missing_comparisons_say_where_the_fused_model_is_below():
    gap = {"value": -0.1, "low": -0.2, "high": -0.05, "verdict": "below"}
    one = {"scores": {"model": {}, "only notes": {"difference": {"auroc": gap}}}}
    assert "below by more than the interval in 1 of 1" in words.bars({"only notes": one}, "subsets")
    fine = {"scores": {"model": {}, "only notes": {"difference": {"auroc": gap | {"verdict": "above"}}}}}
    assert words.bars({"only notes": fine}, "subsets").startswith("In none of 1")
