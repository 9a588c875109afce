from itertools import pairwise

import torch

from models.evidence import MOST
from models.pieces import CLASSES, PieceEvidence

VOCABULARY = 300


def _evidence():
    torch.manual_seed(0)
    told = PieceEvidence(VOCABULARY, 2)
    told.weight.normal_(0, 0.1)
    told.bias.copy_(torch.tensor([0.2, -0.1]))
    return told


def _by_hand(told, ids):
    """The sum over the sets of pieces and of pairs, with no tensor operation in common."""
    ids = [one for one in ids if one]
    pairs = [VOCABULARY + a % CLASSES * CLASSES + b % CLASSES for a, b in dict.fromkeys(pairwise(ids))]
    return told.bias + sum(told.weight[place] for place in (*set(ids), *pairs))


def test_every_piece_and_every_pair_counts_once():
    told = _evidence()
    notes = [[5, 7, 5, 7, 5, 0, 0, 0], [7, 5, 130, 2, 299, 7, 5, 1], [9, 0, 0, 0, 0, 0, 0, 0]]
    found = told(torch.tensor(notes))
    for row, ids in zip(found, notes, strict=True):
        assert torch.allclose(row, _by_hand(told, ids), atol=1e-6)


def test_the_order_of_neighbours_counts_and_padding_does_not():
    told = _evidence()
    one, other, longer = told(torch.tensor([[4, 6, 0, 0], [6, 4, 0, 0], [4, 6, 0, 0]]))
    assert not torch.allclose(one, other) and torch.equal(one, longer)
    assert torch.allclose(told(torch.tensor([[4, 6]])), one[None])


def test_pairs_of_one_class_share_a_place_and_still_count_as_two():
    told = _evidence()
    shared = told(torch.tensor([[3, 4, 3 + CLASSES, 4 + CLASSES]]))
    assert torch.allclose(shared[0], _by_hand(told, [3, 4, 3 + CLASSES, 4 + CLASSES]), atol=1e-6)


def test_no_note_moves_the_odds_without_bounds():
    told = _evidence()
    told.weight.fill_(1.0)
    assert (told(torch.arange(1, 257)[None]) == MOST).all()
