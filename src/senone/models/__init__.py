"""Models: functions from (B, T+2k, F) padded frames to (B, T, K) logits, chosen by name."""

from collections.abc import Mapping
from typing import Any

from senone.models.blocks import FrameModel
from senone.models.committee import Committee
from senone.models.conformer import Conformer
from senone.models.mlp import Mlp
from senone.models.recurrent import BiLstm
from senone.models.tdnn import Tdnn

MODELS: dict[str, type[FrameModel]] = {"mlp": Mlp, "tdnn": Tdnn, "bilstm": BiLstm, "conformer": Conformer}


def build_model(settings: Mapping[str, Any], num_bins: int, num_classes: int) -> FrameModel:
    """The model ``settings["name"]`` with its other settings as options, for F bins and K classes."""
    name, options = settings["name"], {key: value for key, value in settings.items() if key != "name"}
    if name == "committee":
        return Committee(
            [build_model(member, num_bins, num_classes) for member in options["members"].values()]
        )
    if name not in MODELS:
        raise ValueError(f"model.name={name}: expected one of {', '.join(MODELS)}, committee")
    return MODELS[name](num_bins, num_classes, **options)


def describe_model(model: FrameModel, name: str) -> str:
    """One line: the name, the number of parameters, and whether the contest's rules allow it."""
    parameters = sum(p.numel() for p in model.parameters())
    legal = "contest-legal" if model.contest_legal else "NOT contest-legal"
    return f"{name}, {parameters / 1e6:.2f} million parameters, {legal}"
