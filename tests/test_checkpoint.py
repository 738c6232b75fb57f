"""Checkpoints are whole or not there, and reading one runs nothing."""

import os
import pickle
from pathlib import Path

import pytest
import torch

from senone.checkpoint import load_checkpoint, save_checkpoint


def content() -> dict[str, object]:
    return {
        "config": {"model": {"name": "mlp", "widths": [3]}, "seed": 0, "name": None},
        "num_bins": 40,
        "num_classes": 138,
        "model": {"weight": torch.arange(6.0).view(2, 3)},
    }


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last.pt", content())
    read = load_checkpoint(tmp_path / "last.pt")
    assert read["config"] == content()["config"]
    assert torch.equal(read["model"]["weight"], torch.arange(6.0).view(2, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_a_failed_save_leaves_the_checkpoint_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, content())
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, {**content(), "num_bins": 41})
    assert path.read_bytes() == before


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_that_would_run_something_is_refused(tmp_path: Path) -> None:
    torch.save({**content(), "evil": Evil(tmp_path / "trap")}, tmp_path / "best.pt")
    with pytest.raises(ValueError, match=r"best\.pt is no checkpoint or is damaged"):
        load_checkpoint(tmp_path / "best.pt")
    assert not (tmp_path / "trap").exists()


def test_what_is_no_checkpoint_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"nix\.pt: there is no such checkpoint"):
        load_checkpoint(tmp_path / "nix.pt")
    save_checkpoint(tmp_path / "cut.pt", content())
    (tmp_path / "cut.pt").write_bytes((tmp_path / "cut.pt").read_bytes()[:-200])
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"model": 1}))
    for name in ("cut", "text", "pickle"):
        with pytest.raises(ValueError, match=rf"{name}\.pt is no checkpoint") as caught:
            load_checkpoint(tmp_path / f"{name}.pt")
        assert "\n" not in str(caught.value)
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"other\.pt is no checkpoint of senone: expected config"):
        load_checkpoint(tmp_path / "other.pt")
    torch.save({**content(), "format": 99}, tmp_path / "newer.pt")
    with pytest.raises(ValueError, match=r"newer\.pt: checkpoint format 99, this version reads 5"):
        load_checkpoint(tmp_path / "newer.pt")
