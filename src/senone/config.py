"""What can be configured, with defaults and ranges.

Scripts turn their YAML and command line into these dataclasses once, before any data is read: unknown keys
and wrong types fail while they are composed, values out of range here. Functions take plain values.
"""

import math
from dataclasses import dataclass, field

NORMS = ("batch", "layer", "none")
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "tanh")


def require(holds: bool, key: str, value: object, expected: str) -> None:
    """Raise ValueError in the one form all refused settings have."""
    if not holds:
        raise ValueError(f"{key}={value}: expected {expected}")


def require_choice(key: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless the value is one of the choices."""
    require(value in choices, key, value, f"one of {', '.join(choices)}")


@dataclass
class CorpusConfig:
    """The made corpus: synthesised speech in the contest's format."""

    root: str = "data"  # the corpus lands in a folder of its own below
    size: str = "default"  # tiny, small, default, large
    seed: int = 0
    workers: int = 0  # 0: one process a core
    # [speakers, utterances of each]; empty: as size says
    train: list[int] = field(default_factory=list)
    dev: list[int] = field(default_factory=list)
    test: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for split in ("train", "dev", "test"):
            numbers = getattr(self, split)
            valid = not numbers or (len(numbers) == 2 and min(numbers) >= 1)
            require(valid, f"corpus.{split}", numbers, "[speakers, utterances of each], both 1 or more")
        require(self.seed >= 0, "corpus.seed", self.seed, "0 or more")
        require(self.workers >= 0, "corpus.workers", self.workers, "0 (one a core) or more")


@dataclass
class DataConfig:
    """Where the frames come from and how they are prepared."""

    name: str = "made"  # made: synthesise the corpus if it is not there yet; contest: read root
    root: str | None = None  # folder of train.npy, train_labels.npy, dev.npy, dev_labels.npy, test.npy
    num_classes: int | None = None  # K; null: one more than the largest train label
    normalise: str = "utterance"
    guard: str = "edge"  # what windows see beyond an utterance's ends
    on_bad: str = "refuse"  # NaN or infinite frames
    cache: str = "data/stores"
    competition: str | None = None  # Kaggle's name of the contest, for the line that hands the CSV in

    def __post_init__(self) -> None:
        require_choice("data.name", self.name, ("made", "contest"))
        require_choice("data.normalise", self.normalise, ("utterance", "none"))
        require_choice("data.guard", self.guard, ("edge", "zero"))
        require_choice("data.on_bad", self.on_bad, ("refuse", "drop"))
        require(self.name != "contest" or bool(self.root), "data.root", self.root, "the contest's folder")
        classes = self.num_classes
        require(classes is None or 2 <= classes <= 65535, "data.num_classes", classes, "2 to 65535")


@dataclass
class ModelConfig:
    """What every model has; the groups of conf/model add their own."""

    name: str = "mlp"
    context: int = 15  # k: frames seen on each side
    surroundings: bool = True  # tell the model how loud an utterance is and how far its ends are

    def __post_init__(self) -> None:
        require(0 <= self.context <= 500, "model.context", self.context, "0 to 500")


@dataclass
class MlpConfig(ModelConfig):
    """A context window through fully connected layers: legal in the contest."""

    widths: list[int] = field(default_factory=lambda: [512, 512, 512])
    norm: str = "batch"
    activation: str = "relu"
    dropout: float = 0.0
    residual: bool = False  # add a layer's input to its output where their widths agree
    rotate: bool = False  # turn the bins onto the principal axes of the train frames first

    def __post_init__(self) -> None:
        super().__post_init__()
        require(all(width >= 1 for width in self.widths), "model.widths", self.widths, "widths of 1 or more")
        require_choice("model.norm", self.norm, NORMS)
        require_choice("model.activation", self.activation, ACTIVATIONS)
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "0 up to but not 1")


