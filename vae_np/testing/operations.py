"""A kernel set is compared with the definition, `kernels.reference`: first each operation alone, then the whole model."""

import functools
import itertools
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np import kernels
from vae_np.choices import ACTIVATIONS, OBJECTIVES
from vae_np.kernels import contract
from vae_np.kernels.contract import BATCHES, ENDINGS, FULL, OPERATIONS, KernelSet
from vae_np.testing.comparison import TOLERANCES, assert_close, relative_errors, require, rounding
from vae_np.testing.diagnosis import Diagnosis, diagnose, order
from vae_np.testing.properties import with_backend
from vae_np.testing.suite import check_elbo, said_of

REFERENCE = kernels.load("numpy")


def on_numpy(kernel_set: KernelSet) -> KernelSet:
    """A set whose operations take NumPy's arrays: the set itself, or a set that calls `put` before and `get` after each."""
    if kernel_set.put is REFERENCE.put:
        return kernel_set

    def between(operation):
        @functools.wraps(operation)
        def on_numpy(*arguments):
            arrays = {id(a): (a, kernel_set.put(a)) for a in arguments if isinstance(a, np.ndarray) and a.ndim}
            result = operation(*(arrays.get(id(a), (a, a))[1] for a in arguments))
            for array, put in arrays.values():
                array[...] = kernel_set.get(put)
            back = {id(put): array for array, put in arrays.values()}
            return tuple(back[id(r)] for r in result) if isinstance(result, tuple) else back[id(result)]

        return on_numpy

    own = types.ModuleType(kernel_set.__name__)
    vars(own).update({name: between(vars(kernel_set)[name]) for name in OPERATIONS})
    return kernels.load(own)


def with_changes(**functions: Callable[..., Any]) -> types.ModuleType:
    """A kernel set that is the reference, except for these functions."""
    own = types.ModuleType("with_changes")
    vars(own).update({name: f for name, f in vars(REFERENCE).items() if not name.startswith("__")}, **functions)
    return own


def stem(name: str) -> str:
    """The name of an operation without the ending of a derivative."""
    return next(name.removesuffix(ending) for ending in sorted(ENDINGS, key=len, reverse=True) if name.endswith(ending))


SIZES = ((7, 33, 19, 5, 2), (1, 1, 1, 1, 1), (3, 16, 8, 4, 1), (70, 150, 131, 9, 3))  # B, D, H, Z, L


LARGE = {"logits": 1e3, "logvar": 20.0, "output_logvar": 20.0}  # the size of these arguments at the edges


def random_arguments(
    name: str,
    dtype: str,
    sizes: tuple[int, int, int, int, int] = SIZES[0],
    shared_noise: bool = False,
    large: bool = False,
    seed: int = 5,
) -> list[Any]:
    """Random arguments of an operation, also those that it fills; with `large`, logits and log-variances are large."""
    rng = np.random.default_rng(seed)
    B, D, H, Z, L = sizes
    objectives = [objective for objective in OBJECTIVES.values() if stem(name) in (objective.divergence, objective.bound)]
    K = L if all(objective.sampled for objective in objectives) else 1
    N, n = 1 if shared_noise else D, D * H
    has_y = all(of.keeps_y for of in ACTIVATIONS.values() if name in (f"affine_{of.name}", f"{of.name}_backward"))
    names_of_shapes = {
        "x dx pixels": (B, D),
        "W dW": (D, H),
        "b db": (H,),
        "dy h dh": (B, H),
        "y": (B, H) if has_y else (0, H),
        "mu logvar dmu dlogvar": (B, Z),
        "eps z dz": (L, B, Z),
        "kl dkl": (K, B),
        "logits dlogits mean dmean output": (L, B, D),
        "output_logvar doutput_logvar": (L, B, N),
        "nll dnll": (L, B),
        "loss": (B,),
        "p g velocity squares m v decays": (n,),
    }
    shapes = {name: shape for names, shape in names_of_shapes.items() for name in names.split()}
    numbers = {
        "l2": 0.1,
        "beta": 0.7,
        "n_examples": 3 * B,
        "learning_rate": 0.01,
        "momentum": 0.9,
        "epsilon": 1e-8,
        "step": B,
        "beta1": 0.9,
        "beta2": 0.99,
        "weight_decay": 0.3,
        "key": np.uint64(2**63 + 11),
        "rows": rng.integers(0, 2 * B, B),
        "examples": np.arange(B) * 1000,
        "data": rng.integers(0, 256, (2 * B, D)).astype(np.uint8),
    }
    changes = {
        **dict.fromkeys(("x", "pixels"), lambda array: np.clip(array, 0, 1)),  # some are exactly 0 or 1
        **dict.fromkeys(("squares", "v"), np.abs),
        "decays": lambda array: (array > 0).astype(float),
        "W": lambda array: array / np.sqrt(D),  # so that activations are not all saturated
    }
    arguments = []
    for parameter in OPERATIONS[name]:
        if parameter in numbers:
            arguments.append(numbers[parameter])
        else:
            array = rng.normal(size=shapes[parameter]) * (LARGE.get(parameter, 1.0) if large else 1.0)
            arguments.append(changes.get(parameter, np.asarray)(array).astype(dtype))
    return arguments


