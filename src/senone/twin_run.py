"""A network's torch twin, trained beside it: the same batches in the same order, epoch by epoch."""

import numpy as np
import torch

from senone import part1
from senone.part1.training import Split, count_errors
from senone.twin import Twin, TwinSGD, losses, train_batch


class TwinRun:
    """A twin made of the network as it is now, which follows it through ``part1.get_training_stats``."""

    def __init__(self, mlp: part1.MLP, train: Split, validation: Split, batch_size: int) -> None:
        self.train, self.validation, self.batch_size = train, validation, batch_size
        self.twin = Twin(mlp)
        self.optimizer = TwinSGD(self.twin, mlp)
        self.order = np.arange(len(train[0]))
        self.generator = np.random.RandomState()
        # It will shuffle as the network's own generator does from here on.
        self.generator.set_state(np.random.get_state())  # noqa: NPY002

    def train_epoch(self) -> tuple[float, float, float, float]:
        """The twin's training loss and error of one more epoch, then its validation loss and error."""
        self.generator.shuffle(self.order)
        x, y = self.train
        self.twin.train()
        loss = wrong = 0.0
        for start in range(0, len(self.order), self.batch_size):
            batch = self.order[start : start + self.batch_size]
            labels = y[batch]
            examples = torch.from_numpy(x[batch])
            batch_losses, logits = train_batch(self.twin, self.optimizer, examples, torch.from_numpy(labels))
            loss += float(batch_losses.sum())
            wrong += count_errors(logits.numpy(), labels)
        return (loss / len(x), wrong / len(x), *self.validate())

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """The twin's mean loss and error on the validation set, in eval mode."""
        x, y = self.validation
        self.twin.eval()
        loss = wrong = 0.0
        for start in range(0, len(x), self.batch_size):
            labels = y[start : start + self.batch_size]
            logits = self.twin(torch.from_numpy(x[start : start + self.batch_size]))
            loss += float(losses(logits, torch.from_numpy(labels)).sum())
            wrong += count_errors(logits.numpy(), labels)
        return loss / len(x), wrong / len(x)