@dataclass
class TdnnConfig(ModelConfig):
    """Convolutions over time, each frame from three of the layer before: not legal in the contest."""

    name: str = "tdnn"
    context: int = 24  # what splice and dilations add up to
    splice: int = 2  # neighbours on each side at the input
    dilations: list[int] = field(default_factory=lambda: [1, 1, 2, 3, 3, 3, 3, 3, 3])  # a block each
    width: int = 512
    bottleneck: int = 96
    norm: str = "batch"
    activation: str = "relu"
    dropout: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.splice >= 0, "model.splice", self.splice, "0 or more")
        steps = self.dilations
        require(all(step >= 1 for step in steps), "model.dilations", steps, "frames, 1 or more")
        reach = self.splice + sum(steps)
        require(
            self.context == reach, "model.context", self.context, f"{reach}, model.splice and all dilations"
        )
        for key in ("width", "bottleneck"):
            require(getattr(self, key) >= 1, f"model.{key}", getattr(self, key), "1 or more")
        require_choice("model.norm", self.norm, NORMS)
        require_choice("model.activation", self.activation, ACTIVATIONS)
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "0 up to but not 1")


@dataclass
class BiLstmConfig(ModelConfig):
    """Recurrent layers forwards and backwards in time: not legal in the contest."""

    name: str = "bilstm"
    context: int = 20  # most of it lets the recurrence warm up
    channels: list[int] = field(default_factory=lambda: [32, 64])  # of the two convolutions before it
    stride: int = 2  # frames that a step of the recurrence sees, and decides on, together
    width: int = 192  # of each direction
    layers: int = 3
    dropout: float = 0.3  # between layers and before the output

    def __post_init__(self) -> None:
        super().__post_init__()
        channels = self.channels
        both = len(channels) == 2 and min(channels) >= 1
        require(both, "model.channels", channels, "two numbers, 1 or more")
        fits = 1 <= self.stride < self.context
        require(fits, "model.stride", self.stride, f"1 up to but not model.context={self.context}")
        for key in ("width", "layers"):
            require(getattr(self, key) >= 1, f"model.{key}", getattr(self, key), "1 or more")
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "0 up to but not 1")


@dataclass
class ConformerConfig(ModelConfig):
    """Self-attention and convolutions over time: not legal in the contest."""

    name: str = "conformer"
    context: int = 20  # those beyond splice are attended to
    splice: int = 2  # neighbours on each side at the input
    width: int = 160
    blocks: int = 3
    heads: int = 5
    reach: int = 100  # frames on each side that attention sees in the stretch it is given
    kernel: int = 15  # frames that the convolution sees
    dropout: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_splice(self.splice, self.context)
        for key in ("blocks", "heads", "reach"):
            require(getattr(self, key) >= 1, f"model.{key}", getattr(self, key), "1 or more")
        whole = self.width >= 1 and self.width % (2 * self.heads) == 0
        require(whole, "model.width", self.width, f"a multiple of {2 * self.heads}, twice model.heads")
        require(
            self.kernel >= 1 and self.kernel % 2 == 1, "model.kernel", self.kernel, "an odd number of frames"
        )
        require(0 <= self.dropout < 1, "model.dropout", self.dropout, "0 up to but not 1")


def _require_splice(splice: int, context: int) -> None:
    require(0 <= splice <= context, "model.splice", splice, f"0 to model.context={context}")


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
    acoustic_scale: float | None = None  # null: what gets most of dev right
    prior_scale: float | None = None
    smoothing: float = 1.0  # counts that are added to each state's transitions

    def __post_init__(self) -> None:
        require_choice("decode.name", self.name, ("argmax", "forward_backward", "viterbi", "trigram"))
        for key in ("acoustic_scale", "prior_scale"):
            value = getattr(self, key)
            require(value is None or 0 <= value < math.inf, f"decode.{key}", value, "0 or more, or null")
        require(self.smoothing > 0, "decode.smoothing", self.smoothing, "a number above 0")


