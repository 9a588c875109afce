"""SIGKILL in the middle of whole replays. `make faults` runs this and writes benchmarks/faults.json.

Not part of `make test` (some ten minutes); a smaller kill test is.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import orjson
from kafka import KafkaConsumer, TopicPartition

from streaming.latency import machine
from tests.conftest import ROOT
from tests.integration.conftest import Site

RESULT = ROOT / "benchmarks" / "faults.json"
KILLS = 3


def _count(site: Site, kind: str) -> int:
    consumer = KafkaConsumer(bootstrap_servers=site.stack.bootstrap)
    ends = consumer.end_offsets([TopicPartition(site.prefix + kind, partition) for partition in range(8)])
    consumer.close()
    return sum(ends.values())


def _replay(site: Site, arguments: list[str]) -> tuple[subprocess.Popen[str], Path]:
    report = site.folder / "report.json"
    command = [sys.executable, "-m", "streaming", "replay", *arguments, "--timeout", "120", "--report", str(report)]
    output = (site.folder / "replay.log").open("w")
    return subprocess.Popen(command, env=site.env, stdout=output, stderr=subprocess.STDOUT, text=True), report


def _finish(running: subprocess.Popen[str], report: Path) -> dict:
    assert running.wait(timeout=1500) == 0, (report.parent / "replay.log").read_text()[-2000:]
    return orjson.loads(report.read_bytes())


def _kill_along(
    site: Site, worker, roles: tuple[str, ...], running, kind: str, total: int, env: dict[str, str]
) -> list[int]:
    """Kills when a quarter, half and three quarters of `total` records lie on topic `kind`; gives the scores by then."""
    at = []
    for share in range(1, KILLS + 1):
        while _count(site, kind) < share * total / (KILLS + 1):
            assert running.poll() is None, "the replay ended before the kills"
            time.sleep(0.1)
        at.append(_count(site, "risk"))
        for role in roles:
            site.kill(worker[role])
            worker[role] = site.start(role, **env)
    return at


def _alerts(site: Site) -> set[str]:
    return {orjson.loads(record.value)["id"] for record in site.read("alerts")}


def _verify(site: Site) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "streaming", "verify"], env=site.env, capture_output=True, text=True, timeout=1800
    )
    return {"holds": done.returncode == 0, "says": done.stdout.strip().splitlines()}


def _write(name: str, result: dict) -> None:
    found = orjson.loads(RESULT.read_bytes()) if RESULT.exists() else {}
    found[name] = result
    found["machine"] = machine()
    RESULT.write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n")


def test_whole_mimic_each_event_by_itself(site, stack, data_root, tmp_path):
    """Every event scored by itself: states and alert ids equal those of an undisturbed run."""
    arguments = ["mimic3", "--root", str(data_root / "mimic3_demo")]
    env = {"WARDWATCH_SCORE": "each", "WARDWATCH_INSTANCE": "one"}
    folder = tmp_path / "calm"
    folder.mkdir()
    calm = Site(stack, f"calm-{site.prefix}", folder)
    try:
        calm.start("fusion", **env)
        undisturbed = _finish(*_replay(calm, arguments))
    finally:
        calm.close()
    worker = {"fusion": site.start("fusion", **env)}
    running, report = _replay(site, arguments)
    killed_at = _kill_along(site, worker, ("fusion",), running, "risk", undisturbed["counts"]["risk"], env)
    counts = _finish(running, report)["counts"]
    alerts, states = (_alerts(calm), _alerts(site)), (calm.states(), site.states())
    verdict = _verify(site)
    _write("whole_mimic_each", {
        "kills_after_scores": killed_at, "undisturbed": undisturbed["counts"], "disturbed": counts,
        "alert_ids": [len(alerts[0]), len(alerts[1])], "alert_ids_equal": alerts[0] == alerts[1],
        "patients": len(states[0]), "states_equal": states[0] == states[1], "verify": verdict,
        "undisturbed_latency_ms": undisturbed["latency_ms"], "undisturbed_events_per_s": undisturbed["events_per_s"],
    })  # fmt: skip
    assert counts["produced"] == counts["applied"] + counts["dead_lettered"]
    assert alerts[0] == alerts[1]
    assert states[0] == states[1]
    assert verdict["holds"], verdict


def test_default_mode_with_notes_and_scans(site, data_root):
    """The default setting, all three modalities, both workers killed: the run's own history holds."""
    arguments = [
        "mimic3", "--root", str(data_root / "mimic3_demo"), "--limit", "40000", "--rate", "600",
        "--notes", str(data_root / "eicu_demo"), "--scans", str(data_root / "dicom"),
    ]  # fmt: skip
    worker = {role: site.start(role, WARDWATCH_INSTANCE=role) for role in ("fusion", "imaging")}
    running, report = _replay(site, arguments)
    killed_at = _kill_along(site, worker, ("fusion", "imaging"), running, "vitals", 38_000, {})
    counts = _finish(running, report)["counts"]
    verdict = _verify(site)
    _write("default_with_notes_and_scans", {"kills_after_scores": killed_at, "disturbed": counts, "verify": verdict})
    assert counts["produced"] == counts["applied"] + counts["dead_lettered"]
    assert verdict["holds"], verdict


def test_whole_mimic_default_mode(site, data_root):
    """The whole demo through one worker at full speed: counts and latency report, and its history."""
    worker = site.start("fusion")
    command = ["mimic3", "--root", str(data_root / "mimic3_demo"), "--worker-pid", str(worker.pid)]
    report = _finish(*_replay(site, command))
    verdict = _verify(site)
    _write("whole_mimic_default", {"report": report, "verify": verdict})
    assert report["counts"]["produced"] == report["counts"]["applied"] + report["counts"]["dead_lettered"]
    assert verdict["holds"], verdict
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=30) == 0
    site.workers.remove(worker)
