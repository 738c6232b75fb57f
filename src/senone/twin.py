"""The torch twin of a numpy network: the same weights, the same mathematics, somebody else's gradients.

The handout's network and torch agree to the last digits where they mean the same. ``DIFFERENCES`` is the
one list of where they do not; tests/test_parity.py holds a test of each.
"""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from senone import part1

DIFFERENCES = {  # what: the handout's way, torch's way, the twin's way
    "relu at zero": ("R'(0) = 1", "R'(0) = 0", "torch's: only an input of exactly 0 tells"),
    "running variance": ("biased, over N", "unbiased, over N - 1", "the handout's: TwinBatchNorm"),
    "momentum": (
        "v = m v - lr g; w += v",
        "v = m v + g; w -= lr v",
        "torch's: the same while lr is constant",
    ),
    "gamma and beta sums": ("sums, those of W and b means", "all as the loss", "N times the lr for them"),
    "gamma and beta momentum": ("none", "as for W and b", "the handout's: a group of their own"),
    "labels not one-hot": ("softmax - y", "softmax * sum(y) - y", "torch's: the same if y adds up to 1"),
}

ACTIVATIONS: dict[type[part1.Activation], type[nn.Module]] = {
    part1.Identity: nn.Identity,
    part1.Sigmoid: nn.Sigmoid,
    part1.Tanh: nn.Tanh,
    part1.ReLU: nn.ReLU,
}


class TwinBatchNorm(nn.BatchNorm1d):
    """torch's batch normalisation, except that the running variance is the handout's biased one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, n) -> (N, n)."""
        assert self.running_var is not None
        assert self.momentum is not None
        if self.training and len(x) == 1:  # torch refuses one example; its variance is 0
            assert self.running_mean is not None
            self.running_mean = self.running_mean.lerp(x.detach()[0], self.momentum)
            self.running_var = self.running_var * (1 - self.momentum)
            return self.weight * (x - x) + self.bias
        before = self.running_var.clone()
        out = super().forward(x)
        if self.training:
            biased = x.detach().var(dim=0, correction=0)
            self.running_var = before.lerp(biased, self.momentum)
        return out


class Twin(nn.Module):
    """The torch module with the weights, the BatchNorm statistics and the mode that an MLP has now.

    Nothing is shared: training one of them leaves the other as it is. torch keeps W transposed.
    """

    def __init__(self, mlp: part1.MLP) -> None:
        super().__init__()
        self.linear = nn.ModuleList(_linear(W, b) for W, b in zip(mlp.W, mlp.b, strict=True))
        self.batchnorm = nn.ModuleList(_batchnorm(bn) for bn in (mlp.bn_layers if mlp.bn else []))
        self.activation = nn.ModuleList(_activation(activation) for activation in mlp.activations)
        self.train(mlp.train_mode)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, input_size) -> (N, output_size) logits."""
        for i, linear in enumerate(self.linear):
            x = linear(x)
            if i < len(self.batchnorm):
                x = self.batchnorm[i](x)
            x = self.activation[i](x)
        return x


class TwinSGD(torch.optim.SGD):
    """torch's own SGD, set up to take the steps that ``MLP.step`` takes while its lr stays the same."""

    def __init__(self, twin: Twin, mlp: part1.MLP) -> None:
        self.lr = mlp.lr
        linear = {"params": list(twin.linear.parameters()), "momentum": mlp.momentum}
        batchnorm = {"params": list(twin.batchnorm.parameters()), "momentum": 0.0}
        super().__init__([linear, batchnorm] if batchnorm["params"] else [linear], lr=mlp.lr)

    def set_batch_size(self, num_examples: int) -> None:
        """From means to the sums that the handout wants for gamma and beta."""
        for group in self.param_groups[1:]:
            group["lr"] = self.lr * num_examples


def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N, C) logits and (N, C) labels -> (N,) cross entropies."""
    return functional.cross_entropy(logits, labels, reduction="none")


def train_batch(
    twin: Twin, optimizer: TwinSGD, x: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """What zero_grads, forward, backward and step are to an MLP; returns (N,) losses and (N, C) logits."""
    optimizer.zero_grad()
    logits = twin(x)
    loss = losses(logits, labels)
    loss.mean().backward()
    optimizer.set_batch_size(len(x))
    optimizer.step()
    return loss.detach(), logits.detach()


def _linear(W: np.ndarray, b: np.ndarray) -> nn.Module:
    n_in, n_out = W.shape
    return _fill(nn.Linear(n_in, n_out), weight=W.T, bias=b)


def _batchnorm(bn: part1.BatchNorm) -> nn.Module:
    twin = TwinBatchNorm(bn.gamma.size, eps=bn.eps, momentum=1 - bn.alpha)
    statistics = {"running_mean": bn.running_mean, "running_var": bn.running_var}
    return _fill(twin, weight=bn.gamma, bias=bn.beta, **statistics)


def _activation(activation: part1.Activation) -> nn.Module:
    if type(activation) not in ACTIVATIONS:
        known = ", ".join(kind.__name__ for kind in ACTIVATIONS)
        raise ValueError(f"no twin for the activation {type(activation).__name__}; there are {known}")
    return ACTIVATIONS[type(activation)]()


def _fill(module: nn.Module, **values: np.ndarray) -> nn.Module:
    """The module in the values' type, its tensors of these names with copies of the values."""
    module.to(torch.from_numpy(values["bias"]).dtype)
    with torch.no_grad():
        for name, value in values.items():
            tensor = getattr(module, name)
            tensor.copy_(torch.from_numpy(value).reshape(tensor.shape))
    return module
