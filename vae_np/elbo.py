"""The text of the model: forward, backward and the gradients of the weights, line by line.

A line calls an operation; its formula stands in `kernels.reference`. The last arguments say where the results go: `a`
holds the values and `d` their derivatives under the same names, so that d.z is d loss / d z. B examples, D inputs, H
hidden units, Z latents, L samples of each example; K is L where the KL is sampled, and 1 where it is in closed form.

The text names no backend, activation, likelihood, objective or estimator. `bind` looks its names up in a table and so chooses
all of them at once: it makes a Model of the text. Python runs the lines, whatever runs the operations; Numba can compile
them whole.
"""

import functools
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vae_np import blas, kernels
from vae_np.architecture import Architecture, check_choice, check_finite, check_number
from vae_np.buffers import Buffers, buffers
from vae_np.choices import ESTIMATORS, NOISES, OBJECTIVES
from vae_np.kernels import contract
from vae_np.parameters import Parameters

if TYPE_CHECKING:  # an editor's way to the definitions; of the names that `bind` chooses, to one that it may choose
    from vae_np.kernels.reference import (
        affine,
        affine_backward,
        affine_backward_add,
        affine_gradients,
        reparameterize,
        reparameterize_backward_add,
    )
    from vae_np.kernels.reference import affine_relu as affine_activation
    from vae_np.kernels.reference import bernoulli_nll as likelihood_nll
    from vae_np.kernels.reference import bernoulli_nll_backward as likelihood_nll_backward
    from vae_np.kernels.reference import constant as output_logvar_layer
    from vae_np.kernels.reference import constant_backward_add as output_logvar_layer_backward_add
    from vae_np.kernels.reference import constant_gradients as output_logvar_layer_gradients
    from vae_np.kernels.reference import elbo as bound
    from vae_np.kernels.reference import elbo_backward as bound_backward
    from vae_np.kernels.reference import gaussian_kl as divergence
    from vae_np.kernels.reference import gaussian_kl_backward as divergence_backward
    from vae_np.kernels.reference import relu_backward as activation_backward
    from vae_np.kernels.reference import unit_path_weight as path_weight

    n_hidden = 1

# ---------------------------------------------------------------------------------------------------------- the text


def encoder(p, a):
    """x -> mu, logvar of q(z|x) = N(mu, exp(logvar))"""
    h = a.x                                                                                         # (B, D)
    for i in range(n_hidden):
        h = affine_activation(h, p.encoder[i].W, p.encoder[i].b, a.encoder_y[i], a.encoder[i + 1])  # (B, H)
    mu = affine(h, p.mu.W, p.mu.b, a.mu)                                                            # (B, Z)
    logvar = affine(h, p.logvar.W, p.logvar.b, a.logvar)                                            # (B, Z)
    return mu, logvar


def decoder(p, a):
    """z -> output, output_logvar of p(x|z): the logits of x, or its mean and its log-variance"""
    h = a.z                                                                                         # (L, B, Z)
    for i in range(n_hidden):
        h = affine_activation(h, p.decoder[i].W, p.decoder[i].b, a.decoder_y[i], a.decoder[i + 1])  # (L, B, H)
    output = affine(h, p.output.W, p.output.b, a.output)                                            # (L, B, D)
    output_logvar = output_logvar_layer(h, p.output_logvar.W, p.output_logvar.b, a.output_logvar)   # (L, B, D or 1)
    return output, output_logvar


def forward(p, a, beta):
    """x, eps -> the loss of each example in nats: at beta = 1 a bound on -log p(x)"""
    mu, logvar = encoder(p, a)                                                                      # (B, Z)
    z = reparameterize(mu, logvar, a.eps, a.z)                                                      # (L, B, Z)
    output, output_logvar = decoder(p, a)                                                           # (L, B, D), (L, B, D or 1)
    nll = likelihood_nll(output, output_logvar, a.x, a.nll)                                         # (L, B)
    kl = divergence(mu, logvar, a.eps, z, a.kl)                                                     # (K, B)
    return bound(nll, kl, beta, a.loss)                                                             # (B,)


