"""Pieces that models share."""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from senone.frames import BANDS, FrameStore

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
    "gelu": nn.GELU,
    "silu": lambda: nn.SiLU(inplace=True),
    "tanh": nn.Tanh,
}

NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
    "none": lambda width: nn.Identity(),
}


class FrameModel(nn.Module):
    """A function from (B, T+2k, F) padded frames to (B, T, K) logits, k being its ``context``; and, where it
    has ``Surroundings``, from the (B, S) surroundings of each stretch's first frame.

    T = 1 is the classic context-window classifier on shuffled frames; with a larger T the same network is
    slid along a chunk or a whole utterance.
    """

    context: int
    contest_legal: bool  # the contest's rules allow only fully connected networks
    by_window = False  # a longer stretch saves nothing: it is cut into the windows of its frames anyway
    num_members = 1  # networks in one, each of which learns alone: in training (num_members*B, T, K) logits

    @property
    def hears_surroundings(self) -> bool:
        return any(isinstance(module, Surroundings) for module in self.modules())

    def prepare(self, train: FrameStore) -> None:
        """Take from the train frames what a model knows of them before it is trained."""
        for module in self.modules():
            if isinstance(module, (Rotation, Surroundings)):
                module.fit(train)


class Rotation(nn.Module):
    """(..., F) -> (..., F): frames less their mean, turned onto their principal axes, the widest first."""

    mean: torch.Tensor
    axes: torch.Tensor

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_bins))
        self.register_buffer("axes", torch.eye(num_bins))  # (F, F), an axis a column

    def fit(self, store: FrameStore) -> None:
        """Take mean and axes from all frames of a store, summed up in float64."""
        bins = store.num_bins
        total = torch.zeros(bins, dtype=torch.float64)
        for index in range(store.num_utterances):
            total += store.utterance(index).double().sum(dim=0)
        mean = total / store.num_frames
        squares = torch.zeros(bins, bins, dtype=torch.float64)
        for index in range(store.num_utterances):
            centred = store.utterance(index).double() - mean  # (T, F)
            squares += centred.T @ centred
        self.mean.copy_(mean)
        self.axes.copy_(torch.linalg.eigh(squares).eigenvectors.flip(1))  # eigh has the narrowest first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) @ self.axes


LEVEL_NOISE, PLACE_NOISE = 0.5, 0.15  # standard deviations of what training adds


class Surroundings(nn.Module):
    """(B, S) surroundings of first frames -> (B, T, C): what they add to a layer of C units at each frame.

    Normalising an utterance hides how loud it was, and a window how far the ends are; silence, most of all,
    is told apart by both.
    """

    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(2 * BANDS))
        self.register_buffer("scale", torch.ones(2 * BANDS))
        self.level = nn.Linear(2 * BANDS, width, bias=False)
        self.place = nn.Linear(2, width, bias=False)

    def fit(self, store: FrameStore) -> None:
        """Take the usual levels and their spread from the utterances of a store; wild ones do not count."""
        shares = torch.tensor([0.16, 0.5, 0.84])  # of a normal distribution: mean and one deviation around it
        low, self.centre[:], high = store.levels.quantile(shares, dim=0)
        spread = (high - low) / 2
        # what is the same in all of train says nothing, whatever it is in dev
        self.scale.copy_(spread.where(spread > 1e-6, torch.inf))

    def forward(self, x: torch.Tensor, frames: int, first: int = 0, step: int = 1) -> torch.Tensor:
        """T = ``frames`` of them, ``step`` apart, beginning ``first`` after the frame whose they are."""
        levels = ((x[:, : 2 * BANDS] - self.centre) / self.scale).clamp(-3, 3)
        passed = first + step * torch.arange(frames, device=x.device)  # (T,)
        before, after = x[:, -2, None] + passed, x[:, -1, None] - passed  # (B, T)
        places = torch.stack([before, after], dim=2).clamp(min=0).log1p() / 3 - 1  # a fifth of a second is 0
        if self.training:  # exact, they would say which frame this is, and it would be learned by heart
            levels = levels + LEVEL_NOISE * torch.randn_like(levels)
            places = places + PLACE_NOISE * torch.randn_like(places[:, :1])
        shift: torch.Tensor = self.level(levels)[:, None] + self.place(places)
        return shift


