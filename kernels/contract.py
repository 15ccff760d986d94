"""What a kernel set is: the signature of every operation, and what a set may be able to do besides.

A kernel set is a module that has the functions of the protocols below. Nothing inherits from them: they tell a reader and a
type checker what such a module holds, and the names below them follow from them. The formula and the shapes of an operation
stand in `kernels.reference`, under the same name. An operation reads its first arguments and fills its last ones.

To add an operation, write its signature here and the function itself in every set. A set without it cannot be loaded.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array: TypeAlias = NDArray[Any]  # or the array of another library, if that is what the `put` of the set returns
Number: TypeAlias = float | np.number | Array  # an array of no axes is a number that may change from step to step

ENDINGS = ("", "_backward", "_backward_add", "_gradients")  # an operation, and the operations that belong to its derivative

# ------------------------------------------------------------------------------------------------------- the operations


class Arrays(Protocol):
    """Where the arrays live. A set that lacks these functions works on NumPy's arrays."""

    def zeros(self, shape: int | tuple[int, ...], dtype: DTypeLike) -> Array: ...
    def put(self, array: Array) -> Array: ...
    def get(self, array: Array) -> Array: ...


class Layers(Protocol):
    """Layers y = x @ W + b, and hidden layers h = f(x @ W + b), where f is the activation.

    x, y and h are (B, width) or (L, B, width): a layer acts on the last axis. An activation that keeps y (`keeps_y` in its
    record) fills y and reads it in its derivative. For any other activation y is an array without elements, (0, width) or
    (0, 0, width), which is neither filled nor read. Either returns h alone, and its derivative takes the place of dh.
    """

    def affine(self, x: Array, W: Array, b: Array, y: Array) -> Array: ...
    def affine_backward(self, dy: Array, W: Array, dx: Array) -> Array: ...
    def affine_backward_add(self, dy: Array, W: Array, dx: Array) -> Array: ...
    def affine_gradients(self, x: Array, dy: Array, W: Array, l2: Number, dW: Array, db: Array) -> tuple[Array, Array]: ...
    def constant(self, x: Array, W: Array, b: Array, y: Array) -> Array: ...
    def constant_backward_add(self, dy: Array, W: Array, dx: Array) -> Array: ...
    def constant_gradients(self, x: Array, dy: Array, W: Array, l2: Number, dW: Array, db: Array) -> tuple[Array, Array]: ...

    def affine_relu(self, x: Array, W: Array, b: Array, y: Array, h: Array) -> Array: ...
    def relu_backward(self, dh: Array, y: Array, h: Array) -> Array: ...
    def affine_tanh(self, x: Array, W: Array, b: Array, y: Array, h: Array) -> Array: ...
    def tanh_backward(self, dh: Array, y: Array, h: Array) -> Array: ...
    def affine_softplus(self, x: Array, W: Array, b: Array, y: Array, h: Array) -> Array: ...
    def softplus_backward(self, dh: Array, y: Array, h: Array) -> Array: ...
    def affine_silu(self, x: Array, W: Array, b: Array, y: Array, h: Array) -> Array: ...
    def silu_backward(self, dh: Array, y: Array, h: Array) -> Array: ...
    def affine_gelu(self, x: Array, W: Array, b: Array, y: Array, h: Array) -> Array: ...
    def gelu_backward(self, dh: Array, y: Array, h: Array) -> Array: ...


class Latents(Protocol):
    """The sample z of q(z|x), and KL(q(z|x) || p(z)), each with its derivative.

    The divergences have one signature, so that either can stand in the text of the model. The closed form reads neither eps
    nor z.
    """

    def reparameterize(self, mu: Array, logvar: Array, eps: Array, z: Array) -> Array: ...
    def reparameterize_backward_add(
        self, dz: Array, mu: Array, logvar: Array, eps: Array, dmu: Array, dlogvar: Array
    ) -> tuple[Array, Array]: ...

    def gaussian_kl(self, mu: Array, logvar: Array, eps: Array, z: Array, kl: Array) -> Array: ...
    def gaussian_kl_backward(
        self, dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
    ) -> tuple[Array, Array, Array]: ...

    def sampled_kl(self, mu: Array, logvar: Array, eps: Array, z: Array, kl: Array) -> Array: ...
    def sampled_kl_backward(
        self, dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
    ) -> tuple[Array, Array, Array]: ...


