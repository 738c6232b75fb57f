"""The numpy network."""

import math
from dataclasses import dataclass, field

from senone.config.checks import require, require_choice
from senone.config.data import CorpusConfig


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
