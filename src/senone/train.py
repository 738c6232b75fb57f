"""The training engine: shuffled frames through a model, epoch after epoch, so that it can stop anywhere and
go on as if it had not."""

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from tqdm import tqdm

from senone.augment import Augmentation
from senone.checkpoint import save_checkpoint
from senone.config import FitConfig, OptimConfig
from senone.device import Recorded, autocast, place_store
from senone.evaluate import score, utterance_logits
from senone.frames import FrameStore
from senone.loss import IGNORED, frame_loss, teacher_loss
from senone.models import FrameModel
from senone.models.blocks import copy_model
from senone.optim import build_optimiser, lr_at, set_lr
from senone.processes import ALONE, Processes
from senone.progress import Progress
from senone.runlog import RunLog, bar_interval
from senone.windows import OUTSIDE, chunk_order, epoch_order, gather, gather_stretches, mix_seed

LOOK_S = 0.5  # between two looks at loss and accuracy; each waits for the device
SAVE_S = 600.0  # between two savings within an epoch
# torch's compiler works the gradient before a norm out in both passes that need it, not in one before them
# that writes it down, and draws what dropout hashes once, not for each value
COMPILER: dict[str, Any] = {
    "fallback_random": True,
    "realize_reads_threshold": 64,
    "realize_acc_reads_threshold": 64,
    "realize_opcount_threshold": 2000,
}


class Stopped(Exception):
    """Somebody asked the run to stop; last.pt holds it."""


