"""How far a training run is."""

import math
from dataclasses import dataclass, field
from typing import Any

from senone.config import FitConfig


@dataclass
class Progress:
    """How far a run is: whole epochs, batches and sums of the current one, and a record of each epoch."""

    epoch: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    right: int = 0
    frames: int = 0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def best_accuracy(self) -> float:
        """The best dev accuracy so far, -1 before the first."""
        return max((record["dev_accuracy"] for record in self.history), default=-1.0)

    def is_over(self, settings: FitConfig) -> bool:
        """All epochs are trained, or as many in a row as the patience lasts have brought nothing better."""
        found = [record["dev_accuracy"] for record in self.history]
        in_vain = len(found) - 1 - found.index(max(found)) if found else 0
        return self.epoch >= settings.epochs or in_vain >= (settings.patience or math.inf)
