"""Units as HL7 v2 senders write them (OBX-6) to UCUM. By table or refused: the signal table then says what converts.

OBX-6 names UCUM in its third component, or holds UCUM anyway, or one of the spellings below: ISO+ (HL7 table 0396 code
ISO+, which ignores case) and what monitors and laboratories print. Only whole strings are looked up.
"""

from collections.abc import Sequence

from models.signals import SIGNALS, by_loinc

SPELLINGS = {
    "mmhg": "mm[Hg]",
    "mm(hg)": "mm[Hg]",
    "mm hg": "mm[Hg]",
    "kpa": "kPa",
    "bpm": "/min",
    "beats/min": "{beats}/min",
    "/min": "/min",
    "1/min": "/min",
    "{beat}/min": "{beats}/min",
    "breaths/min": "{breaths}/min",
    "br/min": "{breaths}/min",
    "insp/min": "{breaths}/min",
    "{breath}/min": "{breaths}/min",
    "rpm": "{breaths}/min",
    "cel": "Cel",
    "degc": "Cel",
    "deg c": "Cel",
    "°c": "Cel",
    "degf": "[degF]",
    "deg f": "[degF]",
    "°f": "[degF]",
    "percent": "%",
    "mmol/l": "mmol/L",
    "meq/l": "meq/L",
    "umol/l": "umol/L",
    "µmol/l": "umol/L",
    "μmol/l": "umol/L",
    "mg/dl": "mg/dL",
    "g/dl": "g/dL",
    "g/l": "g/L",
    "ng/ml": "ng/mL",
    "ng/l": "ng/L",
    "ug/l": "ug/L",
    "µg/l": "ug/L",
    "μg/l": "ug/L",
    "u/l": "U/L",
    "iu/l": "[IU]/L",
    "10*3/ul": "10*3/uL",
    "10^3/ul": "10*3/uL",
    "x10^3/ul": "10*3/uL",
    "x10e3/ul": "10*3/uL",
    "10e3/ul": "10*3/uL",
    "k/ul": "K/uL",
    "10*9/l": "10*9/L",
    "10^9/l": "10*9/L",
    "x10^9/l": "10*9/L",
    "10e9/l": "10*9/L",
    "sec": "s",
    "s": "s",
    "ml": "mL",
    "l": "L",
    "kg": "kg",
    "g": "g",
    "lb": "[lb_av]",
    "lbs": "[lb_av]",
    "cm": "cm",
    "m": "m",
    "in": "[in_i]",
    "inch": "[in_i]",
    "yr": "a",
    "years": "a",
    "ph": "[pH]",
}
"""Lower-case spelling to UCUM."""

PURE_NUMBERS = frozenset({"[pH]", "{score}"})
"""Canonical units of signals that laboratories and charts send without any unit."""


def to_ucum(unit: Sequence[str], loinc: str) -> str:
    """UCUM for OBX-6 as its components (code, text, coding system, ...); "" when the table does not know it."""
    parts = [part.strip() for part in (*unit, "", "", "")[:3]]
    code, text, system = parts
    if not code and not text:
        index = by_loinc.get(loinc)
        ucum = SIGNALS[index].ucum if index is not None else ""
        return ucum if ucum in PURE_NUMBERS else ""
    if system == "UCUM" or code in _UCUM:
        return code
    return SPELLINGS.get(code.lower()) or SPELLINGS.get(text.lower(), "")


_UCUM = frozenset({signal.ucum for signal in SIGNALS} | {unit for signal in SIGNALS for unit in signal.units})
