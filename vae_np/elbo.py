"""The text of the model: forward, backward and the gradients of the weights, line by line.

A line calls an operation; its formula stands in `kernels.reference`. The last arguments say where the results go: `a`
holds the values and `d` their derivatives under the same names, so that d.z is d loss / d z. B examples, D inputs, H
hidden units, Z latents, L samples of each example; K is L where the KL is sampled, and 1 where it is in closed form.

The text names no backend, activation, likelihood or objective. `bind` looks its names up in a table and so chooses
all of them at once. Python runs the lines, whatever runs the operations; they are such that Numba can compile the
bound functions whole.
"""

import functools
import types
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vae_np import blas, kernels
from vae_np.architecture import check_choice, check_number
from vae_np.kernels import reference
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
    from vae_np.kernels.reference import constant as noise_layer
    from vae_np.kernels.reference import constant_backward_add as noise_layer_backward_add
    from vae_np.kernels.reference import constant_gradients as noise_layer_gradients
    from vae_np.kernels.reference import elbo as bound
    from vae_np.kernels.reference import elbo_backward as bound_backward
    from vae_np.kernels.reference import gaussian_kl as divergence
    from vae_np.kernels.reference import gaussian_kl_backward as divergence_backward
    from vae_np.kernels.reference import relu_backward as activation_backward

    n_hidden = 1

# ---------------------------------------------------------------------------------------------------------- the text


def encoder(p, a):
    """x -> mu, logvar of q(z|x) = N(mu, exp(logvar))"""
    h = a.x                                                                                       # (B, D)
    for i in range(n_hidden):
        h = affine_activation(h, p.encoder[i].W, p.encoder[i].b, a.encoder[i + 1])                # (B, H)
    mu = affine(h, p.mu.W, p.mu.b, a.mu)                                                          # (B, Z)
    logvar = affine(h, p.logvar.W, p.logvar.b, a.logvar)                                          # (B, Z)
    return mu, logvar


def decoder(p, a):
    """z -> output, noise of p(x|z): the logits of x, or its mean and its log-variance"""
    h = a.z                                                                                       # (L, B, Z)
    for i in range(n_hidden):
        h = affine_activation(h, p.decoder[i].W, p.decoder[i].b, a.decoder[i + 1])                # (L, B, H)
    output = affine(h, p.output.W, p.output.b, a.output)                                          # (L, B, D)
    noise = noise_layer(h, p.noise.W, p.noise.b, a.noise)                                         # (L, B, D or 1)
    return output, noise


def forward(p, a, beta):
    """x, eps -> the loss of each example in nats: at beta = 1 a bound on -log p(x)"""
    mu, logvar = encoder(p, a)                                                                    # (B, Z)
    z = reparameterize(mu, logvar, a.eps, a.z)                                                    # (L, B, Z)
    output, noise = decoder(p, a)                                                                 # (L, B, D), (L, B, D or 1)
    nll = likelihood_nll(output, noise, a.x, a.nll)                                               # (L, B)
    kl = divergence(mu, logvar, a.eps, z, a.kl)                                                   # (K, B)
    return bound(nll, kl, beta, a.loss)                                                           # (B,)


