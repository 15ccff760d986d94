"""Planted faults: small changes to right functions that make them wrong, and right functions that invite false alarms.

A fault is one record: a function of `benchmarks.functions`, a piece of its text, and what stands there instead. So a fault is as
small as it is when somebody makes it, and all else is right.
"""

import inspect
import types
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import functions
from benchmarks.functions import (
    affine_layer,
    arccosine,
    beside_a_constant,
    by_bisection,
    by_threads,
    clipped,
    convolution,
    cosine_of_angles,
    cross_entropy,
    dropout,
    elbo,
    embedding,
    encode,
    faint,
    far_from_0,
    gates,
    gaussian_nll,
    gelu,
    importance_weights,
    in_a_matrix,
    in_its_own_buffer,
    in_place_and_back,
    in_single_precision,
    kl,
    large_and_small,
    largest_eigenvalue,
    layer_norm,
    log_determinant,
    log_gamma,
    logarithm,
    loss,
    masked_softmax,
    narrow,
    nll,
    normalized,
    ramps,
    recurrence,
    relu_layer,
    reseeded,
    sample,
    saturated,
    silu,
    sine,
    smooth_norm,
    softplus,
    square_layers,
    square_with_its_sign,
    squared_length,
    steep,
    with_an_unused_parameter,
    with_single_gradients,
)


class Fault(NamedTuple):
    """A small change that makes a function wrong.

    Parameters
    ----------
    name : str
        What was done wrong, in a few words.
    function : function
        The right function: one of `functions.POINTS`, or a part of the VAE.
    right, wrong : str
        A piece of its text, and what stands there instead.
    where : tuple of str
        The parameters whose gradients are wrong, or "fn" where the value is wrong. In a VAE it is the definition that is off.
    cause : str
        The words, as a regular expression, by which a message names the mistake. It is empty where numbers do not tell it.
    """

    name: str
    function: Callable[..., Any]
    right: str
    wrong: str
    where: tuple[str, ...]
    cause: str = ""

    @property
    def point(self) -> dict[str, NDArray]:
        """Where the function is checked."""
        return functions.POINTS[_whole(self.function)]

    def make(self) -> functions.Function:
        """A new function that has the fault. If it is a VAE, its attribute `parts` has the functions that it is made of."""
        return _made(self.function, self.right, self.wrong)


class Right(NamedTuple):
    """A right function.

    Parameters
    ----------
    name : str
        What invites a false alarm.
    function : function
        The function.
    point : dict of str to array
        Where it is checked.
    reason : str
        The words, as a regular expression, by which a checker may say why it cannot check the function there.
    """

    name: str
    function: Callable[..., Any]
    point: dict[str, Any]
    reason: str = "$^"

    def make(self) -> functions.Function:
        """A new function that has been called by nobody: parameters -> (value, gradients)."""
        return _made(self.function)


def _whole(function):
    """The function that is checked: a part of the VAE is checked as the VAE."""
    return functions.vae if function in functions.PARTS else function


def _made(function, right="", wrong=""):
    """The function in a module of its own, where a piece of its text is another one."""
    module, whole = types.ModuleType("made"), _whole(function)
    vars(module).update(vars(functions), STATE={})
    for each in dict.fromkeys((*functions.PARTS, function)):
        source = inspect.getsource(each)
        if each is function and right:
            if source.count(right) != 1:
                raise ValueError(f"{function.__name__} must have {right!r} once")
            source = source.replace(right, wrong)
        exec(source, vars(module))
    made = vars(module)[whole.__name__]
    if whole is functions.vae:
        made.parts = module
    return made


