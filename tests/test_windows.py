"""Windows: one gather against the plain definition, and an order that is a permutation and well mixed."""

from itertools import pairwise

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from senone.frames import FrameStore
from senone.windows import OUTSIDE, chunk_order, epoch_order, gather, gather_stretches, mix_seed


def store_of(lengths: list[int], bins: int, guard: int) -> FrameStore:
    """A store whose rows say (utterance + 1) * 1000 + frame, and 0 in the guards."""
    rows = []
    for utterance, length in enumerate(lengths):
        values = (utterance + 1) * 1000 + torch.arange(length, dtype=torch.float32)
        rows.append(torch.nn.functional.pad(values, (guard, guard)))
    flat = torch.cat(rows)[:, None] + torch.zeros(bins)
    return FrameStore.plain(flat, torch.tensor([0, *np.cumsum(lengths)]), None, guard, 2)


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    bins=st.integers(1, 5),
    context=st.integers(0, 6),
    extra=st.integers(0, 3),
)
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


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    frames=st.integers(1, 30),
    seed=st.integers(0, 2**31 - 1),
)
def test_chunks_lie_in_their_utterances_wherever_these_are_long_enough(
    lengths: list[int], frames: int, seed: int
) -> None:
    offsets = torch.tensor([0, *np.cumsum(lengths)])
    first = chunk_order(offsets, frames, seed, 3)
    assert torch.equal(first, chunk_order(offsets, frames, seed, 3))
    starts: dict[int, list[int]] = {}
    for start in first.sort().values.tolist():
        utterance = int(np.searchsorted(np.cumsum(lengths), start, side="right"))
        starts.setdefault(utterance, []).append(start - int(offsets[utterance]))
    for utterance, length in enumerate(lengths):
        assert len(starts[utterance]) == max(1, (length + frames // 2) // frames)
        assert starts[utterance][0] == 0 or length > frames
        assert starts[utterance][-1] <= max(0, length - frames)
        if frames * len(starts[utterance]) <= length:  # then none needs to come twice
            assert all(b - a >= frames for a, b in pairwise(starts[utterance]))


def test_over_the_epochs_every_frame_is_in_a_chunk_equally_often_but_for_the_ends() -> None:
    offsets = torch.tensor([0, 470])
    seen = torch.zeros(470)
    orders = [chunk_order(offsets, 100, 0, epoch).tolist() for epoch in range(300)]
    for order in orders:
        for start in order:
            seen[start : start + 100] += 1
    assert seen.min() > 0
    assert 0.7 < float(seen[100:370].mean()) / 300 < 1.4
    assert len({tuple(order) for order in orders}) > 250
    assert {tuple(order) for order in orders} != {tuple(sorted(order)) for order in orders}


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=6),
    frames=st.integers(1, 12),
    context=st.integers(0, 6),
    extra=st.integers(0, 3),
)
def test_stretches_never_cross_an_utterance_and_frames_keep_their_numbers(
    lengths: list[int], frames: int, context: int, extra: int
) -> None:
    store = store_of(lengths, 2, max(1, context + extra))
    first = torch.arange(store.num_frames, dtype=torch.int32)
    inputs, numbers = gather_stretches(store, first, frames, context)
    assert inputs.shape == (len(first), frames + 2 * context, 2)
    number = 0
    for utterance, length in enumerate(lengths):
        for start in range(length):
            around = range(start - context, start + frames + context)
            plain = [(utterance + 1) * 1000 + t if 0 <= t < length else 0 for t in around]
            assert inputs[number, :, 0].tolist() == plain
            plain = [number + t if start + t < length else OUTSIDE for t in range(frames)]
            assert numbers[number].tolist() == plain
            number += 1


def test_stretches_of_one_frame_are_the_windows() -> None:
    store = store_of([30, 20, 7], 3, 5)
    frames = torch.tensor([3, 49, 0, 30, 56], dtype=torch.int32)
    inputs, numbers = gather_stretches(store, frames, 1, 4)
    assert torch.equal(inputs, gather(store.rows, store.centres(frames), 4))
    assert numbers.flatten().tolist() == frames.tolist()
    at_speed_one, _ = gather_stretches(store, frames, 1, 4, torch.ones(5))
    torch.testing.assert_close(at_speed_one, inputs)


@given(speed=st.floats(0.5, 2.0), start=st.integers(20, 60), frames=st.integers(1, 5))
def test_a_stretch_at_another_speed_is_interpolated_and_has_the_nearest_frames(
    speed: float, start: int, frames: int
) -> None:
    store = store_of([10, 100], 2, 8)
    speeds = torch.tensor([speed])
    inputs, numbers = gather_stretches(store, torch.tensor([10 + start]), frames, 6, speeds)
    places = start + float(speeds) * np.arange(-6, frames + 6)  # rows of this store grow by 1 a frame
    inside = places <= 99
    np.testing.assert_allclose(inputs[0, :, 1].numpy()[inside], 2000 + places[inside], atol=1e-3)
    nearest = places[6 : 6 + frames]
    assert np.abs(numbers[0].numpy() - 10 - nearest).max() <= 0.5 + 1e-4


def test_a_fast_stretch_at_the_end_of_an_utterance_stays_in_it() -> None:
    store = store_of([12, 9], 1, 4)
    inputs, numbers = gather_stretches(store, torch.tensor([5]), 10, 3, torch.tensor([2.0]))
    assert inputs[0, :, 0].max() <= 1011
    assert numbers[0].tolist() == [5, 7, 9, 11, *[OUTSIDE] * 6]
