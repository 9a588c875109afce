"""What hourly scores mean at the bedside: the 2019 challenge's utility, alerts a patient-day, lead time.

Rows are hours of stays, in order within each stay; hours may be missing among them, as before a stay's first measurement.
Labels are the challenge's: 1 from six hours before onset on. Shapes: N rows, A stays.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.bootstrap import F64, Resample, figure
from training.thresholds import for_recall, nested

Array = NDArray[np.floating]
CONDITION = "sepsis-6h"
"""The condition that this is about."""
LABELLED_AHEAD_H = 6
"""The label turns 1 so many hours before onset."""
EARLIEST_H, BEST_H, LATEST_H = -12, -6, 3
"""A call counts from 12 h before onset, most at 6 h before, and no longer 3 h after it (Reyna et al. 2020)."""


@dataclass(frozen=True, slots=True)
class Hours:
    """stay: [N] 0..A-1, ascending. hour: [N] of the stay. onset: f64 [N] hours from the row to its stay's onset; NaN in stays
    without event."""

    stay: NDArray[np.intp]
    hour: NDArray[np.int64]
    onset: F64

    @property
    def first(self) -> NDArray[np.intp]:
        """[A] row at which each stay begins."""
        return np.flatnonzero(np.diff(self.stay, prepend=-1))

    @property
    def follows(self) -> NDArray[np.bool_]:
        """[N] rows whose stay's hour before is the row before."""
        return (np.diff(self.stay, prepend=-1) == 0) & (np.diff(self.hour, prepend=-1) == 1)

    @property
    def in_window(self) -> NDArray[np.bool_]:
        """[N] rows at which a call is in time for the onset."""
        return (self.onset <= -EARLIEST_H) & (self.onset >= -LATEST_H)


def hours(stay_name: NDArray[np.str_], hour: NDArray[np.int64], first_event: Array) -> Hours:
    """From stays' names (rows of one stay together), each row's hour of its stay, and the hour at which its stay's label
    turns 1, which may itself be no row (NaN: never)."""
    begins = np.append(True, stay_name[1:] != stay_name[:-1])
    return Hours(np.cumsum(begins) - 1, hour, first_event.astype(np.float64) + LABELLED_AHEAD_H - hour)


def utility_of_calls(hours: Hours) -> tuple[F64, F64]:
    """[N] utility of calling and of not calling at each hour (challenge 2019, physionet.org/content/challenge-2019).

    Septic stays: a call gains from 0 at 12 h before onset to 1 at 6 h before, falls to 0 at 3 h after, costs 0.05
    when earlier; silence costs from 0 at 6 h before to 2 at 3 h after. Other stays: a call costs 0.05. Later: nothing.
    """
    ahead = hours.onset  # hours still to go
    rise = (-EARLIEST_H - ahead) / (BEST_H - EARLIEST_H)
    fall = (LATEST_H + ahead) / (LATEST_H - BEST_H)
    septic = np.isfinite(ahead)
    with np.errstate(invalid="ignore"):
        early, late = ahead >= -BEST_H, (ahead < -BEST_H) & (ahead >= -LATEST_H)
    called = np.where(early, np.maximum(rise, -0.05), np.where(late, fall, 0.0))
    silent = np.where(late, -2.0 * (-BEST_H - ahead) / (LATEST_H - BEST_H), 0.0)
    return np.where(septic, called, -0.05), np.where(septic, silent, 0.0)


def utility(hours: Hours, called: NDArray[np.bool_], sample: Resample) -> F64:
    """Draws of the normalised utility: 0 for never calling, 1 for the best calls of all."""
    if_called, if_silent = utility_of_calls(hours)
    told, silence, best = sample.totals(
        np.stack([np.where(called, if_called, if_silent), if_silent, np.maximum(if_called, if_silent)], 1)
    ).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return (told - silence) / (best - silence)


def utility_threshold(hours: Hours, probability: Array, rows: NDArray[np.intp]) -> float:
    """The threshold of largest utility on these rows."""
    if_called, if_silent = utility_of_calls(hours)
    order = rows[np.argsort(-probability[rows], kind="stable")]
    gain = np.cumsum((if_called - if_silent)[order])
    ranked = probability[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(order) - 1)
    return float(ranked[ends[int(np.argmax(gain[ends]))]])


def bedside(
    hours: Hours, probability: Array, fold: NDArray[np.int64], sample: Resample, recall: float = 0.8
) -> dict[str, object]:
    """Alerts a patient-day, stays alerted in vain, lead time, at thresholds that alert `recall` of the septic stays in
    time (from 12 h before onset to 3 h after) on the other folds.

    An alert is the first of consecutive hours at or above the threshold. Lead time: from the first hour called in that
    window to onset, so at most 12 h, negative when after it; median and quartiles are over the stays alerted in time.
    """

    def choose(rows: NDArray[np.intp]) -> float:
        timely = rows[hours.in_window[rows]]
        highest = np.full(hours.stay[-1] + 1, -np.inf)
        np.maximum.at(highest, hours.stay[timely], probability[timely])
        return for_recall(highest[np.isfinite(highest)], recall)

    called = nested(probability, fold, choose)
    alert = called & ~(np.append(False, called[:-1]) & hours.follows)
    timely = called & hours.in_window
    first_row = hours.first
    stays = len(first_row)
    reached = np.zeros(stays, bool)
    reached[hours.stay[timely]] = True
    eligible = np.zeros(stays, bool)
    eligible[hours.stay[hours.in_window]] = True
    alerted = np.zeros(stays, bool)
    alerted[hours.stay[alert]] = True
    septic = np.isfinite(hours.onset[first_row])
    lead = np.full(stays, -np.inf)
    np.maximum.at(lead, hours.stay[timely], hours.onset[timely])

    of_stay = sample.take(first_row)
    hit, events, vain, others = of_stay.totals(
        np.stack([reached & eligible, eligible, alerted & ~septic, ~septic], 1).astype(np.float64)
    ).T
    alerts, days = sample.totals(np.stack([alert, np.full(len(alert), 1 / 24)], 1).astype(np.float64)).T
    with np.errstate(invalid="ignore", divide="ignore"):
        found: dict[str, object] = {
            "wanted_recall": recall,
            "recall_of_stays": figure(hit / events),
            "alerts_per_patient_day": figure(alerts / days),
            "stays_alerted_in_vain": figure(vain / others),
        }
    if reached.any():
        leads = lead[reached]
        medians = [float(np.median(leads))]
        for counts in of_stay.counts[1:]:
            drawn = np.repeat(leads, counts[of_stay.patient[reached]])
            medians.append(float(np.median(drawn)) if len(drawn) else np.nan)
        found["lead_time_h"] = figure(np.array(medians))
        found["lead_time_quartiles_h"] = np.quantile(leads, [0.25, 0.75]).tolist()
    return found