def backward(p, a, d, beta, n_examples):
    """The lines of `forward` read upwards: from the loss's mean over n_examples to the derivative of every layer's result.

    n_examples is B, or more where a holds a part of a batch: no line but the first looks beyond its own example.
    """
    # What each sample weighs in the loss: 1 / (L B) where the bound is a plain mean, its importance weight in "iwae".
    dnll, dkl = bound_backward(a.nll, a.kl, beta, n_examples, d.nll, d.kl)                        # (L, B), (K, B)
    doutput, dnoise = likelihood_nll_backward(dnll, a.output, a.noise, a.x, d.output, d.noise)    # (L, B, D), (L, B, D or 1)

    # The decoder, from its two results down to z. h = f(y), y = h_below @ W + b; dy takes the place of dh.
    dh = affine_backward(doutput, p.output.W, d.decoder[n_hidden])                                # (L, B, H)
    dh = noise_layer_backward_add(dnoise, p.noise.W, dh)                                          # (L, B, H)
    for i in range(n_hidden - 1, -1, -1):
        dy = activation_backward(dh, a.decoder[i + 1])                                            # (L, B, H)
        dh = affine_backward(dy, p.decoder[i].W, d.decoder[i])                                    # (L, B, H or Z)

    # Two paths lead to mu and logvar: from the KL, and through the sample z.
    dz, dmu, dlogvar = divergence_backward(dkl, a.mu, a.logvar, a.eps, a.z, dh, d.mu, d.logvar)   # (L, B, Z), (B, Z)
    dmu, dlogvar = reparameterize_backward_add(dz, a.mu, a.logvar, a.eps, dmu, dlogvar)           # (B, Z)

    # The encoder, from its two heads down to its first layer; x itself takes no derivative.
    dh = affine_backward(dmu, p.mu.W, d.encoder[n_hidden])                                        # (B, H)
    dh = affine_backward_add(dlogvar, p.logvar.W, dh)                                             # (B, H)
    for i in range(n_hidden - 1, -1, -1):
        dy = activation_backward(dh, a.encoder[i + 1])                                            # (B, H)
        if i > 0:
            dh = affine_backward(dy, p.encoder[i].W, d.encoder[i])                                # (B, H)


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
    noise_layer_gradients(top, d.noise, p.noise.W, l2, g.noise.W, g.noise.b)                          # (H, D), (D or 1,)


TEXT = (encoder, decoder, forward, backward, weight_gradients)


class Nodes(NamedTuple):
    """The values of one pass, or their derivatives. encoder[0] is x, decoder[0] is z; then come the hidden layers."""

    x: np.ndarray  #       (B, D)
    eps: np.ndarray  #     (L, B, Z)
    encoder: tuple  #      (B, H) each
    mu: np.ndarray  #      (B, Z)
    logvar: np.ndarray  #  (B, Z)
    z: np.ndarray  #       (L, B, Z)
    decoder: tuple  #      (L, B, H) each
    output: np.ndarray  #  (L, B, D)  logits, or the mean of x
    noise: np.ndarray  #   (L, B, 1 or D)  log-variance of x given z
    nll: np.ndarray  #     (L, B)
    kl: np.ndarray  #      (K, B)
    loss: np.ndarray  #    (B,)


def nodes(architecture, objective, n_samples, n_examples, dtype, zeros=np.zeros):
    """Room for the values of a pass, or for their derivatives, in arrays that zeros(shape, dtype) makes."""
    arch, L, B = architecture, n_samples, n_examples

    def array(*shape):
        return zeros(shape, dtype)

    x, z = array(B, arch.n_inputs), array(L, B, arch.n_latent)
    return Nodes(
        x=x,
        eps=array(L, B, arch.n_latent),
        encoder=(x, *(array(B, width) for width in arch.hidden)),
        mu=array(B, arch.n_latent),
        logvar=array(B, arch.n_latent),
        z=z,
        decoder=(z, *(array(L, B, width) for width in reversed(arch.hidden))),
        output=array(L, B, arch.n_inputs),
        noise=array(L, B, arch.n_inputs if arch.noise == "heteroscedastic" else 1),
        nll=array(L, B),
        kl=array(1 if OBJECTIVES[objective]["divergence"] == "gaussian_kl" else L, B),
        loss=array(B),
    )


def part(whole, start, stop):
    """The Nodes of the examples from start to stop, in the memory of those of a batch.

    The samples of a part stand together, and those of the next part follow: to `weight_gradients`, which takes every
    sample for a row, all parts are again the whole.
    """

    def of_examples(array):  # (B, ..)
        return array[start:stop]

    def of_samples(array):  # (L, B, ..)
        L, _, *rest = array.shape
        return array.reshape(-1, *rest)[L * start : L * stop].reshape(L, stop - start, *rest)

    by_example = {name: of_examples(getattr(whole, name)) for name in ("x", "mu", "logvar", "loss")}
    by_sample = {name: of_samples(getattr(whole, name)) for name in ("eps", "z", "output", "noise", "nll", "kl")}
    encoder, decoder = tuple(map(of_examples, whole.encoder)), tuple(map(of_samples, whole.decoder))
    return Nodes(encoder=encoder, decoder=decoder, **by_example, **by_sample)


# ------------------------------------------------------------------------------------- the names, and what they mean

