"""Parameters: one flat buffer with named views, its initial values, and the files that hold it."""

import contextlib
import dataclasses
import errno
import json
import math
import os
import pathlib
import textwrap
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, BinaryIO, NamedTuple

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
    """The dtype's name. ValueError says that it is not one of DTYPES, in which the kernels compute."""
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
    """The parameters in the form that the functions of the model read. output_logvar gives the log-variance of x given z."""

    encoder: tuple[Layer, ...]
    mu: Layer
    logvar: Layer
    decoder: tuple[Layer, ...]
    output: Layer
    output_logvar: Layer


def n_parameters(architecture: Architecture) -> int:
    """The total number of elements in an architecture's parameters."""
    return sum(math.prod(shape) for shape in architecture.shapes.values())


class Parameters(Mapping[str, NDArray]):
    """A mapping from names to arrays. Each array is a view of the buffer `flat`, so that they change together.

    Gradients are Parameters too: g["mu.W"] is d loss / d p["mu.W"], and g.flat has the order of p.flat.

    Parameters
    ----------
    architecture : Architecture
        The architecture, which gives the names and shapes.
    flat : array (n,)
        All values in the order of `Architecture.shapes`, float32 or float64. The array is not copied.

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

    def __reduce__(self):  # the views of a pickled or deep copy are then views of its own buffer
        return Parameters, (self.architecture, self.flat)

    @property
    def weights(self) -> dict[str, NDArray]:
        """The matrices W of all layers by their names. L2 and weight decay act on these, and not on the biases."""
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
        """Make Parameters that are all 0."""
        return cls(architecture, np.zeros(n_parameters(architecture), check_dtype(dtype)))

    @classmethod
    @renamed(scheme="init")
    def initialize(
        cls, architecture: Architecture, seed: int = 0, dtype: DTypeLike = "float64", init: str = "glorot"
    ) -> "Parameters":
        """Draw normal weights, and set the biases to 0. Both dtypes have the same initial values, except for rounding.

        The variance of a hidden layer's weights is 2 / (inputs + outputs) under "glorot", and 2 / inputs under "he". The layers
        that make mu, logvar and the output have the smaller variance 1 / (3 inputs), as a linear layer of PyTorch has. So q(z|x)
        begins near the prior, and p(x|z) hardly depends on z at first.

        Parameters
        ----------
        architecture : Architecture
            The architecture, which gives the names and shapes.
        seed : int
            The seed, from 0 to 2^64 - 1. The same seed gives the same values on every machine.
        dtype : {"float64", "float32"}
            The type of the numbers.
        init : {"glorot", "he"}
            The rule for the variance of the hidden layers.

        References
        ----------
        Glorot & Bengio 2010, eq. 12; He et al. 2015, eq. 10.
        """
        check_choice("init", init, INITS)
        seed = streams.check_seed(seed)
        p = cls.zeros(architecture, dtype)
        weights = p.weights
        for i, (name, W) in enumerate(p.items()):
            if name in weights:
                hidden = name.startswith(("encoder.", "decoder."))
                variance = INITS[init](*W.shape) if hidden else 1 / (3 * W.shape[0])
                W[...] = math.sqrt(variance) * streams.normals(seed, "initialize", i, (1, *W.shape), np.float64)[0]
        return p

    def copy(self) -> "Parameters":
        """Copy the values to a buffer of their own."""
        return Parameters(self.architecture, self.flat.copy())

    def astype(self, dtype: DTypeLike) -> "Parameters":
        """Round the values to a dtype, in a buffer of their own."""
        p = Parameters.zeros(self.architecture, dtype)
        p.flat[...] = self.flat
        return p

    def moved(self, move: Callable[[Any], Any]) -> "Parameters":
        """The same values in the buffer that move(flat) returns; move is `put` or `get` of a kernel set."""
        flat = move(self.flat)
        return self if flat is self.flat else Parameters(self.architecture, flat)

    def save(self, path: str | os.PathLike, **extra: NDArray) -> None:
        """Write an .npz file: every parameter under its name, the architecture as JSON, and any extra arrays.

        It is first written under another name and then renamed, so that there is never an incomplete file at the path.
        """
        described = np.array(json.dumps(dataclasses.asdict(self.architecture)))
        with replacing(path) as file:
            np.savez(file, architecture=described, **{**self, **extra})  # pyright: ignore[reportArgumentType]  # none is allow_pickle

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Parameters":
        """Read a file that `save` wrote. ValueError says in one sentence why the file is not one."""
        return cls.load_with_extra(path)[0]

    @classmethod
    def load_with_extra(cls, path: str | os.PathLike) -> "tuple[Parameters, dict[str, NDArray]]":
        """Read the parameters as `load` does, and also {name: array} of the extra arrays in the file."""
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
    """Parse a JSON text into a dict. ValueError says that the text, which the message calls `name`, is not a JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"its {name} is not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ValueError(f"its {name} is not a JSON object")
    return value


