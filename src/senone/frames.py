"""All frames of a split in one flat array, ready for windows.

U utterances · T frames of one utterance · N frames in all · R stored rows (frames and guards) · F mel bins
k context on each side · W = 2k+1 · K classes · B batch

Each utterance is stored with guard rows on both sides, so a window never sees a neighbour:

    rows    | g g | utterance 0 | g g | g g | utterance 1 | g g | ...      (R, F) float32
    frames          0 1 ... T-1               T ... N-1                    (N,)
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch

BANDS = 4  # of bins, whose levels an utterance is known by
SURROUNDINGS = 2 * BANDS + 2  # numbers that tell where a frame stands
PER_UTTERANCE = ("speakers", "levels", "means", "spreads")


@dataclass(frozen=True)
class FrameStore:
    """rows (R, F) float32; offsets (U+1), the first frame of each utterance; speakers (U) int64, who speaks
    it, in file order; levels (U, 2*BANDS) float32, mean and spread of its bands before it was normalised, or
    of its speaker's; means and spreads (U, F) float32, what was taken from its bins and what they were
    divided by, 0 and 1 where nothing was; labels (N) integers or None; ``guard`` rows before and after each
    utterance; K = ``num_classes``; a ``fingerprint`` of what it was made of."""

    rows: torch.Tensor
    offsets: torch.Tensor
    speakers: torch.Tensor
    levels: torch.Tensor
    means: torch.Tensor
    spreads: torch.Tensor
    labels: torch.Tensor | None
    guard: int
    num_classes: int
    fingerprint: str

    @classmethod
    def plain(
        cls,
        rows: torch.Tensor,
        offsets: torch.Tensor,
        labels: torch.Tensor | None,
        guard: int,
        num_classes: int,
    ) -> "FrameStore":
        """Frames as they are, each utterance its own speaker's, of whose level nothing is known."""
        utterances, bins = len(offsets) - 1, rows.shape[1]
        speakers, means = torch.arange(utterances), torch.zeros(utterances, bins)
        levels, spreads = torch.zeros(utterances, 2 * BANDS), torch.ones(utterances, bins)
        return cls(rows, offsets, speakers, levels, means, spreads, labels, guard, num_classes, "")

    @property
    def num_utterances(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_frames(self) -> int:
        return self.rows.shape[0] - 2 * self.guard * self.num_utterances

    @property
    def num_bins(self) -> int:
        return self.rows.shape[1]

    def centres(self, frames: torch.Tensor) -> torch.Tensor:
        """(B,) frame numbers 0..N-1 -> (B,) int32, the rows where they are stored."""
        return self._frame_rows.index_select(0, frames)

    @cached_property
    def _frame_rows(self) -> torch.Tensor:
        """(N,) int32, the row of each frame: looking it up is five times faster than a search."""
        shifts = self.guard * (2 * torch.arange(self.num_utterances, device=self.offsets.device) + 1)
        rows = torch.arange(self.num_frames, dtype=torch.int32, device=self.offsets.device)
        return rows.add_(shifts.int().repeat_interleave(self.offsets.diff(), output_size=self.num_frames))

    @cached_property
    def bounds(self) -> list[int]:
        """The offsets, for the host: to ask a card for each would be to wait for it."""
        bounds: list[int] = self.offsets.tolist()
        return bounds

    def utterance_of(self, frames: torch.Tensor) -> torch.Tensor:
        """(B,) frame numbers -> (B,) int64, the utterances they belong to."""
        return torch.searchsorted(self.offsets, frames.to(self.offsets.dtype), right=True) - 1

    def surroundings(self, frames: torch.Tensor) -> torch.Tensor:
        """(B,) frame numbers -> (B, SURROUNDINGS) float32, what no window shows: the levels of the utterance,
        and how many of its frames lie before this one and after it."""
        utterance = self.utterance_of(frames)
        before = frames - self.offsets[utterance]
        after = self.offsets[utterance + 1] - 1 - frames
        return torch.cat([self.levels[utterance], torch.stack([before, after], dim=1)], dim=1)

    def utterance(self, index: int, context: int = 0) -> torch.Tensor:
        """The (T + 2*context, F) rows of an utterance and ``context`` guards on each side, a view."""
        if context > self.guard:
            raise ValueError(f"context {context} is more than the store's {self.guard} guard rows")
        first, end = self.bounds[index], self.bounds[index + 1]
        shift = self.guard * (2 * index + 1)
        return self.rows[first + shift - context : end + shift + context]

    def original(self, index: int) -> torch.Tensor:
        """The (T, F) frames of an utterance as they came, but for wild values that normalising clipped."""
        return torch.addcmul(self.means[index], self.utterance(index), self.spreads[index])

    def utterance_labels(self, index: int) -> torch.Tensor:
        """The (T,) labels of an utterance."""
        assert self.labels is not None, "a split without labels was asked for them"
        return self.labels[self.bounds[index] : self.bounds[index + 1]]

    def to(self, device: torch.device) -> "FrameStore":
        """The same store with all its tensors on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        parts = {name: getattr(self, name).to(device) for name in ("rows", "offsets", *PER_UTTERANCE)}
        return replace(self, labels=labels, **parts)
