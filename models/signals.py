"""The one table of signals: name, LOINC, UCUM, plausible range, conversions, and each data set's names for it.

The order of `SIGNALS` is the order of the model's inputs: append, never insert. Units are converted by this table or
refused, never guessed. Ranges are what is physically possible, not what is normal. LOINC codes from loinc.org, UCUM
codes from ucum.org, MIMIC-III itemids from D_ITEMS and D_LABITEMS (CareVue below 220000, MetaVision above, labs 5xxxx).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Kind = Literal["vital", "lab", "static"]


class UnknownCode(ValueError):
    """The LOINC code is not in the table."""


class UnknownUnit(ValueError):
    """The table has no conversion from this unit for this signal."""


class ImplausibleValue(ValueError):
    """The value lies outside what is physically possible."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One measured quantity. `units` maps an accepted UCUM unit to (scale, offset) into `ucum`."""

    name: str
    loinc: str
    ucum: str
    low: float
    high: float
    kind: Kind
    units: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    mimic3: Mapping[int, str] = field(default_factory=dict)  # itemid -> UCUM unit it is charted in
    physionet2012: str | None = None
    physionet2019: str | None = None


_PRESSURE = {"kPa": (7.50062, 0.0)}
_ION = {"meq/L": (1.0, 0.0)}
_RATE = {"{beats}/min": (1.0, 0.0), "{breaths}/min": (1.0, 0.0)}
_PERCENT = {"1": (100.0, 0.0)}
_COUNT = {"10*9/L": (1.0, 0.0), "K/uL": (1.0, 0.0)}
_PER_DL = {"g/L": (0.1, 0.0)}


def _items(unit: str, *itemids: int) -> dict[int, str]:
    return dict.fromkeys(itemids, unit)


_FAHRENHEIT = {"[degF]": (5 / 9, -160 / 9), "K": (1.0, -273.15)}
_TEMPERATURES = {**_items("Cel", 676, 677, 223762), **_items("[degF]", 678, 679, 223761)}
_FIO2 = {**_items("1", 190), **_items("%", 3420, 3422, 223835)}
MMHG = "mm[Hg]"