class Trainer:
    """Trains a model on one store, scores it on another after every epoch, keeps last.pt and best.pt.

    A ``teacher`` is what another model makes of the train frames: (N, P) likeliest states and their shares.

    ``identity`` (config, num_bins, num_classes) goes into the checkpoints, so that each of them rebuilds its
    model alone. The order of frames, the learning rate and dropout are functions of seed, epoch and step, and
    a checkpoint holds all else that a step depends on: a run that was stopped and resumed ends with the
    weights of one that was not, bit for bit on one CPU. With several ``processes`` each takes a slice of
    every batch for one common step, and process 0 alone scores and writes; a resume may have more or fewer.
    """

    def __init__(
        self,
        model: FrameModel,
        train: FrameStore,
        dev: FrameStore,
        *,
        settings: FitConfig,
        optim: OptimConfig,
        seed: int,
        device: torch.device,
        precision: str,
        log: RunLog,
        identity: dict[str, Any],
        augmentation: Augmentation | None = None,
        teacher: tuple[torch.Tensor, torch.Tensor] | None = None,
        processes: Processes = ALONE,
    ) -> None:
        if train.labels is None or dev.labels is None:
            raise ValueError("training needs the labels of both train and dev")
        self.settings, self.optim, self.seed = settings, optim, seed
        self.device, self.precision, self.log, self.identity = device, precision, log, identity
        self.augmentation, self.processes = augmentation or Augmentation(), processes
        processes.join_norms(model)
        self.model = model.to(device)
        self.averaged = copy_model(model).requires_grad_(False) if settings.ema else None
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimiser = build_optimiser(
            model, lr=optim.lr, weight_decay=optim.weight_decay, beta1=optim.beta1, beta2=optim.beta2
        )
        self.learn = self._learn
        if settings.compile:
            if processes.count > 1:
                raise ValueError("train.compile=true: expected one process, not several that talk in between")
            torch.compiler.reset()  # or the ninth trainer of a sweep would run as written
            self.learn = torch.compile(self._learn, dynamic=False, options=COMPILER)
        self.train, self.dev = place_store(train, device, precision), place_store(dev, device, precision)
        self.labels = train.labels.to(device)
        self.teacher = None if teacher is None else tuple(part.to(device) for part in teacher)
        examples = train.num_frames if settings.chunk == 1 else len(self._order(0))
        self.batch_size = min(settings.batch_size // settings.chunk, examples)  # in examples
        self.batches = examples // self.batch_size  # a few other examples sit out in each epoch
        self.steps = settings.epochs * self.batches
        self.slice = first, end = processes.slice(self.batch_size)
        self.share = processes.share(self.batch_size, device)
        width = (2 * model.context + 1) * train.num_bins
        self.buffer = torch.empty(
            end - first, width, dtype=self.train.rows.dtype, device=self.train.rows.device
        )
        self.sums = torch.zeros(3, device=device)  # of loss, right frames and frames, over the epoch
        # what differs from step to step, in its place: a batch's first frames, and how much of the averaged
        # weights is new
        self.first = torch.empty(end - first, dtype=torch.int32, device=self.train.rows.device)
        self.new_share = torch.ones((), device=device)
        recorded = self.train.rows.is_cuda and processes.count == 1
        self.update = Recorded(self._update, device if recorded else None)
        self.progress = Progress()
        torch.manual_seed(mix_seed(seed, 1))  # dropout's

    def run(self) -> Progress:
        """Train to the end. Ctrl-C or SIGTERM saves last.pt and raises ``Stopped``; a loss that is no longer
        finite raises ValueError."""
        size = self.batch_size * self.settings.chunk
        bar = tqdm(
            total=self.steps * size,
            initial=(self.progress.epoch * self.batches + self.progress.batch) * size,
            unit=" frames",
            unit_scale=True,
            dynamic_ncols=True,
            smoothing=0.05,
            mininterval=bar_interval(),
            delay=math.inf if self.processes.rank else 0,  # one bar is enough
        )
        with bar, _stop_signals() as stop:
            while not self.processes.from_first(lambda: self.progress.is_over(self.settings)):
                bar.set_description(f"epoch {self.progress.epoch + 1}/{self.settings.epochs}", refresh=False)
                self._train_epoch(bar, stop)
                self._end_epoch()
                if any(self.processes.agree(stop.is_set())):  # while dev was scored; last.pt is written
                    raise Stopped
        if self.progress.epoch < self.settings.epochs:
            self.log.say(f"no better dev accuracy for {self.settings.patience} epochs: that is enough")
        return self.progress

    def _train_epoch(self, bar: tqdm, stop: threading.Event) -> None:
        progress, size, (first, end) = self.progress, self.batch_size, self.slice
        order = self._order(progress.epoch)
        self.processes.check_same(order[:64], "the order of its frames")
        self.sums.copy_(torch.tensor([progress.loss_sum, progress.right, progress.frames]))
        if self.processes.rank:
            self.sums.zero_()  # process 0 has them all
        self.model.train()
        looked = saved = time.monotonic()
        started = looked - progress.seconds
        for batch in range(progress.batch, self.batches):
            frames = order[batch * size + first : batch * size + end]
            self._step(frames, progress.epoch * self.batches + batch)
            progress.batch = batch + 1
            bar.update(size * self.settings.chunk)
            now = time.monotonic()
            due = now - looked >= LOOK_S or progress.batch == self.batches
            looking, stopping = self.processes.agree(due, stop.is_set())
            if not (looking or stopping):
                continue
            looked, progress.seconds = now, now - started
            self._look(bar)
            if stopping or now - saved > SAVE_S:
                saved = now
                self._save()
            if stopping:
                raise Stopped

    def _order(self, epoch: int) -> torch.Tensor:
        """The examples of an epoch in its order, as numbers of their first frames."""
        train, chunk = self.train, self.settings.chunk
        if chunk == 1:
            return epoch_order(train.num_frames, self.seed, epoch, train.rows.device)
        return chunk_order(train.offsets, chunk, self.seed, epoch).to(train.rows.device)

    def _batch(self, first: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """(B,) first frames -> (B, T+2k, F) inputs, the (B, S) surroundings of these frames if the model
        hears them, and (B*T,) the numbers of all frames or ``OUTSIDE``."""
        train, context, chunk = self.train, self.model.context, self.settings.chunk
        if not first.is_cuda:  # a batch has no order of its own; in that of memory it is read a fifth faster
            first = first.sort().values
        speed = self.augmentation.draw_speed(len(first), first.device)
        if chunk == 1 and speed is None:
            inputs = gather(train.rows, train.centres(first), context, out=self.buffer)
            frames = first
        else:
            inputs, frames = gather_stretches(train, first, chunk, context, speed)
        surroundings = train.surroundings(first).to(self.device) if self.model.hears_surroundings else None
        return self.augmentation(inputs.to(self.device)), surroundings, frames.flatten().to(self.device)

    def _step(self, first: torch.Tensor, step: int) -> None:
        """One update from the examples that begin at (B,) first frames."""
        if self.processes.count > 1:  # other dropout in each process and step
            torch.manual_seed(mix_seed(self.seed, step, 1 + self.processes.rank))
        optim = self.optim
        rate = lr_at(step, self.steps, lr=optim.lr, final_lr=optim.final_lr, warmup=optim.warmup)
        set_lr(self.optimiser, rate)
        self.new_share.fill_(1 - min(self.settings.ema, (1 + step) / (10 + step)))
        self.first.copy_(first)
        self.update()

    def _update(self) -> None:
        """From the examples of ``first`` to new weights; asks for nothing that would wait for a card."""
        loss, counts = self.learn(*self._batch(self.first))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward(self.share)
        self.processes.add_gradients(self.parameters)
        if self.optim.clip:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.optim.clip)
        self.optimiser.step()
        if self.averaged is not None:
            _update_average(self.averaged, self.model, self.new_share)
        self.sums += counts

    def _learn(
        self, inputs: torch.Tensor, surroundings: torch.Tensor | None, frames: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch -> its mean loss, and (3,) the sum of losses, right frames, and frames that count."""
        settings = self.settings
        frames = frames.repeat(self.model.num_members)
        known = frames.clamp(min=0)
        targets = self.labels.index_select(0, known).long().where(frames != OUTSIDE, IGNORED)
        with autocast(self.device, self.precision):
            logits = self.model(inputs, surroundings).flatten(0, 1)  # (B, T, K) -> (B*T, K), of each member
        smoothing, phoneme_weight = settings.label_smoothing, settings.phoneme_weight
        loss = frame_loss(logits.float(), targets, smoothing=smoothing, phoneme_weight=phoneme_weight)
        if self.teacher is not None:
            states, shares = (part.index_select(0, known) for part in self.teacher)
            taught = teacher_loss(logits.float(), states, shares, targets)
            loss = torch.lerp(loss, taught, settings.teacher_weight)
        right = (logits.argmax(dim=1) == targets).sum()
        counts = torch.stack([loss.detach(), right, (targets != IGNORED).sum()])
        return loss / len(targets), counts

    def _look(self, bar: tqdm) -> None:
        """Fetch the sums from the device, the only wait for it within an epoch."""
        progress = self.progress
        progress.loss_sum, *counts = self.processes.total(self.sums).tolist()
        progress.right, progress.frames = map(int, counts)
        if not math.isfinite(progress.loss_sum):
            raise ValueError(
                f"the loss is no longer finite in epoch {progress.epoch + 1}, batch {progress.batch} of "
                f"{self.batches}; lower optim.lr={self.optim.lr} or look at the data"
            )
        loss, accuracy = progress.loss_sum / progress.frames, progress.right / progress.frames
        bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1%}", refresh=False)

    def _end_epoch(self) -> None:
        """Score on dev, write the records, save."""
        if self.processes.rank:
            self.progress = Progress(self.progress.epoch + 1)
            return
        progress = self.progress
        started = time.monotonic()
        result, _ = score(
            utterance_logits(self.averaged or self.model, self.dev, self.device, self.precision), self.dev
        )
        record = {
            "epoch": progress.epoch + 1,
            "step": (progress.epoch + 1) * self.batches,
            "train_loss": progress.loss_sum / progress.frames,
            "train_accuracy": progress.right / progress.frames,
            "dev_loss": result.loss,
            "dev_accuracy": result.accuracy,
            "lr": float(self.optimiser.param_groups[0]["lr"]),
            "seconds": round(progress.seconds, 3),
            "dev_seconds": round(time.monotonic() - started, 3),
        }
        is_best = result.accuracy > progress.best_accuracy
        self.progress = progress = Progress(progress.epoch + 1, history=[*progress.history, record])
        self.log.say(
            f"epoch {record['epoch']}/{self.settings.epochs}  "
            f"train: loss {record['train_loss']:.3f}, accuracy {record['train_accuracy']:.2%}  "
            f"dev: loss {result.loss:.3f}, accuracy {result.accuracy:.2%}{' (best)' if is_best else ''}  "
            f"{record['seconds']:.0f} s"
        )
        self.log.write_metrics(progress.history)
        if is_best:
            weights = (self.averaged or self.model).state_dict()
            content = {
                **self.identity,
                "model": weights,
                "dev_accuracy": result.accuracy,
                "epoch": progress.epoch,
            }
            save_checkpoint(self.log.folder / "best.pt", content)
        self._save()

    def _save(self) -> None:
        if self.processes.rank == 0:
            save_checkpoint(self.log.folder / "last.pt", self.state())

    def state(self) -> dict[str, Any]:
        """All that the run's next step depends on, for a checkpoint."""
        return {
            **self.identity,
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
            "optimiser": self.optimiser.state_dict(),
            "progress": asdict(self.progress),
            "cpu_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }

    def restore(self, content: dict[str, Any]) -> None:
        """Go on from the content of a last.pt. Raises ValueError for a checkpoint that is only a model."""
        if "optimiser" not in content:
            raise ValueError("this checkpoint holds a model and no training state: resume from a last.pt")
        self.model.load_state_dict(content["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(content["averaged"])
        groups = self.optimiser.state_dict()["param_groups"]  # as this device wants them
        self.optimiser.load_state_dict({**content["optimiser"], "param_groups": groups})
        self.progress = Progress(**content["progress"])
        torch.set_rng_state(content["cpu_rng"])
        if self.device.type == "cuda" and content["cuda_rng"] is not None:
            torch.cuda.set_rng_state(content["cuda_rng"], self.device)


@torch.no_grad()
def _update_average(averaged: FrameModel, model: FrameModel, new_share: torch.Tensor) -> None:
    """averaged = (1 - new_share) * averaged + new_share * model; BatchNorm's statistics are copied."""
    for old, new in zip(averaged.parameters(), model.parameters(), strict=True):
        old.lerp_(new, new_share)
    for theirs, ours in zip(averaged.buffers(), model.buffers(), strict=True):
        theirs.copy_(ours)


@contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set, so that no step is torn; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request(signum: int, _: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
