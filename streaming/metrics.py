"""Every metric of a worker, each with the line that explains it. No identifier of a patient is ever a label."""

import threading
from collections import defaultdict

from streaming.engine import Outcome

METRICS: dict[str, tuple[str, str]] = {
    "wardwatch_events_total": (
        "counter",
        "events by what became of them and topic: applied, refused, rerouted, forwarded",
    ),
    "wardwatch_scored_total": ("counter", "scores published"),
    "wardwatch_merged_total": ("counter", "updates of patients merged into another, who is scored instead"),
    "wardwatch_alerts_total": ("counter", "alerts published by action"),
    "wardwatch_batches_total": ("counter", "micro-batches finished"),
    "wardwatch_stage_seconds_total": ("counter", "time spent by stage, summed over batches"),
    "wardwatch_inbox_batches": ("gauge", "fetched batches that wait"),
    "wardwatch_paused": ("gauge", "1 while something the worker needs is away"),
    "wardwatch_assigned_partitions": ("gauge", "partitions this worker owns"),
    "wardwatch_backend": ("gauge", "which predictor backend serves: 1 the wanted one, 0 the fall-back"),
    "wardwatch_loop_held_seconds_max": (
        "gauge",
        "longest turn of the event loop in the last ten seconds, less what it waited for a processor",
    ),
    "wardwatch_gateway_messages_total": ("counter", "messages and instances by gateway and what became of them"),
    "wardwatch_gateway_skipped_total": ("counter", "HL7 observations that are nothing to the model, by why"),
    "wardwatch_gateway_connections": ("gauge", "open connections or associations of the gateway"),
}


class Metrics:
    """Counts in memory; the engine's observer. Rendered as Prometheus text."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], float] = defaultdict(float)
        self.paused_by: str | None = None
        self._counting = threading.Lock()  # gateways count from several threads

    def batch_done(self, records: int, outcome: Outcome) -> None:
        self._values["wardwatch_batches_total", ""] += 1
        for name, count in outcome.counts.items():
            what, _, detail = name.partition(":")
            if what in ("scored", "merged"):
                self._values[f"wardwatch_{what}_total", ""] += count
            elif what == "alerts":
                self._values["wardwatch_alerts_total", f'action="{detail}"'] += count
            else:
                self._values["wardwatch_events_total", f'outcome="{what}",topic="{detail}"'] += count
        for stage, ms in outcome.stage_ms.items():
            self._values["wardwatch_stage_seconds_total", f'stage="{stage}"'] += ms / 1e3

    def paused(self, what: str | None) -> None:
        self.paused_by = what
        self._values["wardwatch_paused", ""] = float(what is not None)

    def waiting(self, batches: int) -> None:
        self._values["wardwatch_inbox_batches", ""] = batches

    def count(self, name: str, by: float, **labels: str) -> None:
        """Adds to a counter of `METRICS`."""
        if METRICS[name][0] != "counter":
            raise ValueError(f"{name} is no counter")
        with self._counting:
            self._values[name, ",".join(f'{key}="{value}"' for key, value in labels.items())] += by

    def serving(self, backend: str, wanted: bool) -> None:
        self._values["wardwatch_backend", f'name="{backend}"'] = float(wanted)

    def set(self, name: str, value: float) -> None:
        """Sets a gauge of `METRICS`."""
        if METRICS[name][0] != "gauge":
            raise ValueError(f"{name} is no gauge")
        self._values[name, ""] = value

    def render(self) -> str:
        """Prometheus text exposition format 0.0.4."""
        lines = []
        for name, (kind, about) in METRICS.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
            for (of, labels), value in sorted(self._values.items()):
                if of == name:
                    lines.append(f"{name}{{{labels}}} {value:g}" if labels else f"{name} {value:g}")
        return "\n".join(lines) + "\n"
