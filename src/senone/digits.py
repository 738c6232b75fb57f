"""Handwritten digits for Part 1: MNIST in any of its files, or scikit-learn's small set without any."""

import gzip
import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

NUM_CLASSES = 10
HANDOUT = ("train_data", "train_labels", "val_data", "val_labels", "test_data", "test_labels")  # .npy
IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
NPZ = ("x_train", "y_train", "x_test", "y_test")  # in mnist.npz

Split = tuple[np.ndarray, np.ndarray]
Named = tuple[str, np.ndarray]  # what an array is called where it came from


def read_mnist(root: Path) -> dict[str, Split]:
    """The splits train, val and test as they are in the files below ``root``: (n, d) pixels, (n,) classes.

    Reads the handout's six .npy files, the four classic IDX files (gzipped or not) or mnist.npz; the last
    two have no validation set, which then is the last twelfth of the training images, 5,000 of 60,000.
    What is missing, damaged or does not fit together raises ValueError.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder")
    if (root / "train_data.npy").exists():
        arrays = [_read_npy(root / f"{name}.npy") for name in HANDOUT]
    elif (root / "mnist.npz").exists():
        arrays = _hold_out(_read_npz(root / "mnist.npz"))
    elif _find_idx(root, IDX[0]).exists():
        arrays = _hold_out([_read_idx(_find_idx(root, name)) for name in IDX])
    else:
        raise ValueError(
            f"{root}: expected train_data.npy and so on, {IDX[0]} (or .gz) and so on, or mnist.npz"
        )
    splits = {name: _split(*arrays[2 * i : 2 * i + 2]) for i, name in enumerate(("train", "val", "test"))}
    for i, (x, _) in enumerate(splits.values()):
        if x.shape[1] != splits["train"][0].shape[1]:
            widths = f"{x.shape[1]} pixels an image, but {splits['train'][0].shape[1]}"
            raise ValueError(f"{arrays[2 * i][0]}: {widths} in {arrays[0][0]}")
    return splits


def read_digits() -> dict[str, Split]:
    """scikit-learn's 1,797 real digits of 8 x 8 pixels, split at random but always alike: 1297, 250, 250."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise RuntimeError("the bundled digits need scikit-learn: pip install 'senone[digits]'") from None
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))
    parts = {"train": order[:1297], "val": order[1297:1547], "test": order[1547:]}
    return {split: (digits.data[part], digits.target[part]) for split, part in parts.items()}


def prepare(split: Split, dtype: str = "float64") -> Split:
    """Pixels and classes -> what get_training_stats wants: normalised (n, d), and one-hot (n, 10)."""
    x, y = split
    return normalise(x).astype(dtype), one_hot(y, NUM_CLASSES).astype(dtype)


def normalise(x: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, d) of mean 0 and variance 1 over all its values together, as the handout does it."""
    deviation = x.std()
    if not deviation > 0:
        raise ValueError(f"cannot normalise pixels that all have the value {x.flat[0]}")
    return (x - x.mean()) / deviation


def one_hot(classes: np.ndarray, num_classes: int, name: str = "labels") -> np.ndarray:
    """(n,) integer classes -> (n, C) rows with a single 1. ValueError for a class out of range."""
    if classes.ndim != 1 or classes.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: expected integers of shape (n,), got {classes.dtype} of shape {classes.shape}"
        )
    outside = np.flatnonzero((classes < 0) | (classes >= num_classes))
    if outside.size:
        culprit = f"{name}: class {classes[outside[0]]} of example {outside[0]}"
        raise ValueError(f"{culprit}, expected 0 to {num_classes - 1}")
    return np.eye(num_classes)[classes]


def _split(images: Named, labels: Named) -> Split:
    """(n, d) pixels and (n,) classes, if they are what their names say."""
    (x_name, x), (y_name, y) = images, labels
    if x.ndim < 2 or x.dtype.kind not in "iuf" or len(x) == 0:
        raise ValueError(f"{x_name}: expected images, (n, d) numbers, got {x.dtype} of shape {x.shape}")
    one_hot(y, NUM_CLASSES, y_name)
    if len(x) != len(y):
        raise ValueError(f"{y_name}: {len(y)} labels for the {len(x)} images of {x_name}")
    return x.reshape(len(x), -1), y


def _hold_out(arrays: list[Named]) -> list[Named]:
    """Training and test images and labels -> those of training, validation and test."""
    (x_name, x), (y_name, y), *test = arrays
    if len(x) != len(y):
        raise ValueError(f"{y_name}: {len(y)} labels for the {len(x)} images of {x_name}")
    kept = len(x) - max(1, len(x) // 12)
    return [(x_name, x[:kept]), (y_name, y[:kept]), (x_name, x[kept:]), (y_name, y[kept:]), *test]


def _read_npy(path: Path) -> Named:
    try:
        return path.name, np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise ValueError(f"{path}: missing, beside train_data.npy") from None
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a whole .npy file of numbers ({error})") from None


def _read_npz(path: Path) -> list[Named]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return [(f"{path.name}: {name}", arrays[name]) for name in NPZ]
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected a whole .npz file of {', '.join(NPZ)} ({error})") from None


def _find_idx(root: Path, name: str) -> Path:
    """The first of the names under which an IDX file goes around that exists."""
    dotted = name.replace("-idx", ".idx")
    paths = [root / f"{stem}{suffix}" for stem in (name, dotted) for suffix in ("", ".gz")]
    return next((path for path in paths if path.exists()), paths[0])


def _read_idx(path: Path) -> Named:
    """An IDX file of bytes: 0, 0, type 8, the number of dimensions, their big-endian sizes, the values."""
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except FileNotFoundError:
        raise ValueError(f"{path}: missing, beside {IDX[0]}") from None
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error})") from None
    dimensions = 1 if "labels" in path.name else 3
    start = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) < start:
        raise ValueError(f"{path}: no IDX file of bytes in {dimensions} dimensions")
    shape = np.frombuffer(content, ">u4", dimensions, offset=4).tolist()
    if len(content) - start != math.prod(shape):
        expected = f"expected {math.prod(shape)} bytes for shape {tuple(shape)}"
        raise ValueError(f"{path}: {expected}, got {len(content) - start}")
    return path.name, np.frombuffer(content, np.uint8, offset=start).reshape(shape)
