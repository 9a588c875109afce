"""The engine alone, without Kafka and Redis: every backend that runs here, each in a process of its own, one thread.

Cases of one backend are timed in turn, round after round, and the medians of rounds count: so a ratio of two cases does
not hang on what else the machine did meanwhile. Owns what is measured; `bench_page.py` shows it.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from models import artifact, backends, golden
from models.predictor import Predictor
from models.window import MAX_NOTES, MAX_SERIES, SLOTS, WindowBatch
from streaming.errors import ConfigError, Fatal
from streaming.latency import machine

BUCKETS = (1, 8, 32, 64)
ROUNDS = 7
CASE_S = 0.02
"""At least so long, or one call, is each case timed in a round."""

COLD_STARTS = 3
LAG_S = 2.0
TICK_S = 0.001
BAR = 1 / 30
"""What a vitals update may cost of the whole model, at most."""

LIBRARIES = ("numpy", "onnxruntime", "openvino", "torch", "torch-tensorrt")

Call = Callable[[], object]


def measure(folder: Path, wanted: tuple[str, ...], engines: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Every wanted backend, or why it does not run here.

    Raises:
        ConfigError: the artifact may not serve, or no backend runs here.
        Fatal: a backend's process ended otherwise.
    """
    try:
        found = artifact.load(folder)
    except artifact.ArtifactCorrupt as error:
        raise ConfigError(str(error)) from error
    results: dict[str, Any] = {}
    for name in wanted:
        starts = [_child(name, folder, engines, "start") for _ in range(COLD_STARTS)]
        if "refused" in starts[0]:
            report(f"{name:<14} {starts[0]['refused']}")
            results[name] = starts[0]
            continue
        result = _child(name, folder, engines, "measure")
        result["cold_start_s"] = statistics.median(start["seconds"] for start in starts)
        results[name] = result
        report(
            f"{name:<14} update {result['update_ms']['1']:.3f} ms  whole {result['whole_ms']:.2f} ms  "
            f"1/{1 / result['update_of_whole']:.0f}  cold start {result['cold_start_s']:.2f} s  "
            f"loop lag p99 {result['loop_lag_ms']['inferring']['p99']:.2f} ms"
        )
    if all("refused" in result for result in results.values()):
        raise ConfigError("none of these backends runs here")
    return {
        "backends": results,
        "bar_update_of_whole": BAR,
        "bar_holds": {n: bool(r["update_of_whole"] <= BAR) for n, r in results.items() if "refused" not in r},
        "model": found.card.model_hash,
        "architecture": found.architecture,
        "seed": "the artifact's golden inputs",
        "rounds": ROUNDS,
        "machine": machine(),
        "versions": {name: _version(name) for name in LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _child(name: str, folder: Path, engines: Path, what: str) -> dict[str, Any]:
    """A backend in a fresh process, its answer as JSON; with `start`, the seconds until it had scored a patient."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    arguments = [sys.executable, "-m", "streaming.bench_engine", name, str(folder), str(engines), what]
    started = time.perf_counter()
    done = subprocess.run(arguments, env=env, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise Fatal(f"the process that measures {name} ended with status {done.returncode}")
    answer: dict[str, Any] = orjson.loads(done.stdout)
    return {"seconds": time.perf_counter() - started} | answer if what == "start" else answer


def run_child(name: str, folder: Path, engines: Path, what: str) -> dict[str, Any]:
    """What the child says of its backend."""
    try:
        predictor = backends.load(folder, name, engines)
    except (backends.BackendUnavailable, golden.GoldenMismatch) as error:
        return {"refused": str(error)}
    given = artifact.load(folder).golden()
    if what == "start":
        _update(predictor, given, 1)()
        return {}
    return measured(predictor, given)


def measured(predictor: Predictor, given: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """All figures of one backend, in ms unless said otherwise. Keys of a mapping are rows in a batch."""
    cases: dict[tuple[str, int], Call] = {}
    for rows in BUCKETS:
        cases |= {(part, rows): call for part, call in _parts(predictor, given, rows).items()}
        cases["update", rows] = _update(predictor, given, rows)
    cases["whole", 1] = _whole(predictor, given, notes=1, scans=1)
    cases["whole, every slot", 1] = _whole(predictor, given, notes=MAX_NOTES, scans=MAX_SERIES)
    median = _timed(cases)
    update = median["update", 1]
    return {
        "parts_ms": {part: {str(rows): median[part, rows] for rows in BUCKETS} for part in artifact.PARTS},
        "update_ms": {str(rows): median["update", rows] for rows in BUCKETS},
        "scored_updates_per_s": {str(rows): rows / median["update", rows] * 1e3 for rows in BUCKETS},
        "whole_ms": median["whole", 1],
        "whole_every_slot_ms": median["whole, every slot", 1],
        "update_of_whole": update / median["whole", 1],
        "update_of_whole_every_slot": update / median["whole, every slot", 1],
        "loop_lag_ms": asyncio.run(_loop_lag([call for (_, rows), call in cases.items() if rows == 1])),
        "errors": golden.errors(predictor, given),
    }


def _rows(array: np.ndarray, rows: int) -> np.ndarray:
    """As many rows, the golden ones again and again from row 1 on (row 0 is empty)."""
    return array[1 + np.arange(rows) % (len(array) - 1)]


def _window(given: Mapping[str, np.ndarray], rows: int) -> WindowBatch:
    return WindowBatch(*(_rows(given[field.name], rows) for field in fields(WindowBatch)))


def _fused(predictor: Predictor, given: Mapping[str, np.ndarray], rows: int) -> Call:
    """Fusion with everything present: the score, and one masked row for each modality."""
    tokens, age_h = _rows(given["tokens"], rows), _rows(given["age_h"], rows)
    return lambda: predictor.fuse(tokens, np.ones((rows, len(SLOTS)), np.float32), age_h)


def _parts(predictor: Predictor, given: Mapping[str, np.ndarray], rows: int) -> dict[str, Call]:
    window, pixels = _window(given, rows), _rows(given["pixels"], rows)
    texts = [golden.TEXTS[row % len(golden.TEXTS)] for row in range(rows)]
    return {
        "vitals": lambda: predictor.encode_vitals(window),
        "notes": lambda: predictor.encode_notes(texts),
        "scans": lambda: predictor.encode_scans(pixels, ["CR"] * rows),
        "fusion": _fused(predictor, given, rows),
    }


def _update(predictor: Predictor, given: Mapping[str, np.ndarray], rows: int) -> Call:
    """What a vitals event costs: its own encoder and fusion with cached embeddings of the rest."""
    window, fuse = _window(given, rows), _fused(predictor, given, rows)
    return lambda: (predictor.encode_vitals(window), fuse())


def _whole(predictor: Predictor, given: Mapping[str, np.ndarray], notes: int, scans: int) -> Call:
    """What it would cost without a cache: every encoder for what the patient has, then fusion."""
    update, pixels, texts = _update(predictor, given, 1), _rows(given["pixels"], scans), golden.TEXTS[1 : 1 + notes]
    return lambda: (update(), predictor.encode_notes(texts), predictor.encode_scans(pixels, ["CR"] * scans))


def _timed(cases: Mapping[Any, Call]) -> dict[Any, float]:
    """The median of rounds of each case, in ms a call."""
    times: dict[Any, list[float]] = {case: [] for case in cases}
    for number in range(-1, ROUNDS):  # round -1 warms up
        for case, call in cases.items():
            calls, started = 0, time.perf_counter()
            while calls == 0 or time.perf_counter() - started < CASE_S:
                call()
                calls += 1
            if number >= 0:
                times[case].append((time.perf_counter() - started) / calls * 1e3)
    return {case: statistics.median(values) for case, values in times.items()}


async def _loop_lag(calls: list[Call]) -> dict[str, dict[str, float]]:
    """How late a ticker's event loop is, at rest and while a thread of the same process infers without a pause."""
    stop = threading.Event()

    def infer() -> None:
        while not stop.is_set():
            for call in calls:
                call()

    idle = await _ticks()
    inferring = asyncio.create_task(asyncio.to_thread(infer))
    busy = await _ticks()
    stop.set()
    await inferring
    return {"at_rest": idle, "inferring": busy}


async def _ticks() -> dict[str, float]:
    late: list[float] = []
    until = time.perf_counter() + LAG_S
    while (before := time.perf_counter()) < until:
        await asyncio.sleep(TICK_S)
        late.append((time.perf_counter() - before - TICK_S) * 1e3)
    p50, p99 = np.percentile(late, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": max(late)}


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(run_child(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])))
