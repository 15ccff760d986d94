"""`check_elbo`: every property of a model, on problems of every kind."""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from vae_np import kernels
from vae_np.architecture import check_choice
from vae_np.choices import ESTIMATORS
from vae_np.elbo import loss_and_gradients
from vae_np.kernels.contract import FULL
from vae_np.parameters import Parameters
from vae_np.testing.problems import SATURATED, Problem, at_the_edges, edges_of, every_kind
from vae_np.testing.properties import (
    PROPERTIES,
    Model,
    Property,
    at_precision,
    gradient_is_the_complex_step,
    of_estimator,
    value_is_finite_wherever_it_can_be,
)


def trials(
    precision: str = FULL, problems: Sequence[Problem] | None = None, estimator: str = "total"
) -> list[tuple[Property, Problem]]:
    """All that `check_elbo` tries, as (property, problem).

    It is each property on every kind of problem, or on the given ones, and the edges. At a lower precision it is the comparison
    with the reference on every kind of problem, and the other properties on some of them. With an estimator other than "total"
    it is the comparison with the surrogate on every problem whose objective has the estimator, and the other properties on some.
    """
    if not ESTIMATORS[estimator].differentiates_the_loss:
        has_it = ESTIMATORS[estimator].operations
        every = [problem for problem in (every_kind() if problems is None else problems) if problem.objective in has_it]
        some = every[::3] if problems is None else every
        surrogate, *others = of_estimator(estimator)
        return [(surrogate, problem) for problem in every] + [(check, problem) for problem in some for check in others]
    if precision != FULL:
        definition, *exact = at_precision(precision)
        every = [problem for real in ("float32", "float64") for problem in every_kind(real)] if problems is None else problems
        some = [*every_kind()][::4] if problems is None else problems  # of every objective some
        return [(definition, problem) for problem in every] + [(check, problem) for problem in some for check in exact]
    if problems is not None:
        found = [(check, problem) for problem in problems for check in PROPERTIES]
        found += [(value_is_finite_wherever_it_can_be, edge) for edge in edges_of(problems)]
        return found + [(gradient_is_the_complex_step, edge) for edge in edges_of(problems, SATURATED)]
    found = [(check, problem) for problem in every_kind() for check in PROPERTIES]
    found += [(value_is_finite_wherever_it_can_be, edge) for real in ("float32", "float64") for edge in at_the_edges(real)]
    return found + [(gradient_is_the_complex_step, edge) for edge in at_the_edges(edges=SATURATED)]


def check_elbo(
    model: Model = loss_and_gradients,
    precision: str = FULL,
    problems: Iterable[Problem] | None = None,
    estimator: str = "total",
) -> dict[str, int]:
    """Try every property of a model on problems of every kind, and its values at the edges.

    Of a model at a lower precision those properties are tried that still hold, and the model is compared with the reference at
    this precision.

    Parameters
    ----------
    model : function
        A function with the arguments and results of `vae_np.loss_and_gradients`. Its gradients may be a dict of arrays. It
        raises NotImplementedError for what it does not have, such as another activation, float32, or beta other than 1.
    precision : {"float32", "bfloat16", "tfloat32"}
        How the model rounds the operands of its matrix products: see `vae_np.loss_and_gradients`.
    problems : iterable of Problem, optional
        The problems, such as `every_kind(activations=["tanh"], hidden=[(4,)])`; by default they are of every kind. The edges
        are those of the same architectures.
    estimator : {"total", "path", "dreg", "score", "vimco"}
        How the model estimates the gradient by the encoder's parameters. With "total" it is the derivative of the loss. For any
        other estimator the gradient is compared with that of its surrogate, `vae_np.testing.complex_surrogate`, at full
        precision and on problems whose objective has the estimator.

    Returns
    -------
    dict of str to int
        How often each property was tried.

    Warns
    -----
    UserWarning
        The model has refused some trials, or all trials of a property: the warning says how many of each, and why.

    Raises
    ------
    AssertionError
        Some properties do not hold. The message has a line for each of them, with the first problem where it fails. The same
        error is raised if the model refuses every problem.
    ValueError
        The precision or the estimator is unknown, or there are no problems.
    """
    if not callable(model):
        raise TypeError(f"model is a {type(model).__name__}; it must be a function such as loss_and_gradients")
    check_choice("estimator", estimator, ESTIMATORS)
    check_choice("precision", precision, kernels.precisions("numpy"))
    problems = None if problems is None else list(problems)
    if problems == []:
        raise ValueError("problems is empty; a generator such as every_kind() yields its problems once")
    tried, refused, broken, answered = {}, {}, {}, []

    def answering(*problem):
        result = _with_parameters(model, *problem)
        answered.append(True)
        return result

    for check, problem in trials(precision, problems, estimator):
        name = check.__name__
        try:
            check(answering, problem)
        except NotImplementedError as error:
            refused.setdefault(name, []).append(str(error))
            continue
        except Exception as error:  # any error that a model raises is reported
            broken.setdefault(name, f"{name}: {said_of(error)} [{problem.objective}, {problem.p.architecture}]")
        tried[name] = tried.get(name, 0) + 1
    reasons = _reasons(sum(refused.values(), []))
    if refused and not answered:
        raise AssertionError(
            f"the model refuses every problem{reasons}; give those that it has, such as every_kind(activations=['tanh'])"
        )
    if refused:
        parts = ", ".join(f"{name} ({len(why)} of {len(why) + tried.get(name, 0)})" for name, why in refused.items())
        warnings.warn(f"the model refuses what it does not have{reasons}; skipped trials: {parts}", stacklevel=2)
    if broken:
        raise AssertionError(f"{len(broken)} of {len(tried)} properties do not hold\n" + "\n".join(broken.values()))
    return tried


def _with_parameters(model, p, *rest):
    """What the model returns, its gradients as Parameters."""
    result = model(p, *rest)
    if not isinstance(result, tuple) or len(result) != 2:
        raise TypeError(f"the model returns a {type(result).__name__}; it must return (value, gradients)")
    value, g = result
    if not isinstance(g, Parameters):
        arrays, g = g, Parameters(p.architecture, np.zeros_like(p.flat))
        if arrays.keys() != g.keys():
            raise AssertionError(f"gradients are of {', '.join(arrays)}; they must be of {', '.join(g)}")
        for name in g:
            given, wanted = np.asarray(arrays[name]), g[name]
            if given.shape != wanted.shape or given.dtype != wanted.dtype:
                raise AssertionError(
                    f"the gradient of {name} is {given.dtype} {given.shape}; wanted {wanted.dtype} {wanted.shape}"
                )
            g[name][...] = arrays[name]
    return value, g


def _reasons(refused):
    known = sorted({why for why in refused if why})
    return f" ({'; '.join(known[:3])})" if known else ""


def said_of(error: BaseException) -> str:
    """The first line of an error, for a report of several errors."""
    line = next(iter(str(error).splitlines()), "")
    return line if isinstance(error, AssertionError) else f"{type(error).__name__}: {line}"