RANDOM = r"\bis random\b|\bagain with the same\b|\bnot reentrant\b|\bnon-?determin"
DRAWN = "np.random.default_rng().normal(size=EPS.shape)"
CALCULUS = (
    Fault("the residual has the wrong sign", gaussian_nll, "dmu = -difference", "dmu = difference", ("mu",), r"\bsign\b"),
    Fault("the derivative of cos is sin", cosine_of_angles, "-TARGETS * np.sin", "TARGETS * np.sin", ("theta",), r"\bsign\b"),
    Fault("the sign, where the gradient is 1e-7", faint, "3e-7 *", "-3e-7 *", ("x",), r"\bsign\b"),
    Fault(
        "a mean where a sum is meant", affine_layer, "dy.sum(axis=0)", "dy.mean(axis=0)", ("b",), r"is the batch\b.*\bmean\b"
    ),
    Fault(
        "the batch is not divided by",
        affine_layer,
        "dh = difference / B",
        "dh = difference",
        ("W", "b"),
        r"is the batch\b.*\bsum\b",
    ),
    Fault("the batch is divided by twice", cross_entropy, "dlogits / B", "dlogits / B / B", ("W", "b"), r"is the batch\b"),
    Fault("dropout's 1 / 0.8 is forgotten", dropout, "dW = h.T", "dW = (X * KEPT).T", ("W",), "what it should be"),
    Fault("twice a gradient that is small", large_and_small, "3e-6 * np.cos", "6e-6 * np.cos", ("W2",), r"\btwice\b"),
    Fault(
        "the bias is divided by the samples",
        elbo,
        "dlogits.sum(axis=(0, 1))",
        "dlogits.mean(axis=0).sum(axis=0)",
        ("b_out",),
        r"number of samples\b.*\bmean\b",
    ),
    Fault("the product is transposed", square_layers, "dC = h.T @ y", "dC = y.T @ h", ("C",), r"\btransposed\b"),
    Fault("the inverse is not transposed", log_determinant, '(p["A"]).T', '(p["A"])', ("A",), r"\btransposed\b"),
    Fault("the product is transposed, and so is its shape", affine_layer, "X.T @ dy", "dy.T @ X", ("W",), r"\bshape\b"),
    Fault(
        "the kernel is flipped",
        convolution,
        '"tbk,tb->k", windows, y)',
        '"tbk,tb->k", windows, y)[::-1]',
        ("K",),
        r"\breverse order\b",
    ),
    Fault("the sum over the batch is missing", affine_layer, "dy.sum(axis=0)", "dy", ("b",), r"\bshape\b"),
    Fault("a sum over all axes", affine_layer, "dy.sum(axis=0)", "np.full(H, dy.sum())", ("b",), r"\bsum over\b.*\btoo much\b"),
    Fault("a gradient is never filled", affine_layer, "dy.sum(axis=0)", "np.zeros(H)", ("b",), r"\bevery element is 0\b"),
    Fault(
        "the last row is never filled",
        affine_layer,
        "dW = X.T @ dy",
        "dW = np.vstack([X.T[:-1] @ dy, np.zeros(H)])",
        ("W",),
        "except the last row",
    ),
    Fault("the clip is forgotten", clipped, "np.exp(y) * inside", "np.exp(y)", ("x",), "except the elements where"),
    Fault(
        "one side of the clip is forgotten",
        clipped,
        "np.exp(y) * inside",
        "np.exp(y) * (x < 1)",
        ("x",),
        "except the elements where",
    ),
    Fault("the mask is made before the bias", relu_layer, "(y > 0)", '(X @ p["W"] > 0)', ("W",)),
    Fault("W is not transposed on the way back", square_layers, 'y @ p["C"].T', 'y @ p["C"]', ("A",)),
    Fault("W is not transposed in a recurrence", recurrence, 'dy @ p["W"].T', 'dy @ p["W"]', ("W",)),
    Fault("a weight's last use replaces the others", recurrence, "dW += before", "dW = before", ("W",)),
    Fault(
        "+= loses rows that are used twice",
        embedding,
        "np.add.at(dE, ROWS, np.cos(rows) * TARGETS)",
        "dE[ROWS] += np.cos(rows) * TARGETS",
        ("E",),
    ),
    Fault("two gradients are exchanged", square_layers, '"A": dA, "C": dC', '"A": dC, "C": dA', ("A", "C")),
    Fault(
        "a mean over the wrong axis",
        layer_norm,
        "(dn - dn.mean(axis=1, keepdims=True)",
        "(dn - dn.mean(axis=0, keepdims=True)",
        ("x",),
    ),
    Fault("a softmax over the wrong axis", importance_weights, "weights.sum(axis=0)", "weights.sum()", ("log_w",)),
    Fault("the path through the mean is missing", layer_norm, " - dn.mean(axis=1, keepdims=True)", "", ("x",)),
    Fault("the path through the variance is missing", layer_norm, " - n * np.mean(dn * n, axis=1, keepdims=True)", "", ("x",)),
    Fault("the path through logvar is missing", elbo, ' + dlogvar @ p["W_logvar"].T', "", ("W_h",)),
    Fault("the L2 term is forgotten", elbo, ' + 0.1 * p["W_out"]', "", ("W_out",)),
    Fault("the KL's path to mu is missing", elbo, " + mu / B", "", ("W_h", "W_mu")),
    Fault(
        "the entropy's -1 is missing", elbo, "(np.exp(logvar) - 1) / (2 * B)", "np.exp(logvar) / (2 * B)", ("W_h", "W_logvar")
    ),
    Fault(
        "1 is missing in the gradient of the log-variance",
        gaussian_nll,
        "(1 - difference",
        "(-difference",
        ("s",),
        "off by the same number",
    ),
    Fault("1/2 is missing in exp(logvar / 2)", elbo, "* std / 2 +", "* std +", ("W_h", "W_logvar")),
    Fault("a variance for a standard deviation", elbo, "* std / 2 +", "* std * std / 2 +", ("W_h", "W_logvar")),
    Fault(
        "a standard deviation for a variance",
        gaussian_nll,
        "dmu = -difference * precision",
        "dmu = -difference * np.sqrt(precision)",
        ("mu",),
    ),
    Fault("a factor of a product is lost", gates, "u * (1 - t * t) * s", "u * (1 - t * t)", ("v",)),
    Fault("a term of the product rule is lost", silu, "dx = s + ", "dx = ", ("x",)),
    Fault("a term of the quotient rule is lost", normalized, ' - value * p["x"] / norm**2', "", ("x",)),
    Fault("a norm where its square is meant", normalized, "norm**2", "norm", ("x",)),
    Fault(
        "the stabiliser is forgotten",
        smooth_norm,
        'p["x"] / norms[:, None]',
        'p["x"] / np.sqrt(np.sum(p["x"] ** 2, axis=1))[:, None]',
        ("x",),
        "a stabiliser",
    ),
    Fault(
        "the derivative of another activation",
        softplus,
        'dx = sigmoid(p["x"])',
        'dx = sigmoid(p["x"]) * (1 - sigmoid(p["x"]))',
        ("x",),
    ),
    Fault("the derivative of tanh without the square", affine_layer, "(1 - h * h)", "(1 - h)", ("W", "b")),
    Fault("the derivative of tanh at its own value", affine_layer, "(1 - h * h)", "(1 - np.tanh(h) ** 2)", ("W", "b")),
    Fault("the inner derivative is forgotten", gelu, "c * (1 + 3 * 0.044715 * x**2)", "c", ("x",)),
    Fault("a constant is rounded", gelu, "3 * 0.044715 * x**2", "0.1341 * x**2", ("x",)),
    Fault(
        "the labels index all rows", cross_entropy, "dlogits[np.arange(B), LABELS] -= 1", "dlogits[:, LABELS] -= 1", ("W", "b")
    ),
    Fault("a gradient is rounded to half precision", silu, '{"x": dx}', '{"x": dx.astype(np.float16)}', ("x",)),
    Fault("0 times infinity", gates, '"u": t * s', '"u": t * s * (np.where(u > 0, np.inf, 1) * 0 + 1)', ("u",), r"\bNaN\b"),
    Fault("the last example is left out", affine_layer, "X.T @ dy", "X[:-1].T @ dy[:-1]", ("W",)),
)
RANDOMNESS = (
    Fault("the noise has no seed", elbo, "np.exp(logvar / 2), EPS", f"np.exp(logvar / 2), {DRAWN}", ("fn",), RANDOM),
    Fault("the backward pass draws again", elbo, "dz * eps", f"dz * {DRAWN}", ("W_h", "W_logvar"), RANDOM),
    Fault(
        "the backward pass has another seed",
        elbo,
        "dz * eps",
        "dz * np.random.default_rng(1).normal(size=EPS.shape)",
        ("W_h", "W_logvar"),
    ),
    Fault("the backward pass shares the noise of one example", elbo, "dz * eps", "dz * eps[:, :1]", ("W_h", "W_logvar")),
    Fault("the backward pass has another order of the samples", elbo, "dz * eps", "dz * eps[::-1]", ("W_h", "W_logvar")),
    Fault(
        "dropout has no seed",
        dropout,
        "X * KEPT / 0.8",
        "X * (np.random.default_rng().uniform(size=X.shape) < 0.8) / 0.8",
        ("fn",),
        RANDOM,
    ),
    Fault(
        "dropout is drawn again in the backward pass",
        dropout,
        "dW = h.T",
        "dW = (X * (np.random.default_rng().uniform(size=X.shape) < 0.8) / 0.8).T",
        ("W",),
        RANDOM,
    ),
    Fault(
        "pixels are drawn without a seed",
        elbo,
        "nll(logits, X)",
        "nll(logits, np.random.default_rng().uniform(size=X.shape) < X)",
        ("fn",),
        RANDOM,
    ),
    Fault(
        "a buffer keeps the gradient of the last call",
        affine_layer,
        "dW = X.T @ dy",
        'dW = STATE["dW"] = X.T @ dy + STATE.get("dW", 0)',
        ("W",),
        RANDOM,
    ),
    Fault(
        "the parameters are moved by the call",
        affine_layer,
        'y = X @ p["W"]',
        'p["b"][...] -= 0.1\n    y = X @ p["W"]',
        ("b",),
        r"\bchanges\b|\bmodified\b",
    ),
    Fault(
        "a running average moves with each call",
        affine_layer,
        "difference = h - TARGETS",
        'STATE["n"] = STATE.get("n", 0) + 1\n    difference = h - TARGETS * (1 - 0.9 ** STATE["n"])',
        ("fn",),
        RANDOM,
    ),
)

