"""Which frames a batch holds, and their context windows.

Nobody materialises N x W x F (61 GB for the contest at k = 12): a batch is copied out of the store's rows.
"""

import numpy as np
import torch

from senone.frames import FrameStore

OUTSIDE = -1  # the number of a frame that its utterance does not have


def epoch_order(n: int, seed: int, epoch: int, device: torch.device | None = None) -> torch.Tensor:
    """Frames 0..n-1 in the order of an epoch, (n,) int32: a pure function of (seed, epoch) on a device."""
    generator = torch.Generator(device or "cpu").manual_seed(mix_seed(seed, epoch))
    return torch.randperm(n, generator=generator, dtype=torch.int32, device=device)


def chunk_order(offsets: torch.Tensor, frames: int, seed: int, epoch: int) -> torch.Tensor:
    """The chunks of an epoch in its order, as (C,) int32 numbers of their first frames; C depends on neither
    seed nor epoch.

    (U+1,) offsets say where utterances begin. Each is cut into as many chunks of ``frames`` frames as fit its
    length best, at least one, in order and as far apart as chance has it: a few frames sit out or come twice.
    """
    generator = torch.Generator().manual_seed(mix_seed(seed, epoch))
    lengths = offsets.cpu().diff()
    counts = ((lengths + frames // 2) // frames).clamp(min=1)  # (U,)
    utterance = torch.arange(len(lengths)).repeat_interleave(counts)  # (C,)
    place = torch.arange(len(utterance)) - (counts.cumsum(0) - counts)[utterance]
    share = (utterance + torch.rand(len(utterance), generator=generator, dtype=torch.float64)).sort().values
    length, spare = lengths[utterance], (lengths - counts * frames)[utterance]
    start = place * frames + ((share - utterance) * (spare + spare.sign())).long()
    start = start.clamp(min=0).minimum((length - frames).clamp(min=0))
    order = torch.randperm(len(start), generator=generator)
    return (offsets.cpu()[:-1][utterance] + start)[order].int()


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


def gather_stretches(
    store: FrameStore, first: torch.Tensor, frames: int, context: int, speed: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """(B,) numbers of first frames -> (B, T+2k, F) stretches of T = ``frames`` frames and their context, and
    (B, T) int64 numbers of those frames, ``OUTSIDE`` beyond the end of the utterance.

    With a (B,) ``speed`` a stretch steps through its utterance so many frames at a time: rows between two
    frames are interpolated, and the number is that of the nearest frame.
    """
    device = store.rows.device
    utterance = store.utterance_of(first)
    begin = store.offsets[utterance]
    last = (store.offsets[utterance + 1] - begin - 1)[:, None]  # (B, 1), counted within the utterance
    steps = torch.arange(-context, frames + context, device=device)  # (T+2k,)
    row = (begin + store.guard * (2 * utterance + 1))[:, None]
    start = (first - begin)[:, None]
    if speed is None:
        place = start + steps  # (B, T+2k)
        rows = store.rows[row + _within(place, store.guard, last)]
    else:
        exact = start + steps * speed[:, None]
        below, place = exact.floor().long(), exact.round().long()
        rows = torch.lerp(
            store.rows[row + _within(below, store.guard, last)],
            store.rows[row + _within(below + 1, store.guard, last)],
            (exact - below).unsqueeze(2).to(store.rows.dtype),
        )
    place = place[:, context : context + frames]  # (B, T)
    return rows, (begin[:, None] + place).where(place <= last, OUTSIDE)


def _within(place: torch.Tensor, guard: int, last: torch.Tensor) -> torch.Tensor:
    """Places within an utterance and its guards; those beyond are the outermost guard's."""
    return place.clamp(min=-guard).minimum(last + guard)
