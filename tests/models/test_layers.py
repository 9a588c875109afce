"""What is computed in a shorter way gives what the long way gives."""

import pytest
import torch

from models.layers import MASKED, Block, SelfAttention, together
from models.network import Architecture, Network
from models.vitals import CLIP
from models.window import BINS, R, V


def _random(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)  # biases of keys and values too
    return module.eval()


def _bins(spread):
    measured = torch.rand(4, BINS, V).round()
    return torch.cat([torch.randn(4, BINS, V) * spread * measured, measured], -1)


@pytest.mark.parametrize("masked", [False, True])
def test_the_first_token_gathers_what_it_does_among_all(masked):
    attention = _random(SelfAttention(16, 4))
    x_BND, mask_B1N = torch.randn(3, 7, 16), None
    if masked:
        mask_B1N = torch.zeros(3, 1, 7)
        mask_B1N[0, :, 2:] = mask_B1N[1, :, 1:5] = MASKED
    torch.testing.assert_close(attention.of_one(x_BND[:, 0], x_BND, mask_B1N), attention(x_BND, mask_B1N)[:, 0])


def test_a_block_carries_the_first_token_on_alone():
    block, x_BND = _random(Block(16, 4, 0.1)), torch.randn(3, 7, 16)
    torch.testing.assert_close(block.of_one(x_BND[:, 0], x_BND), block(x_BND)[:, 0])


def test_maps_together_give_what_each_gives():
    first, second, x = torch.nn.Linear(5, 3), torch.nn.Linear(5, 2), torch.randn(4, 5)
    told = together(x, [(first.weight, first.bias), (second.weight, second.bias)])
    torch.testing.assert_close(told[0], first(x))
    torch.testing.assert_close(told[1], second(x))


def test_a_served_token_is_the_learned_one():
    conditions = ("in-hospital-mortality", "sepsis-6h")
    network = _random(Network(Architecture(width=16, boosted=conditions, trees=3, linear=("critical-course",))))
    vitals = network.vitals
    for buffer in (vitals.odds.weight, vitals.odds.trees.leaf, vitals.evidence.weight):
        buffer.normal_(0, 0.1)
    summary = torch.rand(4, R, V) * torch.rand(4, 1, V).round()
    bins = _bins(1)
    known = vitals.known(summary)
    summarised = vitals.summarised(summary, known)
    odds = [vitals.odds(vitals.hand(summary, known), summarised), vitals.evidence(summarised)]
    torch.testing.assert_close(vitals(bins, summary), vitals.encoded(bins, summarised, odds))


def test_a_value_that_is_missing_says_nothing_wherever_the_mean_lies():
    vitals = _random(Network(Architecture(width=16)).vitals)
    vitals.mean.normal_(0, 30)
    bins = _bins(20)
    values, mask = bins.chunk(2, -1)
    scaled = torch.clamp((values - vitals.mean) / vitals.std, -CLIP, CLIP) * mask
    torch.testing.assert_close(
        vitals._steps(bins), vitals.step(torch.cat([scaled, mask], -1)) + vitals.position, atol=1e-4, rtol=1e-4
    )
