"""The note encoder: a hierarchical bidirectional GRU with attention pooling, beside it a bag of pieces.

Fixed shapes, so that it converts whole (`aten.gru` has no TensorRT converter): a note is SENTENCES rows of WORDS
WordPiece ids, 0 = padding. Words to a sentence vector, sentence vectors to the note's (Yang et al. 2016, Hierarchical
Attention Networks), its cells written out. The bag sums a vector a piece, whatever the order, and takes the direction of
the sum: with the vectors of latent semantic analysis (`training/lsa.py`) that is most of what some hundred patients can
teach, and the recurrent path adds what order says. The token ends with log odds of the pieces and their pairs
(`models/pieces.py`). Shapes: B rows, S sentences, W words, E embedding, H hidden, D width.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from models.layers import MASKED, ending_with
from models.pieces import PieceEvidence
from models.tokens import WORDS, tokenize

__all__ = ["NoteEncoder", "encode_ids"]


def encode_ids(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.int64]:
    """[B, S, W] ids of the beginnings of texts."""
    return tokenize(tokenizer, texts)


class _BiGRU(nn.Module):
    """Both directions as separate cells over a fixed number of steps; padding leaves the state as it is."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.inputs = nn.ModuleList(nn.Linear(size, 3 * hidden) for _ in range(2))
        self.states = nn.ModuleList(nn.Linear(hidden, 3 * hidden) for _ in range(2))

    def forward(self, x_NLE: Tensor, mask_NL: Tensor) -> Tensor:
        length = x_NLE.shape[1]
        both = []
        for direction in range(2):
            gates_NL3H = self.inputs[direction](x_NLE)
            h_NH = torch.zeros_like(gates_NL3H[:, 0, : self.hidden])
            outputs: list[Tensor] = [h_NH] * length
            for step in range(length) if direction == 0 else range(length - 1, -1, -1):
                xr, xz, xn = gates_NL3H[:, step].chunk(3, -1)
                hr, hz, hn = self.states[direction](h_NH).chunk(3, -1)
                r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
                new_NH = (1 - z) * torch.tanh(xn + r * hn) + z * h_NH
                keep_N1 = mask_NL[:, step : step + 1]
                h_NH = keep_N1 * new_NH + (1 - keep_N1) * h_NH
                outputs[step] = h_NH
            both.append(torch.stack(outputs, 1))
        return torch.cat(both, -1)


class _Pool(nn.Module):
    """Attention pooling over unmasked steps."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Linear(size, size), nn.Tanh(), nn.Linear(size, 1))

    def forward(self, x_NLE: Tensor, mask_NL: Tensor) -> Tensor:
        weight_NL = torch.softmax(self.score(x_NLE).squeeze(-1) + (1 - mask_NL) * MASKED, -1) * mask_NL
        return torch.matmul(weight_NL.unsqueeze(1), x_NLE).squeeze(1)


class Bag(nn.Module):
    """[B, G] direction of the sum of the pieces' vectors, length at most 1. Frozen: `training/lsa.py` fills it."""

    def __init__(self, vocabulary: int, size: int) -> None:
        super().__init__()
        self.pieces = nn.Embedding(vocabulary, size)
        self.requires_grad_(False)

    def forward(self, ids_NW: Tensor, mask_NW: Tensor, rows_of_note: int) -> Tensor:
        sum_NG = torch.matmul(mask_NW.unsqueeze(1), self.pieces(ids_NW)).squeeze(1)
        sum_BG = sum_NG.view(-1, rows_of_note, sum_NG.shape[-1]).sum(1)
        return sum_BG / torch.sqrt((sum_BG * sum_BG).sum(-1, keepdim=True) + 1e-6)


class NoteEncoder(nn.Module):
    """[B, D] from token ids [B, S, W]. Trailing rows of padding change nothing, so training may leave them out."""

    def __init__(
        self,
        vocabulary: int,
        width: int = 64,
        embedding: int = 48,
        hidden: int = 32,
        bag: int = 128,
        conditions: int = 0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.bag = Bag(vocabulary, bag)
        self.dropout = nn.Dropout(0.3)
        self.words, self.sentences = _BiGRU(embedding, hidden), _BiGRU(2 * hidden, hidden)
        self.pool_words, self.pool_sentences = _Pool(2 * hidden), _Pool(2 * hidden)
        self.of_order, self.of_bag = nn.Linear(2 * hidden, width), nn.Linear(bag, width)
        self.bag_scale = bag**0.5  # entries of the order of 1, as those of the recurrent path
        self.norm = nn.LayerNorm(width)
        self.evidence = PieceEvidence(vocabulary, conditions) if conditions else None

    def forward(self, ids: Tensor) -> Tensor:
        sentences = ids.shape[1]
        flat_NW = ids.reshape(-1, WORDS)
        mask_NW = (flat_NW > 0).float()
        x_NWE = self.dropout(self.embedding(flat_NW))
        sentence_BSE = self.pool_words(self.words(x_NWE, mask_NW), mask_NW).view(-1, sentences, 2 * self.words.hidden)
        mask_BS = (ids[:, :, 0] > 0).float()
        ordered_BE = self.pool_sentences(self.sentences(sentence_BSE, mask_BS), mask_BS)
        bag_BG = self.bag(flat_NW, mask_NW, sentences) * self.bag_scale
        out_BD = self.norm(self.of_order(self.dropout(ordered_BE)) + self.of_bag(self.dropout(bag_BG)))
        if self.evidence is None:
            return out_BD
        return ending_with(self.evidence(ids.flatten(1)), out_BD)
