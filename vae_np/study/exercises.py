"""The exercises: functions of the backward pass that a student writes, and what is said of each.

An exercise is a function of `kernels.reference` or of `elbo`. Its parameters, the formula of the forward pass, the shapes, and
what is to be filled are read from that function and its neighbours, so that they are always those of the code that runs. Only
the title and the question are written here. The derivations give the hints.
"""

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from vae_np import elbo
from vae_np.architecture import Architecture
from vae_np.kernels import reference
from vae_np.kernels.contract import ENDINGS, OPERATIONS
from vae_np.study.derivations import DERIVATIONS, key_of
from vae_np.study.formulas import parse
from vae_np.study.typesetting import plain
from vae_np.testing.operations import LARGE, random_arguments, stem


class Exercise(NamedTuple):
    """One exercise."""

    name: str  # of the function
    title: str
    question: str  # what to think about
    edges: tuple[str, ...] = ()  # arguments that are also tried when they are large
    exact: tuple[str, ...] = ()  # arguments that are also tried at sizes where two nearly equal numbers may be subtracted
    ignored: tuple[str, ...] = ()  # arrays that may hold anything afterwards
    first: tuple[str, ...] = ()  # outputs from which others are computed
    differentiates: str = ""  # the operation whose derivative it is, where its name does not say so

    @property
    def original(self) -> Callable[..., Any]:
        """The function that the student writes anew."""
        return vars(reference if self.is_operation else elbo)[self.name]

    @property
    def is_operation(self) -> bool:
        """Whether it is one operation; otherwise it is a function of the model's text, which calls operations."""
        return self.name in OPERATIONS

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of the function's parameters."""
        return tuple(inspect.signature(self.original).parameters)

    @property
    def forward(self) -> str:
        """The operation of the forward pass whose derivative it is; "" where there is none."""
        names = (self.differentiates, stem(self.name), f"affine_{stem(self.name)}") if self.is_operation else ()
        return next((name for name in names if name in OPERATIONS and name != self.name), "")


EXERCISES: dict[str, Exercise] = {
    exercise.name: exercise
    for exercise in (
        Exercise(
            "elbo_backward",
            "Where the mean is taken",
            "The loss of the batch is the sum of the losses of its examples, divided by n_examples. n_examples may be more than "
            "B: a holds a part of the batch then. How much does the loss change with one nll, and with one kl?",
        ),
        Exercise(
            "bernoulli_nll_backward",
            "Pixels that are 0 or 1",
            "Each logit has one path to the loss: through its own term of the nll of its sample. What are the slopes of the two "
            "logarithms?",
            edges=("logits",),
            exact=("logits",),
            ignored=("doutput_logvar",),
        ),
        Exercise(
            "gaussian_nll_backward",
            "The squared error, and the noise that it learns",
            "output_logvar is the log-variance of x. It has one element for each input, or (L, B, 1) where all inputs share it: "
            "how many paths to the loss does it have then? doutput_logvar has the shape of output_logvar.",
            edges=("output_logvar",),
        ),
        Exercise(
            "affine_backward",
            "Through a layer, back to what it reads",
            "Which of the outputs y_o does one x_i reach, and with which slope? The paths add. B counts rows: each sample of "
            "each example is one.",
        ),
        Exercise(
            "affine_gradients",
            "The gradients of a layer's weights and biases",
            "In which rows does one weight W_io act, and with which slope? The loss also contains l2 / 2 times the sum of the "
            "squared weights, but not of the biases. B counts rows: each sample of each example is one.",
        ),
        Exercise(
            "relu_backward",
            "Through the rectifier",
            "h is what the forward pass kept, and y = x @ W + b is not kept. How can you see from h alone which y passed? The "
            "result, dy, takes the place of dh.",
        ),
        Exercise(
            "tanh_backward",
            "Through tanh",
            "y is not kept, but h is. What is the slope of tanh in terms of its own value? The result, dy, takes the place of dh.",
        ),
        Exercise(
            "softplus_backward",
            "Through softplus",
            "y is not kept, but h is. What is the slope of softplus, and how does it follow from h? The result, dy, takes the "
            "place of dh.",
            exact=("h",),
        ),
        Exercise(
            "gaussian_kl_backward",
            "The KL of two Gaussians",
            "mu and logvar are differentiated one at a time. The formula contains no z. dz already holds what came through the "
            "decoder: what happens to it?",
            edges=("logvar",),
            exact=("logvar",),
        ),
        Exercise(
            "reparameterize_backward_add",
            "Through the sample z",
            "eps is a fixed number. dmu and dlogvar already hold what came through the KL, and all L samples of an example share "
            "its mu and its logvar.",
            edges=("logvar",),
        ),
        Exercise(
            "sampled_kl_backward",
            "The KL of the samples",
            "eps is a fixed number, and z is an argument of its own here: `reparameterize_backward_add` takes the path from z to "
            "mu and logvar later. dz already holds what came through the decoder. Where do mu and logvar themselves stand?",
        ),
        Exercise(
            "affine_backward_add",
            "The second layer that reads the same values",
            "Two layers read h: that of mu and that of logvar. dx already holds what came through the first one.",
        ),
        Exercise(
            "iwae_backward",
            "The weights of the importance-weighted bound",
            "By how much does the logarithm of a mean change with one of its terms? Divide by n_examples as in the first "
            "exercise.",
            edges=("nll",),
            first=("dnll",),
        ),
        Exercise(
            "backward",
            "The whole backward pass",
            "Read the lines of the forward pass upwards. For each of them call the operation that differentiates it. Which values "
            "does more than one line read?",
        ),
        Exercise(
            "weight_gradients",
            "The gradients of all layers",
            "Each layer was y = h @ W + b. Which h did it read, and which d of its result did `backward` leave? The derivative of "
            "a hidden layer's sum y stands in d.encoder[i + 1], in place of that of its value h.",
        ),
        Exercise(
            "adam",
            "The update of the weights",
            "m and v are updated first, and the update of p uses the new ones. All three are changed in place.",
            first=("m", "v"),
        ),
    )
}

