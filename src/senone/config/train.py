"""A training run."""

import math
from dataclasses import dataclass, field

from senone.config.checks import require, require_choice
from senone.config.data import CorpusConfig, DataConfig
from senone.config.models import MlpConfig, ModelConfig


@dataclass
class OptimConfig:
    """AdamW, with a warm-up and a cosine in the step."""

    lr: float = 2e-3  # at its peak
    final_lr: float = 1e-5
    warmup: float = 0.05  # share of all steps
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0  # largest norm of the whole gradient; 0: no clipping

    def __post_init__(self) -> None:
        require(0 < self.lr < math.inf, "optim.lr", self.lr, "a number above 0")
        require(0 <= self.final_lr <= self.lr, "optim.final_lr", self.final_lr, f"0 to optim.lr={self.lr}")
        require(0 <= self.warmup < 1, "optim.warmup", self.warmup, "a share of the steps, 0 up to but not 1")
        require(self.weight_decay >= 0, "optim.weight_decay", self.weight_decay, "0 or more")
        require(0 <= self.beta1 < 1, "optim.beta1", self.beta1, "0 up to but not 1")
        require(0 <= self.beta2 < 1, "optim.beta2", self.beta2, "0 up to but not 1")
        require(self.clip >= 0, "optim.clip", self.clip, "0 (no clipping) or more")


@dataclass
class AugmentConfig:
    """How train frames are changed each time they are learned from; 0: not at all."""

    speed: float = 0.0  # up to this share faster or slower
    warp: float = 0.0  # up to this share higher or lower, in frequency
    bin_masks: int = 0  # bands of bins that are hidden
    bin_mask_width: int = 8  # bins at most
    frame_masks: int = 0  # gaps in time
    frame_mask_width: int = 10  # frames at most
    noise: float = 0.0  # standard deviation of what is added to each value

    def __post_init__(self) -> None:
        for key in ("speed", "warp"):
            require(0 <= getattr(self, key) <= 1, f"augment.{key}", getattr(self, key), "0 to 1")
        for key in ("bin_masks", "frame_masks"):
            require(getattr(self, key) >= 0, f"augment.{key}", getattr(self, key), "0 or more")
        for key in ("bin_mask_width", "frame_mask_width"):
            require(getattr(self, key) >= 1, f"augment.{key}", getattr(self, key), "1 or more")
        require(0 <= self.noise < math.inf, "augment.noise", self.noise, "0 or more")


@dataclass
class DecodeConfig:
    """From posteriors to labels that make sense in time; the chain of states is counted on train."""

    name: str = "trigram"
    acoustic_scale: float | None = None  # null, of any scale: what gets most of dev right
    prior_scale: float | None = None
    state_scale: float | None = None  # how much the states within a phoneme count, beside the phonemes
    mixture_scale: float | None = None
    path_scale: float | None = None  # the larger, the less other paths than the likeliest count
    grammar_scale: float | None = None  # the larger, the less what seldom follows may; of a trigram
    edge_scale: float | None = None  # how much those that are tuned to edges count, once states are known
    tuning: int = 4  # rounds over train in which mixtures are tuned to the labels' edges; 0: none are
    edge_mixtures: int = 3  # of each state that are tuned so, from other beginnings; their mean is heard
    gaussians: int = 8  # of each state's mixture; 0: the network decides alone
    smoothing: float = 1.0  # counts that are added to each state's transitions

    def __post_init__(self) -> None:
        require_choice("decode.name", self.name, ("argmax", "forward_backward", "viterbi", "trigram"))
        require(self.gaussians >= 0, "decode.gaussians", self.gaussians, "0 (no mixtures) or more")
        decodes = self.name != "argmax"
        expected = "0 or more, or null" if decodes else "null where decode=argmax weighs nothing"
        for key in ("acoustic_scale", "prior_scale", "state_scale", "mixture_scale", "edge_scale"):
            value = getattr(self, key)
            require(value is None or (decodes and 0 <= value < math.inf), f"decode.{key}", value, expected)
        trigram = self.name == "trigram"
        path, several = self.path_scale, self.name in ("forward_backward", "trigram")
        expected = "above 0, to 5, or null" if several else f"null where decode={self.name} knows one path"
        require(path is None or (several and 0 < path <= 5), "decode.path_scale", path, expected)
        grammar = self.grammar_scale
        expected = "above 0, to 3, or null" if trigram else f"null where decode={self.name} is no trigram"
        require(grammar is None or (trigram and 0 < grammar <= 3), "decode.grammar_scale", grammar, expected)
        heard = self.gaussians > 0 or not self.mixture_scale
        expected = "null or 0 where decode.gaussians=0"
        require(heard, "decode.mixture_scale", self.mixture_scale, expected)
        require(self.tuning >= 0, "decode.tuning", self.tuning, "0 (no edges of their own) or more")
        require(self.edge_mixtures >= 1, "decode.edge_mixtures", self.edge_mixtures, "1 or more")
        tuned = self.gaussians > 0 and self.tuning > 0
        expected = "null or 0 where decode.gaussians=0 or decode.tuning=0"
        require(tuned or not self.edge_scale, "decode.edge_scale", self.edge_scale, expected)
        require(self.smoothing > 0, "decode.smoothing", self.smoothing, "a number above 0")