def backward(p, a, d, beta, n_examples):
    """The lines of `forward` read upwards: from the loss's mean over n_examples to the derivative of every layer's result.

    n_examples is B, or more where a holds a slice of a batch: no line but the first looks beyond its own example.
    """
    # What each sample weighs in the loss: 1 / (L B) where the bound is a plain mean, or else its importance weight.
    dnll, dkl = bound_backward(a.nll, a.kl, beta, n_examples, d.nll, d.kl)                          # (L, B), (K, B)
    doutput, doutput_logvar = likelihood_nll_backward(
        dnll, a.output, a.output_logvar, a.x, d.output, d.output_logvar)                            # (L, B, D), (L, B, D or 1)

    # The decoder, from its two results down to z. h = f(y), y = h_below @ W + b; dy takes the place of dh.
    dh = affine_backward(doutput, p.output.W, d.decoder[n_hidden])                                  # (L, B, H)
    dh = output_logvar_layer_backward_add(doutput_logvar, p.output_logvar.W, dh)                    # (L, B, H)
    for i in range(n_hidden - 1, -1, -1):
        dy = activation_backward(dh, a.decoder_y[i], a.decoder[i + 1])                              # (L, B, H)
        dh = affine_backward(dy, p.decoder[i].W, d.decoder[i])                                      # (L, B, H or Z)

    # Two paths lead to mu and logvar: from the KL, and through the sample z, where one estimator weighs the samples anew.
    dz, dmu, dlogvar = divergence_backward(dkl, a.mu, a.logvar, a.eps, a.z, dh, d.mu, d.logvar)     # (L, B, Z), (B, Z)
    dz = path_weight(dnll, beta, n_examples, dz)                                                    # (L, B, Z)
    dmu, dlogvar = reparameterize_backward_add(dz, a.mu, a.logvar, a.eps, dmu, dlogvar)             # (B, Z)

    # The encoder, from its two heads down to its first layer; x itself takes no derivative.
    dh = affine_backward(dmu, p.mu.W, d.encoder[n_hidden])                                          # (B, H)
    dh = affine_backward_add(dlogvar, p.logvar.W, dh)                                               # (B, H)
    for i in range(n_hidden - 1, -1, -1):
        dy = activation_backward(dh, a.encoder_y[i], a.encoder[i + 1])                              # (B, H)
        if i > 0:
            dh = affine_backward(dy, p.encoder[i].W, d.encoder[i])                                  # (B, H)


def weight_gradients(p, a, d, g, l2):
    """dW = h.T @ dy + l2 W and db = sum of dy, for every layer y = h @ W + b: nothing but stored values is needed."""
    h, top = a.encoder, a.encoder[n_hidden]
    for i in range(n_hidden):
        affine_gradients(h[i], d.encoder[i + 1], p.encoder[i].W, l2, g.encoder[i].W, g.encoder[i].b)  # (D or H, H), (H,)
    affine_gradients(top, d.mu, p.mu.W, l2, g.mu.W, g.mu.b)                                           # (H, Z), (Z,)
    affine_gradients(top, d.logvar, p.logvar.W, l2, g.logvar.W, g.logvar.b)                           # (H, Z), (Z,)

    h, top = a.decoder, a.decoder[n_hidden]
    for i in range(n_hidden):
        affine_gradients(h[i], d.decoder[i + 1], p.decoder[i].W, l2, g.decoder[i].W, g.decoder[i].b)  # (Z or H, H), (H,)
    affine_gradients(top, d.output, p.output.W, l2, g.output.W, g.output.b)                           # (H, D), (D,)
    output_logvar_layer_gradients(
        top, d.output_logvar, p.output_logvar.W, l2, g.output_logvar.W, g.output_logvar.b)            # (H, D), (D or 1,)


TEXT = (encoder, decoder, forward, backward, weight_gradients)


# --------------------------------------------------------------------------------- the model: the text and its operations


class Model(NamedTuple):
    """The functions of the text with the meaning of every name fixed: one model, on one kernel set.

    zeros, put and get make the arrays of the kernel set, and NumPy's arrays of them; mean makes the mean of p(x|z) of the
    decoder's output.
    """

    kernels: contract.KernelSet
    zeros: Callable[..., Any]
    put: Callable[..., Any]
    get: Callable[..., NDArray]
    encoder: Callable[..., Any]
    decoder: Callable[..., Any]
    forward: Callable[..., Any]
    backward: Callable[..., Any]
    weight_gradients: Callable[..., Any]
    mean: Callable[..., Any]


