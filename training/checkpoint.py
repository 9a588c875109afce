"""A run's state after a whole epoch, so that an interrupted one goes on and ends as it would have.

Holds weights, their average, the optimiser and both random generators. Read with `weights_only`: nothing is unpickled.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from streaming.errors import ConfigError
from training.recipes import Recipe


@dataclass(slots=True)
class Progress:
    """What changes while a run goes on."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    rng: np.random.Generator
    average: dict[str, Tensor]
    epoch: int = 0
    best: float = math.inf
    bad: int = 0
    best_state: dict[str, Tensor] = field(default_factory=dict)

    def judge(self, value: float) -> None:
        """Keeps the averaged weights when the validation loss is the lowest so far."""
        if value < self.best:
            self.best, self.bad = value, 0
            self.best_state = {name: tensor.clone() for name, tensor in self.average.items()}
        else:
            self.bad += 1


def save(path: Path, progress: Progress, recipe: Recipe) -> None:
    """Writes beside the file and then over it: a run cut off while writing keeps the epoch before."""
    whole = {
        "recipe": json.dumps(asdict(recipe)),
        "network": progress.network.state_dict(),
        "optimiser": progress.optimiser.state_dict(),
        "schedule": progress.schedule.state_dict(),
        "average": progress.average,
        "best_state": progress.best_state,
        "counters": [float(progress.epoch), progress.best, float(progress.bad)],
        "torch_rng": torch.get_rng_state(),
        "numpy_rng": json.dumps(progress.rng.bit_generator.state),
    }
    part = path.with_suffix(".part")
    torch.save(whole, part)
    part.replace(path)


def restore(path: Path, progress: Progress, recipe: Recipe) -> None:
    """Goes on from the file, if there is one.

    Raises:
        ConfigError: the file is another recipe's.
    """
    if not path.exists():
        return
    whole = torch.load(path, weights_only=True)
    if whole["recipe"] != json.dumps(asdict(recipe)):
        raise ConfigError(f"{path.name} belongs to another recipe or seed; remove it to start anew")
    progress.network.load_state_dict(whole["network"])
    progress.optimiser.load_state_dict(whole["optimiser"])
    progress.schedule.load_state_dict(whole["schedule"])
    progress.average, progress.best_state = whole["average"], whole["best_state"]
    epoch, progress.best, bad = whole["counters"]
    progress.epoch, progress.bad = int(epoch), int(bad)
    torch.set_rng_state(whole["torch_rng"])
    progress.rng.bit_generator.state = json.loads(whole["numpy_rng"])
