import itertools

import numpy as np
import pytest
import torch

from models.kinds import one_hot
from models.text import NoteEncoder
from models.tokens import tokenize
from models.vision import ScanEncoder
from tests.training.stays import pictured, shrunk_views
from training import lsa
from training.dataset import build
from training.documents import learn_notes, learn_scans, note_tokens, scan_tokens, views
from training.loop import make_tokenizer
from training.stays import EPOCH_MS, Stay, note_event

TEXTS = ["septic shock, on pressors", "no acute distress", "septic shock and renal failure", "well, no distress"] * 5


@pytest.fixture(scope="module")
def scans():
    torch.manual_seed(0)
    return ScanEncoder().eval()


def test_the_same_texts_give_the_same_tokenizer_and_nothing_in_a_text_is_padding():
    texts = [f"{a}{b}{c}{number} {c}{a}" for number, (a, b, c) in enumerate(itertools.product("acehimnpst", repeat=3))]
    first, again = make_tokenizer(texts, 120), make_tokenizer(texts[::-1], 120)
    assert first.get_vocab() == again.get_vocab()
    ids = tokenize(first, ["[PAD] ##a [UNK]"])[0, 0]
    assert first.id_to_token(0) == "[PAD]" and (ids[: np.flatnonzero(ids)[-1]] > 0).all()


def test_padding_and_unknown_pieces_say_nothing_to_the_bag():
    encoder = NoteEncoder(200)
    lsa.fill(encoder.bag, tokenize(make_tokenizer(TEXTS, 200), TEXTS))
    assert not encoder.bag.pieces.weight[:2].any()
    assert encoder.bag.pieces.weight[2:].any()


def test_the_bag_puts_like_notes_together():
    tokenizer = make_tokenizer(TEXTS, 200)
    encoder = NoteEncoder(200)
    lsa.fill(encoder.bag, tokenize(tokenizer, TEXTS))
    ids = torch.from_numpy(tokenize(tokenizer, ["septic shock", "shock on pressors", "no distress"])).view(-1, 16)
    shock, pressors, well = encoder.bag(ids, (ids > 0).float(), 16)
    assert shock @ pressors > shock @ well


def test_the_trunk_stays_as_it_is_in_training(scans):
    before = {name: tensor.clone() for name, tensor in scans.trunk.state_dict().items()}
    scans.train()
    scans(torch.rand(4, 1, 224, 224), torch.from_numpy(one_hot(["CT"] * 4))).sum().backward()
    scans.eval()
    assert all(torch.equal(tensor, before[name]) for name, tensor in scans.trunk.state_dict().items())
    assert all(parameter.grad is None for parameter in scans.trunk.parameters())


def test_a_new_trunk_sees_a_picture_alike_whatever_stands_beside_it():
    trunk, pictures = ScanEncoder().trunk, np.random.default_rng(0).random((3, 224, 224), np.float32)
    before = {name: value.clone() for name, value in trunk.state_dict().items()}
    together, alone = views(trunk, pictures).features, views(trunk, pictures[:1]).features
    torch.testing.assert_close(together[:1], alone, rtol=1e-3, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in trunk.state_dict().items())


def test_views_once_a_picture_give_the_encoders_own_answer(scans):
    pictures = np.random.default_rng(1).random((3, 224, 224), np.float32)
    kinds = one_hot(["CT", "DX", "MR"])
    told = scan_tokens(scans, views(scans.trunk, pictures), kinds)
    with torch.inference_mode():
        expected = scans(torch.from_numpy(pictures).unsqueeze(1), torch.from_numpy(kinds))
    torch.testing.assert_close(told, expected, atol=1e-5, rtol=0)


def test_a_scan_encoder_learns_from_the_rows_it_is_given_only():
    examples = build(pictured(200))
    seen = shrunk_views(examples.pictures)
    train, test = np.arange(150), np.arange(150, 200)
    told = []
    for spoiled in (False, True):
        torch.manual_seed(3)
        encoder = ScanEncoder()
        targets = examples.labels.copy()
        targets[test] = 1 - targets[test] if spoiled else targets[test]
        head = learn_scans(encoder, examples, seen, train, targets, 4, lambda _: None, epochs=4)
        with torch.inference_mode():
            told.append(head(scan_tokens(encoder, seen, examples.kinds))[:, 3].numpy())
    np.testing.assert_array_equal(told[0], told[1])
    label = examples.labels[test, 3]
    assert told[0][test][label == 1].min() > told[0][test][label == 0].max()


def test_short_and_long_notes_apart_give_the_encoders_own_answer():
    torch.manual_seed(0)
    encoder = NoteEncoder(200).eval()
    ids = tokenize(make_tokenizer(TEXTS, 200), ["septic", "no distress " * 200, "x", "renal failure " * 30])
    with torch.inference_mode():
        torch.testing.assert_close(note_tokens(encoder, ids), encoder(torch.from_numpy(ids)), atol=1e-5, rtol=0)


def test_no_notes_give_no_tokens():
    assert note_tokens(NoteEncoder(50), np.zeros((0, 16, 16), np.int64)).shape == (0, 64)


def _noted(count=400):
    rng = np.random.default_rng(5)
    for number in range(count):
        ill = rng.random() < 0.3
        text = f"{'septic shock' if ill else 'no distress'} ward {number % 7}"
        label = {"in-hospital-mortality": float(ill)}
        yield Stay(f"p{number}", f"p{number}", "test", [note_event(f"p{number}", 0, EPOCH_MS, text)], label, [EPOCH_MS])


def test_a_note_encoder_learns_what_its_targets_say():
    examples = build(_noted())
    tokenizer = make_tokenizer(examples.texts, 200)
    ids = examples.note_ids(tokenizer)
    torch.manual_seed(0)
    encoder = NoteEncoder(200)
    lsa.fill(encoder.bag, ids)
    head = learn_notes(encoder, examples, ids, np.arange(320), examples.labels, 0, lambda _: None, epochs=12)
    with torch.inference_mode():
        told = head(note_tokens(encoder, ids))[examples.note_at[320:, 0], 0].numpy()
    label = examples.labels[320:, 0]
    assert told[label == 1].min() > told[label == 0].max()
