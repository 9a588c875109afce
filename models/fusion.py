"""Fusion of modality tokens into one logit a condition: splicing, additive, multiplicative and self-attention.

One seam: `forward(tokens, present, age_h) -> logits`. Presence and age are inputs; an absent slot is replaced by a
learned vector, never by zeros that look like data, and a token fades with a learned half-life per modality.
After arXiv 2406.18546, which compares these fusions. Shapes: B rows, S slots, D width, C conditions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.layers import MASKED, ODDS, Block
from models.window import MODALITIES, OF_MODALITY, SLOTS

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
        self.register_buffer("of_slot", torch.from_numpy(OF_MODALITY.copy()), persistent=False)
        self.register_buffer("own", torch.eye(len(SLOTS)), persistent=False)
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
        faded_BSD = tokens * (torch.exp(-rate_S * age_BS) * present).unsqueeze(-1)
        # What a slot's age and presence add to its token is linear in both: one product for all slots.
        of_age_SSD = self.own.unsqueeze(-1) * self.age.weight[:, 0]
        of_presence_SSD = self.own.unsqueeze(-1) * (self.age.bias - self.absent)
        added_BJ = nn.functional.linear(
            torch.cat([torch.log1p(age_BS), present], 1),
            torch.cat([of_age_SSD, of_presence_SSD]).flatten(1).t(),
            (self.absent + self.slot).flatten(),
        )
        return faded_BSD + added_BJ.view_as(tokens), faded_BSD

    def answer(self, x_BD: Tensor, faded: Tensor, present: Tensor) -> Tensor:
        """[B, C] logits from what was fused, on top of the log odds that tokens end with."""
        last = self.head[-1]
        bias = last.bias + self.prior if self.linear else last.bias
        logits_BC = nn.functional.linear(self.head[:-1](x_BD), last.weight, bias)
        if self.told:
            place_MGC = self.place * self.trust.unsqueeze(1) if self.linear else self.place
            place_SGC = torch.matmul(self.of_slot, place_MGC.flatten(1)).view(len(SLOTS), *place_MGC.shape[1:])
            there_BS = torch.matmul(present, torch.matmul(self.of_slot, self.of_slot.t()))
            told_BSG = faded[:, :, -self.told :] * (1 / torch.clamp(there_BS, min=1.0)).unsqueeze(-1)
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
        x_BD = torch.matmul(weight_BS.unsqueeze(1), x_BSD).squeeze(1)
        return self.answer(self.value(x_BD), faded, present)


class MultiplicativeFusion(Fusion):
    """Luong-style attention: one learned query, scaled dot products."""

    def __init__(
        self, conditions: int, width: int = 64, boosted: Sequence[int] = (), linear: Sequence[int] = ()
    ) -> None:
        super().__init__(conditions, width, boosted, linear)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.key, self.value = nn.Linear(width, width, bias=False), nn.Linear(width, width)

    def forward(self, tokens: Tensor, present: Tensor, age_h: Tensor) -> Tensor:
        x_BSD, faded = self.prepared(tokens, present, age_h)
        asked_D = torch.matmul(self.query, self.key.weight) * self.query.shape[0] ** -0.5
        weight_BS = torch.softmax(torch.matmul(x_BSD, asked_D) + (1 - present) * MASKED, -1)
        x_BD = torch.matmul(weight_BS.unsqueeze(1), x_BSD).squeeze(1)
        return self.answer(self.value(x_BD), faded, present)


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
        return self.answer(self.blocks[-1].of_one(x_BND[:, 0], x_BND), faded, present)


class EachLeftOut(nn.Module):
    """[B, 1 + M, C]: what a fusion says of everything present, then of the same without each modality in turn, in one
    call. Where a modality is absent, its answer is the first one."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.fusion = fusion
        self.register_buffer("kept", torch.cat([torch.ones(1, len(SLOTS)), 1 - fusion.of_slot.t()]), persistent=False)

    def forward(self, tokens: Tensor, present: Tensor, age_h: Tensor) -> Tensor:
        each = len(self.kept)
        logits = self.fusion(
            tokens.unsqueeze(1).expand(-1, each, -1, -1).flatten(0, 1),
            (present.unsqueeze(1) * self.kept).flatten(0, 1),
            age_h.unsqueeze(1).expand(-1, each, -1).flatten(0, 1),
        )
        return logits.view(-1, each, logits.shape[1])


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
