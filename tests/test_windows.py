"""Windows: one gather against the plain definition, and an order that is a permutation and well mixed."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from senone.frames import FrameStore
from senone.windows import epoch_order, gather, mix_seed


def store_of(lengths: list[int], bins: int, guard: int) -> FrameStore:
    """A store whose rows say (utterance + 1) * 1000 + frame, and 0 in the guards."""
    rows = []
    for utterance, length in enumerate(lengths):
        values = (utterance + 1) * 1000 + torch.arange(length, dtype=torch.float32)
        rows.append(torch.nn.functional.pad(values, (guard, guard)))
    flat = torch.cat(rows)[:, None] + torch.zeros(bins)
    return FrameStore(flat, torch.tensor([0, *np.cumsum(lengths)]), None, guard, 2, "")


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    bins=st.integers(1, 5),
    context=st.integers(0, 6),
    extra=st.integers(0, 3),
)
@settings(deadline=None)
def test_windows_never_cross_an_utterance(lengths: list[int], bins: int, context: int, extra: int) -> None:
    store = store_of(lengths, bins, context + extra)
    frames = torch.arange(store.num_frames)
    windows = gather(store.rows, store.centres(frames), context)
    assert windows.shape == (store.num_frames, 2 * context + 1, bins)
    frame = 0
    for utterance, length in enumerate(lengths):
        for place in range(length):
            around = range(place - context, place + context + 1)
            plain = [(utterance + 1) * 1000 + t if 0 <= t < length else 0 for t in around]
            assert windows[frame].tolist() == [[value] * bins for value in plain]
            frame += 1


def test_a_buffer_takes_the_windows_in_place() -> None:
    store = store_of([30, 20], 4, 8)
    centres = store.centres(torch.tensor([3, 49, 0, 30], dtype=torch.int32))
    buffer = torch.empty(4, 11 * 4)
    windows = gather(store.rows, centres, 5, out=buffer)
    assert windows.data_ptr() == buffer.data_ptr()
    assert torch.equal(windows, gather(store.rows, centres, 5))


@given(n=st.integers(1, 2000), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 1000))
@settings(deadline=None)
def test_an_order_is_a_permutation_and_a_function_of_seed_and_epoch(n: int, seed: int, epoch: int) -> None:
    order = epoch_order(n, seed, epoch)
    torch.rand(1)  # the global generator has no say
    assert torch.equal(order, epoch_order(n, seed, epoch))
    assert torch.equal(order.sort().values, torch.arange(n, dtype=torch.int32))


def test_orders_of_epochs_and_seeds_are_unlike_each_other() -> None:
    orders = [epoch_order(10_000, seed, epoch) for seed in range(3) for epoch in range(3)]
    for index, order in enumerate(orders):
        for other in orders[:index]:
            assert (order == other).float().mean() < 0.001


def test_an_order_is_well_mixed() -> None:
    n, batches = 100_000, 100
    order = epoch_order(n, 0, 0).view(batches, -1)
    means = order.double().mean(dim=1)  # of 1,000 draws from 0..n-1: standard deviation n / sqrt(12 * 1000)
    assert abs(means - n / 2).max() < 5 * n / np.sqrt(12_000)
    neighbours = (order.flatten().diff().abs() < 10).float().mean()
    assert neighbours < 5 * 20 / n * 10
    correlation = np.corrcoef(np.arange(n), order.flatten().numpy())[0, 1]
    assert abs(correlation) < 5 / np.sqrt(n)


def test_seeds_are_mixed_so_that_neighbours_have_nothing_in_common() -> None:
    seeds = {mix_seed(seed, epoch) for seed in range(100) for epoch in range(100)}
    assert len(seeds) == 10_000