MEANING = (  # the gradients are those of the wrong value, so that nothing is off but what is computed
    Fault(
        "z has a variance for a standard deviation",
        sample,
        "np.exp(logvar / 2)",
        "np.exp(logvar)",
        ("sampler",),
        r"exp\(logvar\): exp\(logvar / 2\)",
    ),
    Fault("half the noise", sample, "* eps", "* eps / 2", ("sampler",), r"exp\(logvar / 2\) / 2"),
    Fault("no noise", sample, "* eps", "* eps * 0", ("sampler",), "standard deviation is 0"),
    Fault("one noise for the whole batch", sample, "* eps", "* eps[..., :1, :]", ("sampler",), "over the batch"),
    Fault("the KL without 1/2", kl, "axis=-1) / 2", "axis=-1)", ("KL",), "1/2 is missing"),
    Fault("the entropy's sign in the KL", kl, "- 1 - logvar", "- 1 + logvar", ("KL",), "wrong sign"),
    Fault("the KL without -1", kl, "np.exp(logvar) - 1", "np.exp(logvar)", ("KL",), "lacks the -1"),
    Fault(
        "the KL of log std",
        kl,
        "np.exp(logvar) - 1 - logvar",
        "np.exp(2 * logvar) - 1 - 2 * logvar",
        ("KL",),
        r"of a standard deviation exp\(logvar\)",
    ),
    Fault("the KL's mean over the latents", kl, "np.sum", "np.mean", ("KL",), "number of latents: a mean"),
    Fault(
        "the KL of p from q",
        kl,
        "mu * mu + np.exp(logvar) - 1 - logvar",
        "(mu * mu + 1) * np.exp(-logvar) - 1 + logvar",
        ("KL",),
        r"KL\(p\(z\) \|\| q\(z\|x\)\)",
    ),
    Fault(
        "the KL is divided by batch and pixels",
        loss,
        "kl(mu, logvar))",
        "kl(mu, logvar) / (B * D))",
        ("KL",),
        r"is 7 examples \* 11 inputs",
    ),
    Fault("the KL has a weight of 4", loss, "kl(mu, logvar))", "4 * kl(mu, logvar))", ("KL",), "is 4 times"),
    Fault("the KL is forgotten", loss, " + kl(mu, logvar))", ")", ("KL",), "is missing"),
    Fault("a mean over the pixels", nll, "np.sum", "np.mean", ("reconstruction",), "number of inputs: a mean"),
    Fault(
        "the cross entropy's second half is forgotten",
        nll,
        "log1pexp(logits) - x * logits",
        "x * log1pexp(-logits)",
        ("reconstruction",),
        r"\(1 - x\) log\(1 - p\)",
    ),
    Fault(
        "cross entropy of clipped probabilities",
        nll,
        "np.sum(log1pexp(logits) - x * logits, axis=-1)",
        "-np.sum(x * np.log(np.clip(sigmoid(logits), 1e-7, 1)) + (1 - x) * np.log(np.clip(1 - sigmoid(logits), 1e-7, 1)), axis=-1)",
        ("reconstruction",),
        "gradient|clip|saturated",
    ),
    Fault("a sum over the batch", loss, "np.mean", "np.sum", ("batch",), "number of examples: a sum"),
    Fault(
        "the mean of mu over the batch is subtracted",
        encode,
        'h @ p["W_mu"]',
        'h @ p["W_mu"] - (h @ p["W_mu"]).mean(axis=0)',
        ("batch",),
        "over the batch",
    ),
)


