"""What the pieces of a note say of a condition: a log odds a piece and a pair of neighbours, each counted once.

Whether a word stands in a note tells more than how often, or than the direction of the whole note; pairs keep "no fever"
from "fever". Pairs share `CLASSES`^2 places by the classes of their two pieces, so few rare ones share a place. It is
written without a scatter: what stood earlier is found by comparing all pieces of a note with each other.
`training/evidence.py` fits it. Shapes: B notes, N pieces of each, F = 2 N - 1 pieces and pairs, G conditions.
"""

import torch
from torch import Tensor, nn

from models.evidence import Evidence
from models.tokens import SENTENCES, WORDS

CLASSES = 128


class PieceEvidence(Evidence):
    """[B, G] log odds from token ids [B, N], 0 = padding behind the text."""

    def __init__(self, vocabulary: int, conditions: int) -> None:
        super().__init__(vocabulary + CLASSES * CLASSES, conditions)
        self.vocabulary = vocabulary
        most = SENTENCES * WORDS
        self.register_buffer("earlier", torch.ones(most, most).tril(-1), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        place_BF, counts_BF = self.found(features)
        return self.bounded(
            torch.matmul(counts_BF.unsqueeze(1), nn.functional.embedding(place_BF, self.weight)).squeeze(1) + self.bias
        )

    def found(self, ids_BN: Tensor) -> tuple[Tensor, Tensor]:
        """[B, F] place in the weights of every piece, then of every pair, and 1 where it stands for the first time."""
        there_BN = (ids_BN > 0).float()
        same_BNN = (ids_BN.unsqueeze(2) == ids_BN.unsqueeze(1)).float()
        pair_BNN = same_BNN[:, :-1, :-1] * same_BNN[:, 1:, 1:]
        pairs_BN = self.vocabulary + ids_BN[:, :-1] % CLASSES * CLASSES + ids_BN[:, 1:] % CLASSES
        return (
            torch.cat([ids_BN, pairs_BN], 1),
            torch.cat([self._first(same_BNN) * there_BN, self._first(pair_BNN) * there_BN[:, 1:]], 1),
        )

    def _first(self, same_BNN: Tensor) -> Tensor:
        """[B, N] 1 where none before is the same."""
        length = same_BNN.shape[1]
        return 1 - torch.clamp((same_BNN * self.earlier[:length, :length]).sum(-1), max=1.0)
