"""What is done with checkpoints."""

from dataclasses import dataclass, field

from senone.config.checks import require, require_choice
from senone.config.train import DecodeConfig


@dataclass
class CheckpointConfig:
    """What scripts that start from checkpoints have in common: all else comes from the checkpoints."""

    checkpoint: str = ""  # runs/NAME/best.pt
    checkpoints: list[str] = field(default_factory=list)  # instead of one: their log-posteriors are averaged
    warp: float = 0.0  # average over the frequency axis as it is, this share narrower and wider; 0: as it is
    weights: str = "dev"  # of what is averaged. dev: under which dev's labels are the likeliest; equal
    root: str | None = None  # other data than the checkpoint was trained with
    decode: DecodeConfig | None = None  # null: as the checkpoint has it
    device: str = "auto"

    def __post_init__(self) -> None:
        one, several = self.checkpoint, self.checkpoints
        require(
            bool(one or several), "checkpoint", one, "the path of a best.pt or last.pt, or checkpoints=[...]"
        )
        require(not (one and several), "checkpoints", several, f"none, since there is checkpoint={one}")
        require(len(set(several)) == len(several), "checkpoints", several, "each of them once")
        require(0 <= self.warp <= 0.5, "warp", self.warp, "a share of the frequency axis, 0 to 0.5")
        require_choice("weights", self.weights, ("dev", "equal"))


@dataclass
class PredictConfig(CheckpointConfig):
    """scripts/predict.py"""

    submissions: str = "submissions"


@dataclass
class EvaluateConfig(CheckpointConfig):
    """scripts/evaluate.py"""

    split: str = "dev"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("split", self.split, ("train", "dev", "test"))
