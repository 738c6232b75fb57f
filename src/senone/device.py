"""Where the arithmetic runs, and in which precision."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Any

import torch

from senone.frames import FrameStore

SIDE = 512  # of the matrices that are tried: two milliseconds
WARM_UP = 3  # calls before one is recorded


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA, else MPS, else the CPU; a device that is not there raises ValueError."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device={name} cannot be used with torch {torch.__version__}: {reason}") from None
    return device


def describe_device(device: torch.device) -> str:
    """A GPU's name; a CPU with the threads that it has here."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device} ({torch.get_num_threads()} threads)" if device.type == "cpu" else str(device)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices itself; emulated, they are 13 to 100 times slower."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        abilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        return any(abilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


@cache
def gains_by_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32. Of a CPU its instructions do not
    tell: one of Intel's that has AVX512_BF16 without AMX takes 1.8 times as long. So it is tried."""
    if not has_bfloat16(device) or device.type != "cpu":
        return has_bfloat16(device)
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(5):
        for dtype, taken in seconds.items():
            matrix = torch.ones(SIDE, SIDE, dtype=dtype)
            started = time.perf_counter()
            torch.mm(matrix, matrix)
            taken.append(time.perf_counter() - started)
    return min(seconds[torch.bfloat16]) < min(seconds[torch.float32])


def choose_precision(name: str, device: torch.device) -> str:
    """``auto`` is bfloat16 where the device gains by it, and float32 elsewhere; bfloat16 is refused
    (ValueError) on a device that would only emulate it."""
    if name == "bfloat16" and not has_bfloat16(device):
        raise ValueError(f"train.precision=bfloat16: {device} would only emulate it, many times slower")
    if name == "auto":
        return "bfloat16" if gains_by_bfloat16(device) else "float32"
    return name


def trained_precision(content: Mapping[str, Any], device: torch.device) -> str:
    """The precision that the model of a checkpoint's content was trained in, where this device has it too."""
    name = content.get("precision", content["config"]["train"]["precision"])
    return "float32" if name == "bfloat16" and not has_bfloat16(device) else choose_precision(name, device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """Matrix products in ``precision``; weights, norms and loss stay float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


class Recorded:
    """A function without arguments that always asks for the same work, on tensors that stay where they are.

    On a CUDA ``card``, unless that is None, what it asks for is recorded (a CUDA graph) after a few calls and
    replayed by all later ones: to ask for the hundred kernels of a training step takes Python longer than it
    takes a card to run them.
    """

    def __init__(self, function: Callable[[], None], card: torch.device | None) -> None:
        self.function, self.card = function, card
        self.calls_left = WARM_UP
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        if self.graph is not None:
            self.graph.replay()
        elif self.card is None:
            self.function()
        else:
            with torch.cuda.device(self.card):
                self._prepare()

    def _prepare(self) -> None:
        """A call that allocates, compiles and chooses kernels, aside from the stream of all other work, or,
        when there have been enough, the recording and its first replay."""
        if self.calls_left:
            self.calls_left -= 1
            aside, here = torch.cuda.Stream(), torch.cuda.current_stream()
            aside.wait_stream(here)
            with torch.cuda.stream(aside):
                self.function()
            here.wait_stream(aside)
        else:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):  # runs nothing
                self.function()
            graph.replay()
            self.graph = graph


def place_store(store: FrameStore, device: torch.device, precision: str = "float32") -> FrameStore:
    """The store on the device if it fits into four fifths of its free memory, else where it is. A card has
    its frames in ``precision``: what a network multiplies first is rounded so anyway."""
    if device.type == "cuda":
        if precision == "bfloat16":
            store = replace(store, rows=store.rows.bfloat16())
        torch.cuda.empty_cache()  # what torch keeps of what it was given back is free too
        free, _ = torch.cuda.mem_get_info(device)
        if store.rows.nbytes > 0.8 * free:
            return store
    return store.to(device)
