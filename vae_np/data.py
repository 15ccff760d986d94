"""Data sets by name or file: digits (the default, nothing to download), mnist, and .npz, .npy or .csv files."""

import gzip
import hashlib
import math
import os
import pathlib
import textwrap
from typing import NamedTuple

import numpy as np

from vae_np import noise
from vae_np.architecture import check_number
from vae_np.parameters import read_npy, read_npz, reading

MNIST_FILES = {  # name: md5 of the uncompressed file
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MNIST_BYTES = 16 + 60_000 * 28 * 28  # of the largest of them
MNIST_URLS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


class Dataset(NamedTuple):
    """Rows to train on and rows to validate with, their labels (None where there are none), and an image's shape."""

    train: np.ndarray  #  (N, D)
    valid: np.ndarray  #  (M, D)
    train_labels: np.ndarray | None
    valid_labels: np.ndarray | None
    image_shape: tuple | None  # (rows, columns) with rows x columns = D


def load(name="digits", data_dir=None, valid_fraction=0.2):
    """The data set of that name, or of the file at that path: a Dataset.

    mnist is validated with its own test part; of the others a fixed random valid_fraction of the rows is held out. MNIST
    is looked for in data_dir, in $VAE_NP_DATA and in the user's cache folder, then downloaded to the last.
    An .npz file holds `x` (or `train` and `valid`) and maybe `labels`; rows may be images. In a .csv each line is a row,
    and a first line of names is passed over.

    ValueError, FileNotFoundError: the name is unknown or the file is not such. ConnectionError: no download.
    """
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        return _split(digits.data / 16, digits.target, (8, 8), valid_fraction, name)
    if name == "mnist":
        return _mnist(data_dir)
    suffix = pathlib.Path(name).suffix.lower()
    if suffix not in (".npz", ".npy", ".csv"):
        raise ValueError(f"data is {name!r}; known are 'digits', 'mnist', and files ending in .npz, .npy or .csv")
    if not os.path.isfile(name):
        raise FileNotFoundError(f"there is no file {name}")
    return _from_file(name, suffix, valid_fraction)


def _from_file(path, suffix, valid_fraction):
    if suffix == ".npz":
        arrays = read_npz(path)
        if "train" in arrays and "valid" in arrays:
            (train, shape), (valid, _) = _flat(arrays["train"], path), _flat(arrays["valid"], path)
            if train.shape[1] != valid.shape[1]:
                raise ValueError(f"{path} has {train.shape[1]} inputs a row in train and {valid.shape[1]} in valid")
            labels = _labels(arrays.get("train_labels"), train, path), _labels(arrays.get("valid_labels"), valid, path)
            return Dataset(train, valid, *labels, shape)
        if "x" not in arrays:
            names = textwrap.shorten(", ".join(map(repr, sorted(arrays))), 300, placeholder=" ...")
            raise ValueError(f"{path} holds {names or 'nothing'}; wanted `x`, or `train` and `valid`")
        x, labels = arrays["x"], arrays.get("labels")
    else:
        with reading(path, f"a {suffix} file of numbers"):
            x, labels = _read_csv(path) if suffix == ".csv" else _read_npy(path), None
    x, shape = _flat(x, path)
    return _split(x, _labels(labels, x, path), shape, valid_fraction, path)


def _read_npy(path):
    with open(path, "rb") as file:
        return read_npy(file)


def _read_csv(path):
    with open(path, encoding="utf-8-sig") as file:
        lines = [line for line in file if line.partition("#")[0].strip()]
    if lines and not any(_is_number(cell) for cell in lines[0].split(",")):
        lines = lines[1:]  # the names of the columns
    return np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.zeros((0, 0))


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _flat(x, path):
    """Images (N, rows, columns) as rows (N, D), and their shape; of rows that make a square, that square."""
    if x.dtype.kind not in "buif":
        raise ValueError(f"{path} holds {x.dtype}; wanted numbers")
    if x.ndim not in (2, 3) or not x.size:
        raise ValueError(f"{path} holds an array of shape {x.shape}; wanted rows (N, D), or images (N, rows, columns)")
    if x.ndim == 3:
        return x.reshape(len(x), -1), x.shape[1:]
    return x, square(x.shape[1])


def square(n_inputs):
    """The shape of the square picture of so many pixels, or None."""
    side = math.isqrt(n_inputs)
    return (side, side) if side * side == n_inputs and side > 1 else None


def _labels(labels, x, path):
    if labels is not None and labels.shape != (len(x),):
        raise ValueError(f"{path} has labels of shape {labels.shape}; wanted one for each row, ({len(x)},)")
    return labels


def _split(x, labels, shape, valid_fraction, path):
    n_valid = round(len(x) * check_number("valid_fraction", valid_fraction))
    if not 0 < n_valid < len(x):
        raise ValueError(
            f"{path} has {len(x)} rows, of which a valid_fraction of {valid_fraction} leaves one part empty"
        )
    order = noise.permutation(0, "split", 0, len(x))
    parts = np.sort(order[n_valid:]), np.sort(order[:n_valid])
    return Dataset(*(x[rows] for rows in parts), *(None if labels is None else labels[rows] for rows in parts), shape)


def _mnist(data_dir):
    import pooch

    cache = pooch.os_cache("vae_np")
    folders = [pathlib.Path(f) for f in (data_dir, os.environ.get("VAE_NP_DATA"), cache) if f]
    arrays = {}
    for name, md5 in MNIST_FILES.items():
        path = _find(name, [place for folder in folders for place in (folder, folder / "mnist")])
        path = path or _download(name, cache)
        with (
            reading(path, "a readable file"),
            gzip.open(path) if str(path).endswith(".gz") else open(path, "rb") as file,
        ):
            content = file.read(MNIST_BYTES + 1)  # no more of a .gz that goes on and on
        if hashlib.md5(content).hexdigest() != md5:
            raise ValueError(f"{path} is not MNIST's {name}: its checksum is another; delete or replace it")
        rank = content[3]
        shape = np.frombuffer(content, ">i4", rank, 4)
        arrays[name] = np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape[0], -1)
    images, labels, test_images, test_labels = arrays.values()
    return Dataset(images, test_images, labels[:, 0], test_labels[:, 0], (28, 28))


def _find(name, folders):
    places = [folder / file for folder in folders for file in (name, f"{name}.gz", name.replace("-idx", ".idx"))]
    return next((place for place in places if place.is_file()), None)


def _download(name, cache):
    import pooch

    for url in MNIST_URLS:
        try:
            return pooch.retrieve(f"{url}{name}.gz", None, f"{name}.gz", cache, progressbar=True)
        except OSError as error:  # requests' own errors among them
            reason = error
    raise ConnectionError(
        f"cannot download {name}.gz ({reason.strerror or type(reason).__name__}). Put MNIST's four files ({', '.join(MNIST_FILES)}, plain or "
        f".gz) into {cache}, or name their folder with --data-dir or $VAE_NP_DATA"
    )
