"""The checkers of gradients, each tried on planted faults and on right functions: what it finds, and what it calls wrong."""

import functools
import importlib.util
import re
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks import faults, functions
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

    @property
    def is_installed(self) -> bool:
        return importlib.util.find_spec(self.module) is not None


# ------------------------------------------------------------------------- each checker, as its own users would call it


def _vae_np() -> Check:
    from vae_np import testing

    def check(function, point):
        parts = getattr(function, "parts", None)
        try:
            if parts is None:
                testing.check_gradients(function, point, sizes=functions.SIZES)
            else:
                _check_parts(testing, parts, point)
        except (AssertionError, TypeError, ValueError) as error:
            message = str(error)
            return Verdict(message, _words_of(message, [*point, "fn"]) if parts is None else _definition_of(message))
        return Verdict()

    return check


def _check_parts(testing, parts, p):
    """Hold a VAE to its definitions, as its author would."""

    def encode(x):
        return parts.encode(p, x)

    def decode(z):
        return parts.decode(p, z)

    def loss(x, eps):
        return parts.loss(p, x, eps)

    testing.check_vae(encode, decode, loss, functions.X, sample=parts.sample)
    testing.check_likelihood(lambda x, logits: parts.nll(logits, x))


DEFINITIONS = {  # {a definition: the words by which our messages name it}
    "sampler": r"\bsampler\b|\bz is not\b",
    "KL": r"\bKL\b",
    "reconstruction": r"\breconstruction\b|\blogit\b",
    "batch": r"\bnumber of examples\b|\banother one\b",
}


def _definition_of(message):
    """The definition that a message names first: this is the one that it calls wrong."""
    found = {name: match.start() for name, words in DEFINITIONS.items() if (match := re.search(words, message))}
    return frozenset([min(found, key=lambda name: found[name])] if found else [])