def changed_operations(backend: contract.Backend, precision: str) -> list[str]:
    """The operations that a precision changes in a kernel set or in the reference; all of them at full precision."""
    if precision == FULL:
        return list(OPERATIONS)
    changed = {**REFERENCE.precisions()[precision], **kernels.load(backend).precisions()[precision]}
    return [name for name in OPERATIONS if name in changed]


def cases(name: str) -> Iterator[tuple]:
    """Yield the further arguments of `random_arguments` that an operation is tried with: dtype, sizes, and so on."""
    noises = (False, True) if "output_logvar" in OPERATIONS[name] else (False,)
    edges = (False, True) if LARGE.keys() & set(OPERATIONS[name]) else (False,)
    return itertools.product(("float32", "float64"), SIZES, noises, edges)


def check_operation(
    kernel_set: types.ModuleType | KernelSet, name: str, *case: Any, cancelling: bool = False, precision: str = FULL
) -> None:
    """Raise an AssertionError unless an operation fills its arguments, and returns them, as the reference does.

    Of a kernel set at a lower precision the reference is that of this precision: both round the same arguments, so that the
    tolerance is the same. `case` is one of `cases`. An array that the reference fills without reading it holds NaN before the call. A matrix product
    is a sum of many terms, which may cancel; differences within the `rounding` of the terms do not count as errors there.
    With `cancelling` they do not count for any operation. The error ends with what `diagnose` finds.
    """
    reference = kernels.load("numpy", precision)
    wanted, given, filled, returned = _outcomes(kernel_set, reference, name, case)
    off = {}
    for parameter, w, g in zip(OPERATIONS[name], wanted, given):
        same = name in BATCHES or np.asarray(w).dtype.kind != "f"
        sums = cancelling or "W" in OPERATIONS[name]
        resolution = rounding([np.asarray(w)]) if sums and not same else 0.0
        try:
            assert_close(g, w, f"{name}: {parameter}", "operation", rtol=0 if same else None, resolution=resolution)
        except AssertionError as error:
            off[parameter] = str(error)
    if off:
        causes = _causes(kernel_set, reference, name, case)
        parameter, cause = order([(parameter, causes.get(parameter)) for parameter in off])[0]
        raise AssertionError(off[parameter] + (f". {cause.sentence}" if cause else ""))
    require(returned == filled, f"{name} returns arguments {returned}; wanted {filled}")


def _outcomes(kernel_set, reference, name, case):
    """The arguments after the operation of the reference and after that of the set, and the positions of those that each returned."""
    wanted, unread, given = (random_arguments(name, *case) for _ in range(3))
    filled = _places(getattr(reference, name)(*wanted), wanted)
    for i in filled:
        unread[i][...] = np.nan
    getattr(reference, name)(*unread)
    for i in filled:
        if not np.isnan(unread[i]).any():
            given[i][...] = np.nan
    return wanted, given, filled, _places(getattr(kernel_set, name)(*given), given)


def _places(result, arguments):
    """The positions of the arguments that an operation returned; -1 stands for an array that is none of them."""
    arrays = result if isinstance(result, tuple) else (result,)
    return [next((i for i, a in enumerate(arguments) if np.shares_memory(a, array)), -1) for array in arrays]


# ------------------------------------------------------------------------------------------- what is wrong, in a sentence

TOLD_APART = (7, 11, 13, 19, 17)  # B, D, H, Z, L: none is 2, or a product or quotient of others
LENGTHS = ("batch", "inputs", "hidden units", "latents", "samples")


def _causes(kernel_set, reference, name, case):
    """{argument: its Diagnosis} of an operation that is off, in float64 and TOLD_APART or, if it is right there, in this case."""
    dtype, sizes, *rest = (*case, SIZES[0])[:2] + case[2:]
    for at in (("float64", TOLD_APART, *rest), (dtype, sizes, *rest)):
        try:
            wanted, given, *_ = _outcomes(kernel_set, reference, name, at)
        except Exception:  # what is off is said in any case
            return {}
        rtol = TOLERANCES["operation"][at[0]]
        off = [i for i, (w, g) in enumerate(zip(wanted, given)) if not np.all(relative_errors(g, w) <= rtol)]
        if off:
            return {OPERATIONS[name][i]: diagnosed(given[i], name, i, at, reference, max(rtol, 1e-9)) for i in off}
    return {}


