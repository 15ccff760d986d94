"""Properties that every right loss and gradient has, whatever computes them.

A property is a function of a model and a Problem. The model is any function with the arguments and results of
`vae_np.loss_and_gradients`. The property raises AssertionError where it does not hold. `vae_np.testing.suite` tries all of
them.
"""

import concurrent.futures
import functools
import types
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from vae_np.architecture import Architecture
from vae_np.choices import ACTIVATIONS, LIKELIHOODS, NOISES, OBJECTIVES
from vae_np.elbo import Value, loss_and_gradients
from vae_np.kernels.contract import FULL
from vae_np.parameters import Parameters
from vae_np.testing import oracles
from vae_np.testing.comparison import TOLERANCES, assert_close, assert_near, require, rounding
from vae_np.testing.gradients import check_with_complex_steps
from vae_np.testing.problems import Problem

Model: TypeAlias = Callable[..., tuple[Value, Parameters]]  # it is called as model(*problem)
Property: TypeAlias = Callable[[Model, Problem], None]

TERMS = Value._fields


# ------------------------------------------------------------------------------------------- against the definitions


def value_is_that_of_the_definitions(model: Model, problem: Problem) -> None:
    """Every term of the loss is the number that scalar loops over the densities give."""
    value, _ = model(*problem)
    wanted = oracles.reference_elbo(problem.p.architecture, *problem)
    _same_value(value, dict(zip(TERMS, wanted)), problem)


def gradient_is_the_complex_step(model: Model, problem: Problem) -> None:
    """Every element of the gradient agrees with complex steps through a second, independent program of the loss."""
    architecture, p, rest = problem.p.architecture, problem.p, problem[1:]
    value, g = model(*problem)
    rtol = TOLERANCES["complex"][p.flat.dtype.name]
    if OBJECTIVES[problem.objective].weighted:
        # A weight is the exponential of a loss, so that its relative error is the rounding of that loss.
        rtol += 2 * float(np.finfo(p.flat.dtype).eps * np.abs(value.per_example).max())
    L, B, Z = problem.eps.shape
    sizes = {"batch": B, "inputs": problem.x.shape[1], "samples": L, "latents": Z}
    check_with_complex_steps(lambda q: oracles.complex_elbo(architecture, q, *rest), p, g, rtol, sizes)


def value_is_finite_wherever_it_can_be(model: Model, problem: Problem) -> None:
    """If the dtype can hold the true loss, the loss is right and the gradient is finite; if not, the loss is not finite."""
    import mpmath

    real = problem.p.flat.dtype
    with np.errstate(all="ignore"):
        value, g = model(*problem)
    with mpmath.workdps(60):
        wanted = oracles.reference_elbo(problem.p.architecture, *problem, functions=mpmath, number=mpmath.mpf)
    largest, finite = float(np.finfo(real).max), {}
    for term, number in zip(TERMS[:4], wanted[:4]):
        if abs(number) < largest / 1e6:
            finite[term] = number
        elif abs(number) > largest:
            require(
                not np.isfinite(getattr(value, term)),
                f"{term} is {getattr(value, term):g}, but it is beyond the range of {real}",
            )
    _same_value(value, finite, problem)
    if len(finite) == 4:
        for name in g:
            require(np.isfinite(g[name]).all(), f"the gradient of {name} is not finite, though the loss is {value.total:g}")


def what_is_no_number_is_not_hidden(model: Model, problem: Problem) -> None:
    """A NaN in any layer makes the loss NaN: no comparison on the way may replace it by a number."""
    for name in problem.p:
        p = problem.p.copy()
        p[name].flat[0] = np.nan
        with np.errstate(all="ignore"):
            value, _ = model(*problem._replace(p=p))
        require(np.isnan(value.total), f"the loss is {value.total:g}, though {name} has a NaN; it must be NaN")


def single_precision_is_double_precision_rounded(model: Model, problem: Problem) -> None:
    """Both dtypes give the same numbers up to rounding, and a gradient has the dtype of its parameters."""
    single = _converted(problem, np.float32)
    (value, g), (value_64, g_64) = model(*single), model(*_converted(single, np.float64))
    require(g.flat.dtype == np.float32, f"the gradient of float32 parameters is {g.flat.dtype}; it must be float32")
    _same_value(value, {term: getattr(value_64, term) for term in TERMS}, single)
    _same_gradient(g, g_64)


# ------------------------------------------------------------------------------------------------ the batch, the samples


def order_of_the_batch_does_not_matter(model: Model, problem: Problem) -> None:
    """Examples in another order have the same losses in that order, and the gradient stays the same."""
    order = _another_order(len(problem.x))
    (value, g), (other, g_other) = (
        model(*problem),
        model(*problem._replace(x=problem.x[order], eps=problem.eps[:, order])),
    )
    assert_close(other.per_example, value.per_example[order], "per_example")
    _same_gradient(g_other, g)