OBJECTIVES = {  # name: its KL, and how its samples are weighed
    "elbo": {"divergence": "gaussian_kl", "bound": "elbo"},
    "elbo_mc": {"divergence": "sampled_kl", "bound": "elbo"},
    "iwae": {"divergence": "sampled_kl", "bound": "iwae"},
}


def bind(architecture, objective="elbo", backend="numpy", text=TEXT):
    """The text with every name's meaning fixed: a Bound whose functions run on that backend."""
    check_choice("objective", objective, OBJECTIVES)
    choices = {
        **OBJECTIVES[objective],
        "affine_activation": f"affine_{architecture.activation}",
        "activation": architecture.activation,
        "likelihood_nll": f"{architecture.likelihood}_nll",
        "likelihood_mean": f"{architecture.likelihood}_mean",
        "noise_layer": "affine" if architecture.noise == "heteroscedastic" else "constant",
    }
    return _bind(kernels.load(backend), tuple(choices.items()), len(architecture.hidden), text)


class Bound(NamedTuple):
    """The functions of the text, bound; `mean` makes the mean of p(x|z) of the decoder's output.

    zeros, put and get make the arrays of the kernel set, and NumPy's of them; those of the reference where a set has none.
    """

    kernels: object
    zeros: object
    put: object
    get: object
    encoder: object
    decoder: object
    forward: object
    backward: object
    weight_gradients: object
    mean: object


@functools.cache
def _bind(kernel_set, choices, n_hidden, text):
    others = [function.__globals__ for function in text if function not in TEXT]  # what a text of one's own calls besides
    names = {name: value for scope in (*others, vars(kernel_set)) for name, value in scope.items()} | {"n_hidden": n_hidden}
    for name, operation in choices:
        for ending in ("", "_backward", "_backward_add", "_gradients"):
            if hasattr(kernel_set, operation + ending):
                names[name + ending] = getattr(kernel_set, operation + ending)
    for function in text:
        names[function.__name__] = types.FunctionType(function.__code__, names, closure=function.__closure__)
    arrays = (getattr(kernel_set, name, getattr(reference, name)) for name in ("zeros", "put", "get"))
    return Bound(kernel_set, *arrays, *(names[function.__name__] for function in text), names["likelihood_mean"])


# ----------------------------------------------------------------------------------------------- the public functions


class Value(NamedTuple):
    """A loss and its terms in nats: total = reconstruction + beta kl + l2, the first two means over batch and samples.

    Under "iwae" the total is at most that sum (Jensen's inequality); what it is less by is what more samples gain.
    """

    total: float
    reconstruction: float
    kl: float
    l2: float
    per_example: np.ndarray


def value_of(text, p, a, l2):
    """The Value of a pass that `forward` has filled; means are taken in double precision."""
    losses, *terms = map(text.get, (a.loss, a.nll, a.kl))
    bound, reconstruction, kl = (float(array.mean(dtype=np.float64)) for array in (losses, *terms))
    weights = [W for name, W in p.moved(text.get).items() if name.endswith(".W")] if l2 else []
    penalty = float(l2) / 2 * sum(float(np.vdot(W, W)) for W in weights)
    return Value(bound + penalty, reconstruction, kl, penalty, losses)


@blas.limited()
def loss_and_gradients(p, x, eps, beta=1.0, l2=0.0, objective="elbo", backend="numpy"):
    """The loss in nats and its gradient: (Value, Parameters).

    loss = mean over the batch of (nll + beta kl) + (l2 / 2) sum of squared weights. x (B, D); eps (L, B, Z) or (B, Z),
    standard normal, or 0 for a plain autoencoder. objective: "elbo" takes the KL in closed form, "elbo_mc" from the
    samples (Kingma & Welling 2014, eq. 10 and 6), and "iwae" is the importance-weighted bound (Burda et al. 2016, eq. 8).
    Runs in the dtype of p. The same arguments give the same bits, on any number of threads. Where a term is beyond the
    range of the dtype, it is not finite.

    TypeError, ValueError: an argument of the wrong kind, shape or range. RuntimeError: the backend cannot run here.
    """
    text, p, a, beta, l2 = _prepare(p, x, eps, beta, l2, objective, backend)
    d = nodes(p.architecture, objective, *a.eps.shape[:2], p.flat.dtype, text.zeros)
    g = Parameters(p.architecture, text.zeros(p.flat.shape, p.flat.dtype))
    text.forward(p.layers, a, beta)
    text.backward(p.layers, a, d, beta, len(a.x))
    text.weight_gradients(p.layers, a, d, g.layers, l2)
    return value_of(text, p, a, l2), g.moved(text.get)


