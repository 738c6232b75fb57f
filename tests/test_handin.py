import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path

import numpy as np
import pytest

from senone import handin, part1
from senone.learning_curves import PLOTS


@pytest.fixture
def run_folder(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in PLOTS:
        (folder / name).write_bytes(f"a picture named {name}".encode())
    return folder


@pytest.fixture
def numpy_alone(tmp_path):
    """A folder for the path of an interpreter without site-packages: numpy lies in it and nothing else."""
    folder = tmp_path / "path"
    folder.mkdir()
    installed = Path(np.__file__).parents[1]
    for name in ("numpy", "numpy.libs"):
        if (installed / name).exists():
            (folder / name).symlink_to(installed / name)
    return folder


def run_alone(program, *path):
    """Run a program with these folders and the standard library on the path; returns what it prints."""
    start = f"import sys\nsys.path[:0] = {[str(folder) for folder in path]}\n"
    command = [sys.executable, "-I", "-S", "-W", "error", "-c", start + textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


TRAIN = """
    import importlib.util
    import numpy as np
    assert not any(importlib.util.find_spec(name) for name in ("torch", "senone", "matplotlib", "sklearn"))
    np.random.seed(1)
    mlp = hw1.MLP(4, 3, [6], [hw1.ReLU(), hw1.Identity()], hw1.random_normal_weight_init,
                  hw1.zeros_bias_init, hw1.SoftmaxCrossEntropy(), 0.1, momentum=0.9, num_bn_layers=1)
    mlp.zero_grads()
    mlp.forward(np.random.randn(8, 4))
    mlp.backward(np.eye(3)[np.arange(8) % 3])
    mlp.step()
    print(repr(float(mlp.W[0].sum())), repr(float(mlp.b[1].sum())))
    split = np.random.randn(20, 4), np.eye(3)[np.arange(20) % 3]
    print(*(float(figures[-1]) for figures in hw1.get_training_stats(mlp, (split, split, split), 2, 6)))
"""


def test_the_packed_module_trains_with_numpy_alone(tmp_path, run_folder, numpy_alone):
    handin.pack(run_folder, tmp_path / "handin.tar")
    unpacked = tmp_path / "unpacked"
    with tarfile.open(tmp_path / "handin.tar", "r:gz") as tar:
        tar.extractall(unpacked, filter="data")
    as_package = run_alone("from hw1 import hw1\n" + textwrap.dedent(TRAIN), unpacked, numpy_alone)
    as_module = run_alone("import hw1\n" + textwrap.dedent(TRAIN), unpacked / "hw1", numpy_alone)
    assert as_package == as_module

    np.random.seed(1)  # noqa: NPY002
    mlp = part1.MLP(
        4, 3, [6], [part1.ReLU(), part1.Identity()], part1.random_normal_weight_init, part1.zeros_bias_init,
        part1.SoftmaxCrossEntropy(), 0.1, 0.9, 1,
    )  # fmt: skip
    mlp(np.random.randn(8, 4))  # noqa: NPY002
    mlp.backward(np.eye(3)[np.arange(8) % 3])
    mlp.step()
    assert as_package.split()[:2] == [repr(float(mlp.W[0].sum())), repr(float(mlp.b[1].sum()))]


def test_the_tar_holds_one_folder_with_the_module_and_the_plots_of_the_run(tmp_path, run_folder):
    members = handin.pack(run_folder, tmp_path / "handin.tar")
    with tarfile.open(tmp_path / "handin.tar", "r:gz") as tar:
        assert tar.getnames() == members == ["hw1/hw1.py", *(f"hw1/{name}" for name in PLOTS)]
        picture = tar.extractfile("hw1/val_loss.png")
        assert picture is not None
        assert picture.read() == b"a picture named val_loss.png"


def test_the_packed_module_has_every_name_of_the_contract_and_says_where_it_is_from():
    namespace = {}
    source = handin.write_module()
    exec(source, namespace)
    assert set(part1.__all__) <= set(namespace)
    assert "senone.part1" in namespace["__doc__"]
    assert source.count("import numpy as np") == 1
    assert "noqa" not in source
    assert "import senone" not in source
    assert "from senone" not in source


def test_without_plots_nothing_is_packed(tmp_path, run_folder):
    (run_folder / "val_loss.png").unlink()
    (tmp_path / "handin.tar").write_bytes(b"the last one")
    with pytest.raises(ValueError, match=r"no val_loss.png; scripts/part1.py draws them"):
        handin.pack(run_folder, tmp_path / "handin.tar")
    assert (tmp_path / "handin.tar").read_bytes() == b"the last one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["handin.tar", "run"]
