"""What is computed in a shorter way gives what the long way gives."""

import pytest
import torch

from models.layers import MASKED, Block, SelfAttention, together
from models.network import Architecture, Network
from models.window import BINS, F, V


def _random(module):
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, 0, 0.2)  # biases of keys and values too
    return module.eval()


@pytest.mark.parametrize("masked", [False, True])
def test_the_first_token_gathers_what_it_does_among_all(masked):
    attention = _random(SelfAttention(16, 4))
    x_BND, bias_BN = torch.randn(3, 7, 16), None
    if masked:
        bias_BN = torch.zeros(3, 7)
        bias_BN[0, 2:] = bias_BN[1, 1:5] = MASKED
    torch.testing.assert_close(attention.first(x_BND, bias_BN), attention(x_BND, bias_BN)[:, :1])


def test_a_block_carries_the_first_token_on_alone():
    block, x_BND = _random(Block(16, 4, 0.1)), torch.randn(3, 7, 16)
    torch.testing.assert_close(block.first(x_BND), block(x_BND)[:, :1])


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
    known = torch.rand(4, V).round()
    told = (torch.randn(4, V) * known, torch.rand(4, V) * known, known, torch.rand(4, F, V) * known.unsqueeze(1))
    mask = torch.rand(4, BINS, V).round()
    summarised = vitals.summarised(*told)
    odds = [vitals.odds(*vitals.hand(*told), summarised), vitals.evidence(summarised)]
    values = torch.randn(4, BINS, V) * mask
    torch.testing.assert_close(vitals(values, mask, *told), vitals.encoded(values, mask, summarised, odds))