BONUS: dict[str, Exercise] = {
    exercise.name: exercise
    for exercise in (
        Exercise(
            "sampled_kl_path_backward",
            "The path estimator, which sticks the landing",
            "mu and logvar inside log q are held fixed here, so that log q changes through z alone: Roeder, Wu & Duvenaud 2017 "
            "(arXiv 1703.09194). What is the slope of log q(z|x) with respect to z?",
            differentiates="sampled_kl",
        ),
        Exercise(
            "dreg_path_weight",
            "The doubly reparameterized gradient",
            "Let w~ be the share of a sample in the weights. Along the path through z the sample counts w~ (1 - beta) + beta w~^2: "
            "Tucker, Lawson, Gu & Maddison 2018 (arXiv 1810.04152). dz already holds w~ once, and dnll is w~ / n_examples.",
            differentiates="iwae",
        ),
    )
}
KNOWN = {**EXERCISES, **BONUS}

# --------------------------------------------------------------------------------------------------- arguments to try

SIZES = {"B": 7, "D": 11, "H": 13, "Z": 17, "L": 5}  # different primes, so that each number tells which of them it comes from
ONE = {**SIZES, "B": 1, "L": 1}
N_EXAMPLES = 19
NUMBERS = {"n_examples": N_EXAMPLES, "beta": 0.7, "epsilon": 0.13, "beta1": 0.3, "beta2": 0.2, "step": 3}
AT_THE_EDGES = {**LARGE, "nll": 1e3}  # how large these arguments are then
EXACT = {"logits": 40.0, "logvar": 1e-9, "h": 1e-9}  # how large these arguments are where digits may be lost
KEPT = {"relu": lambda y: np.maximum(y, 0), "tanh": np.tanh, "softplus": lambda y: np.log1p(np.exp(y))}  # what h can be


class Case(NamedTuple):
    """Arguments of an operation, and the words for what is special about them."""

    words: str
    arguments: dict[str, Any]
    sizes: dict[str, int]
    edge: bool = False  # whether some arguments are so large that an unstable formula may not be finite
    exact: bool = False  # whether it tells how many digits are right