def _words_of(message, names):
    """The names that stand in a message as whole words; "fn" only where no other does."""
    found = frozenset(name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", message))
    return found - {"fn"} or found


def _torch() -> Check:
    import torch

    class Handwritten(torch.autograd.Function):
        @staticmethod
        def forward(ctx, function, names, *tensors):
            value, ctx.gradients = _called(function, names, [tensor.detach().numpy() for tensor in tensors])
            return torch.tensor(value)

        @staticmethod
        def backward(ctx, *grad_outputs):
            return None, None, *(grad_outputs[0] * torch.tensor(gradient) for gradient in ctx.gradients())

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
            value, gradients = _called(function, names, [np.array(array) for array in arrays])
            return value, gradients()

        def value_alone(*arrays):
            return _called(function, names, [np.array(array) for array in arrays])[0]

        @jax.custom_vjp
        def handwritten(*arrays):
            return jax.pure_callback(value_alone, number, *arrays)

        def forward(*arrays):
            return jax.pure_callback(value_and_gradients, (number, shapes), *arrays)

        backward = lambda gradients, d: tuple(d * gradient for gradient in gradients)  # noqa: E731
        handwritten.defvjp(forward, backward)  # pyright: ignore[reportFunctionMemberAccess]
        try:
            check_grads(handwritten, [jax.numpy.asarray(array) for array in point.values()], order=1, modes=["rev"])
        except Exception as error:  # an AssertionError, or what the callback raises
            return Verdict(str(error) or type(error).__name__)
        return Verdict()

    return check


def _autograd() -> Check:
    from autograd import test_util
    from autograd.extend import defvjp_argnums, primitive

    check_grads: Any = test_util.check_grads

    def check(function, point):
        names, arrays = list(point), [np.array(array) for array in point.values()]

        @primitive
        def handwritten(*arrays):
            return _called(function, names, arrays)[0]

        def backward(argnums, ans, arrays, kwargs):
            gradients = _called(function, names, arrays)[1]()
            return lambda d: [d * gradients[i] for i in argnums]

        defvjp_argnums(handwritten, backward)
        messages = {}
        for i, name in enumerate(names):  # it checks one argument in a call
            try:
                check_grads(handwritten, i, modes=["rev"], order=1)(*arrays)
            except Exception as error:  # an AssertionError, or what the function raises
                messages[name] = str(error) or type(error).__name__
        return Verdict("\n".join(messages.values()), frozenset(messages))

    return check


SCIPY_LIMIT = 1e-5  # SciPy returns the norm of the difference; what is allowed is this part of the gradient's norm, or of 1


def _scipy() -> Check:
    from scipy.optimize import check_grad

    def check(function, point):
        names, arrays = list(point), [np.array(array) for array in point.values()]
        ends = np.cumsum([array.size for array in arrays])[:-1]

        def at(flat):
            return _called(function, names, [part.reshape(a.shape) for part, a in zip(np.split(flat, ends), arrays)])

        def gradient(flat):
            return np.concatenate([gradient.ravel() for gradient in at(flat)[1]()])

        start = np.concatenate([array.ravel() for array in arrays])
        try:
            error = check_grad(lambda flat: at(flat)[0], gradient, start)
            limit = SCIPY_LIMIT * max(1.0, np.linalg.norm(gradient(start)))
        except ValueError as mismatch:
            return Verdict(str(mismatch))
        return Verdict() if error <= limit else Verdict(f"the norm of the difference is {error:.1e} > {limit:.1e}")

    return check


def _called(function, names, arrays):
    """The value as a number, and a function that returns the gradients, all in double precision: some take nothing else."""
    value, gradients = function(dict(zip(names, arrays)))

    def in_double(gradients):
        return [np.array(gradients[name], np.float64) for name in names]

    kept = None if callable(gradients) else in_double(gradients)  # before the function writes into them in its next call
    return np.float64(np.reshape(value, ())), lambda: in_double(gradients()) if kept is None else kept


CHECKERS = (
    Checker(OURS, "vae_np", _vae_np),
    Checker("torch.autograd.gradcheck", "torch", _torch),
    Checker("jax.test_util.check_grads", "jax", _jax),
    Checker("autograd.test_util.check_grads", "autograd", _autograd),
    Checker("scipy.optimize.check_grad", "scipy", _scipy),
)


# ------------------------------------------------------------------------------------------------- what each one finds

PLANTED = {"calculus": faults.CALCULUS, "randomness": faults.RANDOMNESS, "meaning": faults.MEANING}


def compare_checkers(rounds: int, show_status: ShowStatus, checkers: Sequence[Checker] = CHECKERS) -> dict[str, Any]:
    """Try the checkers on every planted fault and on every right function.

    Parameters
    ----------
    rounds : int
        How often each is tried; the time is the median. What is said counts from the first round.
    show_status : function
        It is called with a line that says what is being done.
    checkers : sequence of Checker
        The checkers, ours among them.

    Returns
    -------
    dict
        Ready for JSON. `rows` has one row for each checker. Its status is "wrong" if it is ours, and misses what another one
        finds or calls a right function wrong.
    """
    rows = []
    for checker in checkers:
        if not checker.is_installed:
            rows.append({"name": checker.name, "status": "missing", "reason": f"the module {checker.module} is not installed"})
            continue
        show_status(f"{checker.name}: loading")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of functions that are not smooth, NumPy of the saturated ones
            rows.append(_try(checker, checker.load(), rounds, show_status))
    tried = [row for row in rows if row["status"] == "ok"]
    for row in tried:
        if row["name"] == OURS and (row["alarms"] or any(_missed(row) - _missed(other) for other in tried)):
            row |= {"status": "wrong", "reason": "it misses what another one finds, or calls a right function wrong"}
    return {
        "rounds": rounds,
        "planted": {kind: len(planted) for kind, planted in PLANTED.items()},
        "right": len(faults.RIGHT),
        "rows": rows,
    }


def _missed(row):
    return {name for names in row["missed"].values() for name in names}


def _try(checker, check, rounds, show_status):
    """The row of a checker."""
    row = {"name": checker.name, "status": "ok", "reason": ""}
    row |= {"missed": {kind: [] for kind in PLANTED}, "placed": 0, "explained": 0, "alarms": [], "refused": []}
    seconds = []

    def tried(case):
        show_status(f"{checker.name}: {case.name}")
        verdicts = []
        for _ in range(rounds):
            function = case.make()
            np.random.seed(0)  # Autograd draws its directions by NumPy's global generator
            started = time.perf_counter()
            verdicts.append(check(function, case.point))
            seconds.append(time.perf_counter() - started)
        return verdicts[0]

    for kind, planted in PLANTED.items():
        for fault in planted:
            verdict = tried(fault)
            row["missed"][kind] += [] if verdict.message else [fault.name]
            row["placed"] += bool(verdict.named) and verdict.named <= {*fault.where}
            row["explained"] += bool(fault.cause) and bool(re.search(fault.cause, verdict.message, re.IGNORECASE))
    for right in faults.RIGHT:
        message = tried(right).message
        if message:
            row["refused" if re.search(right.reason, message, re.IGNORECASE) else "alarms"].append(right.name)
    return row | {"milliseconds": 1e3 * statistics.median(seconds)}
