"""Checkpoints: tensors and plain Python, written whole or not at all, read without running anything."""

import os
from pathlib import Path
from typing import Any

import torch

from senone.models import FrameModel, build_model

FORMAT = 5
NEEDED = ("config", "num_bins", "num_classes", "model")


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write ``content`` (tensors, numbers, strings, lists and dicts) under a temporary name, then rename it:
    whenever the machine stops, ``path`` holds the old checkpoint or the new one."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        torch.save({"format": FORMAT, **content}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU. Raises ValueError where the file is none of this program's."""
    if not path.is_file():
        raise ValueError(f"{path}: there is no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises over foreign bytes has no common type
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise ValueError(f"{path} is no checkpoint or is damaged: {reason}") from None
    if not isinstance(content, dict) or any(key not in content for key in NEEDED):
        raise ValueError(f"{path} is no checkpoint of senone: expected {', '.join(NEEDED)} in it")
    if content.get("format") != FORMAT:
        raise ValueError(f"{path}: checkpoint format {content.get('format')}, this version reads {FORMAT}")
    return content


def load_model(path: Path) -> tuple[FrameModel, dict[str, Any]]:
    """The model of a checkpoint with the weights that were evaluated, and the checkpoint's content."""
    content = load_checkpoint(path)
    model = build_model(content["config"]["model"], content["num_bins"], content["num_classes"])
    model.load_state_dict(content.get("averaged") or content["model"])
    return model.eval(), content