def diagnosed(
    given: ArrayLike, name: str, i: int, case: tuple[Any, ...], reference: Any = REFERENCE, rtol: float = 1e-9
) -> Diagnosis | None:
    """What is wrong with argument i after an operation was called on `random_arguments(name, *case)`.

    The terms are found without a formula. The part with an argument is what is lost where this argument is 0. It is a term if
    it is in proportion to the argument or to its square.
    """

    def after(changed: int = 0, factor: float = 1.0) -> NDArray:
        """The right values of argument i, if one of the arguments is multiplied by a factor before."""
        arguments = random_arguments(name, *case)
        if factor != 1:
            arguments[changed] = arguments[changed] * factor
        getattr(reference, name)(*arguments)
        return np.asarray(arguments[i])

    terms, factors = {}, {}
    before = dict(zip(OPERATIONS[name], random_arguments(name, *case)))
    with np.errstate(all="ignore"):  # an argument that is 0 or twice as large may be none that the operation is meant for
        wanted = after()
        for j, (parameter, argument) in enumerate(before.items()):
            if np.asarray(argument).dtype.kind == "f":
                rest = after(j, 0.0)
                part, twice = wanted - rest, after(j, 2.0) - rest
                if any(np.all(relative_errors(twice, c * part) < 1e-9) for c in (2, 4)):
                    terms.setdefault(part.tobytes(), (part, []))[1].append(
                        f"what {parameter} held before" if i == j else parameter
                    )
                factors |= _factors(parameter, np.asarray(argument, float), wanted.shape)
    parts = {_of_part(names): part for part, names in terms.values()}
    sizes = dict(zip(LENGTHS, case[1])) | {p: n for p, n in before.items() if p == "n_examples"}
    return diagnose(given, wanted, sizes=sizes, terms=parts, factors=factors, rtol=rtol)


def _of_part(names):
    """What a term is called that has these arguments."""
    return next((name for name in names if name.endswith(" held before")), f"the part with {' and '.join(names)}")


DERIVED = {  # {argument: what may be a factor besides}
    **{name: {f"exp({name} / 2)": lambda a: np.exp(a / 2), f"exp({name})": np.exp} for name in ("logvar", "output_logvar")},
    **{name: {f"(1 - {name})": lambda a: 1 - a} for name in ("beta1", "beta2")},
    "h": {"(1 - h^2)": lambda h: 1 - h * h},
    "logits": {"sigmoid(logits) sigmoid(-logits)": lambda logits: np.exp(-logits) / (1 + np.exp(-logits)) ** 2},
}


def _factors(parameter, array, shape):
    """{name: array} of the factors that an argument gives to an array of this shape: itself, its sum, or what is derived of it."""
    array = array.reshape(array.shape[array.shape[:1] == (1,) :])  # kl has one row where it belongs to no sample
    for name, a in ((parameter, array), (f"the sum of {parameter}", array.sum(axis=-1 if array.ndim else None))):
        lacking = [n for n in range(len(shape)) if a.shape in ((), shape[: len(shape) - n][-a.ndim :])]
        if lacking:
            a = a.reshape(a.shape + (1,) * lacking[0])
            return {name: a} | {derived: f(a) for derived, f in DERIVED.get(name, {}).items()}
    return {}


def check_kernels(kernel_set: types.ModuleType) -> dict[str, int]:
    """Check all that a kernel set must do: compare each operation with the reference, then try the whole model on the set.

    Parameters
    ----------
    kernel_set : module
        A module with the functions of `kernels.contract`, under their names and with their arguments. Each is compared with the
        reference in both dtypes and several sizes; then `check_elbo` tries every property of the model that runs on the set.
        If the set has lower precisions, the same is done at each of them, as long as nothing is off.

    Returns
    -------
    dict of str to int
        How often each check was made.

    Raises
    ------
    AssertionError
        Something is off. The message has a line for each operation and each property that is off.
    TypeError
        The kernel set is not a module.
    """
    if not isinstance(kernel_set, types.ModuleType):
        raise TypeError(f"kernel_set is a {type(kernel_set).__name__}; it must be a module")
    if off := contract.differences(kernel_set):
        raise AssertionError("\n".join(off))
    tried = {}
    for precision in kernels.precisions(kernel_set):
        where = "" if precision == FULL else f" at {precision}"
        tried |= {name + where: times for name, times in _check_at(kernel_set, precision, where).items()}
    return tried


def _check_at(kernel_set, precision, where):
    """Do what `check_kernels` does at one precision; where: what the message says of it."""
    off, tried = [], {}
    operations = on_numpy(kernels.load(kernel_set, precision))
    for name in changed_operations(kernel_set, precision):
        for case in cases(name):
            tried[name] = tried.get(name, 0) + 1
            try:
                check_operation(operations, name, *case, precision=precision)
            except Exception as error:  # any error that an operation raises is reported
                off.append(f"{case[0]}{where}: {said_of(error)}")
                break
    try:
        tried |= check_elbo(_refusing_nothing(with_backend(kernel_set, precision)), precision)
    except AssertionError as error:
        off += [line + where for line in str(error).splitlines()[1:]]
    if off:
        raise AssertionError("\n".join(off))
    return tried


def _refusing_nothing(model):
    """The same model, for which it is a fault to lack what `check_elbo` would skip."""

    def whole(*problem):
        try:
            return model(*problem)
        except NotImplementedError as error:
            raise AssertionError(f"an operation is missing: {error}") from error

    return whole
