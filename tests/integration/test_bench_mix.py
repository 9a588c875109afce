"""`bench mix` on the real stack: every event of every kind is answered and counted in its groups."""

from pathlib import Path

import pytest

from streaming import bench_latency
from streaming.bench_mix import measure
from streaming.bench_mix_load import Mix
from streaming.settings import Settings

pytestmark = pytest.mark.integration


def test_every_note_scan_and_vitals_event_of_a_mix_is_answered(stack, tmp_path, monkeypatch):
    monkeypatch.setenv("WARDWATCH_KAFKA_BOOTSTRAP", stack.bootstrap)
    monkeypatch.setenv("WARDWATCH_REDIS_URL", stack.redis_url)
    monkeypatch.setenv("WARDWATCH_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(bench_latency, "WARM_UP_S", 1.0)
    monkeypatch.setattr(bench_latency, "SETTLE_S", 1.0)
    told = []
    report = measure(Settings(), Mix.of(Path("nowhere"), 20, 2, 1), 2, 1, told.append)
    counts = {(run["system"], run["load"]): {k: g["n"] for k, g in run["groups"].items()} for run in report["runs"]}
    assert set(counts) == {("wardwatch", "bare"), *((s, lo) for s in ("wardwatch", "faust") for lo in ("alone", "mix"))}
    for system in ("wardwatch", "faust"):
        mixed = counts[system, "mix"]
        assert (mixed["vitals"], mixed["notes"], mixed["scans"]) == (40, 4, 2)
        assert mixed["vitals near a note"] >= 1 and mixed["vitals near a scan"] >= 1
    assert "notes" not in counts["wardwatch", "alone"]
    assert report["patients"] == {"all": 100, "notes": 6, "scans": 3, "either": 9}
    assert set(report["ratios"]) == {"wardwatch, mix over alone", "wardwatch, alone over bare", "faust, mix over alone"}
    assert any("wardwatch mix: scans" in line for line in told)
