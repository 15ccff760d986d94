"""Parameters: one flat buffer and named views on it; how it starts, and how it is kept on disk."""

import contextlib
import dataclasses
import errno
import json
import math
import os
import pathlib
import textwrap
import zipfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from vae_np import streams
from vae_np.architecture import Architecture, check_choice
from vae_np.choices import NOISES
from vae_np.deprecation import renamed

DTYPES = ("float32", "float64")
INITS: dict[str, Callable[[int, int], float]] = {  # the variance of a hidden layer's weights
    "glorot": lambda inputs, outputs: 2 / (inputs + outputs),
    "he": lambda inputs, outputs: 2 / inputs,
}


def check_dtype(dtype: DTypeLike) -> str:
    """The dtype's name; ValueError unless it is one that the kernels compute in."""
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = dtype
    check_choice("dtype", name, DTYPES)
    return str(name)


class Layer(NamedTuple):
    """The parameters of y = x @ W + b."""

    W: NDArray
    b: NDArray


class Weights(NamedTuple):
    """The parameters as the text of the model reads them; output_logvar gives the log-variance of x given z."""

    encoder: tuple[Layer, ...]
    mu: Layer
    logvar: Layer
    decoder: tuple[Layer, ...]
    output: Layer
    output_logvar: Layer


def n_parameters(architecture: Architecture) -> int:
    """The number of all elements of an architecture's parameters."""
    return sum(math.prod(shape) for shape in architecture.shapes.values())


