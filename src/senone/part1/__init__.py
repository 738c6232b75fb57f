"""Part 1 of the homework: back-propagation by hand, in numpy alone, under the handout's names.

Letters: N examples of a batch, C classes, L layers, n_in and n_out the width of a layer's two sides.
What docstrings call the handout is the course's writeup, cited by section or by topic.
"""

from senone.part1.activations import Activation, Identity, ReLU, Sigmoid, Tanh
from senone.part1.batchnorm import BatchNorm
from senone.part1.initializers import random_normal_weight_init, zeros_bias_init
from senone.part1.loss import Criterion, SoftmaxCrossEntropy
from senone.part1.mlp import MLP
from senone.part1.training import get_training_stats

__all__ = [
    "MLP",
    "Activation",
    "BatchNorm",
    "Criterion",
    "Identity",
    "ReLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Tanh",
    "get_training_stats",
    "random_normal_weight_init",
    "zeros_bias_init",
]