SIGNALS: tuple[Signal, ...] = (
    Signal("heart_rate", "8867-4", "/min", 0, 350, "vital", _RATE, _items("/min", 211, 220045), "HR", "HR"),
    Signal("respiratory_rate", "9279-1", "/min", 0, 150, "vital", _RATE, _items("/min", 615, 618, 220210, 224690),
           "RespRate", "Resp"),
    Signal("spo2", "59408-5", "%", 0, 100, "vital", _PERCENT, _items("%", 646, 220277), None, "O2Sat"),
    Signal("systolic", "8480-6", MMHG, 0, 400, "vital", _PRESSURE,
           _items(MMHG, 51, 442, 455, 6701, 220050, 220179), "SysABP", "SBP"),
    Signal("diastolic", "8462-4", MMHG, 0, 300, "vital", _PRESSURE,
           _items(MMHG, 8368, 8440, 8441, 8555, 220051, 220180), "DiasABP", "DBP"),
    Signal("mean_pressure", "8478-0", MMHG, 0, 330, "vital", _PRESSURE,
           _items(MMHG, 52, 443, 456, 6702, 220052, 220181, 225312), "MAP", "MAP"),
    Signal("temperature", "8310-5", "Cel", 20, 45, "vital", _FAHRENHEIT, _TEMPERATURES, "Temp", "Temp"),
    Signal("fio2", "3150-6", "%", 20, 100, "vital", _PERCENT, _FIO2, "FiO2", "FiO2"),
    Signal("etco2", "19889-5", MMHG, 0, 150, "vital", _PRESSURE, {}, None, "EtCO2"),
    Signal("gcs", "9269-2", "{score}", 3, 15, "vital", {}, _items("{score}", 198), "GCS", None),
    Signal("gcs_eye", "9267-6", "{score}", 1, 4, "vital", {}, _items("{score}", 184, 220739)),
    Signal("gcs_verbal", "9270-0", "{score}", 0, 5, "vital", {}, _items("{score}", 723, 223900)),
    Signal("gcs_motor", "9268-4", "{score}", 1, 6, "vital", {}, _items("{score}", 454, 223901)),
    Signal("urine", "9187-6", "mL", 0, 10000, "vital", {"L": (1000.0, 0.0)}, {}, "Urine", None),
    Signal("ph", "2744-1", "[pH]", 6.3, 8.4, "lab", {"1": (1.0, 0.0)}, _items("[pH]", 50820), "pH", "pH"),
    Signal("pao2", "2703-7", MMHG, 0, 800, "lab", _PRESSURE, _items(MMHG, 50821), "PaO2", None),
    Signal("paco2", "2019-8", MMHG, 0, 250, "lab", _PRESSURE, _items(MMHG, 50818), "PaCO2", "PaCO2"),
    Signal("base_excess", "1925-7", "mmol/L", -60, 60, "lab", _ION, _items("meq/L", 50802), None, "BaseExcess"),
    Signal("bicarbonate", "1963-8", "mmol/L", 0, 80, "lab", _ION, _items("meq/L", 50882), "HCO3", "HCO3"),
    Signal("sao2", "2708-6", "%", 0, 100, "lab", _PERCENT, _items("%", 50817), "SaO2", "SaO2"),
    Signal("ast", "1920-8", "U/L", 0, 50000, "lab", {"[IU]/L": (1.0, 0.0)}, _items("U/L", 50878), "AST", "AST"),
    Signal("alt", "1742-6", "U/L", 0, 50000, "lab", {"[IU]/L": (1.0, 0.0)}, _items("U/L", 50861), "ALT", None),
    Signal("alp", "6768-6", "U/L", 0, 20000, "lab", {"[IU]/L": (1.0, 0.0)}, _items("U/L", 50863), "ALP",
           "Alkalinephos"),
    Signal("urea_nitrogen", "3094-0", "mg/dL", 0, 400, "lab", {"mmol/L": (2.801, 0.0)}, _items("mg/dL", 51006), "BUN",
           "BUN"),
    Signal("calcium", "17861-6", "mg/dL", 0, 30, "lab", {"mmol/L": (4.008, 0.0)}, _items("mg/dL", 50893), None,
           "Calcium"),
    Signal("chloride", "2075-0", "mmol/L", 40, 200, "lab", _ION, _items("meq/L", 50902), None, "Chloride"),
    Signal("creatinine", "2160-0", "mg/dL", 0, 60, "lab", {"umol/L": (1 / 88.42, 0.0)}, _items("mg/dL", 50912),
           "Creatinine", "Creatinine"),
    Signal("bilirubin_direct", "1968-7", "mg/dL", 0, 80, "lab", {"umol/L": (1 / 17.1, 0.0)}, _items("mg/dL", 50883),
           None, "Bilirubin_direct"),
    Signal("bilirubin_total", "1975-2", "mg/dL", 0, 100, "lab", {"umol/L": (1 / 17.1, 0.0)}, _items("mg/dL", 50885),
           "Bilirubin", "Bilirubin_total"),
    Signal("glucose", "2345-7", "mg/dL", 0, 3000, "lab", {"mmol/L": (18.016, 0.0)}, _items("mg/dL", 50931), "Glucose",
           "Glucose"),
    Signal("lactate", "2524-7", "mmol/L", 0, 60, "lab", {"mg/dL": (0.111, 0.0)}, _items("mmol/L", 50813), "Lactate",
           "Lactate"),
    Signal("magnesium", "19123-9", "mg/dL", 0, 20, "lab", {"mmol/L": (2.431, 0.0)}, _items("mg/dL", 50960), "Mg",
           "Magnesium"),
    Signal("phosphate", "2777-1", "mg/dL", 0, 40, "lab", {"mmol/L": (3.097, 0.0)}, _items("mg/dL", 50970), None,
           "Phosphate"),
    Signal("potassium", "2823-3", "mmol/L", 0.5, 20, "lab", _ION, _items("meq/L", 50971), "K", "Potassium"),
    Signal("sodium", "2951-2", "mmol/L", 80, 220, "lab", _ION, _items("meq/L", 50983), "Na", None),
    Signal("troponin_i", "10839-9", "ng/mL", 0, 1000, "lab", {"ug/L": (1.0, 0.0), "ng/L": (0.001, 0.0)},
           _items("ng/mL", 51002), "TroponinI", "TroponinI"),
    Signal("troponin_t", "6598-7", "ng/mL", 0, 200, "lab", {"ug/L": (1.0, 0.0), "ng/L": (0.001, 0.0)},
           _items("ng/mL", 51003), "TroponinT", None),
    Signal("hematocrit", "4544-3", "%", 0, 90, "lab", _PERCENT, _items("%", 51221), "HCT", "Hct"),
    Signal("hemoglobin", "718-7", "g/dL", 0, 35, "lab", _PER_DL, _items("g/dL", 51222), None, "Hgb"),
    Signal("ptt", "14979-9", "s", 0, 400, "lab", {}, _items("s", 51275), None, "PTT"),
    Signal("wbc", "6690-2", "10*3/uL", 0, 1500, "lab", _COUNT, _items("10*3/uL", 51300, 51301), "WBC", "WBC"),
    Signal("fibrinogen", "3255-7", "mg/dL", 0, 2500, "lab", {"g/L": (100.0, 0.0)}, _items("mg/dL", 51214), None,
           "Fibrinogen"),
    Signal("platelets", "777-3", "10*3/uL", 0, 4000, "lab", _COUNT, _items("10*3/uL", 51265), "Platelets",
           "Platelets"),
    Signal("albumin", "1751-7", "g/dL", 0, 10, "lab", _PER_DL, _items("g/dL", 50862), "Albumin", None),
    Signal("cholesterol", "2093-3", "mg/dL", 0, 2000, "lab", {"mmol/L": (38.67, 0.0)}, _items("mg/dL", 50907),
           "Cholesterol", None),
    Signal("age", "30525-0", "a", 0, 130, "static", {"mo": (1 / 12, 0.0)}, {}, "Age", "Age"),
    Signal("male", "76689-9", "1", 0, 1, "static", {}, {}, "Gender", "Gender"),
    Signal("height", "8302-2", "cm", 20, 280, "static", {"m": (100.0, 0.0), "[in_i]": (2.54, 0.0)},
           _items("cm", 226730), "Height", None),
    Signal("weight", "29463-7", "kg", 0.2, 700, "static", {"g": (0.001, 0.0), "[lb_av]": (0.45359237, 0.0)},
           _items("kg", 762, 763, 224639, 226512), "Weight", None),
    # A ventilator's mode is charted while it breathes for the patient; LOINC has no plain flag for that.
    Signal("ventilated", "20124-4", "1", 0, 1, "vital", {}, {}, "MechVent", None),
    # The number of the unit's HSLOC code (HL7 v3 and CDC: 1027 medical critical care), 0 for a unit of unknown kind;
    # its time is when the unit took the patient.
    Signal("unit", "56816-2", "{hsloc}", 0, 9999, "static"),
    # LOINC names the date of admission; told as the hours from it to the unit's taking the patient.
    Signal("hours_before_unit", "8656-1", "h", 0, 100000, "static", {"d": (24.0, 0.0)}, {}, None, "HospAdmTime"),
)  # fmt: skip