def bind(
    architecture: Architecture,
    objective: str = "elbo",
    backend: contract.Backend = "numpy",
    text: tuple[types.FunctionType, ...] = TEXT,
    precision: str = contract.FULL,
    estimator: str = "total",
) -> Model:
    """The Model of an architecture and an objective on a backend; text: the functions, where some are your own."""
    check_choice("objective", objective, OBJECTIVES)
    check_choice("estimator", estimator, ESTIMATORS)
    if objective not in ESTIMATORS[estimator].operations:
        names = ", ".join(repr(name) for name, record in ESTIMATORS.items() if objective in record.operations)
        raise ValueError(f"estimator is {estimator!r}, which objective {objective!r} does not have; it has {names}")
    choices = {
        "divergence": OBJECTIVES[objective].divergence,
        "bound": OBJECTIVES[objective].bound,
        "affine_activation": f"affine_{architecture.activation}",
        "activation": architecture.activation,
        "likelihood_nll": f"{architecture.likelihood}_nll",
        "likelihood_mean": f"{architecture.likelihood}_mean",
        "output_logvar_layer": "affine" if NOISES[architecture.noise].per_input else "constant",
        "path_weight": "unit_path_weight",
        **ESTIMATORS[estimator].operations[objective],
    }
    return _bind(kernels.load(backend, precision), tuple(choices.items()), len(architecture.hidden), text)


@functools.cache
def _bind(kernel_set, choices, n_hidden, text):
    others = [function.__globals__ for function in text if function not in TEXT]  # what a text of one's own calls besides
    names = {name: value for scope in (*others, vars(kernel_set)) for name, value in scope.items()} | {"n_hidden": n_hidden}
    for name, operation in choices:
        for ending in contract.ENDINGS:
            if operation + ending in contract.OPERATIONS:
                names[name + ending] = names[operation + ending]
    for function in text:
        names[function.__name__] = types.FunctionType(function.__code__, names, closure=function.__closure__)
    functions = {function.__name__: names[function.__name__] for function in text}
    zeros, put, get = kernel_set.zeros, kernel_set.put, kernel_set.get
    return Model(kernels=kernel_set, zeros=zeros, put=put, get=get, **functions, mean=names["likelihood_mean"])


# ----------------------------------------------------------------------------------------------- the public functions


class Value(NamedTuple):
    """A loss and its terms in nats: total = reconstruction + beta kl + l2, the first two means over batch and samples.

    With importance weights the total is at most that sum (Jensen's inequality); the difference is what more samples gain.
    """

    total: float
    reconstruction: float
    kl: float
    l2: float
    per_example: NDArray  # (B,)


def value_of(model: Model, p: Parameters, a: Buffers, l2: float) -> Value:
    """The Value of a pass that `forward` has filled; means are taken in double precision."""
    losses, *terms = map(model.get, (a.loss, a.nll, a.kl))
    bound, reconstruction, kl = (float(array.mean(dtype=np.float64)) for array in (losses, *terms))
    weights = p.moved(model.get).weights.values() if l2 else ()
    penalty = float(l2) / 2 * sum(float(np.vdot(W, W)) for W in weights)
    return Value(bound + penalty, reconstruction, kl, penalty, losses)