@dataclass
class FitConfig:
    """The training loop."""

    epochs: int = 5
    patience: int | None = None  # epochs without a better dev accuracy, after which a run ends; null: never
    batch_size: int = 512  # frames
    chunk: int = 1  # frames of an example: 1 are shuffled frames, more are neighbours of one utterance
    label_smoothing: float = 0.0
    phoneme_weight: float = 0.0  # of the cross-entropy of phonemes, beside that of states
    teachers: list[str] = field(default_factory=list)  # checkpoints whose posteriors are learned too
    teacher_weight: float = 0.5  # of their posteriors; the rest is the labels'
    ema: float = 0.0  # decay of a moving average of the weights, which is then what is evaluated; 0: none
    resume: str | None = None  # auto: the newest unfinished run of this configuration; or a last.pt
    precision: str = "auto"
    compile: bool = (
        False  # model and loss, by torch.compile: some ten seconds' wait, then faster steps on a GPU
    )

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", self.epochs, "1 or more")
        patience = self.patience
        require(patience is None or patience >= 1, "train.patience", patience, "1 or more, or null")
        require(self.batch_size >= 2, "train.batch_size", self.batch_size, "2 or more")
        require(
            1 <= self.chunk <= self.batch_size,
            "train.chunk",
            self.chunk,
            f"1 to train.batch_size={self.batch_size}",
        )
        weight = self.phoneme_weight
        require(0 <= weight < math.inf, "train.phoneme_weight", weight, "0 or more")
        require(0 <= self.teacher_weight <= 1, "train.teacher_weight", self.teacher_weight, "0 to 1")
        smoothing = self.label_smoothing
        require(0 <= smoothing < 1, "train.label_smoothing", smoothing, "0 up to but not 1")
        require(0 <= self.ema < 1, "train.ema", self.ema, "0 up to but not 1")
        require_choice("train.precision", self.precision, ("auto", "float32", "bfloat16"))


@dataclass
class TrainConfig:
    """scripts/train.py"""

    data: DataConfig = field(default_factory=DataConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    model: ModelConfig = field(default_factory=MlpConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    train: FitConfig = field(default_factory=FitConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    seed: int = 0
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    name: str | None = None  # of the run; null: the data, the model and the time
    runs: str = "runs"
    submissions: str = "submissions"
    trackers: list[str] = field(default_factory=list)  # who is shown each epoch's record as well

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**31, "seed", self.seed, "0 up to but not 2**31")
        valid = self.name is None or (self.name not in ("", ".", "..") and not set(self.name) & set("/\\"))
        require(valid, "name", self.name, "the name of a folder below runs")
        for tracker in self.trackers:
            require_choice("trackers", tracker, ("tensorboard", "wandb"))