by_loinc: Mapping[str, int] = MappingProxyType({signal.loinc: index for index, signal in enumerate(SIGNALS)})
by_name: Mapping[str, int] = MappingProxyType({signal.name: index for index, signal in enumerate(SIGNALS)})

_CONVERT: dict[tuple[str, str], tuple[int, float, float]] = {
    (signal.loinc, unit): (index, scale, offset)
    for index, signal in enumerate(SIGNALS)
    for unit, (scale, offset) in {signal.ucum: (1.0, 0.0), **signal.units}.items()
}


def to_canonical(loinc: str, value: float, unit: str) -> tuple[int, float]:
    """The signal's index and the value in its canonical unit.

    Raises:
        UnknownCode, UnknownUnit, ImplausibleValue: without the value in the text.
    """
    found = _CONVERT.get((loinc, unit))
    if found is None:
        if loinc not in by_loinc:
            raise UnknownCode(f"LOINC {loinc} is not in the signal table")
        raise UnknownUnit(f"no conversion to {SIGNALS[by_loinc[loinc]].ucum} for LOINC {loinc}")
    index, scale, offset = found
    number = value * scale + offset
    signal = SIGNALS[index]
    slack = 1e-6 * max(1.0, abs(signal.high))  # a conversion's rounding must not refuse the bound itself
    if not math.isfinite(number) or not signal.low - slack <= number <= signal.high + slack:
        raise ImplausibleValue(f"{signal.name} outside {signal.low} to {signal.high} {signal.ucum}")
    return index, min(max(number, signal.low), signal.high)