class Likelihoods(Protocol):
    """For each likelihood -log p(x|z), its derivative, and the mean of p(x|z).

    The first argument is the decoder's output. A likelihood without a variance neither reads output_logvar nor fills
    doutput_logvar.
    """

    def bernoulli_nll(self, logits: Array, output_logvar: Array, x: Array, nll: Array) -> Array: ...
    def bernoulli_nll_backward(
        self, dnll: Array, logits: Array, output_logvar: Array, x: Array, dlogits: Array, doutput_logvar: Array
    ) -> tuple[Array, Array]: ...
    def bernoulli_mean(self, logits: Array, mean: Array) -> Array: ...

    def gaussian_nll(self, mean: Array, output_logvar: Array, x: Array, nll: Array) -> Array: ...
    def gaussian_nll_backward(
        self, dnll: Array, mean: Array, output_logvar: Array, x: Array, dmean: Array, doutput_logvar: Array
    ) -> tuple[Array, Array]: ...
    def gaussian_mean(self, output: Array, mean: Array) -> Array: ...

    def continuous_bernoulli_nll(self, logits: Array, output_logvar: Array, x: Array, nll: Array) -> Array: ...
    def continuous_bernoulli_nll_backward(
        self, dnll: Array, logits: Array, output_logvar: Array, x: Array, dlogits: Array, doutput_logvar: Array
    ) -> tuple[Array, Array]: ...
    def continuous_bernoulli_mean(self, logits: Array, mean: Array) -> Array: ...


class Bounds(Protocol):
    """The loss of each example: a bound on -log p(x), made of nll and kl, and its derivative."""

    def elbo(self, nll: Array, kl: Array, beta: Number, loss: Array) -> Array: ...
    def elbo_backward(
        self, nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array
    ) -> tuple[Array, Array]: ...

    def iwae(self, nll: Array, kl: Array, beta: Number, loss: Array) -> Array: ...
    def iwae_backward(
        self, nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array
    ) -> tuple[Array, Array]: ...


class Estimators(Protocol):
    """Other estimators of the gradient by the parameters of q: what takes the place of a derivative, and the weight of dz.

    An operation has the signature of the derivative in whose place it stands: that of the sampled KL, or that of a bound. There
    dkl is the factor of the score of q. The path weights have one signature too.
    """

    def sampled_kl_path_backward(
        self, dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
    ) -> tuple[Array, Array, Array]: ...
    def score_backward(
        self, dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
    ) -> tuple[Array, Array, Array]: ...

    def elbo_score_backward(
        self, nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array
    ) -> tuple[Array, Array]: ...
    def iwae_score_backward(
        self, nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array
    ) -> tuple[Array, Array]: ...
    def vimco_backward(
        self, nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array
    ) -> tuple[Array, Array]: ...

    def unit_path_weight(self, dnll: Array, beta: Number, n_examples: int, dz: Array) -> Array: ...
    def dreg_path_weight(self, dnll: Array, beta: Number, n_examples: int, dz: Array) -> Array: ...


class Updates(Protocol):
    """The step of each optimizer. It changes the parameters p, and the optimizer's own arrays, by the gradient g.

    An update treats each parameter by itself, so that a set may call it for some of the parameters at a time.
    """

    def sgd(self, p: Array, g: Array, velocity: Array, learning_rate: Number, momentum: float) -> Array: ...
    def adagrad(self, p: Array, g: Array, squares: Array, learning_rate: Number, epsilon: float) -> Array: ...
    def adam(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        step: int | Array,
        learning_rate: Number,
        beta1: float,
        beta2: float,
        epsilon: float,
    ) -> Array: ...
    def adamw(
        self,
        p: Array,
        g: Array,
        m: Array,
        v: Array,
        decays: Array,
        step: int | Array,
        learning_rate: Number,
        beta1: float,
        beta2: float,
        epsilon: float,
        weight_decay: float,
    ) -> Array: ...


class Batches(Protocol):
    """What makes a batch: its rows of the data, and its random numbers. Every set gives the same bits.

    key is what `vae_np.streams.key` makes of a seed; rows and examples are numbers of rows, int64.
    """

    def gather(self, data: Array, rows: Array, x: Array) -> Array: ...
    def normals(self, key: int | np.uint64, step: int | Array, examples: Array, eps: Array) -> Array: ...
    def binarize(self, pixels: Array, key: int | np.uint64, step: int | Array, examples: Array, x: Array) -> Array: ...


# ------------------------------------------------------------------------------------------------------- the abilities


