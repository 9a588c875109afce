import pytest
import torch

from models.fusion import FUSIONS, EachLeftOut, make_fusion
from models.layers import ODDS
from models.picture import to_square
from models.window import MODALITIES, SLOTS


@pytest.mark.parametrize("kind", FUSIONS)
def test_each_fusion_hides_absent_slots_and_learns_from_present_ones(kind):
    torch.manual_seed(0)
    fusion = make_fusion(kind, 2, 32).eval()
    tokens = torch.randn(4, len(SLOTS), 32, requires_grad=True)
    present = torch.zeros(4, len(SLOTS))
    present[:, 0] = 1
    logits = fusion(tokens, present, torch.ones(4, len(SLOTS)))
    assert logits.shape == (4, 2)
    logits.sum().backward()
    assert tokens.grad[:, 0].abs().sum() > 0
    assert tokens.grad[:, 1:].abs().sum() == 0


@pytest.mark.parametrize("kind", FUSIONS)
def test_age_moves_the_score(kind):
    torch.manual_seed(0)
    fusion = make_fusion(kind, 2, 32).eval()
    tokens, present = torch.randn(1, len(SLOTS), 32), torch.ones(1, len(SLOTS))
    fresh = fusion(tokens, present, torch.zeros(1, len(SLOTS)))
    stale = fusion(tokens, present, torch.full((1, len(SLOTS)), 48.0))
    assert not torch.allclose(fresh, stale)


def test_a_picture_keeps_its_aspect_and_range():
    import numpy as np

    square = to_square(np.ones((100, 50)))
    assert square.shape == (224, 224)
    assert square[:, 112].all() and not square[:, 0].any()
    assert to_square(np.random.default_rng(0).random((1000, 900))).max() <= 1


@pytest.mark.parametrize("kind", FUSIONS)
def test_log_odds_in_the_vitals_token_are_where_learning_begins_and_go_with_it(kind):
    torch.manual_seed(0)
    fusion = make_fusion(kind, 3, 32, boosted=[2]).eval()
    tokens, present, age_h = torch.randn(4, len(SLOTS), 32), torch.ones(4, len(SLOTS)), torch.zeros(4, len(SLOTS))
    logits = fusion(tokens, present, age_h)
    bias = fusion.head[-1].bias
    torch.testing.assert_close(logits[:, 2], tokens[:, 0, -1] / ODDS + bias[2])
    torch.testing.assert_close(logits[:, 0], bias[:1].expand(4))
    present[:, 0] = 0
    torch.testing.assert_close(fusion(tokens, present, age_h), bias.expand(4, 3))


@pytest.mark.parametrize("kind", FUSIONS)
def test_what_documents_say_is_added_as_far_as_trusted_the_mean_of_those_present(kind):
    torch.manual_seed(0)
    fusion = make_fusion(kind, 3, 32, boosted=[0], linear=[0, 2]).eval()
    fusion.trust.copy_(torch.tensor([[0.5, 1, 1], [2, 1, 3], [0, 1, 0.25]]))
    fusion.prior.copy_(torch.tensor([-2.0, 0, -1]))
    tokens, present, age_h = torch.randn(4, len(SLOTS), 32), torch.ones(4, len(SLOTS)), torch.zeros(4, len(SLOTS))
    present[:, [2, 5, 6]] = 0
    logits = fusion(tokens, present, age_h)
    told = tokens / ODDS
    notes = (told[:, 1, -2:] + told[:, 3, -2:]) / 2
    torch.testing.assert_close(logits[:, 0], 0.5 * told[:, 0, -1] + 2 * notes[:, 0] - 2)
    torch.testing.assert_close(logits[:, 1], torch.zeros(4))
    torch.testing.assert_close(logits[:, 2], 3 * notes[:, 1] + 0.25 * told[:, 4, -1] - 1)
    nothing = fusion(tokens, torch.zeros_like(present), age_h)
    torch.testing.assert_close(nothing, fusion.prior.expand(4, 3))
    old = fusion(tokens, present, age_h + 48)
    assert (old[:, 2] - fusion.prior[2]).abs().lt((logits[:, 2] - fusion.prior[2]).abs()).all()


@pytest.mark.parametrize("kind", FUSIONS)
def test_each_modality_is_left_out_in_turn(kind):
    torch.manual_seed(0)
    fusion = make_fusion(kind, 3, 32, boosted=[0]).eval()
    torch.nn.init.normal_(fusion.head[-1].weight)
    tokens, present = torch.randn(4, len(SLOTS), 32), torch.ones(4, len(SLOTS))
    present[0, 1:] = 0
    age_h = torch.rand(4, len(SLOTS)) * 48
    told = EachLeftOut(fusion)(tokens, present, age_h)
    torch.testing.assert_close(told[:, 0], fusion(tokens, present, age_h))
    for place, name in enumerate(MODALITIES, 1):
        rest = present * torch.tensor([slot != name for slot in SLOTS])
        torch.testing.assert_close(told[:, place], fusion(tokens, rest, age_h))