def parts_average_to_the_whole(model: Model, problem: Problem) -> None:
    """An example's loss does not depend on the others, and a batch's gradient is the weighted mean of its parts' gradients."""
    value, g = model(*problem)
    split, B = (len(problem.x) + 1) // 2, len(problem.x)
    mean = np.zeros(g.flat.shape)
    for rows in (slice(0, split), slice(split, B)):
        if problem.x[rows].size:
            part, g_part = model(*problem._replace(x=problem.x[rows], eps=problem.eps[:, rows]))
            assert_close(part.per_example, value.per_example[rows], f"per_example of rows {rows.start} to {rows.stop}")
            mean += len(problem.x[rows]) / B * g_part.flat
    _same_gradient(g, Parameters(g.architecture, mean))


def repeating_changes_nothing(model: Model, problem: Problem) -> None:
    """If every example and every sample is given twice, the loss and the gradient stay the same."""
    value, g = model(*problem)
    twice = problem._replace(x=np.tile(problem.x, (2, 1)), eps=np.tile(problem.eps, (2, 2, 1)))
    other, g_other = model(*twice)
    assert_close(other.per_example, np.tile(value.per_example, 2), "per_example")
    _same_gradient(g_other, g)


def samples_are_averaged(model: Model, problem: Problem) -> None:
    """Loss and gradient are means over samples; with importance weights the loss is at most the mean (Burda et al. 2016)."""
    value, g = model(*problem)
    unweighted = OBJECTIVES[problem.objective].unweighted
    alone = [model(*problem._replace(eps=eps[None], objective=unweighted)) for eps in problem.eps]
    per_example = np.mean([v.per_example for v, _ in alone], axis=0, dtype=np.float64)
    if OBJECTIVES[problem.objective].weighted:
        slack = 1e-5 * np.abs(per_example) + 1e-5
        require(
            (value.per_example <= per_example + slack).all(),
            "the importance-weighted loss is larger than the mean loss of the samples",
        )
    else:
        assert_close(value.per_example, per_example.astype(value.per_example.dtype), "per_example")
        _same_gradient(g, Parameters(g.architecture, np.asarray(np.mean([g.flat for _, g in alone], axis=0, dtype=np.float64))))


# --------------------------------------------------------------------------------------------- symmetries of the model


def hidden_units_have_no_order(model: Model, problem: Problem) -> None:
    """Hidden units in another order give the same loss, and their gradient in that order."""

    def shuffled(p):
        for layer, following, units in _hidden_layers(p.architecture):
            order = _another_order(units)
            _rewrite(p, layer, columns=lambda W: W[..., order])
            for name in following:
                _rewrite(p, name, rows=lambda W: W[order])
        return p

    _symmetry(model, problem, shuffled, shuffled)


def latents_have_no_order_and_no_sign(model: Model, problem: Problem) -> None:
    """Latents in another order, some of them with the other sign, give the same loss; the gradient changes as they do."""
    p, n = problem.p, problem.p.architecture.n_latent
    order, sign = _another_order(n), (-1.0) ** np.arange(1, n + 1).astype(p.flat.dtype)

    def reordered(p):
        _rewrite(p, "mu", columns=lambda W: W[..., order] * sign)
        _rewrite(p, "logvar", columns=lambda W: W[..., order])
        for name in _above_z(p.architecture):
            _rewrite(p, name, rows=lambda W: W[order] * sign[:, None])
        return p

    _symmetry(model, problem, reordered, reordered, eps=problem.eps[..., order] * sign)


def scale_of_a_homogeneous_unit_does_not_matter(model: Model, problem: Problem) -> None:
    """If a unit's input weights are multiplied by c and its output weights are divided by c, the loss stays the same."""
    # It holds where f(c y) = c f(y), as for relu. The gradients change the other way.
    if not ACTIVATIONS[problem.p.architecture.activation].homogeneous:
        return

    def scaled(p, c):
        for layer, following, _ in _hidden_layers(p.architecture):
            _rewrite(p, layer, columns=lambda W: W * c)
            for name in following:
                _rewrite(p, name, rows=lambda W: W / c)
        return p

    _symmetry(model, problem._replace(l2=0.0), lambda p: scaled(p, 2), lambda g: scaled(g, 0.5))