@blas.limited()
def loss_and_gradients(
    p: Parameters,
    x: ArrayLike,
    eps: ArrayLike,
    beta: float = 1.0,
    l2: float = 0.0,
    objective: str = "elbo",
    backend: contract.Backend = "numpy",
    precision: str = contract.FULL,
    estimator: str = "total",
) -> tuple[Value, Parameters]:
    """The loss in nats and its gradient by every parameter.

    loss = mean over the batch of (nll + beta kl) + (l2 / 2) sum of squared weights. It is computed in the dtype of p. The same
    arguments give the same bits, on any number of threads. A term that is beyond the range of the dtype is not finite.

    At a lower precision the elements of both operands of every matrix product, x @ W, dy @ W.T and x.T @ dy, are rounded to
    fewer significant bits: to nearest, ties to even. Nothing else is rounded, so that sums and weights keep the dtype of p.
    The derivative of the rounding is taken as 1.

    With an estimator other than "total" the gradient by the encoder's parameters is not the derivative of the loss for these
    samples. It is another estimate of the derivative of the mean loss over all eps: `docs/estimators.md` compares them.

    Parameters
    ----------
    p : Parameters
        The parameters of the model.
    x : array (B, D)
        The batch. Bytes stand for 0 to 1 in steps of 1/255.
    eps : array (L, B, Z) or (B, Z)
        The noise of z = mu + exp(logvar / 2) eps: standard normal, or 0 for a plain autoencoder.
    beta, l2 : float
        The weight of the KL, and that of half the sum of the squared weights (biases are not decayed).
    objective : {"elbo", "elbo_mc", "iwae"}
        The bound: the KL in closed form, the KL of the samples, or importance weights.
    backend : str or module
        "numpy", "numba", "cupy", "auto" for the fastest of them that works here, or a kernel set of your own.
    precision : {"float32", "bfloat16", "tfloat32"}
        To how many bits operands are rounded: "bfloat16" to 8, "tfloat32" to 11, and "float32", also where p is float64, not at
        all. `vae-np backends` says which of them a backend has.
    estimator : {"total", "path", "dreg", "score", "vimco"}
        The estimator of the gradient by the encoder's parameters: the derivative of the loss, for any objective; that derivative
        without the score of q, for "elbo_mc" and "iwae", where it is biased; doubly reparameterized, for "iwae"; the score
        function, for "elbo_mc" (with a leave-one-out baseline) and "iwae" (without one); or VIMCO, the score function with a
        leave-one-out baseline, for "iwae".

    Returns
    -------
    value : Value
        The loss (total), its terms (reconstruction, kl, l2) and the loss of each example, per_example (B,).
    g : Parameters
        The gradient: g["mu.W"] is d total / d p["mu.W"].

    Raises
    ------
    TypeError, ValueError
        An argument is of the wrong kind, shape or range, or the backend lacks the precision.
    RuntimeError
        The backend cannot run here.

    References
    ----------
    Kingma & Welling 2014 (arXiv 1312.6114), eq. 10 ("elbo") and 6 ("elbo_mc"); Burda, Grosse & Salakhutdinov 2016 (arXiv
    1509.00519), eq. 8 ("iwae"). Roeder, Wu & Duvenaud 2017 (arXiv 1703.09194), for "path"; Tucker et al. 2018 (arXiv
    1810.04152), for "dreg"; Mnih & Rezende 2016 (arXiv 1602.06725), for "vimco". Kalamkar et al. 2019 (arXiv 1905.12322), for
    training with operands in bfloat16.

    Examples
    --------
    >>> import numpy as np
    >>> from vae_np import Architecture, Parameters, loss_and_gradients
    >>> p = Parameters.initialize(Architecture(n_inputs=4, hidden=(3,), n_latent=2))
    >>> value, g = loss_and_gradients(p, x=np.eye(4), eps=np.zeros((4, 2)))
    >>> g["mu.W"].shape
    (3, 2)
    >>> abs(value.total - (value.reconstruction + value.kl)) < 1e-12
    True
    """
    model, p, a, beta, l2 = prepare(p, x, eps, beta, l2, objective, backend, precision=precision, estimator=estimator)
    L, B, _ = a.eps.shape
    d = buffers(p.architecture, objective, L, B, p.flat.dtype, model.zeros)
    g = Parameters(p.architecture, model.zeros(p.flat.shape, p.flat.dtype))
    model.forward(p.layers, a, beta)
    model.backward(p.layers, a, d, beta, B)
    model.weight_gradients(p.layers, a, d, g.layers, l2)
    return value_of(model, p, a, l2), g.moved(model.get)


@blas.limited()
def loss(
    p: Parameters,
    x: ArrayLike,
    eps: ArrayLike,
    beta: float = 1.0,
    l2: float = 0.0,
    objective: str = "elbo",
    backend: contract.Backend = "numpy",
    precision: str = contract.FULL,
) -> Value:
    """The Value of `loss_and_gradients` without the gradient; the arguments and errors are the same."""
    model, p, a, beta, l2 = prepare(p, x, eps, beta, l2, objective, backend, precision=precision)
    model.forward(p.layers, a, beta)
    return value_of(model, p, a, l2)