def check_array(name: str, array: NDArray, shape: tuple[int, ...], dtype: str) -> None:
    """Check an array of a file. ValueError says that its shape or dtype (in any byte order) is wrong, or a value not finite."""
    if array.shape != shape or array.dtype.name != dtype:
        raise ValueError(f"its {name} holds {array.dtype} {array.shape}; wanted {dtype} {shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"its {name} holds {dtype} {shape}, not all of them finite")


# ------------------------------------------------------------------------------------------------------ reading and writing files

UNPACKED = 2**30, 100  # limits: bytes, and times the size of the file; `Parameters.save` does not compress
CGROUP = pathlib.Path("/sys/fs/cgroup")  # here Linux tells a container its limit of memory
METHODS = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED  # np.savez uses these; another method may unpack any number of bytes at once


def read_npz(path: str | os.PathLike, wanted: Callable[[list[str]], Sequence[str]] | None = None) -> dict[str, NDArray]:
    """Read and check arrays of an .npz file.

    Parameters
    ----------
    path : path
        The file.
    wanted : function, optional
        wanted(names) returns those of the names in the file that are read; the others are not looked at. Without it all are
        read, and the file must be one that vae_np wrote, which is not compressed.

    Returns
    -------
    dict of str to array
        The arrays by their names.

    Raises
    ------
    ValueError
        The file is broken, truncated or too large, or it holds Python objects.
    OSError
        There is no such file, or it may not be read.
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


def read_npy(file: IO[bytes], size: int) -> NDArray:
    """Read the array of an open .npy file, or of an open member of an .npz file.

    Parameters
    ----------
    file : binary file
        The file, at its beginning.
    size : int
        The size of the file in bytes.

    Returns
    -------
    array
        The array, in memory of its own.

    Raises
    ------
    ValueError
        The header does not agree with the size, the array does not fit into the free memory, or it holds Python objects.
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
        n = file.readinto(rest[: 2**24])  # pyright: ignore[reportAttributeAccessIssue]  # every open binary file has it
        if not n:
            raise ValueError(f"{len(rest)} bytes are missing at the end")
        rest = rest[n:]
    return array.reshape(shape[::-1]).T if fortran_order else array.reshape(shape)


def free_memory() -> float:
    """The number of bytes that the system and the container leave to this process; infinity if neither states a number."""
    found = [math.inf]
    with contextlib.suppress(OSError, StopIteration, ValueError), open("/proc/meminfo") as file:
        found.append(1024 * int(next(line.split()[1] for line in file if line.startswith("MemAvailable:"))))
    with contextlib.suppress(OSError, StopIteration, ValueError):  # the file contains "max" where there is no limit
        limit, used, parts = ((CGROUP / f"memory.{name}").read_text() for name in ("max", "current", "stat"))
        kept = next(line.split()[1] for line in parts.splitlines() if line.startswith("inactive_file "))
        found.append(
            int(limit) - int(used) + int(kept)
        )  # the system gives this memory back: it only keeps files that were read
    return min(found)


@contextlib.contextmanager
def reading(path: str | os.PathLike, what: str) -> Iterator[None]:
    """`with reading(path, what)`: turn an error that the file's content causes into a ValueError of one line.

    The message is "{path} is not {what}: ...", where `what` is the kind of file that it should be. FileNotFoundError,
    IsADirectoryError and PermissionError are not turned, because the content does not cause them.
    """
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, PermissionError):
        raise
    except Exception as error:  # a damaged byte makes NumPy, zipfile, zlib and tokenize raise almost anything
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        # The error may quote the file, so that it is shortened, and characters that control a terminal are left out.
        line = "".join(filter(str.isprintable, textwrap.shorten(why, 300, placeholder=" ...")))
        raise ValueError(f"{path} is not {what}: {line or type(error).__name__}") from None


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """`with replacing(path) as file`: write a binary file, which replaces the one at `path` only when it is complete.

    If the process is killed, an incomplete file remains, whose name begins with `path` and ends with ".partial".

    Raises
    ------
    OSError
        The file cannot be written. The error names `path`.
    """
    partial = f"{os.fspath(path)}.{os.urandom(8).hex()}.partial"  # no other process or thread uses this name
    try:
        with open(partial, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:  # those of NumPy and Pillow have neither a number nor a file name
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), os.fspath(path)) from error
    finally:
        if os.path.exists(partial):
            os.unlink(partial)