# ---------------------------------------------------------------------------------------- right functions

UNIFORM = np.random.default_rng(2).uniform(-1.5, 1.5, (4, 3))
BOUNDARY = "kink|not smooth|not differentiable"
RIGHT = (
    *(Right(function.__name__.replace("_", " "), function, point) for function, point in functions.POINTS.items()),
    Right("a kink at a distance of 3e-7", ramps, {"x": np.array([0.7, 3e-7, -0.4, -3e-7, 1.1])}),
    Right("a kink at the point", ramps, {"x": np.array([0.7, 0.0, -0.4])}, BOUNDARY),
    Right("no second derivative", square_with_its_sign, {"x": np.array([0.5, 0.0, -0.3])}),
    Right("single precision inside", in_single_precision, {"x": UNIFORM}, "single precision|float32"),
    Right("a gradient in single precision", with_single_gradients, {"x": UNIFORM}),
    Right("a constant of 1e8", beside_a_constant, {"x": UNIFORM}),
    Right("saturated logits", saturated, {"x": np.array([-40.0, -20.0, 0.5, 20.0, 40.0])}),
    Right("elements from 1e-6 to 1e6", squared_length, {"x": 10.0 ** np.arange(-6, 7)}),
    Right("an unused parameter", with_an_unused_parameter, {"x": UNIFORM, "V": UNIFORM[0].copy()}),
    Right("a wave of 300", steep, {"x": UNIFORM}),
    Right("a step 1e-4 wide", narrow, {"x": np.array([3e-5, -5e-5, 8e-5])}),
    Right("a logarithm near 0", logarithm, {"x": np.array([1e-6, 3e-5, 0.2, 4.0])}),
    Right("an arccosine near 1", arccosine, {"x": np.array([0.3, 1 - 1e-9])}, BOUNDARY),
    Right("a value of shape (1, 1)", in_a_matrix, {"x": UNIFORM}),
    Right("a number as the parameter", sine, {"x": np.array(0.7)}),
    Right("no elements", sine, {"x": np.zeros((0, 3))}, "only supports"),
    Right("a stationary point", sine, {"x": np.full(3, np.pi / 2)}),
    Right("a view with steps backwards", sine, {"x": UNIFORM[::-1, ::2].T}),
    Right("a buffer that the next call fills", in_its_own_buffer, {"x": UNIFORM}),
    Right("sums in the order of the threads", by_threads, {"x": UNIFORM}),
    Right("scores of -infinity", masked_softmax, {"x": UNIFORM}),
    Right("elements of 1e12", far_from_0, {"x": np.array([1e12, -3e12])}),
    Right("a function of SciPy", log_gamma, {"x": np.abs(UNIFORM) + 0.3}),
    Right("an eigenvalue", largest_eigenvalue, {"A": UNIFORM @ UNIFORM.T + np.eye(4)}),
    Right("a solution by bisection", by_bisection, {"x": UNIFORM}),
    Right("an argument that is changed and changed back", in_place_and_back, {"x": 2.0 ** np.arange(-2, 3)}),
    Right("noise whose seed is the same in each call", reseeded, {"x": UNIFORM}),
)