@blas.limited()
def encode(p: Parameters, x: ArrayLike, backend: contract.Backend = "numpy") -> tuple[NDArray, NDArray]:
    """x (B, D) -> mu, logvar (B, Z) of q(z|x) = N(mu, exp(logvar))

    Parameters
    ----------
    p : Parameters
        The parameters of the model.
    x : array (B, D)
        The rows. They are encoded in chunks, so that memory does not grow with their number.
    backend : str or module
        As for `loss_and_gradients`.

    Returns
    -------
    mu, logvar : array (B, Z)
        The mean of q(z|x), and the logarithm of its variance.
    """
    check_parameters(p)
    model, x = bind(p.architecture, backend=backend), p.architecture.check_inputs(x)
    mu, logvar = (np.empty((len(x), p.architecture.n_latent), p.flat.dtype) for _ in range(2))
    layers = p.moved(model.put).layers
    buffers_of = functools.cache(lambda n: buffers(p.architecture, "elbo", 0, n, p.flat.dtype, model.zeros))
    for rows in chunks(len(x)):
        chunk = model.put(x[rows])
        a = buffers_of(len(chunk))
        model.kernels.gather(chunk, model.put(np.arange(len(chunk))), a.x)
        model.encoder(layers, a)
        mu[rows], logvar[rows] = model.get(a.mu), model.get(a.logvar)
    return mu, logvar


@blas.limited()
def decode(p: Parameters, z: ArrayLike, backend: contract.Backend = "numpy") -> NDArray:
    """z (B, Z) -> the mean of p(x|z), (B, D): under the Bernoulli likelihood it is the probability of a 1."""
    check_parameters(p)
    model = bind(p.architecture, backend=backend)
    z = check_finite("z", z, f"(B, {p.architecture.n_latent})", lambda shape: shape[1:] == (p.architecture.n_latent,))
    mean = np.empty((len(z), p.architecture.n_inputs), p.flat.dtype)
    layers = p.moved(model.put).layers
    means = functools.cache(lambda n: model.zeros((1, n, p.architecture.n_inputs), p.flat.dtype))
    buffers_of = functools.cache(lambda n: buffers(p.architecture, "elbo", 1, n, p.flat.dtype, model.zeros))
    for rows in chunks(len(z), CHUNK // 2):  # fewer: NumPy makes several arrays of their size on the way to a mean
        chunk = model.put(np.array(z[None, rows], p.flat.dtype, order="C"))
        output, _ = model.decoder(layers, buffers_of(chunk.shape[1])._replace(z=chunk))
        mean[rows] = model.get(model.mean(output, means(chunk.shape[1])))[0]
    return mean


CHUNK = 1024  # rows are encoded, decoded and scored in chunks of this size, so that memory does not grow with their number


def chunks(n: int, size: int | None = None) -> Iterator[slice]:
    """Slices of range(n), each but the last of that many rows, by default CHUNK."""
    size = size or CHUNK
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def prepare(
    p: Parameters,
    x: ArrayLike,
    eps: ArrayLike,
    beta: float,
    l2: float,
    objective: str,
    backend: contract.Backend,
    text: tuple[types.FunctionType, ...] = TEXT,
    precision: str = contract.FULL,
    estimator: str = "total",
) -> tuple[Model, Parameters, Buffers, Any, Any]:
    """The checked arguments of a pass: the model, p and the buffers with x and eps where it reads them, beta and l2."""
    check_parameters(p)
    arch, real = p.architecture, p.flat.dtype.type
    model = bind(arch, objective, backend, text, precision, estimator)
    x = arch.check_inputs(x)
    B, Z = len(x), arch.n_latent
    eps = check_finite("eps", eps, f"({B}, {Z}) or (L, {B}, {Z})", lambda shape: shape[-2:] == (B, Z) and len(shape) in (2, 3))
    eps = np.array(eps.reshape(-1, B, Z), real, order="C")
    a = buffers(arch, objective, len(eps), len(x), real, model.zeros)._replace(eps=model.put(eps))
    model.kernels.gather(model.put(x), model.put(np.arange(len(x))), a.x)
    return model, p.moved(model.put), a, real(check_number("beta", beta)), real(check_number("l2", l2))


def check_parameters(p: object) -> None:
    """TypeError unless p is Parameters."""
    if not isinstance(p, Parameters):
        raise TypeError(f"p is a {type(p).__name__}; it must be Parameters")