def splice(x: torch.Tensor, side: int, step: int = 1) -> torch.Tensor:
    """(B, T + 2*side*step, C) -> (B, T, (2*side+1)*C): each frame among ``side`` others before and after it,
    ``step`` frames apart. A linear layer of the result is a convolution over time, at the same speed."""
    frames = x.shape[1] - 2 * side * step
    return torch.cat([x[:, i * step : i * step + frames] for i in range(2 * side + 1)], dim=2)


class Dropout(nn.Module):
    """Zero each value with probability p in training, and scale the others by 1/(1-p).

    torch draws a random number a value, which on a CPU takes half as long as the matrix product before it;
    here each 64 random bits decide on eight values, so p is rounded to a multiple of 1/256, though not to 0
    or 1. Other devices draw as torch does, in one pass over the values; compiled code hashes the place of a
    value wherever it needs to know, forth and back, which takes next to no memory.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = min(max(round(256 * p), 1), 255) / 256 if p else 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training or self.p == 0:
            return x
        dropped = int(256 * self.p)  # of 256 bytes
        if torch.compiler.is_compiling():
            rows = x.numel() // x.shape[-1]
            keep = hashed(rows, x.shape[-1], x.device).view(x.shape) >= (dropped << 24) - 2**31
        elif x.device.type == "cpu":
            bits = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
            keep = bits.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
        else:
            return F.dropout(x, self.p)
        return x * keep.to(x.dtype).mul_(1 / (1 - self.p))

    def extra_repr(self) -> str:
        return f"p={self.p:g}"


def hashed(rows: int, columns: int, device: torch.device) -> torch.Tensor:
    """(rows, columns) int32, uniform over all there are: a number is drawn for each row and each column, and
    each pair of them is hashed (two of the three rounds that end MurmurHash3, Appleby 2011)."""
    low, high = -(2**31), 2**31 - 1
    x = torch.randint(low, high, (rows, 1), dtype=torch.int32, device=device)
    x = x ^ torch.randint(low, high, (columns,), dtype=torch.int32, device=device)
    x = (x ^ x >> 16) * -2048144789  # 0x85EBCA6B
    return (x ^ x >> 15) * -1028477387  # 0xC2B2AE35


class Dense(nn.Module):
    """Linear, norm, shift, activation, dropout: (..., n_in) -> (..., n_out), plus its input if ``residual``.

    A BatchNorm takes its statistics over all leading dimensions, of frames and utterances alike.
    """

    def __init__(
        self, n_in: int, n_out: int, *, norm: str, activation: str, dropout: float, residual: bool
    ) -> None:
        super().__init__()
        # a BatchNorm takes the mean out again, so a bias before it would learn nothing
        self.linear = nn.Linear(n_in, n_out, bias=norm != "batch")
        self.norm = NORMS[norm](n_out)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = Dropout(dropout)
        self.residual = residual and n_in == n_out

    def forward(self, x: torch.Tensor, shift: torch.Tensor | None = None) -> torch.Tensor:
        rows = self.norm(self.linear(x.flatten(0, -2)))  # (..., n_in) -> (N, n_out)
        if shift is not None:
            rows = rows + shift.flatten(0, -2)
        y = self.dropout(self.activation(rows)).view(*x.shape[:-1], -1)
        return x + y if self.residual else y


class Logits(nn.Linear):
    """(..., n_in) -> (..., K). A card multiplies bfloat16 matrices a third as fast if their rows are not a
    multiple of 16 bytes long, so there it gets some more classes, which are left out again."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spare = -self.out_features % 8
        if not spare or x.device.type != "cuda":
            return super().forward(x)
        weight, bias = F.pad(self.weight, (0, 0, 0, spare)), F.pad(self.bias, (0, spare))
        return F.linear(x, weight, bias)[..., : self.out_features]


def copy_model(model: FrameModel) -> FrameModel:
    """A copy with weights of its own."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if isinstance(module, nn.RNNBase):
            module.flatten_parameters()  # in one piece again, or cuDNN would put them together at every call
    return copied


def fold_batchnorm(model: FrameModel) -> FrameModel:
    """A copy of a model that computes what its eval mode does, each BatchNorm folded into the linear layer
    before it: an evaluation is then matrix products and activations alone."""
    folded = copy_model(model).eval()
    for dense in folded.modules():
        if isinstance(dense, Dense) and isinstance(dense.norm, nn.BatchNorm1d):
            dense.linear = nn.utils.fuse_linear_bn_eval(dense.linear, dense.norm)
            dense.norm = nn.Identity()
    return folded
