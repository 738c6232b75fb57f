"""Which frames a batch holds, and their context windows.

Nobody materialises N x W x F (61 GB for the contest at k = 12): a batch is copied out of the store's rows.
"""

import numpy as np
import torch


def epoch_order(n: int, seed: int, epoch: int, device: torch.device | None = None) -> torch.Tensor:
    """Frames 0..n-1 in the order of an epoch, (n,) int32: a pure function of (seed, epoch) on a device."""
    generator = torch.Generator(device or "cpu").manual_seed(mix_seed(seed, epoch))
    return torch.randperm(n, generator=generator, dtype=torch.int32, device=device)


def mix_seed(*parts: int) -> int:
    """One well-mixed 32-bit seed of several small numbers (torch's CPU generator takes no more bits)."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def gather(
    rows: torch.Tensor, centres: torch.Tensor, context: int, out: torch.Tensor | None = None
) -> torch.Tensor:
    """(R, F) contiguous rows and (B,) centre rows -> (B, W, F) windows on the rows' device.

    The store's guards see to it that a centre has ``context`` rows on each side. Overlapping windows are one
    strided view of the rows, so a batch is a single indexed copy of W*F values a frame; ``out`` (B, W*F)
    takes it without allocating.
    """
    num_rows, bins = rows.shape
    width = 2 * context + 1
    windows = rows.as_strided((num_rows - 2 * context, width * bins), (bins, 1))  # (R-2k, W*F), a view
    batch = torch.index_select(windows, 0, centres - context, out=out)
    return batch.view(-1, width, bins)