class Parameters(Mapping[str, NDArray]):
    """A mapping of name -> array, each a view on the one buffer `flat`: what changes one changes the other.

    Gradients are Parameters too: g["mu.W"] is d loss / d p["mu.W"], and g.flat goes with p.flat.

    Parameters
    ----------
    architecture : Architecture
        The names and shapes.
    flat : array (n,)
        All values in the order of `Architecture.shapes`, float32 or float64; it is not copied.

    Examples
    --------
    >>> from vae_np import Architecture, Parameters
    >>> p = Parameters.initialize(Architecture(n_inputs=4, hidden=(), n_latent=2), seed=0, dtype="float32")
    >>> list(p)
    ['mu.W', 'mu.b', 'logvar.W', 'logvar.b', 'output.W', 'output.b']
    >>> p.flat[:] = 0
    >>> float(p["mu.W"].sum())
    0.0
    """

    def __init__(self, architecture: Architecture, flat: NDArray):
        if flat.dtype not in (np.float32, np.float64) or not flat.dtype.isnative:
            raise ValueError(f"flat has dtype {flat.dtype}; known are {', '.join(map(repr, DTYPES))}")
        if flat.shape != (n_parameters(architecture),):
            raise ValueError(f"flat has shape {flat.shape}; this architecture has {n_parameters(architecture)} parameters")
        self.architecture, self.flat, self._views = architecture, flat, {}
        position = 0
        for name, shape in architecture.shapes.items():
            self._views[name] = flat[position : position + math.prod(shape)].reshape(shape)
            position += math.prod(shape)

    def __getitem__(self, name: str) -> NDArray:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def __repr__(self):
        return f"Parameters({self.architecture}, {self.flat.size} x {self.flat.dtype})"

    def __reduce__(self):  # so that a pickled or deep copy's views are views on its own buffer
        return Parameters, (self.architecture, self.flat)

    @property
    def weights(self) -> dict[str, NDArray]:
        """The matrices W of all layers, which L2 and weight decay act on, by their names; the biases are not among them."""
        return {name: array for name, array in self.items() if array.ndim == 2}

    @property
    def layers(self) -> Weights:
        """The views as Weights. A log-variance that is not learned is a constant layer outside the buffer."""
        arch, noise = self.architecture, NOISES[self.architecture.noise]

        def layer(name):
            return Layer(self[f"{name}.W"], self[f"{name}.b"])

        def fixed(value):
            b = self.flat[:1].copy()
            b.fill(value)
            return b

        no_weights = self.flat[:0].reshape(0, 1)
        if noise.per_input:
            output_logvar = layer(noise.parameter)
        else:
            b = self[noise.parameter] if noise.parameter else fixed(2 * math.log(arch.noise_std))
            output_logvar = Layer(no_weights, b)
        return Weights(
            encoder=tuple(layer(f"encoder.{i}") for i in range(len(arch.hidden))),
            mu=layer("mu"),
            logvar=layer("logvar"),
            decoder=tuple(layer(f"decoder.{i}") for i in range(len(arch.hidden))),
            output=layer("output"),
            output_logvar=output_logvar,
        )

    @classmethod
    def zeros(cls, architecture: Architecture, dtype: DTypeLike = "float64") -> "Parameters":
        """All parameters 0."""
        return cls(architecture, np.zeros(n_parameters(architecture), check_dtype(dtype)))

    @classmethod
    @renamed(scheme="init")
    def initialize(
        cls, architecture: Architecture, seed: int = 0, dtype: DTypeLike = "float64", init: str = "glorot"
    ) -> "Parameters":
        """Normal weights, and biases of 0; both dtypes begin at the same values but for rounding.

        The variance of a hidden layer's weights is 2 / (inputs + outputs) under "glorot", and 2 / inputs under "he". The layers
        that make mu, logvar and the output begin smaller, with 1 / (3 inputs), the variance of a linear layer in PyTorch: q(z|x)
        begins near the prior, and p(x|z) near indifference.

        Parameters
        ----------
        architecture : Architecture
            The names and shapes.
        seed : int
            The seed, from 0 to 2^64 - 1; the same seed gives the same values on every machine.
        dtype : {"float64", "float32"}
            The type of the numbers.
        init : {"glorot", "he"}
            The variance of hidden layers.

        References
        ----------
        Glorot & Bengio 2010, eq. 12; He et al. 2015, eq. 10.
        """
        check_choice("init", init, INITS)
        seed = streams.check_seed(seed)
        p = cls.zeros(architecture, dtype)
        for i, (name, W) in enumerate(p.items()):
            if name in p.weights:
                hidden = name.startswith(("encoder.", "decoder."))
                variance = INITS[init](*W.shape) if hidden else 1 / (3 * W.shape[0])
                W[...] = math.sqrt(variance) * streams.normals(seed, "initialize", i, (1, *W.shape), np.float64)[0]
        return p

    def copy(self) -> "Parameters":
        """The same values in a buffer of their own."""
        return Parameters(self.architecture, self.flat.copy())

    def astype(self, dtype: DTypeLike) -> "Parameters":
        """The same values rounded to a dtype, in a buffer of their own."""
        p = Parameters.zeros(self.architecture, dtype)
        p.flat[...] = self.flat
        return p

    def moved(self, move: Callable[[Any], Any]) -> "Parameters":
        """These values where move(flat) puts them: `put` and `get` of a kernel set."""
        flat = move(self.flat)
        return self if flat is self.flat else Parameters(self.architecture, flat)

    def save(self, path: str | os.PathLike, **extra: NDArray) -> None:
        """Write an .npz file: every parameter under its name, the architecture as JSON, and any extra arrays.

        The file is written beside its place and renamed, so that it is never there by half.
        """
        described = np.array(json.dumps(dataclasses.asdict(self.architecture)))
        with replacing(path) as file:
            np.savez(file, architecture=described, **{**self, **extra})  # pyright: ignore[reportArgumentType]  # none is allow_pickle

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Parameters":
        """Read what `save` wrote; ValueError in one sentence where the file is not that."""
        return cls.load_with_extra(path)[0]

    @classmethod
    def load_with_extra(cls, path: str | os.PathLike) -> "tuple[Parameters, dict[str, NDArray]]":
        """As `load`, and {name: array} of what else the file holds."""
        arrays = read_npz(path)
        with reading(path, "a file of vae_np's parameters"):
            architecture = Architecture(**parse("architecture", str(arrays.pop("architecture"))))
            found = {name: arrays.pop(name) for name in architecture.shapes}
            dtype = check_dtype(found["output.b"].dtype)
            for name, shape in architecture.shapes.items():
                check_array(name, found[name], shape, dtype)
            p = cls.zeros(architecture, dtype)
            for name, array in found.items():
                p[name][...] = array
        return p, arrays


