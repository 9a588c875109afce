"""eICU: what was written in the first 24 h, as three documents that grow while the stay goes on.

`history` (admission diagnosis, past history, drugs at home, social history), `plan` (problems, treatments, care plan,
infusions) and `examination` (physical and nursing examination in words). As in a record system, a document is sent
again under its own id whenever something was entered, its newest lines first, because the note encoder reads a
document's beginning. An entry counts from the minute it was entered, never from the minute it speaks of. Left out:
everything that says how the stay ended (discharge columns, `activeupondischarge`, `careplaneol`, APACHE's results).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from training.sources.eicu_tables import LAST_MINUTE, known_at, rows

DOCUMENTS = ("history", "plan", "examination")

_CHRONIC = {
    "aids": "AIDS",
    "hepaticfailure": "hepatic failure",
    "lymphoma": "lymphoma",
    "metastaticcancer": "metastatic cancer",
    "leukemia": "leukemia",
    "immunosuppression": "immunosuppression",
    "cirrhosis": "cirrhosis",
    "diabetes": "diabetes",
    "electivesurgery": "elective surgery",
    "activetx": "active treatment",
    "readmit": "readmitted",
}
_STATE = {"intubated": "intubated", "vent": "ventilated", "dialysis": "dialysis", "meds": "sedated"}
_ASKED = {"Performed", "NotPerformed", "Performed - Structured", "scored", "Unknown", "Yes", "No", "1", "DailyProgress"}
"""Answers that say a form was filled in, not what is wrong."""
_FORMS = ("View", "Skip Screen", "Include", "Source of Patient Information", "Obtain Options")
_SURGERY = "Was the patient admitted from the O.R."

_Line = tuple[str, int, str, str]  # stay, minute, document, line


def written(root: Path) -> Mapping[str, list[tuple[int, str, str]]]:
    """Per stay (minute since unit admission, document, its whole text as it stood then), in order of time."""
    lines: dict[str, dict[int, dict[str, list[str]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for source in (_admission, _past, _worksheet, _problems, _care_plan, _infusions, _examined, _nursed):
        for stay, minute, document, line in source(root):
            if minute <= LAST_MINUTE:
                lines[stay][max(0, minute)][document].append(line)
    return {stay: list(_versions(by_minute)) for stay, by_minute in lines.items()}


def _versions(by_minute: Mapping[int, Mapping[str, list[str]]]) -> Iterator[tuple[int, str, str]]:
    standing: dict[str, list[str]] = {document: [] for document in DOCUMENTS}
    for minute in sorted(by_minute):
        for document, lines in by_minute[minute].items():
            new = [line for line in dict.fromkeys(lines) if line not in standing[document]]
            if new:
                standing[document] = new + standing[document]
                yield minute, document, ". ".join(standing[document])


def _tail(path: str, separator: str, parts: int = 2) -> str:
    return " ".join(dict.fromkeys(path.split(separator)[-parts:]))


def _admission(root: Path) -> Iterator[_Line]:
    for row in rows(root, "patient"):  # known at the door
        yield row["patientunitstayid"], 0, "history", f"{row['unittype']} from {row['unitadmitsource'] or 'unknown'}"
    for row in rows(root, "admissiondx"):
        line = _tail(row["admitdxpath"], "|")
        if line.startswith(_SURGERY):
            line = "after surgery" if row["admitdxtext"] == "Yes" else "not after surgery"
        yield row["patientunitstayid"], int(row["admitdxenteredoffset"]), "history", line
    for row in rows(root, "admissiondrug"):
        minute = known_at(row["drugoffset"], row["drugenteredoffset"])
        yield row["patientunitstayid"], minute, "history", row["drugname"].strip().lower()


def _past(root: Path) -> Iterator[_Line]:
    for row in rows(root, "pasthistory"):
        text = row["pasthistoryvaluetext"]
        if text and text not in _ASKED:
            minute = known_at(row["pasthistoryoffset"], row["pasthistoryenteredoffset"])
            yield row["patientunitstayid"], minute, "history", text
    for row in rows(root, "note"):
        if row["notetext"] and row["notetext"] not in _ASKED and not any(f in row["notepath"] for f in _FORMS):
            minute = known_at(row["noteoffset"], row["noteenteredoffset"])
            yield row["patientunitstayid"], minute, "history", _tail(row["notepath"], "/")


def _worksheet(root: Path) -> Iterator[_Line]:
    """The APACHE worksheet's words; it has no times, so it is known at 24 h."""
    for table, names, document in (("apachepredvar", _CHRONIC, "history"), ("apacheapsvar", _STATE, "plan")):
        for row in rows(root, table):
            for column, words in names.items():
                if row[column] == "1":
                    yield row["patientunitstayid"], LAST_MINUTE, document, words


def _problems(root: Path) -> Iterator[_Line]:
    for table, minute, text in (
        ("diagnosis", "diagnosisoffset", "diagnosisstring"),
        ("treatment", "treatmentoffset", "treatmentstring"),
    ):
        for row in rows(root, table):
            yield row["patientunitstayid"], int(row[minute]), "plan", _tail(row[text], "|")


def _care_plan(root: Path) -> Iterator[_Line]:
    for row in rows(root, "careplangeneral"):
        if row["cplitemvalue"]:
            line = f"{row['cplgroup']} {row['cplitemvalue']}"
            yield row["patientunitstayid"], int(row["cplitemoffset"]), "plan", line


def _infusions(root: Path) -> Iterator[_Line]:
    for row in rows(root, "infusiondrug"):
        name = row["drugname"].split("(")[0].removeprefix("Volume").strip().lower()
        if name:
            yield row["patientunitstayid"], int(row["infusionoffset"]), "plan", f"infusion {name}"


def _examined(root: Path) -> Iterator[_Line]:
    for row in rows(root, "physicalexam"):
        text = row["physicalexamtext"]
        if text and text not in _ASKED and not any(letter.isdigit() for letter in text[:2]):
            line = _tail(row["physicalexampath"], "/")
            yield row["patientunitstayid"], int(row["physicalexamoffset"]), "examination", line


def _nursed(root: Path) -> Iterator[_Line]:
    for row in rows(root, "nurseassessment"):
        minute = known_at(row["nurseassessoffset"], row["nurseassessentryoffset"])
        line = f"{row['cellattribute']} {row['cellattributevalue']}"
        yield row["patientunitstayid"], minute, "examination", line