def cases(exercise: Exercise) -> Iterator[Case]:
    """Yield the arguments with which an operation is tried."""
    names = exercise.parameters

    def case(words, sizes=SIZES, dtype="float64", shared=False, sampled=False, large=(), exact=(), seed=5):
        B, D, H, Z, L = (sizes[letter] for letter in "BDHZL")
        arguments = dict(zip(names, random_arguments(exercise.name, dtype, (B, D, H, Z, L), shared, seed=seed)))
        arguments |= {name: number for name, number in NUMBERS.items() if name in names}
        if "x" in names and not exercise.ignored:  # other than a pixel, it may be of either sign
            arguments["x"] = np.random.default_rng(seed).normal(size=arguments["x"].shape).astype(dtype)
        for name in large:
            arguments[name] *= AT_THE_EDGES[name]
        if stem(exercise.name) in KEPT:
            arguments["h"] = KEPT[stem(exercise.name)](arguments["h"])
        for name in exact:
            arguments[name] *= EXACT[name]
        if {"mu", "logvar", "eps", "z"} <= set(names):  # so that z may be computed from the others
            arguments["z"] = arguments["mu"] + np.exp(arguments["logvar"] / 2) * arguments["eps"]
        if sampled:
            arguments |= {kl: np.concatenate([arguments[kl]] * L) for kl in ("kl", "dkl")}
        return Case(words, arguments, {**sizes, "n_examples": N_EXAMPLES, "K": L if sampled else 1}, bool(large), bool(exact))

    yield case("")
    if exercise.name == "elbo_backward":
        yield case("where every sample has a kl of its own, so that K = L", sampled=True)
    if "output_logvar" in names and not exercise.ignored:
        yield case("where all inputs share one output_logvar, (L, B, 1)", shared=True)
    yield case("in single precision", dtype="float32", seed=6)
    yield case("with one example and one sample", ONE, seed=7)
    if exercise.edges:
        sizes = " and ".join(f"{name} is about {AT_THE_EDGES[name]:g}" for name in exercise.edges)
        yield case(f"where the size of {sizes}", large=exercise.edges, seed=8)
    if exercise.exact:
        sizes = " and ".join(f"{name} is about {EXACT[name]:g}" for name in exercise.exact)
        yield case(f"where the size of {sizes}", exact=exercise.exact, seed=9)


class Roles(NamedTuple):
    """What an operation does to its arguments."""

    fills: tuple[str, ...]  # arrays that held nothing before
    changes: tuple[str, ...]  # arrays whose values it reads and changes: it adds to them, or replaces them by a derivative
    reads: tuple[str, ...]
    ignores: tuple[str, ...]  # whose values make no difference; their shapes may
    returns: tuple[str, ...]
    adds: tuple[str, ...]  # those of `changes` to which it adds

    @property
    def outputs(self) -> tuple[str, ...]:
        """What is judged, in the order in which it is told."""
        return self.changes + self.fills

    @property
    def derivatives(self) -> tuple[str, ...]:
        """The derivatives that it is given."""
        return tuple(name for name in (*self.reads, *self.changes) if re.match("d[a-z]", name))


@functools.cache
def roles(exercise: Exercise) -> Roles:
    """What the operation does to its arguments, found by running it."""
    arguments = next(cases(exercise)).arguments

    def run(**others):
        values = {name: np.array(others.get(name, value)) for name, value in arguments.items()}
        called = {name: value if value.ndim else value[()] for name, value in values.items()}
        with np.errstate(all="ignore"):
            result = exercise.original(**called)
        returned = [
            name for array in (result if isinstance(result, tuple) else (result,)) for name in called if called[name] is array
        ]
        return called, returned

    def same(a, b):
        return all(np.array_equal(a[name], b[name], equal_nan=True) for name in outputs)

    after, returned = run()
    outputs = [name for name in arguments if not np.array_equal(after[name], arguments[name])]
    fills, dead = [], []
    for name, value in arguments.items():
        if not np.size(value):
            dead.append(name)
        elif name in outputs:
            fills += [name] * (not np.isnan(run(**{name: np.full_like(value, np.nan)})[0][name]).any())
        elif name not in returned and same(after, run(**{name: value * 1.1 + 0.01})[0]):
            dead.append(name)
    dead += [name for name in returned if name in exercise.ignored]
    changes = [name for name in dict.fromkeys(returned + outputs) if name not in fills and name not in exercise.ignored]
    adds = [name for name in changes if np.allclose(run(**{name: arguments[name] + 1})[0][name], after[name] + 1)]
    reads = [name for name in arguments if name not in outputs and name not in dead and name not in returned]
    return Roles(tuple(fills), tuple(changes), tuple(reads), tuple(dead), tuple(returned), tuple(adds))


def letters(shape: tuple[int, ...], sizes: dict[str, int] = SIZES, one: str = "1") -> str:
    """A shape in letters.

    Examples
    --------
    >>> letters((7, 17)), letters((5, 7, 2))
    ('(B, Z)', '(L, B, 2)')
    """
    names = {size: letter for letter, size in sizes.items() if letter in SIZES and size > 1}
    axes = [names.get(n, one if n == 1 else str(n)) for n in shape]
    return f"({', '.join(axes)}{',' * (len(axes) == 1)})"


