from dataclasses import replace

import numpy as np
import pytest
import torch

from models.conditions import NAMES
from models.signals import SIGNALS
from streaming.clock import HOUR_MS
from training.dataset import build
from training.peers_grud import GruD, gru_d
from training.stays import EPOCH_MS, Stay, note_event, vitals_event

MORTALITY = NAMES.index("in-hospital-mortality")


@pytest.fixture(autouse=True)
def one_thread():
    """Several threads would only wait for each other over such small tensors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def _stay(number, ill):
    """Heart rate rises in those who die."""
    rng = np.random.default_rng(number)
    events = [
        vitals_event(str(number), n, EPOCH_MS + n * HOUR_MS, [("8867-4", 80 + ill * n + rng.normal(0, 5), "/min")])
        for n in range(0, 24, 2)
    ]
    name = str(number)
    return Stay(name, name, "test", events, {"in-hospital-mortality": float(ill)}, [EPOCH_MS + 24 * HOUR_MS])


def test_it_learns_a_trend_and_repeats_itself():
    examples = build([_stay(number, number % 2) for number in range(60)])
    rows = np.arange(60)
    told = gru_d(examples, rows[:40], rows[40:])[:, MORTALITY]
    ill = examples.labels[40:, MORTALITY] == 1
    assert told[ill].min() > told[~ill].max()
    np.testing.assert_array_equal(told, gru_d(examples, rows[:40], rows[40:])[:, MORTALITY])


def test_an_hourly_condition_is_told_at_the_share_of_hours_there_is():
    """It learns from a few of the hours without the condition, and is brought back; nothing tells who has it."""
    stays = []
    for number in range(240):
        ill = number % 8 == 0
        one = _stay(number, False)
        snapshots = [EPOCH_MS + hour * HOUR_MS for hour in (20, 22, 24)]
        stays.append(replace(one, labels={}, snapshots=snapshots, hourly={"sepsis-6h": [float(ill)] * 3}))
    examples = build(stays)
    told = gru_d(examples, np.arange(360), np.arange(360, 720))[:, NAMES.index("sepsis-6h")]
    assert told.mean() == pytest.approx(1 / 8, abs=0.06)


def test_what_it_was_not_taught_it_does_not_speak_of():
    stays = [_stay(number, number % 2) for number in range(40)]
    noted = [
        Stay(f"n{n}", f"n{n}", "notes", [note_event(f"n{n}", 0, EPOCH_MS, "stable")], {"critical-course": float(n % 2)},
             [EPOCH_MS + HOUR_MS]) for n in range(20)
    ]  # fmt: skip
    examples = build(stays + noted)
    told = gru_d(examples, np.arange(0, 60, 2), np.arange(1, 60, 2))
    assert np.isnan(told[:, [c for c in range(len(NAMES)) if c != MORTALITY]]).all()
    assert np.isnan(told[examples.source[1::2] == "notes"]).all()


def test_one_network_learns_from_all_sources():
    """A source of one class alone is told by what another's stays teach."""
    told_by = [_stay(number, number % 2) for number in range(60)]
    asked = [replace(_stay(number, number % 2), source="well") for number in range(60, 90)]
    examples = build(told_by + [replace(stay, labels={"in-hospital-mortality": 0.0}) for stay in asked])
    told = gru_d(examples, np.arange(70), np.arange(70, 90))[:, MORTALITY]
    ill = np.arange(70, 90) % 2 == 1
    assert told[ill].mean() > told[~ill].mean() + 0.2


def test_what_is_missing_decays_from_its_last_value_to_the_mean():
    torch.manual_seed(0)
    signals = sum(signal.kind != "static" for signal in SIGNALS)
    network = GruD(signals, 4).eval()
    with torch.no_grad():
        network.input_decay.fill_(100.0)  # forgets at once
    x, mask = torch.randn(2, 6, signals), torch.zeros(2, 6, signals)
    mask[:, 0] = 1
    since = torch.arange(6.0).view(1, 6, 1).expand(2, 6, signals) / 6
    facts = torch.zeros(2, 4)
    x_other = x.clone()
    x_other[:, 1:] += 9.0  # unseen values never count
    assert torch.equal(network(x, mask, since, facts), network(x_other, mask, since, facts))


def test_every_parameter_learns_from_the_first_step():
    torch.manual_seed(0)
    network = GruD(5, 2).eval()
    mask = torch.zeros(4, 6, 5)
    mask[:, 0] = 1
    since = torch.arange(6.0).view(1, 6, 1).expand(4, 6, 5) / 6
    network(torch.randn(4, 6, 5), mask, since, torch.randn(4, 2)).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("rows", [1, 3])
def test_rows_do_not_depend_on_their_batch(rows):
    torch.manual_seed(0)
    network = GruD(5, 2).eval()
    inputs = (torch.randn(4, 6, 5), (torch.rand(4, 6, 5) < 0.5).float(), torch.rand(4, 6, 5), torch.randn(4, 2))
    torch.testing.assert_close(network(*inputs)[:rows], network(*(one[:rows] for one in inputs)))