def units_of_x_cost_their_logarithm(model: Model, problem: Problem) -> None:
    """If the D inputs and the density of x are stretched by c, -log p(x|z) rises by D log c, and nothing else changes."""
    arch, c = problem.p.architecture, 2.0
    noise = NOISES[arch.noise]
    if not LIKELIHOODS[arch.likelihood].has_noise:
        return
    wider = {} if noise.parameter else {"noise_std": arch.noise_std * c}
    other = Architecture(**{**vars(arch), **wider})

    def rescaled(p, c, shift):
        for name in ("encoder.0",) if arch.hidden else ("mu", "logvar"):
            _rewrite(p, name, rows=lambda W: W / c)
        _rewrite(p, "output", columns=lambda W: W * c)
        if noise.parameter:
            p[f"{noise.parameter}.b" if noise.per_input else noise.parameter][...] += shift
        return Parameters(other, p.flat)

    at = problem._replace(l2=0.0)
    cost = arch.n_inputs * np.log(c)
    _symmetry(
        model,
        at,
        lambda p: rescaled(p, c, 2 * np.log(c)),
        lambda g: rescaled(g, 1 / c, 0),
        x=at.x * at.x.dtype.type(c),
        cost=cost,
    )


def loss_is_linear_in_beta(model: Model, problem: Problem) -> None:
    """The loss is loss(0) + beta kl, and the gradient is linear in beta, too; importance weights are an exception."""
    if OBJECTIVES[problem.objective].weighted:
        return
    (at_0, g_0), (at_1, g_1), (between, g) = (model(*problem._replace(beta=beta)) for beta in (0.0, 1.0, 0.25))
    _same_value(
        between,
        {"total": at_0.total + 0.25 * between.kl, "kl": at_1.kl, "reconstruction": at_0.reconstruction},
        problem,
    )
    _same_gradient(g, Parameters(g.architecture, 0.75 * g_0.flat.astype(np.float64) + 0.25 * g_1.flat))


def _symmetry(model, problem, change, change_gradient, cost=0.0, **data):
    value, g = model(*problem)
    other, g_other = model(*problem._replace(p=change(problem.p.copy()), **data))
    assert_close(other.per_example, value.per_example + value.per_example.dtype.type(cost), "per_example")
    _same_gradient(g_other, change_gradient(g.copy()))


def _another_order(n):
    """A random order of n things, which is not 0, 1, 2, ... unless that is their only order."""
    rng = np.random.default_rng(0)
    order = rng.permutation(n)
    while n > 1 and (order == np.arange(n)).all():
        order = rng.permutation(n)
    return order


def _hidden_layers(architecture):
    """Yield (layer, the layers that read it, its number of units) for every hidden layer."""
    n, noise = len(architecture.hidden), _layers_of_noise(architecture)
    for i, units in enumerate(architecture.hidden):
        yield f"encoder.{i}", [f"encoder.{i + 1}"] if i + 1 < n else ["mu", "logvar"], units
    for i, units in enumerate(reversed(architecture.hidden)):
        yield f"decoder.{i}", [f"decoder.{i + 1}"] if i + 1 < n else ["output", *noise], units


def _above_z(architecture):
    return ["decoder.0"] if architecture.hidden else ["output", *_layers_of_noise(architecture)]


def _layers_of_noise(architecture):
    noise = NOISES[architecture.noise]
    return [noise.parameter] if noise.per_input else []


def _rewrite(p, layer, rows=None, columns=None):
    """Change a layer's weights by its inputs (rows), or its weights and biases by its outputs (columns)."""
    if rows:
        p[f"{layer}.W"][...] = rows(p[f"{layer}.W"])
    if columns:
        p[f"{layer}.W"][...], p[f"{layer}.b"][...] = columns(p[f"{layer}.W"]), columns(p[f"{layer}.b"])


# ------------------------------------------------------------------------------------------------------- the same bits


def a_call_changes_nothing_and_repeats_to_the_bit(model: Model, problem: Problem) -> None:
    """The same call gives the same bits again, beside calls with other data, and on any number of threads.

    Arguments and earlier results stay as they are: no buffer is shared between calls.
    """
    import threadpoolctl

    given = [array.copy() for array in (problem.p.flat, problem.x, problem.eps)]
    value, g = model(*problem)
    for array, before in zip((problem.p.flat, problem.x, problem.eps), given):
        require((array == before).all(), "the call changed one of its arguments")
    results = (g.flat, value.per_example)
    kept = [array.copy() for array in results]
    model(*problem._replace(beta=problem.beta + 1))
    unchanged = all((array == before).all() for array, before in zip(results, kept))
    require(unchanged, "a later call changed an earlier result")
    inverse = problem._replace(x=1 - problem.x)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        again = [model(*problem), *list(pool.map(lambda one: model(*one), 4 * [problem, inverse]))[::2]]
    libraries = threadpoolctl.ThreadpoolController()
    for n in (1, 2):
        with libraries.limit(limits=n):
            again.append(model(*problem))
    for other, g_other in again:
        same = other.total == value.total and (other.per_example == value.per_example).all()
        require(same, "the same call returned another loss the second time")
        require((g_other.flat == g.flat).all(), "the same call returned another gradient the second time")


