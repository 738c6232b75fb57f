"""What can be configured, with defaults and ranges.

Scripts turn their YAML and command line into these dataclasses once, before any data is read: unknown keys
and wrong types fail while they are composed, values out of range here. Functions take plain values.
"""

from senone.config.checkpoints import CheckpointConfig, EvaluateConfig, PredictConfig
from senone.config.checks import require, require_choice
from senone.config.data import AudioConfig, CorpusConfig, DataConfig
from senone.config.models import (
    BiLstmConfig,
    CommitteeConfig,
    ConformerConfig,
    MlpConfig,
    ModelConfig,
    TdnnConfig,
)
from senone.config.part1 import Part1Config, Task6Config
from senone.config.train import AugmentConfig, DecodeConfig, FitConfig, OptimConfig, TrainConfig

__all__ = [
    "AudioConfig", "AugmentConfig", "BiLstmConfig", "CheckpointConfig", "CommitteeConfig", "ConformerConfig",
    "CorpusConfig", "DataConfig", "DecodeConfig", "EvaluateConfig", "FitConfig", "MlpConfig", "ModelConfig",
    "OptimConfig", "Part1Config", "PredictConfig", "Task6Config", "TdnnConfig", "TrainConfig", "require",
    "require_choice",
]  # fmt: skip
