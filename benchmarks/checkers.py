"""The checkers of gradients, each tried on planted faults and on right functions: what it finds, and what it calls wrong."""

import functools
import importlib
import importlib.util
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks import faults, functions
from benchmarks.faults import Fault, Right
from benchmarks.measure import ShowStatus

OURS = "vae_np"


class Verdict(NamedTuple):
    """What a checker says.

    Parameters
    ----------
    message : str
        Why the function is not right. It is empty where the checker finds nothing wrong.
    named : set of str
        The parameters that the message names, or "fn" where it names the function.
    """

    message: str = ""
    named: frozenset[str] = frozenset()


Check = Callable[[Any, dict[str, Any]], Verdict]  # (parameters -> (value, gradients), where it is checked) -> Verdict


class Checker(NamedTuple):
    """A checker of gradients: its name, the module that must be installed, and a function that loads it."""

    name: str
    module: str
    load: Callable[[], Check]


# ------------------------------------------------------------------------- each checker, as its own users would call it


def _vae_np() -> Check:
    from vae_np.testing import check_gradients

    def check(function, point):
        try:
            check_gradients(function, point)
        except (AssertionError, TypeError, ValueError) as error:
            return Verdict(str(error), _words_of(str(error), [*point, "fn"]))
        return Verdict()

    return check


def _words_of(message, names):
    """The names that stand in a message as whole words; "fn" only where no other does."""
    found = frozenset(name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message))
    return found - {"fn"} or found


def _torch() -> Check:
    import torch

    class Handwritten(torch.autograd.Function):
        @staticmethod
        def forward(ctx, function, names, *tensors):
            value, ctx.gradients = _in_double(function, names, [tensor.detach().numpy() for tensor in tensors])
            return torch.tensor(value)

        @staticmethod
        def backward(ctx, *grad_outputs):
            return None, None, *(grad_outputs[0] * torch.tensor(gradient) for gradient in ctx.gradients)

    def check(function, point):
        tensors = [torch.tensor(np.array(array), requires_grad=True) for array in point.values()]
        try:
            torch.autograd.gradcheck(functools.partial(Handwritten.apply, function, list(point)), tensors)
        except RuntimeError as error:  # GradcheckError is one
            inputs = re.findall(r"\binput (\d+)", str(error))
            return Verdict(str(error), frozenset(list(point)[int(i)] for i in inputs))
        return Verdict()

    return check


def _jax() -> Check:
    import jax
    from jax.test_util import check_grads

    jax.config.update("jax_enable_x64", True)

    def check(function, point):
        names = list(point)
        shapes = [jax.ShapeDtypeStruct(np.shape(array), np.float64) for array in point.values()]
        number = jax.ShapeDtypeStruct((), np.float64)

        def value_and_gradients(*arrays):
            return _in_double(function, names, [np.array(array) for array in arrays])

        @jax.custom_vjp
        def handwritten(*arrays):
            return forward(*arrays)[0]

        def forward(*arrays):
            return jax.pure_callback(value_and_gradients, (number, shapes), *arrays)

        handwritten.defvjp(forward, lambda gradients, d: tuple(d * gradient for gradient in gradients))
        try:
            check_grads(handwritten, [jax.numpy.asarray(array) for array in point.values()], order=1, modes=["rev"])
        except Exception as error:  # an AssertionError, or what the callback raises
            return Verdict(str(error) or type(error).__name__)
        return Verdict()

    return check


def _autograd() -> Check:
    from autograd.extend import defvjp_argnums, primitive
    from autograd.test_util import check_grads

    def check(function, point):
        names = list(point)

        @primitive
        def handwritten(*arrays):
            return _in_double(function, names, arrays)[0]

        def backward(argnums, ans, arrays, kwargs):
            gradients = _in_double(function, names, arrays)[1]
            return lambda d: [d * gradients[i] for i in argnums]

        defvjp_argnums(handwritten, backward)
        try:
            check_grads(handwritten, modes=["rev"], order=1)(*(np.array(array) for array in point.values()))
        except Exception as error:  # an AssertionError, or what the function raises
            return Verdict(str(error) or type(error).__name__)
        return Verdict()

    return check


SCIPY_LIMIT = 1e-5  # SciPy returns the norm of the difference; what is allowed is this part of the gradient's norm, or of 1


def _scipy() -> Check:
    from scipy.optimize import check_grad

    def check(function, point):
        names, arrays = list(point), [np.array(array) for array in point.values()]
        ends = np.cumsum([array.size for array in arrays])[:-1]

        def at(flat):
            return _in_double(function, names, [part.reshape(a.shape) for part, a in zip(np.split(flat, ends), arrays)])

        def gradient(flat):
            return np.concatenate([gradient.ravel() for gradient in at(flat)[1]])

        start = np.concatenate([array.ravel() for array in arrays])
        try:
            error = check_grad(lambda flat: at(flat)[0], gradient, start)
            limit = SCIPY_LIMIT * max(1.0, np.linalg.norm(gradient(start)))
        except ValueError as mismatch:
            return Verdict(str(mismatch))
        return Verdict() if error <= limit else Verdict(f"the norm of the difference is {error:.1e} > {limit:.1e}")

    return check


def _in_double(function, names, arrays):
    """The value as a number, and a list of the gradients, all in double precision: some checkers take nothing else."""
    value, gradients = function(dict(zip(names, arrays)))
    return np.float64(np.reshape(value, ())), [np.array(gradients[name], np.float64) for name in names]


CHECKERS = (
    Checker(OURS, "vae_np", _vae_np),
    Checker("torch.autograd.gradcheck", "torch", _torch),
    Checker("jax.test_util.check_grads", "jax", _jax),
    Checker("autograd.test_util.check_grads", "autograd", _autograd),
    Checker("scipy.optimize.check_grad", "scipy", _scipy),
)