# ------------------------------------------------------------------------------------------------------ what is said


def statement(exercise: Exercise) -> str:
    """The docstring of the function that a student writes: the forward pass, the shapes, and what is to be done."""
    question = textwrap.fill(exercise.question, 112)
    told = [*(_of_operation if exercise.is_operation else _of_text)(exercise)]
    return "\n\n".join([f"{exercise.title}.", *told, question])


def _of_operation(exercise):
    values, of = next(cases(exercise)).arguments, roles(exercise)
    one = "K" if stem(exercise.name) == "elbo" else "1"

    def shapes(names):
        return ", ".join(
            f"{name} {letters(np.shape(values[name]), one=one)}" if np.ndim(values[name]) else name for name in names
        )

    if exercise.forward:
        yield f"The forward pass computes, by {exercise.forward}:"
        yield textwrap.indent(inspect.cleandoc(vars(reference)[exercise.forward].__doc__ or ""), "    ")
    else:
        yield "The algorithm is:"
        yield textwrap.indent(inspect.cleandoc(exercise.original.__doc__ or ""), "    ")
    rows = {
        "given": shapes(of.reads),
        "to be filled": shapes(of.fills),
        "filled already": shapes(of.changes),
        "not needed": ", ".join(of.ignores),
    }
    yield "\n".join(f"    {words:<15}{names}" for words, names in rows.items() if names)


def _of_text(exercise):
    forward = (elbo.encoder, elbo.decoder, elbo.forward)
    for text in forward:
        lines = [re.sub(" {2,}#", "  #", line) for line in inspect.getsource(text).split("\n") if '"""' not in line]
        yield textwrap.indent("\n".join(lines).rstrip(), "    ")
    yield "Call these operations, which are given. They fill their last arguments, and return them:"
    names, lines = getattr(elbo.bind(Architecture(6, (5,), 3)), exercise.name).__globals__, set().union(*map(_called, forward))
    given = [name for name in _called(exercise.original) if name in names and any(line.endswith(stem(name)) for line in lines)]
    yield textwrap.indent(
        "\n".join(f"{name}({', '.join(inspect.signature(names[name]).parameters)})" for name in given), "    "
    )
    yield inspect.cleandoc(
        """
        p holds the weights, as in p.mu.W and p.encoder[i].b. a holds the values of the forward pass, as in a.mu; a.encoder[0] is x,
        and a.decoder[0] is z. d holds an array for the derivative of each value, under the same name, as in d.mu, d.nll and
        d.decoder[i]. n_hidden is the number of hidden layers of either side. a.encoder_y and a.decoder_y hold the sums y of hidden
        layers, where an activation keeps them.
        """
    ) + (" g holds an array for the gradient of each weight, as in g.mu.W." if "g" in exercise.parameters else "")


def _called(function):
    """The names of the functions that a function calls, in the order of its lines."""
    calls = (node for node in ast.walk(ast.parse(inspect.getsource(function))) if isinstance(node, ast.Call))
    return list(
        dict.fromkeys(call.func.id for call in sorted(calls, key=lambda call: call.lineno) if isinstance(call.func, ast.Name))
    )


def hints(exercise: Exercise) -> list[str]:
    """The hints, one after the other: the steps of the derivation that lead to the lines, and at last the formula."""
    key = key_of(exercise.name) if exercise.is_operation else "adjoint"
    steps = DERIVATIONS[key].steps if key else ()
    found = [step.sentence + (f"\n    {plain(parse(step.formula))}" if step.formula else "") for step in steps]
    if not exercise.is_operation:
        return found
    formula = inspect.cleandoc(exercise.original.__doc__ or "").split("\n")[0].partition("   ")[0]
    return [*found, f"In the names of the code:\n    {formula}"]


def exercise_of(operation: str) -> str | None:
    """The name of the exercise in which a student writes an operation, or the derivative of one; None if there is none.

    Examples
    --------
    >>> exercise_of("gaussian_kl"), exercise_of("affine_relu"), exercise_of("relu_backward"), exercise_of("gather")
    ('gaussian_kl_backward', 'relu_backward', 'relu_backward', None)
    """
    base = stem(operation).removeprefix("affine_") or operation
    names = (operation, *(name + ending for name in (stem(operation), base) for ending in ENDINGS))
    return next((name for name in names if name in KNOWN), None)