@blas.limited()
def loss(p, x, eps, beta=1.0, l2=0.0, objective="elbo", backend="numpy"):
    """The Value of `loss_and_gradients` without the gradient; the same arguments."""
    text, p, a, beta, l2 = _prepare(p, x, eps, beta, l2, objective, backend)
    text.forward(p.layers, a, beta)
    return value_of(text, p, a, l2)


@blas.limited()
def encode(p, x, backend="numpy"):
    """x (B, D) -> mu, logvar (B, Z) of q(z|x) = N(mu, exp(logvar))"""
    _check_parameters(p)
    text, x = bind(p.architecture, backend=backend), p.architecture.check_inputs(x)
    mu, logvar = (np.empty((len(x), p.architecture.n_latent), p.flat.dtype) for _ in range(2))
    layers = p.moved(text.put).layers
    room = functools.cache(lambda n: nodes(p.architecture, "elbo", 0, n, p.flat.dtype, text.zeros))
    for rows in chunks(len(x)):
        some, a = text.put(x[rows]), room(len(x[rows]))
        text.kernels.gather(some, text.put(np.arange(len(some))), a.x)
        text.encoder(layers, a)
        mu[rows], logvar[rows] = text.get(a.mu), text.get(a.logvar)
    return mu, logvar


@blas.limited()
def decode(p, z, backend="numpy"):
    """z (B, Z) -> the mean of p(x|z), (B, D): probabilities under the Bernoulli likelihood"""
    _check_parameters(p)
    text = bind(p.architecture, backend=backend)
    z = _finite("z", z, f"(B, {p.architecture.n_latent})", lambda shape: shape[1:] == (p.architecture.n_latent,))
    mean = np.empty((len(z), p.architecture.n_inputs), p.flat.dtype)
    layers = p.moved(text.put).layers
    means = functools.cache(lambda n: text.zeros((1, n, p.architecture.n_inputs), p.flat.dtype))
    room = functools.cache(lambda n: nodes(p.architecture, "elbo", 1, n, p.flat.dtype, text.zeros))
    for rows in chunks(len(z), CHUNK // 2):  # fewer: NumPy makes several arrays of their size on the way to a mean
        some = text.put(np.array(z[None, rows], p.flat.dtype, order="C"))
        output, _ = text.decoder(layers, room(some.shape[1])._replace(z=some))
        mean[rows] = text.get(text.mean(output, means(some.shape[1])))[0]
    return mean


CHUNK = 1024  # rows at a time, where each goes its own way: so that memory does not grow with their number


def chunks(n, size=None):
    """Slices of range(n), of that many rows (CHUNK, if not said) each but for the last."""
    size = size or CHUNK
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def _prepare(p, x, eps, beta, l2, objective, backend, text=TEXT):
    """The checked arguments of a pass: the bound text, p and the nodes with x and eps where it reads them, beta and l2."""
    _check_parameters(p)
    arch, real = p.architecture, p.flat.dtype.type
    text = bind(arch, objective, backend, text)
    x = arch.check_inputs(x)
    B, Z = len(x), arch.n_latent
    eps = _finite("eps", eps, f"({B}, {Z}) or (L, {B}, {Z})", lambda shape: shape[-2:] == (B, Z) and len(shape) in (2, 3))
    eps = np.array(eps.reshape(-1, B, Z), real, order="C")
    a = nodes(arch, objective, len(eps), len(x), real, text.zeros)._replace(eps=text.put(eps))
    text.kernels.gather(text.put(x), text.put(np.arange(len(x))), a.x)
    return text, p.moved(text.put), a, real(check_number("beta", beta)), real(check_number("l2", l2))


def _check_parameters(p):
    if not isinstance(p, Parameters):
        raise TypeError(f"p is a {type(p).__name__}; it must be Parameters")


def _finite(name, array, wanted, fits):
    array = np.asarray(array)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} has dtype {array.dtype}; it must hold real numbers")
    if not fits(array.shape) or not array.size:
        raise ValueError(f"{name} has shape {array.shape}; wanted {wanted}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values; every one must be finite")
    return array
