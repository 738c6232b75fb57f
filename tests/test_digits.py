import gzip
import struct

import numpy as np
import pytest

from senone import digits

SIZES = {"train": 24, "val": 6, "test": 5}


def images(split, n):
    rng = np.random.default_rng([n, len(split)])
    return rng.integers(0, 256, (n, 4, 4), dtype=np.uint8), rng.integers(0, 10, n)


def idx(array, dimensions):
    return (
        struct.pack(f">4B{dimensions}I", 0, 0, 8, dimensions, *array.shape) + array.astype(np.uint8).tobytes()
    )


def write_handout(root):
    for split, n in SIZES.items():
        x, y = images(split, n)
        np.save(root / f"{split}_data.npy", x.reshape(n, -1))
        np.save(root / f"{split}_labels.npy", y)


def write_idx(root, compress=bytes, suffix="", dot="-"):
    for split, stem in (("train", "train"), ("test", "t10k")):
        x, y = images(split, SIZES[split])
        (root / f"{stem}-images{dot}idx3-ubyte{suffix}").write_bytes(compress(idx(x, 3)))
        (root / f"{stem}-labels{dot}idx1-ubyte{suffix}").write_bytes(compress(idx(y, 1)))


def write_npz(root):
    (x_train, y_train), (x_test, y_test) = images("train", 24), images("test", 5)
    np.savez(root / "mnist.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)


def test_the_handouts_six_files_are_read_as_they_are(tmp_path):
    write_handout(tmp_path)
    splits = digits.read_mnist(tmp_path)
    assert list(splits) == ["train", "val", "test"]
    for name, n in SIZES.items():
        np.testing.assert_array_equal(splits[name][0], images(name, n)[0].reshape(n, 16))
        np.testing.assert_array_equal(splits[name][1], images(name, n)[1])


@pytest.mark.parametrize(
    "write",
    [
        write_idx,
        lambda root: write_idx(root, gzip.compress, ".gz"),
        lambda root: write_idx(root, dot="."),
        write_npz,
    ],
    ids=["idx", "idx gzipped", "idx dotted", "npz"],
)
def test_classic_files_give_the_last_twelfth_for_validation(tmp_path, write):
    write(tmp_path)
    splits = digits.read_mnist(tmp_path)
    x, y = images("train", 24)
    np.testing.assert_array_equal(splits["train"][0], x[:22].reshape(22, 16))
    np.testing.assert_array_equal(splits["train"][1], y[:22])
    np.testing.assert_array_equal(splits["val"][0], x[22:].reshape(2, 16))
    np.testing.assert_array_equal(splits["val"][1], y[22:])
    np.testing.assert_array_equal(splits["test"][0], images("test", 5)[0].reshape(5, 16))
    np.testing.assert_array_equal(splits["test"][1], images("test", 5)[1])


IMAGES = idx(np.zeros((5, 4, 4)), 3)


def remove(name):
    return lambda root: (root / name).unlink()


def replace(name, content):
    return lambda root: (root / name).write_bytes(content)


def save(name, array):
    return lambda root: np.save(root / name, array, allow_pickle=True)


def nothing(root):
    pass


@pytest.mark.parametrize(
    ("write", "spoil", "message"),
    [
        (write_handout, remove("val_data.npy"), "val_data.npy: missing"),
        (write_handout, replace("val_data.npy", b"\x93NUMPY"), "val_data.npy: not a whole .npy file"),
        (write_handout, replace("val_data.npy", b""), "val_data.npy: not a whole .npy file"),
        (write_handout, save("val_data.npy", np.array([{}])), "val_data.npy: not a whole .npy file of numb"),
        (write_handout, save("val_data.npy", np.zeros(6)), r"val_data.npy: expected images, .* shape \(6,\)"),
        (write_handout, save("val_data.npy", np.zeros((6, 9))), "val_data.npy: 9 pixels an image, but 16"),
        (write_handout, save("val_labels.npy", np.zeros(5, int)), "val_labels.npy: 5 labels for the 6 ima"),
        (write_handout, save("val_labels.npy", np.arange(6) + 7), "class 10 of example 3, expected 0 to 9"),
        (write_handout, save("val_labels.npy", np.arange(6) - 1), "class -1 of example 0, expected 0 to 9"),
        (write_handout, save("val_labels.npy", np.zeros(6)), "val_labels.npy: expected int.* got float64"),
        (write_idx, replace("t10k-images-idx3-ubyte", b"\0\0\x08\x03\0"), "no IDX file of bytes in 3 dim"),
        (write_idx, replace("t10k-labels-idx1-ubyte", b"no such thing"), "no IDX file of bytes in 1 dim"),
        (write_idx, replace("t10k-images-idx3-ubyte", IMAGES[:-1]), "expected 80 bytes .* got 79"),
        (write_idx, replace("train-images-idx3-ubyte", gzip.compress(IMAGES)[:-9]), "ubyte: damaged"),
        (write_idx, remove("t10k-labels-idx1-ubyte"), "t10k-labels-idx1-ubyte: missing"),
        (write_npz, replace("mnist.npz", b"PK\x03\x04 and no more"), "mnist.npz: expected a whole .npz file"),
        (lambda root: np.savez(root / "mnist.npz", x_train=1), nothing, ".npz file of x_train, y_train"),
        (nothing, nothing, "expected train_data.npy and so on, .* or mnist.npz"),
        (nothing, lambda root: root.rmdir(), "no such folder"),
    ],
)
def test_files_that_are_not_what_they_should_be_are_named(tmp_path, write, spoil, message):
    root = tmp_path / "mnist"
    root.mkdir()
    write(root)
    spoil(root)
    with pytest.raises(ValueError, match=message):
        digits.read_mnist(root)


def test_the_bundled_digits_are_real_ones_and_always_split_alike():
    splits, again = digits.read_digits(), digits.read_digits()
    assert [(len(x), len(y)) for x, y in splits.values()] == [(1297, 1297), (250, 250), (250, 250)]
    for name, (x, y) in splits.items():
        np.testing.assert_array_equal(x, again[name][0])
        assert x.shape[1] == 64
        assert set(y) == set(range(10))
    together = np.vstack([x for x, _ in splits.values()])
    assert len(np.unique(together, axis=0)) > 1790  # no digit is in two splits


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_prepared_pixels_have_mean_0_and_variance_1_and_labels_are_one_hot(dtype):
    pixels = np.array([[0, 255], [10, 20], [7, 7]], np.uint8)
    x, y = digits.prepare((pixels, np.array([3, 0, 9])), dtype)
    assert x.dtype == y.dtype == dtype
    assert x.mean() == pytest.approx(0, abs=1e-6)
    assert x.std() == pytest.approx(1, rel=1e-6)
    np.testing.assert_allclose(x, (pixels - pixels.mean()) / pixels.std(), rtol=1e-6)
    np.testing.assert_array_equal(y, np.eye(10)[[3, 0, 9]])


def test_pixels_without_any_contrast_are_refused():
    with pytest.raises(ValueError, match="pixels that all have the value 7"):
        digits.normalise(np.full((3, 4), 7))