# ------------------------------------------------------------------------------------------------------ all of them


PROPERTIES: tuple[Property, ...] = (
    value_is_that_of_the_definitions,
    gradient_is_the_complex_step,
    what_is_no_number_is_not_hidden,
    single_precision_is_double_precision_rounded,
    order_of_the_batch_does_not_matter,
    parts_average_to_the_whole,
    repeating_changes_nothing,
    samples_are_averaged,
    hidden_units_have_no_order,
    latents_have_no_order_and_no_sign,
    scale_of_a_homogeneous_unit_does_not_matter,
    units_of_x_cost_their_logarithm,
    loss_is_linear_in_beta,
    a_call_changes_nothing_and_repeats_to_the_bit,
)
EXACT: tuple[Property, ...] = (  # they hold at any precision: an order, a sign and a power of 2 outlive the rounding
    what_is_no_number_is_not_hidden,
    order_of_the_batch_does_not_matter,
    repeating_changes_nothing,
    hidden_units_have_no_order,
    latents_have_no_order_and_no_sign,
    scale_of_a_homogeneous_unit_does_not_matter,
    units_of_x_cost_their_logarithm,
    a_call_changes_nothing_and_repeats_to_the_bit,
)


def at_precision(precision: str) -> tuple[Property, ...]:
    """The properties that hold at a lower precision: first the comparison with the definition, then those of EXACT."""

    def operands_are_rounded_as_in_the_definition(model: Model, problem: Problem) -> None:
        """Loss and gradient are those of the reference at this precision, in float64 to the last digits."""
        # In float64 no two programs differ by enough to round an operand in another way. In float32 they do now and then, and
        # so the gradients differ by at most what all of the rounding does to a gradient.
        (value, g), (wanted, g_wanted) = model(*problem), loss_and_gradients(*problem, precision=precision)
        if problem.p.flat.dtype == np.float64:
            _same_value(value, wanted._asdict(), problem)
            _same_gradient(g, g_wanted)
        else:
            assert_near(value.per_example, wanted.per_example, "per_example", precision)
            assert_near(g.flat, g_wanted.flat, "the gradient", precision)

    return (operands_are_rounded_as_in_the_definition, *EXACT)


OF_ANY_ESTIMATOR: tuple[Property, ...] = (  # they hold although a gradient is not the derivative of the loss for these samples
    value_is_that_of_the_definitions,
    what_is_no_number_is_not_hidden,
    single_precision_is_double_precision_rounded,
    order_of_the_batch_does_not_matter,
    parts_average_to_the_whole,
    hidden_units_have_no_order,
    latents_have_no_order_and_no_sign,
    scale_of_a_homogeneous_unit_does_not_matter,
    a_call_changes_nothing_and_repeats_to_the_bit,
)


def of_estimator(estimator: str) -> tuple[Property, ...]:
    """The properties that hold with an estimator: first the comparison with its surrogate, then those of OF_ANY_ESTIMATOR.

    The property of "total" that the gradient is the derivative of the loss does not hold for any other estimator.
    """

    def gradient_is_the_complex_step_of_the_surrogate(model: Model, problem: Problem) -> None:
        """Every element of the gradient agrees with complex steps through the surrogate of the estimator."""
        architecture, at = problem.p.architecture, problem.p

        def surrogate(p):
            return oracles.complex_surrogate(architecture, at, p, *problem[1:], estimator)

        check_with_complex_steps(surrogate, at, model(*problem)[1])

    return (gradient_is_the_complex_step_of_the_surrogate, *OF_ANY_ESTIMATOR)


def with_backend(backend: str | types.ModuleType, precision: str = FULL, estimator: str = "total") -> Model:
    """`loss_and_gradients` on a backend, or on a kernel set of your own, as a model for `check_elbo`."""
    return functools.partial(loss_and_gradients, backend=backend, precision=precision, estimator=estimator)


def _same_value(value, wanted, problem):
    real = problem.p.flat.dtype
    # The log densities of D inputs, each of the order of 1, may cancel; and the logarithm of a mean weight near 1 cannot be more
    # exact than the weight itself.
    resolution = 8 * np.finfo(real).eps * problem.x.shape[1]
    for term, number in wanted.items():
        given, number = np.asarray(getattr(value, term), real), np.asarray(np.asarray(number, np.float64), real)
        assert_close(given, number, term, resolution=resolution)


def _same_gradient(g, wanted):
    resolution = rounding([g.flat])
    for name in g:
        assert_close(g[name], wanted[name].astype(g[name].dtype), f"the gradient of {name}", resolution=resolution)


def _converted(problem, real):
    return problem._replace(p=problem.p.astype(real), x=problem.x.astype(real), eps=problem.eps.astype(real))
