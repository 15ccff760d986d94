"""Arrays of the device, with those functions and methods of CuPy's arrays that make no hidden copy and do not wait.

NumPy does the work when the stream comes to it. An array keeps its memory to itself, so that code which mixes arrays of the
device with arrays of NumPy fails here as it does with CuPy.
"""

import math
import operator
import weakref
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from tests.host_cuda.memory import Allocation
from tests.host_cuda.settings import settings
from tests.host_cuda.streams import Stream, free, get_current_stream, refuse_in_capture, submit, synchronise

Shape = int | tuple[int, ...] | list[int]


class Owner:
    """What an array and its views share: their memory is free when none of them is left."""

    def __init__(self, allocation: Allocation) -> None:
        weakref.finalize(self, free, allocation, get_current_stream().queue).atexit = False


class MemoryPointer:
    """The address of an array."""

    def __init__(self, mem: Owner, offset: int) -> None:
        self.mem, self.ptr = mem, offset


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):
    """An array of the device."""

    _host: NDArray[Any]  # the same memory, for NumPy
    _owner: Owner
    shape = property(operator.attrgetter("_host.shape"))
    dtype = property(operator.attrgetter("_host.dtype"))
    size = property(operator.attrgetter("_host.size"))
    ndim = property(operator.attrgetter("_host.ndim"))
    strides = property(operator.attrgetter("_host.strides"))
    nbytes = property(operator.attrgetter("_host.nbytes"))
    itemsize = property(operator.attrgetter("_host.itemsize"))
    flags = property(operator.attrgetter("_host.flags"))

    def __init__(self, shape: Shape, dtype: DTypeLike = float, order: str = "C") -> None:
        refuse_in_capture("an allocation")
        shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
        allocation = Allocation(math.prod(shape) * np.dtype(dtype).itemsize)
        self._owner = Owner(allocation)
        self._host = np.ndarray(
            shape, dtype, allocation, allocation.offset(allocation.start), order="F" if order == "F" else "C"
        )

    def _view(self, host):
        """An array of the device that is a view, if the array of NumPy is one."""
        if host.size and not np.may_share_memory(host, self._host):
            raise NotImplementedError("the stand-in only has views, and this would be a copy")
        view = ndarray.__new__(ndarray)
        view._host, view._owner = host, self._owner
        return view

    @property
    def data(self) -> MemoryPointer:
        return MemoryPointer(self._owner, self._host.__array_interface__["data"][0])

    @property
    def T(self) -> "ndarray":
        return self._view(self._host.T)

    def reshape(self, *shape: Any) -> "ndarray":
        return self._view(self._host.reshape(*shape))

    def ravel(self) -> "ndarray":
        return self._view(self._host.ravel())

    def view(self, dtype: DTypeLike | None = None) -> "ndarray":
        return self._view(self._host.view(dtype or self.dtype))

    def __len__(self) -> int:
        return len(self._host)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`")

    def __array_function__(self, function: Any, *_: Any) -> Any:
        raise TypeError(f"the stand-in does not have the function {function.__name__}")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **kwargs: Any) -> "ndarray":
        if method != "__call__":
            raise TypeError(f"the stand-in does not have the method {ufunc.__name__}.{method}")
        inputs = tuple(_operand(value) for value in inputs)
        if out is None:
            refuse_in_capture("an allocation")
            with np.errstate(all="ignore"):  # the values may not be there yet: only the shape and the dtype are needed
                made = ufunc(*inputs, **kwargs)
            out = (empty(made.shape, made.dtype),)
        target = _operand(out[0])
        submit(lambda: ufunc(*inputs, out=target, **kwargs))
        return out[0]

    def __getitem__(self, key: Any) -> "ndarray":
        key = key if isinstance(key, tuple) else (key,)
        if not all(part is None or part is ... or isinstance(part, (slice, int, np.integer)) for part in key):
            raise TypeError("the stand-in only has indices that make a view")
        return self._view(self._host[key if any(part is ... for part in key) else (*key, ...)])

    def __setitem__(self, key: Any, value: Any) -> None:
        copyto(self[key], value, casting="unsafe")

    def fill(self, value: Any) -> None:
        self[...] = value

    def copy(self) -> "ndarray":
        return array(self)

    def astype(self, dtype: DTypeLike) -> "ndarray":
        return array(self, dtype)

    def get(self, stream: Stream | None = None, order: Any = "C", out: Any = None, blocking: bool = True) -> NDArray[Any]:
        stream = stream or get_current_stream()
        if out is not None:
            if not isinstance(out, np.ndarray) or out.dtype != self.dtype:
                raise TypeError(f"out must be an array of NumPy of {self.dtype}")
            if out.shape != self.shape:
                raise ValueError(f"an array of the shape {self.shape} cannot be copied to one of the shape {out.shape}")
        else:
            out = np.empty_like(self._host, order="F" if order == "F" or (order == "A" and self.flags.fnc) else "C")
            if not self.size:
                return out
        if stream.is_capturing():
            raise RuntimeError("the current stream is capturing, so D2H transfers are disallowed")
        source = self._host
        submit(lambda: np.copyto(out, source), stream)
        if blocking:
            synchronise(stream)
        return out

    def set(self, arr: NDArray[Any], stream: Stream | None = None) -> None:
        if not isinstance(arr, np.ndarray) or arr.dtype != self.dtype:
            raise TypeError(f"an array of {self.dtype} can only be set to an array of NumPy of {self.dtype}")
        if arr.shape != self.shape:
            raise ValueError(f"an array of the shape {self.shape} cannot be set to one of the shape {arr.shape}")
        if not (self.flags.c_contiguous or self.flags.f_contiguous):
            raise RuntimeError("Cannot set to non-contiguous array")
        _copy_to_device(self._host, arr, stream or get_current_stream())

    def item(self) -> Any:
        return self.get().item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())


def _copy_to_device(target, host, stream):
    """Submit a copy of an array of NumPy as it is now: its owner may change it before the stream reads it."""
    if stream.is_capturing():
        raise RuntimeError("the current stream is capturing, so H2D transfers are disallowed")
    host = host.copy("K") if settings.late else host
    submit(lambda: np.copyto(target, host, "unsafe"), stream)


def _operand(value):
    """A number, or the memory of an array of the device, but not an array of NumPy."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, (int, float, np.generic)):
        return value
    raise TypeError(f"Unsupported type {type(value)}")


def empty(shape: Shape, dtype: DTypeLike = float, order: str = "C") -> ndarray:
    return ndarray(shape, dtype, order)


def full(shape: Shape, fill_value: Any, dtype: DTypeLike | None = None) -> ndarray:
    result = empty(shape, np.asarray(fill_value).dtype if dtype is None else dtype)
    result.fill(fill_value)
    return result


def zeros(shape: Shape, dtype: DTypeLike = float) -> ndarray:
    return full(shape, 0, dtype)


def empty_like(prototype: Any, dtype: DTypeLike | None = None) -> ndarray:
    return empty(prototype.shape, dtype or prototype.dtype)


def zeros_like(a: Any, dtype: DTypeLike | None = None) -> ndarray:
    return zeros(a.shape, dtype or a.dtype)


def array(obj: ndarray | ArrayLike, dtype: DTypeLike | None = None) -> ndarray:
    host = obj._host if isinstance(obj, ndarray) else np.asarray(obj)
    result = empty(host.shape, dtype or host.dtype, "F" if host.flags.fnc else "C")
    if isinstance(obj, ndarray):
        copyto(result, obj, "unsafe")
    elif host.ndim:
        _copy_to_device(result._host, host, get_current_stream())
    else:  # a kernel writes the number
        result.fill(host.item())
    return result


def asarray(a: ndarray | ArrayLike, dtype: DTypeLike | None = None) -> ndarray:
    return a if isinstance(a, ndarray) and dtype in (None, a.dtype) else array(a, dtype)


def asnumpy(
    a: ndarray | ArrayLike, stream: Stream | None = None, order: Any = "C", out: Any = None, *, blocking: bool = True
) -> NDArray[Any]:
    return a.get(stream, order, out) if isinstance(a, ndarray) else np.asarray(a)


def copyto(dst: ndarray, src: Any, casting: Any = "same_kind") -> None:
    target, source = dst._host, _operand(src)
    submit(lambda: np.copyto(target, source, casting))