@dataclass
class FitConfig:
    """The training loop."""

    epochs: int = 6
    batch_size: int = 512  # frames
    chunk: int = 1  # frames of an example: 1 are shuffled frames, more are neighbours of one utterance
    label_smoothing: float = 0.0
    phoneme_weight: float = 0.0  # of the cross-entropy of phonemes, beside that of states
    teachers: list[str] = field(default_factory=list)  # checkpoints whose posteriors are learned too
    teacher_weight: float = 0.5  # of their posteriors; the rest is the labels'
    ema: float = 0.0  # decay of a moving average of the weights, which is then what is evaluated; 0: none
    resume: str | None = None  # auto: the newest unfinished run of this configuration; or a last.pt
    precision: str = "auto"
    compile: bool = False  # the model, by torch.compile: a minute's wait, and then faster steps on a GPU

    def __post_init__(self) -> None:
        require(self.epochs >= 1, "train.epochs", self.epochs, "1 or more")
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

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**31, "seed", self.seed, "0 up to but not 2**31")
        valid = self.name is None or (self.name not in ("", ".", "..") and not set(self.name) & set("/\\"))
        require(valid, "name", self.name, "the name of a folder below runs")


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


@dataclass
class Part1Config:
    """Part 1: the numpy network, everything that its constructor takes, and what it learns from."""

    data: str = (
        "digits"  # digits: scikit-learn's, nothing to download; mnist: below root; speech: as configured
    )
    root: str | None = (
        None  # mnist: the folder of its files; speech: the contest's folder; null: the made corpus
    )
    context: int = 5  # speech: frames seen on each side
    input_size: int | None = None  # null: the data's
    output_size: int | None = None  # null: the data's
    hiddens: list[int] = field(default_factory=lambda: [32, 32, 32])
    activations: list[str] = field(default_factory=lambda: ["sigmoid"])  # one a layer, or one for all hidden
    weight_init: str = "random_normal"
    bias_init: str = "zeros"
    criterion: str = "softmax_cross_entropy"
    lr: float | None = None  # null: the handout's 1e-3 for mnist, more for the smaller sets
    momentum: float = 0.0
    num_bn_layers: int = 0
    epochs: int | None = None  # null: the handout's 200, 5 for speech
    batch_size: int = 100
    dtype: str = "float64"
    twin: bool | None = None  # train the torch twin beside it; null: for speech
    seed: int = 0
    out: str = "runs/part1"

    def __post_init__(self) -> None:
        require_choice("part1.data", self.data, ("digits", "mnist", "speech"))
        require(
            self.data != "mnist" or bool(self.root), "part1.root", self.root, "the folder of MNIST's files"
        )
        require(0 <= self.context <= 500, "part1.context", self.context, "0 to 500")
        for key, size in (("input_size", self.input_size), ("output_size", self.output_size)):
            require(size is None or size >= 1, f"part1.{key}", size, "1 or more, or null")
        require(
            all(width >= 1 for width in self.hiddens), "part1.hiddens", self.hiddens, "widths of 1 or more"
        )
        layers = len(self.hiddens) + 1
        count = len(self.activations)
        require(
            count in (1, layers), "part1.activations", self.activations, f"1 name, or {layers} (the layers)"
        )
        for name in self.activations:
            require_choice("part1.activations", name, ("identity", "sigmoid", "tanh", "relu"))
        require_choice("part1.weight_init", self.weight_init, ("random_normal", "scaled_normal"))
        require_choice("part1.bias_init", self.bias_init, ("zeros",))
        require_choice("part1.criterion", self.criterion, ("softmax_cross_entropy",))
        require(self.lr is None or 0 < self.lr < math.inf, "part1.lr", self.lr, "a number above 0, or null")
        require(0 <= self.momentum < 1, "part1.momentum", self.momentum, "0 up to but not 1")
        bn_layers = self.num_bn_layers
        require(0 <= bn_layers <= layers, "part1.num_bn_layers", bn_layers, f"0 to {layers} (the layers)")
        require(self.epochs is None or self.epochs >= 1, "part1.epochs", self.epochs, "1 or more, or null")
        require(self.batch_size >= 1, "part1.batch_size", self.batch_size, "1 or more")
        require_choice("part1.dtype", self.dtype, ("float64", "float32"))
        require(0 <= self.seed < 2**32, "part1.seed", self.seed, "0 up to but not 2**32")
        require(bool(self.out), "part1.out", self.out, "a folder")


@dataclass
class Task6Config:
    """scripts/part1.py"""

    part1: Part1Config = field(default_factory=Part1Config)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)  # for part1.data=speech
