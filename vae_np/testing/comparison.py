"""How close is close: one table of relative tolerances, and the comparison that uses it."""

import numpy as np

TOLERANCES = {  # what is compared: {dtype: relative tolerance}
    # The same sums in another order and with other roundings of exp and log1p: a few hundred units in the last place
    # (1e-7, 2e-16), which is what a sum of some hundred terms of both signs can lose.
    "backends": {"float32": 3e-5, "float64": 1e-12},
    # Richardson's differences of a loss near 10: 1e-16 * 10 / 1e-4 of rounding, of gradients down to 1e-4 of the largest.
    "differences": {"float64": 1e-6},
    # One operation in float32 against itself in float64: the roundings of its inputs and of a sum of some hundred terms.
    "precision": {"float32": 1e-4},
}
FLOOR = (
    1e-3  # elements below this part of the largest in their array are compared to that part instead of to themselves
)


def relative_errors(given, wanted):
    """|given - wanted| / max(|given|, |wanted|, FLOOR max |wanted|), element by element; 0 where both are 0.

    A difference or a reordered sum is only as exact as the large terms it is made of, so that an element far smaller
    than its neighbours cannot be held to its own size; it is not let off either. NaN and infinities give infinity.
    """
    given, wanted = np.asarray(given, np.float64), np.asarray(wanted, np.float64)
    scale = np.maximum(np.maximum(np.abs(given), np.abs(wanted)), FLOOR * np.max(np.abs(wanted), initial=0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        errors = np.abs(given - wanted) / np.where(scale > 0, scale, 1.0)
    return np.where(np.isfinite(errors), errors, np.inf)


def assert_close(given, wanted, name="array", kind="backends", rtol=None):
    """AssertionError, naming what is off, unless shape, dtype and every element agree.

    The tolerance is TOLERANCES[kind] for the dtype, or rtol.
    """
    given, wanted = np.asarray(given), np.asarray(wanted)
    if given.shape != wanted.shape or given.dtype != wanted.dtype:
        raise AssertionError(f"{name} is {given.dtype} {given.shape}; wanted {wanted.dtype} {wanted.shape}")
    rtol = TOLERANCES[kind][given.dtype.name] if rtol is None else rtol
    errors = relative_errors(given, wanted)
    if errors.size and not errors.max() <= rtol:
        index = np.unravel_index(errors.argmax(), errors.shape)
        where = f"{name}{list(map(int, index))}"
        raise AssertionError(
            f"{where} is {given[index]!r}; wanted {wanted[index]!r}: relative error {errors[index]:.1e} > {rtol:.0e}"
        )
