"""Several processes that train one model: who this one is, and what they tell each other.

torchrun starts them and says in the environment who is who. They talk by gloo, and by NCCL about tensors on
CUDA. Each takes its slice of every batch, sums and gradients are added up over all of them, and process 0
alone writes. With one process nothing here does anything.
"""

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

T = TypeVar("T")
PATIENCE = timedelta(hours=6)  # with process 0 while it makes a corpus or scores; death is noticed at once


@dataclass(frozen=True)
class Processes:
    """This process's rank 0..count-1 among all of them."""

    rank: int
    count: int

    def slice(self, batch_size: int) -> tuple[int, int]:
        """This process's part of each batch: the first of its frames, and the one after its last."""
        if batch_size < self.count:
            raise ValueError(
                f"train.batch_size={batch_size}: expected a frame for each of {self.count} processes"
            )
        return batch_size * self.rank // self.count, batch_size * (self.rank + 1) // self.count

    def share(self, batch_size: int, device: torch.device) -> torch.Tensor | None:
        """The weight of this process's mean loss in that of the whole batch; None is 1, without a product."""
        first, end = self.slice(batch_size)
        return None if self.count == 1 else torch.tensor((end - first) / batch_size, device=device)

    def own_device(self, device: torch.device) -> torch.device:
        """The CPU for all of them, or for each the CUDA card that ``joined`` has made its own."""
        if self.count == 1 or device.type == "cpu":
            return device
        if device.type != "cuda" or device.index is not None:
            raise ValueError(
                f"device={device}: {self.count} processes run on the cpu, or on cuda with a card each"
            )
        cards, needed = torch.cuda.device_count(), processes_here()
        if cards < needed:
            raise ValueError(f"device={device}: {needed} processes, but {cards} cards; each needs its own")
        return torch.device("cuda", torch.cuda.current_device())

    def from_first(self, make: Callable[[], T]) -> T:
        """What ``make`` returns on process 0, on all of them. If it raises there, all raise."""
        if self.count == 1:
            return make()
        told: list[Any] = [None, False]  # the result, and whether there is one
        try:
            if self.rank == 0:
                told = [make(), True]
        finally:
            dist.broadcast_object_list(told, device=torch.device("cpu"))
        if not told[1]:
            raise ValueError("process 0 could not go on, and says why")
        result: T = told[0]
        return result

    def in_turn(self, work: Callable[[], T]) -> T:
        """What ``work`` returns, done by process 0 first and by the others after it. If it fails on process 0
        all raise; bad input that only another finds is a RuntimeError that says where."""
        done: list[T] = []
        self.from_first(lambda: done.append(work()))
        if done:
            return done[0]
        try:
            return work()
        except ValueError as error:
            raise RuntimeError(f"process {self.rank} of {self.count}: {error}") from error

    def wait(self) -> None:
        """Until all of them are here."""
        self.agree(False)

    def agree(self, *wishes: bool) -> Sequence[bool]:
        """For each wish whether any process has it, so that all do the same after the same step."""
        if self.count == 1:
            return wishes
        heard = torch.tensor(wishes, dtype=torch.uint8)
        dist.all_reduce(heard, dist.ReduceOp.MAX)
        return [bool(wish) for wish in heard.tolist()]

    def check_same(self, values: torch.Tensor, what: str) -> None:
        """Raise RuntimeError where this process's values are not those of process 0."""
        if self.count > 1 and self.from_first(values.tolist) != values.tolist():
            raise RuntimeError(
                f"process {self.rank} of {self.count}: {what} is not that of process 0; give all of them the "
                f"same data, the same kind of device and the same torch"
            )

    def total(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a tensor over all processes."""
        return values if self.count == 1 else _add_up(values)

    def add_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Give every process the sum of the gradients of all, in one message."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))

    def join_norms(self, model: nn.Module) -> None:
        """Let each BatchNorm of the model take mean and variance over the whole batch."""
        if self.count > 1:
            for module in model.modules():
                if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
                    module.__class__ = JointBatchNorm  # with the parameters and buffers that it has


ALONE = Processes(0, 1)


def processes_here() -> int:
    """How many of the processes run on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


@contextmanager
def joined(meet: str = "env://") -> Iterator[Processes]:
    """The processes that torchrun started, in touch with each other; without it this one, alone."""
    processes = Processes(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))
    if processes.count == 1:
        yield processes
        return
    cuda = torch.cuda.is_available()
    if cuda:  # what "cuda" means to this process from here on
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
    # Optimisers import this module, and its default arguments would hold on to the group that there is then,
    # with threads that may abort the process when Python ends: so it is imported before there is one.
    importlib.import_module("torch.distributed.nn.functional")
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, meet, PATIENCE, rank=processes.rank, world_size=processes.count)
    try:
        yield processes
    finally:
        dist.destroy_process_group()


class JointBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over (B, C) or (B, C, ...) spread over processes, on any device (nn.SyncBatchNorm knows CUDA
    alone)."""

    def _check_input_dim(self, input: torch.Tensor) -> None:
        """Any will do."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        exact = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        var, mean = torch.var_mean(exact, dim=[0, *range(2, x.ndim)], correction=0)  # (C,), (C,) of ours
        rank, count = dist.get_rank(), dist.get_world_size()
        parts = mean.new_zeros(count, 2 * len(mean) + 1)
        parts[rank] = torch.cat([mean, var, mean.new_tensor([x.numel() // len(mean)])])
        parts = _Total.apply(parts)  # each process adds its row to zeros
        means, variances, rows = parts.split([len(mean), len(mean), 1], dim=1)  # (P, C), (P, C), (P, 1)
        share = rows / rows.sum()
        mean = (share * means).sum(0)
        var = (share * (variances + (means - mean).square())).sum(0)
        with torch.no_grad():
            assert self.momentum is not None
            self.get_buffer("running_mean").lerp_(mean, self.momentum)
            self.get_buffer("running_var").lerp_(var * rows.sum() / (rows.sum() - 1), self.momentum)
            self.get_buffer("num_batches_tracked").add_(1)
        scale = self.weight * (var + self.eps).rsqrt()
        shift = self.bias - mean * scale
        by_channel = (-1, *[1] * (x.ndim - 2))  # (C,) -> (C, 1, ...)
        return torch.addcmul(shift.view(by_channel), exact, scale.view(by_channel)).to(x.dtype)


class _Total(torch.autograd.Function):
    """The sum over all processes; each process's loss pulls at all that went into it."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor) -> torch.Tensor:
        return _add_up(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _add_up(gradient)


def _add_up(values: torch.Tensor) -> torch.Tensor:
    values = values.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(values)
    return values
