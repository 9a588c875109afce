"""`wardwatch replay mimic3 | synthetic`."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from streaming.errors import ConfigError, Fatal
from streaming.settings import Settings

KINDS = ("scans", "notes", "vitals")


class Speed(click.ParamType):
    """`max`, or how many times real time."""

    name = "N|max"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | None:
        if value is None or value == "max":
            return None
        try:
            speed = float(value)
        except ValueError:
            self.fail(f"{value!r} is neither a number nor 'max'", param, ctx)
        if speed <= 0:
            self.fail("must be more than 0", param, ctx)
        return speed


class Drop(click.ParamType):
    """KIND:P"""

    name = "KIND:P"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, float]:
        kind, _, share = str(value).partition(":")
        try:
            found = float(share)
        except ValueError:
            found = -1.0
        if kind not in KINDS or not 0 <= found <= 1:
            self.fail("must be scans, notes or vitals, a colon, and a share from 0 to 1", param, ctx)
        return kind, found


_SHARE = click.FloatRange(0, 1)
_OPTIONS = [
    click.option("--speed", type=Speed(), default="max", help="times real time, or max [max]"),
    click.option("--rate", type=click.FloatRange(0, min_open=True), help="events/s, instead of --speed"),
    click.option("--patients", type=click.IntRange(1), help="only the first N patients"),
    click.option("--late", type=_SHARE, default=0.0, help="share of events recorded up to 6 h late"),
    click.option("--duplicate", type=_SHARE, default=0.0, help="share of events sent twice"),
    click.option("--shuffle", type=_SHARE, default=0.0, help="share of events sent out of order"),
    click.option("--drop", type=Drop(), multiple=True, help="share of a modality left out"),
    click.option("--seed", type=int, default=1, show_default=True),
    click.option("--report", type=click.Path(path_type=Path), help="JSON report; an HTML page goes beside it"),
    click.option("--timeout", type=click.FloatRange(1), default=60.0, show_default=True, help="s without progress"),
    click.option("--worker-pid", type=int, help="whose peak memory the report gives, besides this process's"),
    click.option("--wait/--no-wait", default=True, help="wait until every event is accounted for"),
    click.option("--alerts/--no-alerts", "show", default=False, help="print alerts as they come"),
]


def _common(function: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.group(short_help="replay MIMIC-III or a synthetic cohort")
def command() -> None:
    """Sends a cohort's events to Kafka and reports what became of each.

    Workers that read a replay run with WARDWATCH_CLOCK=events, and with a WARDWATCH_TOPIC_PREFIX of their own, so that
    it never meets live patients.
    """


@command.command()
@click.option("--root", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--arrival", type=click.Choice(["charttime", "storetime"]), default="charttime", show_default=True)
@click.option("--notes", type=click.Path(path_type=Path, exists=True), help="attach other notes to the patients")
@click.option("--scans", type=click.Path(path_type=Path, exists=True), help="attach DICOM files to the patients")
@click.option("--limit", type=click.IntRange(1), help="only the first N events")
@_common
def mimic3(root: Path, arrival: Any, notes: Path | None, scans: Path | None, limit: int | None, **options: Any) -> None:
    """Replays MIMIC-III as it is published (csv or csv.gz), the demo or the whole."""
    from streaming import attached, mimic

    prepared = mimic.prepare(root, Settings().data_dir / "mimic3", arrival, lambda line: click.echo(line, err=True))
    patients = options.pop("patients")
    events: Iterable[mimic.Outgoing] = mimic.read(prepared, patients, limit)
    texts = attached.read_notes(notes) if notes else []
    pictures = attached.read_scans(scans) if scans else []
    if texts or pictures:
        first: dict[str, int] = {}
        for event in mimic.read(prepared, patients, limit):
            first.setdefault(event.patient, event.time_ms)
        texts = texts[: 3 * len(first)]
        events = attached.attach(events, sorted(first.items()), texts, pictures, options["seed"])
    about = [f"left out: {count} {why}" for why, count in prepared.left_out.items() if count]
    if texts or pictures:
        about.append(f"attached, not from MIMIC-III: {len(texts)} notes, {len(pictures)} scans")
    found = {"notes": len(texts), "scans": len(pictures)}
    _run(events, {"dataset": "mimic3", "arrival": arrival, "attached": found}, about, **options)


@command.command()
@click.option("--hours", type=click.IntRange(1), default=24, show_default=True)
@_common
def synthetic(hours: int, **options: Any) -> None:
    """Replays a made-up cohort: no data needed."""
    from streaming.synthetic import cohort

    patients = options.pop("patients") or 20
    about = ["synthetic patients: nobody's data, no statement about the model"]
    found = {"dataset": "synthetic", "patients": patients, "hours": hours}
    _run(cohort(patients, hours, options["seed"]), found, about, **options)


def _run(events: Iterable[Any], about: dict[str, Any], notes: list[str], **options: Any) -> None:
    from streaming import latency, replay
    from streaming.faults import Faults, inject
    from streaming.subscriber import line

    settings = Settings()
    faults = Faults(options["late"], options["duplicate"], options["shuffle"], dict(options["drop"]), options["seed"])
    show = options["show"]
    progress = _Progress()
    watch, seconds = asyncio.run(
        replay.run(
            _large_scans(inject(events, faults), settings),
            settings.kafka_bootstrap,
            settings.topic_prefix,
            replay.Pace(options["speed"], options["rate"]),
            seed=options["seed"],
            idle_timeout_s=options["timeout"],
            on_alert=lambda body: click.echo(line(body)) if show else None,
            on_progress=progress,
            wait=options["wait"],
        )
    )
    progress.end()
    if watch.produced == 0:
        raise ConfigError("there was no event to send")
    report = {
        **about,
        "counts": {
            "produced": watch.produced,
            "applied": watch.applied,
            "dead_lettered": watch.dead_lettered,
            "unaccounted": watch.outstanding,
            "risk": watch.risk,
            "alerts": len(watch.alerts),
            "repeated_alerts": watch.repeated_alerts,
        },
        "by_topic": dict(watch.by_kind),
        "dead_letter_reasons": dict(watch.reasons),
        "latency_ms": watch.latency.summary(),
        "score_change": {
            fault: {"mean_absolute": sum(v) / len(v), "largest": max(v), "n": len(v)}
            for fault, v in watch.change.items()
        },
        "seconds": seconds,
        "events_per_s": watch.produced / seconds,
        "peak_rss_mb": latency.peak_rss_mb(options["worker_pid"] or os.getpid()),
        "seed": options["seed"],
        "machine": latency.machine(),
        "notes": [*notes, "Producer, worker and subscriber share one machine and one clock."],
    }
    _show(report)
    if options["report"]:
        page = latency.write(report, options["report"])
        click.echo(f"report: {options['report']} and {page}")
    if options["wait"] and watch.outstanding:
        raise Fatal(
            f"{watch.outstanding} events are not accounted for after {options['timeout']:.0f} s without progress"
        )


def _large_scans(events: Iterable[tuple[Any, str]], settings: Settings) -> Iterator[tuple[Any, str]]:
    """A scan over the inline limit goes to the blob store; its event carries the claim check."""
    from dataclasses import replace

    from streaming.blobs import open_store

    blobs = open_store(settings.blob_url, settings.blobs)
    for event, fault in events:
        if event.kind == "scans" and len(event.value) > settings.inline_limit_bytes:
            dataref, sha256 = blobs.put(event.value)
            yield replace(event, value=b"", dataref=dataref, sha256=sha256), fault
        else:
            yield event, fault


def _show(report: dict[str, Any]) -> None:
    counts, latency = report["counts"], report["latency_ms"]
    click.echo("  ".join(f"{name} {value}" for name, value in counts.items()))
    for reason, count in sorted(report["dead_letter_reasons"].items()):
        click.echo(f"  dead-lettered as {reason}: {count}")
    click.echo(f"{report['events_per_s']:.0f} events/s over {report['seconds']:.1f} s")
    click.echo(f"{'ms':>18}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'max':>10}")
    for name, found in latency.items():
        click.echo(f"{name:>18}" + "".join(f"{found[key]:10.2f}" for key in ("p50", "p90", "p99", "p999", "max")))
    for note in report["notes"]:
        click.echo(f"  {note}")


class _Progress:
    """One line on a terminal, nothing elsewhere."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __call__(self, watch: Any) -> None:
        if self._shown:
            text = f"\rproduced {watch.produced}  applied {watch.applied}  alerts {len(watch.alerts)}   "
            click.echo(text, err=True, nl=False)

    def end(self) -> None:
        if self._shown:
            click.echo(err=True)
