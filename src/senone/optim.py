"""The optimiser, and the learning rate as a pure function of the step."""

import math

import torch
from torch import nn


def build_optimiser(
    model: nn.Module, *, lr: float, weight_decay: float, beta1: float, beta2: float
) -> torch.optim.AdamW:
    """AdamW; weight decay pulls at matrices only, since biases and norms have nothing to overfit with."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    devices = {p.device for p in parameters}
    # one pass over each tensor instead of a dozen; a capturable or foreach variant is what MPS falls back to
    fused = all(device.type in ("cpu", "cuda") for device in devices)
    rate: float | torch.Tensor = lr
    if on_card := all(device.type == "cuda" for device in devices):
        rate = torch.tensor(lr, device=devices.pop())  # where a recorded step looks for it
    return torch.optim.AdamW(groups, lr=rate, betas=(beta1, beta2), fused=fused, capturable=on_card)


def lr_at(step: int, total: int, *, lr: float, final_lr: float, warmup: float) -> float:
    """The learning rate of step 0..total-1: linear warm-up over a share of the steps, then half a cosine
    (Loshchilov & Hutter 2017, eq. 5) from ``lr`` down to ``final_lr`` at the last step."""
    rising = math.floor(warmup * total)
    if step < rising:
        return lr * (step + 1) / (rising + 1)
    progress = (step - rising) / max(1, total - 1 - rising)
    return final_lr + (lr - final_lr) * 0.5 * (1 + math.cos(math.pi * progress))


def set_lr(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Use a learning rate from the next step on."""
    for group in optimiser.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
