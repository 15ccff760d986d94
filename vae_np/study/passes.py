"""Answers that are functions of the model's text, tried on whole models.

Their gradients are compared with complex steps of `vae_np.testing.complex_elbo`. Where they are off, `trace` finds the first
line that is wrong, or the path that is missing.
"""

import types
from collections.abc import Iterator

import numpy as np

from vae_np import elbo
from vae_np.architecture import Architecture
from vae_np.buffers import buffers
from vae_np.parameters import Parameters
from vae_np.study.exercises import Exercise
from vae_np.study.lines import Line
from vae_np.study.proof import TOLERANCE
from vae_np.study.trace import Trace, trace
from vae_np.study.trial import Finding, of_exception
from vae_np.testing.diagnosis import diagnose
from vae_np.testing.gradients import check_with_complex_steps
from vae_np.testing.oracles import complex_elbo
from vae_np.testing.problems import Problem, random_problem

RTOL = 1e-9
SIZES = {"B": 4, "D": 7, "H": 5, "Z": 3, "L": 2}


def _problems() -> Iterator[tuple[str, Problem]]:
    """Models on which the backward pass is tried, and the words for what is special about them."""
    B, D, H, Z, L = SIZES.values()

    def problem(hidden, activation="tanh", objective="elbo", **kind):
        return random_problem(Architecture(D, hidden, Z, activation, **kind), objective, B, L)

    yield "", problem((H,))
    yield "with two hidden layers on either side", problem((H, H + 1))
    yield "without hidden layers", problem(())
    yield "with importance weights, where the KL is sampled", problem((H,), objective="iwae")
    noise = {"likelihood": "gaussian", "noise": "heteroscedastic"}
    yield "where a second head of the decoder computes output_logvar", problem((H,), "silu", **noise)


def findings(function: types.FunctionType, exercise: Exercise) -> tuple[tuple[Finding, ...], str]:
    """What is wrong with a function of the text, and the words for the model on which it is; nothing if it is right on all."""
    own = types.FunctionType(
        function.__code__, function.__globals__, exercise.name, function.__defaults__, function.__closure__
    )
    for words, problem in _problems():
        p, x, eps, beta, l2, objective = problem
        try:
            gradients = _gradients(problem, exercise, own)
        except NotImplementedError:
            raise
        except (Exception, SystemExit) as error:
            return (of_exception(error, function, exercise, {}, {}, SIZES),), words

        def loss(q, arch=p.architecture, rest=(x, eps, beta, l2, objective)):
            return complex_elbo(arch, q, *rest)

        finite = {name: np.nan_to_num(gradients[name]) for name in gradients}
        off = [worst.name for worst in check_with_complex_steps(loss, p, finite, rtol=np.inf) if not worst.error <= RTOL]
        off += [name for name in gradients if not np.isfinite(gradients[name]).all()]
        if off:
            return tuple(_blame(problem, exercise, own)) or (Finding(f"d{off[0]}", "It is wrong, or was never filled."),), words
    return (), ""


def _gradients(problem, exercise, function):
    """The gradients of a pass in which one function of the text is the student's. What it does not fill is NaN."""
    p, x, eps, beta, l2, objective = problem
    text = tuple(function if original.__name__ == exercise.name else original for original in elbo.TEXT)
    model, p, a, beta, l2 = elbo.prepare(p, x, eps, beta, l2, objective, "numpy", text)
    L, B, _ = a.eps.shape
    d = buffers(p.architecture, objective, L, B, np.float64)
    g = Parameters.zeros(p.architecture)
    for array in _all_arrays(d):
        array[...] = np.nan
    g.flat[...] = np.nan
    model.forward(p.layers, a, beta)
    with np.errstate(all="ignore"):
        model.backward(p.layers, a, d, beta, B)
        model.weight_gradients(p.layers, a, d, g.layers, l2)
    return g


def _all_arrays(tree):
    for value in tree:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, tuple):
            yield from _all_arrays(value)


def _blame(problem, exercise, function):
    """A Finding for the first wrong line, or for what was never filled."""
    p, x, eps, beta, l2, objective = problem
    try:
        with np.errstate(all="ignore"):
            lines = trace(p, x, eps, beta, l2, objective, 4, **{exercise.name: function})
            right = trace(p, x, eps, beta, l2, objective, 1)
    except ValueError as error:
        yield Finding("", f"The lines cannot be followed: {error}.")
        return
    written = {array.name: array.value for line in right if line.function == exercise.name for array in line.writes}
    own = {array.name for line in lines if line.function == exercise.name for array in line.writes}
    for line in lines.wrong:
        if line.function != exercise.name:
            continue
        source = " ".join(line.source.partition("#")[0].split())
        for array in line.writes:
            if not array.error or array.error <= TOLERANCE:
                continue
            said = f"line {line.number}, `{source}`: "
            name, meant = _meant(line, array.name, right)
            if array.missing_paths:
                paths = ", ".join(f"`{' '.join(lines[j].source.partition('#')[0].split())}`" for j in array.missing_paths)
                yield Finding(name, f"{said}the path through {paths} is missing.")
                return
            off = {key: given for key, given in line.arguments.items() if meant and given != meant.arguments.get(key)}
            found = diagnose(array.value, written[name]) if name in written else None
            words = " ".join(f"it takes {given} as {key}, and another one is meant." for key, given in off.items())
            words = words or (found.sentence if found else "this is the first line whose derivative is wrong.")
            yield Finding(name, said + words)
            return
    for name in written:
        if name not in own:
            yield Finding(name, "It was never filled.")
            return


def _meant(line: Line, name: str, right: Trace) -> tuple[str, Line | None]:
    """The right line that calls the same operation for the same array, and the name of that array; None unless it is only one.

    Whether a wrong derivative is that of a layer's sum y or of its value can't be told from its numbers: the names may differ.
    """
    found = [
        (array.name, other)
        for other in right
        for array in other.writes
        if line.operation and other.operation == line.operation and array.name.removesuffix(".y") == name.removesuffix(".y")
    ]
    return found[0] if len(found) == 1 else (name, None)
