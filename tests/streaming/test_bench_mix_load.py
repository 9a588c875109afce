"""When each event of a round comes, and what is sent where the open data is not."""

from pathlib import Path

from streaming.bench_mix_load import Mix
from streaming.dicom import decode


def test_notes_come_together_and_scans_between_them():
    mix = Mix.of(Path("nowhere"), 10, 4, 1, burst=2)
    schedule = mix.schedule(1, "mix")
    assert [at for at, kind in schedule if kind == "notes"] == [0.25, 0.25, 0.75, 0.75]
    assert [at for at, kind in schedule if kind == "scans"] == [0.9]
    assert len(schedule) == 15 and schedule == sorted(schedule)
    assert {kind for _, kind in mix.schedule(1, "alone")} == {"vitals"}


def test_made_up_scans_decode_and_notes_have_a_real_length():
    mix = Mix.of(Path("nowhere"), 10, 1, 1)
    assert not mix.real
    assert decode(mix.files[0])[0].modality == "CR"
    assert 90 < min(map(len, mix.texts)) < max(map(len, mix.texts)) < 1_000
