"""Fusion of modality tokens into one logit a condition: splicing, additive, multiplicative and self-attention.

One seam: `forward(tokens, present, age_h) -> logits`. Presence and age are inputs; an absent slot is replaced by a
learned vector, never by zeros that look like data, and a token fades with a learned half-life per modality.
After arXiv 2406.18546, which compares these fusions. Shapes: B rows, S slots, D width, C conditions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.layers import MASKED, ODDS, Block
from models.window import MODALITIES, SLOTS

FUSIONS = ("splicing", "additive", "multiplicative", "self")


class Fusion(nn.Module):
    """What all four share: slot embedding, absence, ages, heads.

    boosted: per condition whose log odds the vitals token ends with (`models/vitals.py`), its place among the
    conditions. They are added to its logit, fading as the token does: the network learns what they do not know.
    linear: the same of notes' and scans' tokens (`models/evidence.py`), the mean over those present. Each modality is
    trusted as far as late fusion found it worth (`training/evidence.py`); what is not there adds nothing.
    """

    def __init__(
        self, conditions: int, width: int = 64, boosted: Sequence[int] = (), linear: Sequence[int] = ()
    ) -> None:
        super().__init__()
        self.told = max(len(boosted), len(linear))
        self.linear = bool(linear)
        place_MGC = torch.zeros(len(MODALITIES), self.told, conditions)
        for modality, of_token in enumerate((boosted, linear, linear)):
            for number, condition in enumerate(of_token, self.told - len(of_token)):
                place_MGC[modality, number, condition] = 1 / ODDS
        self.register_buffer("place", place_MGC, persistent=False)
        if linear:
            self.register_buffer("trust", torch.ones(len(MODALITIES), conditions))
            self.register_buffer("prior", torch.zeros(conditions))
        self.absent = nn.Parameter(torch.randn(len(SLOTS), width) * 0.02)
        self.slot = nn.Parameter(torch.randn(len(SLOTS), width) * 0.02)
        self.rate = nn.Parameter(torch.full((len(MODALITIES),), -5.0))
        of_slot = torch.tensor([MODALITIES.index(name) for name in SLOTS])
        self.register_buffer("of_slot", nn.functional.one_hot(of_slot, len(MODALITIES)).float(), persistent=False)
        self.age = nn.Linear(1, width)
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, conditions))
        if boosted or linear:
            nn.init.zeros_(self.head[-1].weight)  # their answer is where learning begins
        if linear:
            nn.init.zeros_(self.head[-1].bias)

    def decay(self) -> Tensor:
        """[M] per-hour fading rate of each modality's token; its half-life is ln 2 / rate."""
        return nn.functional.softplus(self.rate)

    def prepared(self, tokens: Tensor, present: Tensor, age_h: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, D] tokens with absence and age worked in, and as they are but faded; an absent slot's content cannot
        get through.
        """
        rate_S = torch.matmul(self.of_slot, self.decay())
        age_BS = torch.clamp(age_h, 0, 24 * 30) * present
        here_BS1 = present.unsqueeze(-1)
        faded = tokens * (torch.exp(-rate_S * age_BS) * present).unsqueeze(-1)
        aged = torch.log1p(age_BS).unsqueeze(-1) * self.age.weight[:, 0]
        return faded + aged + here_BS1 * (self.age.bias - self.absent) + (self.absent + self.slot), faded

    def answer(self, x_BD: Tensor, faded: Tensor, present: Tensor) -> Tensor:
        """[B, C] logits from what was fused, on top of the log odds that tokens end with."""
        logits_BC = self.head(x_BD)
        if self.linear:
            logits_BC = logits_BC + self.prior
        if self.told:
            place_MGC = self.place * self.trust.unsqueeze(1) if self.linear else self.place
            place_SGC = torch.matmul(self.of_slot, place_MGC.flatten(1)).view(len(SLOTS), *place_MGC.shape[1:])
            there_BM = torch.clamp(torch.matmul(present, self.of_slot), min=1.0)
            share_BS = torch.matmul(1 / there_BM, self.of_slot.t())
            told_BSG = faded[:, :, -self.told :] * share_BS.unsqueeze(-1)
            logits_BC = logits_BC + torch.matmul(told_BSG.flatten(1), place_SGC.flatten(0, 1))
        return logits_BC


class SplicingFusion(Fusion):
    """Concatenation of all slots."""

    def __init__(
        self, conditions: int, width: int = 64, boosted: Sequence[int] = (), linear: Sequence[int] = ()
    ) -> None:
        super().__init__(conditions, width, boosted, linear)
        self.join = nn.Sequential(nn.Linear(len(SLOTS) * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, tokens: Tensor, present: Tensor, age_h: Tensor) -> Tensor:
        x_BSD, faded = self.prepared(tokens, present, age_h)
        return self.answer(self.join(x_BSD.flatten(1)), faded, present)


class AdditiveFusion(Fusion):
    """Bahdanau-style attention: a small network scores each token."""

    def __init__(
        self, conditions: int, width: int = 64, boosted: Sequence[int] = (), linear: Sequence[int] = ()
    ) -> None:
        super().__init__(conditions, width, boosted, linear)
        self.score = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
        self.value = nn.Linear(width, width)

    def forward(self, tokens: Tensor, present: Tensor, age_h: Tensor) -> Tensor:
        x_BSD, faded = self.prepared(tokens, present, age_h)
        weight_BS = torch.softmax(self.score(x_BSD).squeeze(-1) + (1 - present) * MASKED, -1)
        x_BD = torch.matmul(weight_BS.unsqueeze(1), self.value(x_BSD)).squeeze(1)
        return self.answer(x_BD, faded, present)


class MultiplicativeFusion(Fusion):
    """Luong-style attention: one learned query, scaled dot products."""

    def __init__(
        self, conditions: int, width: int = 64, boosted: Sequence[int] = (), linear: Sequence[int] = ()
    ) -> None:
        super().__init__(conditions, width, boosted, linear)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.key, self.value = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, tokens: Tensor, present: Tensor, age_h: Tensor) -> Tensor:
        x_BSD, faded = self.prepared(tokens, present, age_h)
        scores_BS = torch.matmul(self.key(x_BSD), self.query) * self.query.shape[0] ** -0.5
        weight_BS = torch.softmax(scores_BS + (1 - present) * MASKED, -1)
        x_BD = torch.matmul(weight_BS.unsqueeze(1), self.value(x_BSD)).squeeze(1)
        return self.answer(x_BD, faded, present)


class SelfAttentionFusion(Fusion):
    """A transformer over the slots and a class token."""

    def __init__(
        self,
        conditions: int,
        width: int = 64,
        boosted: Sequence[int] = (),
        linear: Sequence[int] = (),
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__(conditions, width, boosted, linear)
        self.cls = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads, 0.1) for _ in range(layers))

    def forward(self, tokens: Tensor, present: Tensor, age_h: Tensor) -> Tensor:
        x_BSD, faded = self.prepared(tokens, present, age_h)
        pad = nn.functional.pad
        x_BND = pad(x_BSD, (0, 0, 1, 0)) + pad(self.cls, (0, 0, 0, len(SLOTS)))
        for block in self.blocks[:-1]:
            x_BND = block(x_BND)
        x_BND = self.blocks[-1].first(x_BND)
        return self.answer(x_BND[:, 0], faded, present)


def make_fusion(
    kind: str, conditions: int, width: int, boosted: Sequence[int] = (), linear: Sequence[int] = ()
) -> Fusion:
    """The fusion named in `FUSIONS`."""
    classes = {
        "splicing": SplicingFusion,
        "additive": AdditiveFusion,
        "multiplicative": MultiplicativeFusion,
        "self": SelfAttentionFusion,
    }
    return classes[kind](conditions, width, boosted, linear)
