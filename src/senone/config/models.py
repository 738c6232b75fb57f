"""The networks."""

from dataclasses import dataclass, field

from senone.config.checks import require, require_choice

NORMS = ("batch", "layer", "none")
ACTIVATIONS = ("relu", "leaky_relu", "gelu", "silu", "tanh")


@dataclass
class ModelConfig:
    """What every model has; the groups of conf/model add their own."""

    name: str = "mlp"
    context: int = 15  # k: frames seen on each side
    surroundings: bool = True  # tell the model how loud an utterance is and how far its ends are

    def __post_init__(self) -> None:
        require(0 <= self.context <= 500, "model.context", self.context, "0 to 500")
        settings = vars(self)  # those below belong to several models, not to all
        for key, choices in (("norm", NORMS), ("activation", ACTIVATIONS)):
            require_choice(f"model.{key}", settings.get(key, choices[0]), choices)
        dropout = settings.get("dropout", 0.0)
        require(0 <= dropout < 1, "model.dropout", dropout, "0 up to but not 1")


@dataclass
class MlpConfig(ModelConfig):
    """A context window through fully connected layers: legal in the contest."""

    widths: list[int] = field(default_factory=lambda: [512, 512, 512])
    norm: str = "batch"
    activation: str = "relu"
    dropout: float = 0.1
    residual: bool = False  # add a layer's input to its output where their widths agree
    rotate: bool = False  # turn the bins onto the principal axes of the train frames first

    def __post_init__(self) -> None:
        super().__post_init__()
        require(all(width >= 1 for width in self.widths), "model.widths", self.widths, "widths of 1 or more")


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
        fits = 0 <= self.splice <= self.context
        require(fits, "model.splice", self.splice, f"0 to model.context={self.context}")
        for key in ("blocks", "heads", "reach"):
            require(getattr(self, key) >= 1, f"model.{key}", getattr(self, key), "1 or more")
        whole = self.width >= 1 and self.width % (2 * self.heads) == 0
        require(whole, "model.width", self.width, f"a multiple of {2 * self.heads}, twice model.heads")
        require(
            self.kernel >= 1 and self.kernel % 2 == 1, "model.kernel", self.kernel, "an odd number of frames"
        )


@dataclass
class CommitteeConfig(ModelConfig):
    """Networks that learn side by side and decide together; legal in the contest if all of them are."""

    name: str = "committee"
    context: int = 20  # of each member, and so is surroundings
    members: dict[str, ModelConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.members) >= 1, "model.members", self.members, "one network or more")
        for name, member in self.members.items():
            for key in ("context", "surroundings"):
                own, common = getattr(member, key), getattr(self, key)
                require(own == common, f"model.members.{name}.{key}", own, f"model.{key}, which is {common}")