def parse(name: str, text: str) -> dict[str, Any]:
    """The dict that a text of JSON is; ValueError where it is none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {name} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"its {name} is not a JSON object")
    return value


def check_array(name: str, array: NDArray, shape: tuple[int, ...], dtype: str) -> None:
    """ValueError unless the array is of that shape and dtype (in either order of bytes) and finite."""
    if array.shape != shape or array.dtype.name != dtype:
        raise ValueError(f"its {name} holds {array.dtype} {array.shape}; wanted {dtype} {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"its {name} holds {dtype} {shape}, not all of them finite")


# ------------------------------------------------------------------------------------------------------ files of others

UNPACKED = 2**30, 100  # bytes, and times the file's own size: `Parameters.save` packs nothing
CGROUP = pathlib.Path("/sys/fs/cgroup")  # where a container is told how much memory it may take
METHODS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # those of np.savez; others unpack any number of bytes at once


def read_npz(path, wanted=None):
    """{name: array} of an .npz file, read and checked; ValueError where it is broken, truncated, too large or holds pickles.

    wanted: a function from the names of all members to those that are read; the others may be anything. Without it the file is
    one of ours, of which all is read.
    """
    arrays = {}
    with reading(path, "a whole .npz file of plain arrays"), zipfile.ZipFile(path) as file:
        members = {member.filename.removesuffix(".npy"): member for member in file.infolist()}
        claimed, (most, times) = sum(member.file_size for member in members.values()), UNPACKED
        if wanted is None and claimed > most and claimed > times * os.path.getsize(path):
            raise ValueError(f"it would unpack to {claimed / 2**30:.1f} GiB, and would not be packed if it were one of ours")
        for name in members if wanted is None else wanted(list(members)):
            if members[name].compress_type not in METHODS:
                raise ValueError("it is packed in a way that np.savez does not use")
            with file.open(members[name]) as content:
                try:
                    arrays[name] = read_npy(content, members[name].file_size)
                except ValueError as error:
                    raise ValueError(f"in its {name}, {error}") from None
    return arrays


def read_npy(file, size):
    """The array of an open .npy file of that many bytes, or of such a member of an .npz file.

    ValueError unless its header tells of just as many bytes, and there is memory for them.
    """
    version = np.lib.format.read_magic(file)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("there are Python objects, which only a program could read: save numbers")
    told, there = math.prod(shape) * dtype.itemsize, size - file.tell()
    if told != there:
        raise ValueError(f"the header tells of {told} bytes, and {there} follow")
    if told > (free := free_memory()):
        raise ValueError(f"there are {told / 2**30:.3g} GiB of numbers, and {free / 2**30:.3g} GiB of memory are free")
    array = np.empty(math.prod(shape), dtype)
    rest = memoryview(array).cast("B") if told else memoryview(b"")
    while rest:
        n = file.readinto(rest[: 2**24])
        if not n:
            raise ValueError(f"{len(rest)} bytes are missing at the end")
        rest = rest[n:]
    return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)


def free_memory():
    """How many bytes this process may still take, as the system and its container tell; infinite where neither does."""
    found = [math.inf]
    with contextlib.suppress(OSError, StopIteration, ValueError), open("/proc/meminfo") as file:
        found.append(1024 * int(next(line.split()[1] for line in file if line.startswith("MemAvailable:"))))
    with contextlib.suppress(OSError, StopIteration, ValueError):  # which says "max" where there is no limit
        limit, used, parts = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current", "stat"))
        kept = next(line.split()[1] for line in parts.splitlines() if line.startswith("inactive_file "))
        found.append(int(limit) - int(used) + int(kept))  # files that were read are kept only where there is room
    return min(found)


@contextlib.contextmanager
def reading(path, what):
    """`with reading(path, what)`: what the file's content makes anybody raise becomes one ValueError that names it."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # a damaged byte makes NumPy, zipfile, zlib and tokenize raise almost anything
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        # The words may be the file's own: neither a page of them nor what moves a terminal's cursor is for the reader.
        line = "".join(filter(str.isprintable, textwrap.shorten(why, 300, placeholder=" ...")))
        raise ValueError(f"{path} is not {what}: {line or type(error).__name__}") from None


@contextlib.contextmanager
def replacing(path):
    """`with replacing(path) as file`: a binary file that takes its place at `path` when it is whole, and never before.

    OSError where it cannot be written, which names `path`. A process that is killed leaves its `partial` behind.
    """
    partial = f"{os.fspath(path)}.{os.urandom(8).hex()}.partial"  # a name that no other writer has, be it a thread
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:  # NumPy's and Pillow's own tell neither number nor name
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), os.fspath(path)) from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
