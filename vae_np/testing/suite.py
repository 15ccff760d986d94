"""`check_elbo`: every property of a model, on problems of every kind."""

from vae_np.architecture import check_choice
from vae_np.choices import ESTIMATORS
from vae_np.elbo import loss_and_gradients
from vae_np.kernels.contract import FULL
from vae_np.testing.problems import SATURATED, Problem, at_the_edges, every_kind
from vae_np.testing.properties import (
    PROPERTIES,
    Model,
    Property,
    at_precision,
    gradient_is_the_complex_step,
    of_estimator,
    value_is_finite_wherever_it_can_be,
)


def trials(precision: str = FULL, estimator: str = "total") -> list[tuple[Property, Problem]]:
    """All that `check_elbo` tries, as (property, problem).

    It is each property on every kind of problem, and the edges. At a lower precision it is the comparison with the reference on
    every kind of problem, and the other properties on some of them. With an estimator other than "total" it is the comparison
    with the surrogate on every kind of problem whose objective has the estimator, and the other properties on some of them.
    """
    if not ESTIMATORS[estimator].differentiates_the_loss:
        problems = [problem for problem in every_kind() if problem.objective in ESTIMATORS[estimator].operations]
        surrogate, *others = of_estimator(estimator)
        return [(surrogate, problem) for problem in problems] + [(check, some) for some in problems[::3] for check in others]
    if precision != FULL:
        definition, *exact = at_precision(precision)
        found = [(definition, problem) for real in ("float32", "float64") for problem in every_kind(real)]
        return found + [(check, problem) for problem in [*every_kind()][::4] for check in exact]  # of every objective some
    found = [(check, problem) for problem in every_kind() for check in PROPERTIES]
    found += [(value_is_finite_wherever_it_can_be, edge) for real in ("float32", "float64") for edge in at_the_edges(real)]
    return found + [(gradient_is_the_complex_step, edge) for edge in at_the_edges(edges=SATURATED)]


def check_elbo(model: Model = loss_and_gradients, precision: str = FULL, estimator: str = "total") -> dict[str, int]:
    """Try every property of a model on problems of every kind, and its values at the edges.

    Of a model at a lower precision those properties are tried that still hold, and the model is compared with the reference at
    this precision.

    Parameters
    ----------
    model : function
        A function with the arguments and results of `vae_np.loss_and_gradients`.
    precision : {"float32", "bfloat16", "tfloat32"}
        How the model rounds the operands of its matrix products: see `vae_np.loss_and_gradients`.
    estimator : {"total", "path", "dreg", "score", "vimco"}
        How the model estimates the gradient by the encoder's parameters. With "total" it is the derivative of the loss. For any
        other estimator the gradient is compared with that of its surrogate, `vae_np.testing.complex_surrogate`, at full
        precision and on problems whose objective has the estimator.

    Returns
    -------
    dict of str to int
        How often each property was tried.

    Raises
    ------
    AssertionError
        Some properties do not hold. The message has a line for each of them, with the first problem where it fails.
    """
    if not callable(model):
        raise TypeError(f"model is a {type(model).__name__}; it must be a function such as loss_and_gradients")
    check_choice("estimator", estimator, ESTIMATORS)
    tried, broken = {}, {}
    for check, problem in trials(precision, estimator):
        tried[check.__name__] = tried.get(check.__name__, 0) + 1
        try:
            check(model, problem)
        except Exception as error:  # any error that a model raises is reported
            line = f"{check.__name__}: {said_of(error)} [{problem.objective}, {problem.p.architecture}]"
            broken.setdefault(check.__name__, line)
    if broken:
        raise AssertionError(f"{len(broken)} of {len(tried)} properties do not hold\n" + "\n".join(broken.values()))
    return tried


def said_of(error: BaseException) -> str:
    """The first line of an error, for a report of several errors."""
    line = next(iter(str(error).splitlines()), "")
    return line if isinstance(error, AssertionError) else f"{type(error).__name__}: {line}"
