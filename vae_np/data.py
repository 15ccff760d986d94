"""Data sets: "digits" (the default, which needs no download), "mnist", and the user's .npz, .npy, .csv and .tsv files."""

import gzip
import hashlib
import importlib.util
import logging
import math
import os
import pathlib
import textwrap
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vae_np import streams, table
from vae_np.architecture import check_number
from vae_np.parameters import free_memory, read_npy, read_npz, reading
from vae_np.stored_rows import StoredRows, mapped, split

MNIST_FILES = {  # {name: the md5 checksum of the uncompressed file}
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
MNIST_BYTES = 16 + 60_000 * 28 * 28  # the size of the largest of these files
MNIST_URLS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")


class _Parts(NamedTuple):
    train: Any  #  (N, D), an array or StoredRows
    valid: Any | None  #  (M, D), or None where no row is held out
    train_labels: NDArray | None
    valid_labels: NDArray | None
    image_shape: tuple[int, ...] | None  # (rows, columns) with rows x columns = D


class Dataset(_Parts):
    """The training split and the validation split of the data, their labels (None where there are none), and an image's shape."""

    taken = ""  # a description of how a file was read

    @property
    def shown(self) -> tuple[NDArray, NDArray | None]:
        """(rows, labels) for pictures: those of the validation split, or of the training split where there is no other."""
        return (self.train, self.train_labels) if self.valid is None else (self.valid, self.valid_labels)

    @property
    def part(self) -> str:
        """The name of the split that `shown` returns: "held-out" or "training"."""
        return "training" if self.valid is None else "held-out"


def load(
    name: str = "digits",
    data_dir: str | os.PathLike | None = None,
    valid_fraction: float = 0.2,
    header: bool | None = None,
    index: bool | None = None,
) -> Dataset:
    """Load a data set by its name, or the file at a path.

    MNIST is searched for in data_dir, in $VAE_NP_DATA and in the user's cache folder, and there also in the folders that
    torchvision makes. A file that is not found is downloaded to the cache folder.

    An .npz file holds `train` and maybe `valid`, or `x_train` and maybe `x_test`, or `x`, `X` or `arr_0`. It may also hold
    labels (`train_labels`, `y_train`, `labels`, `y`). Rows may be images, (N, rows, columns), also with an axis of one channel.
    In a .csv or .tsv file each line is a row of numbers between commas, semicolons or tabs. A first line of names is left out,
    and so is an unnamed first column that counts the rows.

    Parameters
    ----------
    name : str
        "digits", "mnist", or the path of an .npz, .npy, .csv or .tsv file, or of a folder of .npy files, which are taken in the
        order of their names. A folder, and a .npy file larger than a quarter of the free memory, are not read as a whole.
    data_dir : path, optional
        The first folder in which MNIST is searched for.
    valid_fraction : float
        The fraction of the rows that is held out as the validation split, by a random choice that is always the same; 0 holds
        none out. It does not apply to MNIST, whose validation split is its test set, nor to a file with a validation split of
        its own.
    header : bool, optional
        Whether the first line of a .csv or .tsv file holds names. By default the content of the file decides.
    index : bool, optional
        Whether the first column of a .csv or .tsv file numbers the rows. By default the content of the file decides.

    Returns
    -------
    Dataset
        The training split and the validation split, their labels, and the shape of an image.

    Raises
    ------
    ValueError
        The name is unknown, the content of the file cannot be used, or valid_fraction leaves one split without rows.
    FileNotFoundError
        There is no file at the path.
    ConnectionError
        A file of MNIST cannot be downloaded.
    """
    if name in DATASETS:
        return DATASETS[name].load(data_dir, valid_fraction)
    path = os.path.expanduser(name)
    if os.path.isdir(path) and (files := sorted(pathlib.Path(path).glob("*.npy"))):
        return _stored(path, files, valid_fraction)
    suffix = pathlib.Path(path).suffix.lower()
    if os.sep in path and not os.path.exists(path):
        raise FileNotFoundError(f"there is no file or folder {path}")
    if suffix not in (".npz", ".npy", ".csv", ".tsv"):
        known = ", ".join(map(repr, DATASETS))
        raise ValueError(
            f"data is {name!r}; known are {known}, files ending in .npz, .npy, .csv or .tsv, and folders of .npy files"
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no file {path}")
    if suffix == ".npz":
        return _from_npz(path, valid_fraction)
    if suffix == ".npy" and os.path.getsize(path) > free_memory() / 4:
        return _stored(path, [path], valid_fraction)
    with reading(path, f"a {suffix} file of numbers"):
        x, taken = (_read_npy(path), "") if suffix == ".npy" else table.read(path, header, index)
    x, shape = _flat(x, path)
    dataset = _split(x, None, shape, valid_fraction, path)
    dataset.taken = taken
    return dataset


ROWS = {  # the names in an .npz file: {training rows: (their labels, (validation rows, their labels))}
    "train": ("train_labels", ("valid", "valid_labels")),
    "x_train": ("y_train", ("x_test", "y_test")),
    "x": ("labels", None),
    "X": ("y", None),
    "arr_0": ("labels", None),
}


def _from_npz(path, valid_fraction):
    members = []

    def wanted(names) -> Any:  # a type checker would see None among the names, which is in no file
        members.extend(names)
        rows = next((name for name in ROWS if name in names), None)
        return [name for name in (rows, (ROWS[rows][1] or [None])[0] if rows else None) if name in names]

    arrays = read_npz(path, wanted)
    if not arrays:
        names = textwrap.shorten(", ".join(map(repr, sorted(members))), 300, placeholder=" ...")
        raise ValueError(f"{path} holds {names or 'nothing'}; wanted one of {', '.join(map(repr, ROWS))}")
    rows, *held_out = arrays
    (x, shape), *valid = (_flat(array, path) for array in arrays.values())
    labels, of_valid = ROWS[rows]
    labels = _labels(path, labels, members, x)
    if valid:
        valid, _ = valid[0]
        if x.shape[1] != valid.shape[1]:
            raise ValueError(f"{path} has {x.shape[1]} inputs a row in {rows} and {valid.shape[1]} in {held_out[0]}")
        dataset = Dataset(x, valid, labels, _labels(path, of_valid[1], members, valid), shape)
    elif of_valid:
        dataset = Dataset(x, None, labels, None, shape)
    else:
        dataset = _split(x, labels, shape, valid_fraction, path)
    if len(members) > 1:
        dataset.taken = f"{rows} is taken to train on" + (f", and {held_out[0]} to validate with" if held_out else "")
    return dataset


def _stored(path, files, valid_fraction):
    """The Dataset of .npy files that stay on the disk."""
    arrays, shape = [], None
    for file in files:
        with reading(file, "a whole .npy file of numbers"):
            arrays.append(mapped(file))
        _, shape = _flat(arrays[-1], file)
        if (arrays[-1].dtype, arrays[-1].shape[1:]) != (arrays[0].dtype, arrays[0].shape[1:]):
            of_rows = f"{arrays[-1].dtype} rows of shape {arrays[-1].shape[1:]}"
            raise ValueError(f"{file} holds {of_rows}; {files[0]} holds {arrays[0].dtype} rows of shape {arrays[0].shape[1:]}")
    dataset = _split(StoredRows(arrays), None, shape, valid_fraction, path)
    rows, n_bytes = sum(map(len, arrays)), sum(array.nbytes for array in arrays)
    dataset.taken = (
        f"{len(files)} file{'s' * (len(files) > 1)} of {rows} rows, {n_bytes / 2**30:.3g} GiB, which stay on the disk"
    )
    return dataset


def _read_npy(path):
    with open(path, "rb") as file:
        return read_npy(file, os.path.getsize(path))


def _flat(x, path):
    """(rows (N, D), the shape of an image or None). Rows of a square number of elements are taken for square images."""
    if x.dtype.kind not in "buif":
        raise ValueError(f"{path} holds {x.dtype}; wanted numbers")
    if x.ndim == 4 and 1 in (x.shape[1], x.shape[3]):  # the axis of one channel is before or after those of the image
        x = x[:, 0] if x.shape[1] == 1 else x[..., 0]
    if x.ndim not in (2, 3) or not x.size:
        raise ValueError(f"{path} holds an array of shape {x.shape}; wanted rows (N, D), or images (N, rows, columns)")
    if x.ndim == 3:
        return x.reshape(len(x), -1), x.shape[1:]
    return x, square(x.shape[1])


def square(n_inputs: int) -> tuple[int, int] | None:
    """The shape of a square image of n_inputs pixels, or None where n_inputs is not a square."""
    side = math.isqrt(n_inputs)
    return (side, side) if side * side == n_inputs and side > 1 else None


def _labels(path, name, members, x):
    """The labels of that name, (N,). None stands for labels that are absent or cannot be read; they only colour a picture."""
    if name not in members:
        return None
    try:
        labels = read_npz(path, lambda names: [name])[name]
    except ValueError as error:
        logging.getLogger("vae_np").warning("the labels are left out: %s", error)
        return None
    labels = labels[:, 0] if labels.shape == (len(x), 1) else labels  # Keras keeps CIFAR's labels as a column
    if labels.shape != (len(x),):
        raise ValueError(f"{path} has labels of shape {labels.shape}; wanted one for each row, ({len(x)},)")
    return labels


def _split(x, labels, shape, valid_fraction, path):
    n_valid = round(len(x) * check_number("valid_fraction", valid_fraction))
    if valid_fraction == 0:
        return Dataset(x, None, labels, None, shape)
    if not 0 < n_valid < len(x):
        raise ValueError(
            f"{path} has {len(x)} rows, and a valid_fraction of {valid_fraction} leaves one split without rows; 0 holds none out"
        )
    order = streams.permutation(0, "split", 0, len(x))
    valid = np.sort(order[:n_valid])
    if isinstance(x, StoredRows):
        return Dataset(*split(x, valid), None, None, shape)
    train = np.delete(np.arange(len(x)), valid)
    train_labels, valid_labels = (None, None) if labels is None else (labels[train], labels[valid])
    return Dataset(x[train], x[valid], train_labels, valid_labels, shape)


def _digits(data_dir, valid_fraction):
    x, labels = digits()
    return _split(x / 16, labels, (8, 8), valid_fraction, "digits")


def digits() -> tuple[NDArray, NDArray]:
    """The digits of scikit-learn: pixels from 0 to 16, (1797, 64), and labels, (1797,)."""
    package = importlib.util.find_spec("sklearn")  # to import it takes longer than all else before a training
    path = pathlib.Path(str(package and package.origin)).with_name("datasets") / "data" / "digits.csv.gz"
    if path.is_file():
        lines = np.loadtxt(path, delimiter=",")
        return lines[:, :-1], lines[:, -1].astype(int)
    from sklearn.datasets import load_digits

    whole: Any = load_digits()
    return whole.data, whole.target


def _mnist(data_dir, valid_fraction):
    import pooch

    cache = pooch.os_cache("vae_np")
    folders = [pathlib.Path(f).expanduser() for f in (data_dir, os.environ.get("VAE_NP_DATA"), cache) if f]
    arrays = {}
    for name, md5 in MNIST_FILES.items():
        path = _find(name, [folder / place for folder in folders for place in (".", "mnist", "raw", "MNIST/raw")])
        path = path or _download(name, cache)
        with (
            reading(path, "a readable file"),
            gzip.open(path) if str(path).endswith(".gz") else open(path, "rb") as file,
        ):
            content = file.read(MNIST_BYTES + 1)  # the limit is there because a damaged .gz file may unpack to any size
        if hashlib.md5(content).hexdigest() != md5:
            raise ValueError(f"{path} is not MNIST's {name}: its checksum is wrong; delete or replace it")
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

    reason = OSError()
    for url in MNIST_URLS:
        try:
            return pooch.retrieve(f"{url}{name}.gz", None, f"{name}.gz", cache, progressbar=True)
        except OSError as error:  # the errors of requests are OSErrors too
            reason = error
    raise ConnectionError(
        f"cannot download {name}.gz ({reason.strerror or type(reason).__name__}). Put MNIST's four files ({', '.join(MNIST_FILES)}, plain or "
        f".gz) into {cache}, or name their folder with --data-dir or $VAE_NP_DATA"
    )


# ------------------------------------------------------------------------------------------------- data sets by name


class Source(NamedTuple):
    """A data set that has a name, with the defaults of the commands for it."""

    words: str
    load: Callable[[str | os.PathLike | None, float], Dataset]  # load(data_dir, valid_fraction)
    epochs: int = 20
    hidden: tuple[int, ...] = (400,)  # the hidden layers of the model that `study` trains
    latent: int = 20
    study_steps: int = 200


DATASETS = {
    "digits": Source("the digits of scikit-learn", _digits, epochs=200, hidden=(64,), latent=8, study_steps=2000),
    "mnist": Source("MNIST, which is downloaded where it is not found", _mnist),
}


def source(name: str) -> Source:
    """The Source of that name. For the user's files the defaults are those of MNIST."""
    return DATASETS.get(name, DATASETS["mnist"])
