"""The table of all relative tolerances, and the comparison that uses it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np.architecture import check_choice

TOLERANCES: dict[str, dict[str, float]] = {  # {what is compared: {dtype: relative tolerance}}
    # Complex steps have no error of their own (h^2 = 1e-60). Two programs round the same sums differently.
    "complex": {"float32": 3e-4, "float64": 1e-12},
    # Rounding puts Richardson's differences of a loss near 10 off by about 1e-16 * 10 / 1e-4, which is 1e-6 of a gradient of
    # 1e-5. In float32 only the rounding of the gradient itself counts.
    "richardson": {"float32": 3e-4, "float64": 1e-6},
    # Plain central differences have the same error at a step of 6e-6, which is 1e-5 of a gradient of 2e-5. They also have an
    # error of h^2 times the third derivative.
    "central": {"float32": 3e-4, "float64": 1e-5},
    # One operation may add in another order, and its exp and log1p may round differently. A sum of some hundred terms of both
    # signs can lose a few hundred units in the last place (1e-7, 2e-16).
    "operation": {"float32": 3e-5, "float64": 1e-13},
    # The loss or a gradient is computed in another way, or in the other precision. What operations lose adds up over several
    # layers.
    "model": {"float32": 3e-4, "float64": 1e-12},
    # The norm of the difference of two gradients, by the norm of one: the operands of matrix products are rounded to 8 or to 11
    # significant bits, which is by at most 2^-9 or 2^-12 of each, or they are not. 1e-3 to 1.3e-2 and 7e-5 to 1.6e-3 were
    # measured on problems of every kind.
    "bfloat16": {"float32": 2e-2, "float64": 2e-2},
    "tfloat32": {"float32": 2.5e-3, "float64": 2.5e-3},
    # The same norm for two programs that round operands alike. Where their results differ in the last place, an operand next to
    # a tie is rounded up by one and down by the other. In float32 this is one operand of some ten thousand, and makes up to
    # 4e-4 in a model of some hundred units; in float64 it does not happen.
    "rounded": {"float32": 1e-3, "float64": 1e-12},
}
FLOOR = 1e-2  # an element below this part of its array's largest element is compared with that part instead of with itself


def relative_errors(given: ArrayLike, wanted: ArrayLike, resolution: Any = 0.0) -> NDArray[np.float64]:
    """The relative error of every element: |given - wanted| / max(|given|, |wanted|, 0.01 max |wanted|).

    A difference or a reordered sum is only as exact as its largest terms. So an element that is far smaller than its
    neighbours is compared with a hundredth of the largest one, and not with itself.

    Parameters
    ----------
    given, wanted : array
        The two arrays, of the same shape.
    resolution : float or array
        Differences up to it count as 0. So do those up to the least normal number of the dtype of wanted.

    Returns
    -------
    array of float64
        The errors: 0 where both are 0, and infinity where one of them is NaN or infinite.
    """
    resolution = np.maximum(resolution, np.finfo(np.result_type(np.asarray(wanted).dtype, np.float32)).tiny)
    given, wanted = np.asarray(given, np.float64), np.asarray(wanted, np.float64)
    scale = np.maximum(np.maximum(np.abs(given), np.abs(wanted)), FLOOR * np.max(np.abs(wanted), initial=0.0))
    with np.errstate(invalid="ignore", over="ignore"):
        differences = np.abs(given - wanted)
        errors = np.where(differences <= resolution, 0.0, differences / np.maximum(scale, resolution))
    return np.where(np.isfinite(errors), errors, np.inf)


def rounding(arrays: Iterable[NDArray]) -> float:
    """The rounding error of a sum whose terms cancel, if no term is larger than the largest element of the arrays."""
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
    """Raise an AssertionError that names what is off, unless shape, dtype and every element agree.

    NaN and infinities agree with nothing, not even with themselves.

    Parameters
    ----------
    given, wanted : array
        The two arrays.
    name : str
        What the message calls the array.
    kind : {"model", "operation", "complex", "richardson", "central"}
        The row of TOLERANCES that has the tolerance for the dtype; for integers the tolerance is 0.
    rtol : float, optional
        A relative tolerance that replaces that of the table.
    resolution : float or array
        Differences up to it count as 0.

    Raises
    ------
    AssertionError
        Something is off; the element with the largest error is named.
    TypeError, ValueError
        The arrays are not of real numbers, their dtype has no tolerance, or the kind is unknown.

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


def relative_norm(given: ArrayLike, wanted: ArrayLike) -> float:
    """The norm of the difference by the norm of what is wanted."""
    given, wanted = np.asarray(given, np.float64), np.asarray(wanted, np.float64)
    return float(np.linalg.norm(given - wanted) / np.linalg.norm(wanted))


def assert_near(given: NDArray, wanted: ArrayLike, name: str, kind: str) -> None:
    """Raise an AssertionError unless the `relative_norm` is at most the tolerance of this kind for the dtype of given."""
    found, most = relative_norm(given, wanted), TOLERANCES[kind][given.dtype.name]
    require(found <= most, f"{name} is off by {found:.1e} of its norm > {most:.0e}")


def require(condition: object, message: str) -> None:
    """Raise an AssertionError with this message unless the condition holds; unlike `assert`, it works under `python -O`."""
    if not condition:
        raise AssertionError(message)


def label(name: str, index: Iterable[Any]) -> str:
    """An element's name, such as mu.W[3, 1]."""
    numbers = ", ".join(str(int(i)) for i in index)
    return f"{name}[{numbers}]" if numbers else name
