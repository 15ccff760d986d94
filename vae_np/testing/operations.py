"""A kernel set against the definition, `kernels.reference`: each operation alone, then the whole model on it."""

import functools
import inspect
import itertools
import types

import numpy as np

from vae_np import kernels
from vae_np.testing.comparison import assert_close, require, rounding
from vae_np.testing.properties import check_elbo, said_of, with_backend

REFERENCE = kernels.load("numpy")
HELPERS = {"philox", "words", "polynomial", "log_uniform", "circle", "sigmoid"}  # what is no operation
HELPERS |= {"zeros", "put", "get", "capture", "edges", "about"}
BITS = {"normals", "binarize", "gather"}  # every set gives the same bits


def operations(kernel_set):
    """{name: its arguments' names} of the operations in a set."""
    return {
        name: list(inspect.signature(f).parameters)
        for name, f in vars(kernel_set).items()
        if callable(f) and f.__module__.startswith(kernel_set.__name__) and not name.startswith("_") and name not in HELPERS
    }


OPERATIONS = operations(REFERENCE)


def on_numpy(kernel_set):
    """A set whose operations take NumPy's arrays: itself, or its operations between its `put` and `get`."""
    if getattr(kernel_set, "put", REFERENCE.put) is REFERENCE.put:
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
    vars(own).update({name: between(getattr(kernel_set, name)) for name in operations(kernel_set)})
    return own


def with_changes(**functions):
    """A kernel set of one's own: the reference, but for some functions."""
    own = types.ModuleType("with_changes")
    vars(own).update({name: f for name, f in vars(REFERENCE).items() if not name.startswith("__")}, **functions)
    return own


SIZES = ((7, 33, 19, 5, 2), (1, 1, 1, 1, 1), (3, 16, 8, 4, 1), (70, 150, 131, 9, 3))  # B, D, H, Z, L


LARGE = {"logits": 1e3, "logvar": 20.0, "noise": 20.0}  # what is large at the edges, and how large


def random_arguments(name, dtype, sizes=SIZES[0], shared_noise=False, large=False, seed=5):
    """Random arguments of an operation, those it fills included, as a list. large: logits and log-variances are."""
    rng = np.random.default_rng(seed)
    B, D, H, Z, L = sizes
    K, N, n = L if name.startswith(("sampled", "iwae")) else 1, 1 if shared_noise else D, D * H
    names_of_shapes = {
        "x dx pixels": (B, D),
        "W dW": (D, H),
        "b db": (H,),
        "y dy h dh": (B, H),
        "mu logvar dmu dlogvar": (B, Z),
        "eps z dz": (L, B, Z),
        "kl dkl": (K, B),
        "logits dlogits mean dmean output": (L, B, D),
        "noise dnoise": (L, B, N),
        "nll dnll": (L, B),
        "loss": (B,),
        "p g velocity squares m v": (n,),
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
        "key": np.uint64(2**63 + 11),
        "rows": rng.integers(0, 2 * B, B),
        "examples": np.arange(B) * 1000,
        "data": rng.integers(0, 256, (2 * B, D)).astype(np.uint8),
    }
    changes = {
        **dict.fromkeys(("x", "pixels"), lambda array: np.clip(array, 0, 1)),  # 0 and 1 among them
        **dict.fromkeys(("squares", "v"), np.abs),
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


def cases(name):
    """The further arguments of `random_arguments` that an operation is tried with: the dtype, the sizes, and so on."""
    noises = (False, True) if "noise" in OPERATIONS[name] else (False,)
    edges = (False, True) if LARGE.keys() & set(OPERATIONS[name]) else (False,)
    return itertools.product(("float32", "float64"), SIZES, noises, edges)


def check_operation(kernel_set, name, *case, cancelling=False):
    """AssertionError unless an operation leaves in every argument, and returns, what the reference does.

    case: one of `cases`. What the reference fills without reading it holds NaN before. Matrix products are sums of many terms,
    and what is left of some is within the terms' `rounding`, which counts as no error; cancelling: so it does for all operations.
    """
    wanted, unread, given = (random_arguments(name, *case) for _ in range(3))
    filled = _places(getattr(REFERENCE, name)(*wanted), wanted)
    for i in filled:
        unread[i][...] = np.nan
    getattr(REFERENCE, name)(*unread)
    for i in filled:
        if not np.isnan(unread[i]).any():
            given[i][...] = np.nan
    returned = _places(getattr(kernel_set, name)(*given), given)
    for parameter, w, g in zip(OPERATIONS[name], wanted, given):
        same = name in BITS or np.asarray(w).dtype.kind != "f"
        sums = cancelling or name.startswith("affine")
        resolution = rounding([np.asarray(w)]) if sums and not same else 0.0
        assert_close(g, w, f"{name}: {parameter}", "operation", rtol=0 if same else None, resolution=resolution)
    require(returned == filled, f"{name} returns arguments {returned}; wanted {filled}")


def _places(result, arguments):
    """Which of the arguments an operation returned, by their positions."""
    arrays = result if isinstance(result, tuple) else (result,)
    return [next((i for i, a in enumerate(arguments) if np.shares_memory(a, array)), None) for array in arrays]


def check_kernels(kernel_set):
    """All that a kernel set must do, in one call: how often each check was made, a dict.

    kernel_set: a module with the functions of `kernels.reference`, under their names and with their arguments. Each is
    compared with the reference in both dtypes and several sizes; then the model runs on the set and `check_elbo` tries every
    property. AssertionError: a line for each operation and each property that is off.
    """
    if not isinstance(kernel_set, types.ModuleType):
        raise TypeError(f"kernel_set is a {type(kernel_set).__name__}; it must be a module")
    model, kernel_set = with_backend(kernel_set), on_numpy(kernel_set)
    off, tried = [], {}
    own = {
        name: list(inspect.signature(getattr(kernel_set, name)).parameters)
        for name in OPERATIONS
        if callable(getattr(kernel_set, name, None))
    }
    for name, parameters in OPERATIONS.items():
        if name not in own:
            off.append(f"{name}({', '.join(parameters)}) is missing")
        elif own[name] != parameters:
            off.append(f"{name} takes ({', '.join(own[name])}); wanted ({', '.join(parameters)})")
    if off:
        raise AssertionError("\n".join(off))
    for name in OPERATIONS:
        for case in cases(name):
            tried[name] = tried.get(name, 0) + 1
            try:
                check_operation(kernel_set, name, *case)
            except Exception as error:  # whatever an operation raises is a finding
                off.append(f"{case[0]}: {said_of(error)}")
                break
    try:
        tried |= check_elbo(model)
    except AssertionError as error:
        off += str(error).splitlines()[1:]
    if off:
        raise AssertionError("\n".join(off))
    return tried
