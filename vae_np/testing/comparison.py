"""How close is close: one table of relative tolerances, and the comparison that uses it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np.architecture import check_choice

TOLERANCES: dict[str, dict[str, float]] = {  # what is compared: {dtype: relative tolerance}, and why
    # Complex steps have no error of their own (h^2 = 1e-60): what is left is two programs' roundings of the same sums.
    "complex": {"float32": 3e-4, "float64": 1e-12},
    # Richardson's differences of a loss near 10 are off by some 1e-16 * 10 / 1e-4 of rounding: 1e-6 of a gradient of 1e-5.
    # In float32 it is the gradient's own rounding that counts.
    "richardson": {"float32": 3e-4, "float64": 1e-6},
    # Plain central differences: the same at a step of 6e-6, 1e-5 of a gradient of 2e-5; and h^2 of the third derivative.
    "central": {"float32": 3e-4, "float64": 1e-5},
    # One operation: its sum in another order, its exp and log1p with other roundings. A few hundred units in the last
    # place (1e-7, 2e-16) is what a sum of some hundred terms of both signs can lose.
    "operation": {"float32": 3e-5, "float64": 1e-13},
    # The loss or a gradient by another way to the same number, or in the other precision: what operations lose, through
    # several layers.
    "model": {"float32": 3e-4, "float64": 1e-12},
}
FLOOR = 1e-2  # an element below this part of its array's largest is compared to that part instead of to itself


def relative_errors(given: ArrayLike, wanted: ArrayLike, resolution: Any = 0.0) -> NDArray[np.float64]:
    """|given - wanted| / max(|given|, |wanted|, FLOOR max |wanted|), element by element; 0 where both are 0.

    A difference or a reordered sum is only as exact as the large terms it is made of, so that an element far smaller
    than its neighbours cannot be held to its own size; it is not let off either. NaN and infinities give infinity.
    Differences up to `resolution`, and below the least normal number of the dtype of wanted, count as 0.
    """
    resolution = np.maximum(resolution, np.finfo(np.result_type(np.asarray(wanted).dtype, np.float32)).tiny)
    given, wanted = np.asarray(given, np.float64), np.asarray(wanted, np.float64)
    scale = np.maximum(np.maximum(np.abs(given), np.abs(wanted)), FLOOR * np.max(np.abs(wanted), initial=0.0))
    with np.errstate(invalid="ignore", over="ignore"):
        differences = np.abs(given - wanted)
        errors = np.where(differences <= resolution, 0.0, differences / np.maximum(scale, resolution))
    return np.where(np.isfinite(errors), errors, np.inf)


def rounding(arrays: Iterable[NDArray]) -> float:
    """The rounding that a sum which cancels keeps of its terms, where these are no larger than the largest of the arrays."""
    return max(
        (32 * np.finfo(a.dtype).eps * float(np.abs(a).max()) for a in arrays if a.dtype.kind == "f" and a.size),
        default=0.0,
    )


def assert_close(
    given: ArrayLike,
    wanted: ArrayLike,
    name: str = "array",
    kind: str = "model",
    rtol: float | None = None,
    resolution: Any = 0.0,
) -> None:
    """AssertionError, naming what is off, unless shape, dtype and every element agree.

    NaN and infinities agree with nothing, not even with themselves.

    Parameters
    ----------
    given, wanted : array
        The two arrays.
    name : str
        What the message calls the array.
    kind : {"model", "operation", "complex", "richardson", "central"}
        The row of TOLERANCES, whose number for the dtype is the tolerance; for integers the tolerance is 0.
    rtol : float, optional
        A relative tolerance in place of that of the table.
    resolution : float or array
        Differences up to it count as none.

    Examples
    --------
    >>> from vae_np.testing import assert_close
    >>> assert_close([1.0, 2.0], [1.0, 2.0 + 1e-15], "x")
    """
    given, wanted = np.asarray(given), np.asarray(wanted)
    if given.shape != wanted.shape or given.dtype != wanted.dtype:
        raise AssertionError(f"{name} is {given.dtype} {given.shape}; wanted {wanted.dtype} {wanted.shape}")
    check_choice("kind", kind, TOLERANCES)
    if given.dtype.kind not in "iuf":
        raise TypeError(f"{name} is {given.dtype}; only real numbers are close to each other")
    if rtol is None:
        rtol = TOLERANCES[kind].get(given.dtype.name, 0.0 if given.dtype.kind in "iu" else None)
    if rtol is None:
        raise TypeError(f"{name} is {given.dtype}, for which {kind!r} has no tolerance: give rtol")
    errors = relative_errors(given, wanted, resolution)
    if errors.size and not errors.max() <= rtol:
        index = np.unravel_index(errors.argmax(), errors.shape)
        raise AssertionError(
            f"{label(name, index)} is {given[index]}; wanted {wanted[index]}: relative error {errors[index]:.1e} > {rtol:.0e}"
        )


def require(condition: object, message: str) -> None:
    """AssertionError with that message unless the condition holds: what `assert` says, but under `python -O` too."""
    if not condition:
        raise AssertionError(message)


def label(name: str, index: Iterable[Any]) -> str:
    """An element's name, such as mu.W[3, 1]."""
    numbers = ", ".join(str(int(i)) for i in index)
    return f"{name}[{numbers}]" if numbers else name