class Abilities(Protocol):
    """What a set may be able to do besides its operations. A set that lacks one of these gets the one of DEFAULTS."""

    @property
    def capture(self) -> Capture | None:
        """A function that records a training step once. None: the operations of every step are called one by one."""

    @property
    def edges(self) -> Callable[[int, int, int], list[int]] | None:
        """(n_examples, n_samples, threads) -> where the slices of a batch for `capture` begin and end. None without it."""

    @property
    def at_once(self) -> Callable[[Callable[[KernelSet], object]], None] | None:
        """A function that does what a function of a kernel set does, by what `capture` compiles for the same operations.

        Each operation takes longer to be called, but none is compiled twice. None: the function is called with the set.
        """

    @property
    def begin(self) -> Callable[[DTypeLike], None] | None:
        """A function that begins what takes long before the first `capture` at a dtype, such as a compilation. None: nothing."""

    def about(self) -> str:
        """A sentence that says how the set multiplies matrices."""
        ...

    def precisions(self) -> Mapping[str, Mapping[str, Any]]:
        """For each precision but FULL the functions, by their names, that take the place of the set's own at this precision.

        Each precision is one of the reference, which defines it.
        """
        ...


FULL = "float32"  # the precision at which nothing is rounded to fewer bits than the dtype of the arrays has

DEFAULTS = {
    "capture": None,
    "edges": None,
    "at_once": None,
    "begin": None,
    "about": lambda: "the kernel set does not say how it multiplies matrices",
    "precisions": dict,
}


class Capture(Protocol):
    """Records a training step once, and returns a function that makes many such steps."""

    def __call__(
        self,
        examples: Sequence[Callable[[KernelSet], object]],
        weights: Callable[[KernelSet], object] | None,
        means: Sequence[Array],
        squares: Sequence[Array],
        before_examples: Sequence[Array],
        before_weights: Sequence[Array],
    ) -> Callable[[int, Sequence[Array]], Array]:
        """A function that makes the step of these operations any number of times: run(threads, values) -> results.

        Parameters
        ----------
        examples
            Functions of a kernel set, one for each slice of a batch: the first half of a step.
        weights
            Such a function: the second half, with the update, or the update alone. Its update may be one of a part of the weights
            that begins and ends with whole rows, and then the gradients of the others are not needed. None: the caller reads all
            results of the first half, and makes the second by another program, whose `examples` are empty.
        means, squares
            Arrays whose mean, or whose sum of squares before the update, is a result of each step, in double precision.
        before_examples, before_weights
            Arrays that take another value before either half of a step. `values` holds those values, an array (n, ..) for each.

        Returns
        -------
        run
            results (n, means and squares). Where the first mean or a sum of squares is not finite, that step is the last.
        """
        ...


class KernelSet(Arrays, Layers, Latents, Likelihoods, Bounds, Estimators, Updates, Batches, Abilities, Protocol):
    """A whole kernel set: every operation and every ability. `kernels.load` returns nothing else."""

    __name__: str


Backend: TypeAlias = str | ModuleType | KernelSet  # what `kernels.load` takes: the name of a set, or a set of your own


# ---------------------------------------------------------------------------------------- the names that follow from it


def _parameters(*groups: type) -> dict[str, tuple[str, ...]]:
    """{name: its parameters} of the functions in some of the protocols."""
    functions = [(name, f) for group in groups for name, f in vars(group).items() if not name.startswith("_")]
    return {name: tuple(inspect.signature(f).parameters)[1:] for name, f in functions}


ARRAYS = _parameters(Arrays).keys()
OPERATIONS = _parameters(Layers, Latents, Likelihoods, Bounds, Estimators, Updates, Batches)
LAYERS = _parameters(Layers).keys()
UPDATES = _parameters(Updates).keys()
BATCHES = _parameters(Batches).keys()


def differences(module: ModuleType | KernelSet) -> list[str]:
    """Compare a module with the contract.

    Returns
    -------
    list
        A line for each operation that the module lacks, or that has other parameters there.
    """
    lines = []
    for name, parameters in OPERATIONS.items():
        operation = vars(module).get(name)
        own = tuple(inspect.signature(operation).parameters) if callable(operation) else None
        if own is None:
            lines.append(f"{name}({', '.join(parameters)}) is missing")
        elif own != parameters:
            lines.append(f"{name} takes ({', '.join(own)}); wanted ({', '.join(parameters)})")
    return lines


def exports(*modules: ModuleType) -> dict[str, Callable[..., Any]]:
    """Gather the operations of a kernel set from its modules.

    Returns
    -------
    dict
        The function of every operation, by its name.

    Raises
    ------
    TypeError
        An operation is in none of the modules.
    """
    found = {name: f for module in modules for name, f in vars(module).items() if name in OPERATIONS}
    if missing := [f"{name}({', '.join(parameters)})" for name, parameters in OPERATIONS.items() if name not in found]:
        name = modules[0].__name__ if len(modules) == 1 else modules[0].__name__.rpartition(".")[0]
        raise TypeError(f"the kernel set {name!r} is not whole: it lacks {', '.join(missing)}")
    return found
