"""The definition of every operation, in NumPy. A docstring begins with the equation; the derivative follows below.

Shapes: B is the number of examples, D of inputs, H of hidden units, Z of latents, L of samples of each example. A layer
acts on the last axis, so that (B, H) and (L, B, H) are the same to it. `dname` is d loss / d name and has the shape of
`name`. Logarithms are in nats.

An operation reads its first arguments and fills its last ones, which it also returns; `_add` adds to them instead. The
derivative of an operation takes the derivative of its result first, and then the arguments of the operation.
"""

import functools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from vae_np.kernels.contract import LAYERS, Array, Number

LOG_2PI = math.log(2 * math.pi)


# ------------------------------------------------------------------------------------------- where the arrays live


def zeros(shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    """Return an array of zeros for the operations to fill."""
    return np.zeros(shape, dtype)


def put(array: Array) -> Array:
    """Return a NumPy array as the operations take it; an array that they take already stays as it is."""
    return array


def get(array: Array) -> Array:
    """Return the values of such an array as a NumPy array."""
    return array


def about() -> str:
    """Return a sentence that says how this kernel set multiplies matrices."""
    return "matrix products of the BLAS that NumPy has loaded"


capture = edges = at_once = begin = None  # this kernel set records no step: the operations of a step are called one by one


# ------------------------------------------------------------------------------------------------------------ layers


def affine(x: Array, W: Array, b: Array, y: Array) -> Array:
    """y = x @ W + b          x (.., I); W (I, O); b (O,); y (.., O)"""
    np.matmul(x, W, out=y)
    y += b
    return y


def affine_backward(dy: Array, W: Array, dx: Array) -> Array:
    """dx = dy @ W.T          y_o = sum_i x_i W_io + b_o, so dx_i = sum_o dy_o W_io"""
    return np.matmul(dy, W.T, out=dx)


def affine_backward_add(dy: Array, W: Array, dx: Array) -> Array:
    """dx += dy @ W.T         for the second layer that takes x"""
    dx += np.matmul(dy, W.T)
    return dx


def affine_gradients(x: Array, dy: Array, W: Array, l2: Number, dW: Array, db: Array) -> tuple[Array, Array]:
    """dW = x.T @ dy + l2 W;  db = sum_rows dy          every sample of every example is a row

    The loss holds (l2 / 2) times the sum of the squared weights; the derivative of that is added here. Biases are not decayed.
    """
    x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    np.matmul(x.T, dy, out=dW)
    dW += l2 * W
    np.sum(dy, axis=0, out=db)
    return dW, db


def constant(x: Array, W: Array, b: Array, y: Array) -> Array:
    """y = b                  this layer does not depend on its input; W is not read"""
    y[...] = b
    return y


def constant_backward_add(dy: Array, W: Array, dx: Array) -> Array:
    """dx += 0                y does not depend on x"""
    return dx


def constant_gradients(x: Array, dy: Array, W: Array, l2: Number, dW: Array, db: Array) -> tuple[Array, Array]:
    """db = sum_rows dy          there is no W"""
    np.sum(dy.reshape(-1, dy.shape[-1]), axis=0, out=db)
    return dW, db


# ------------------------------------------------------------------------- hidden layers: affine, then an activation
# y is the sum x @ W + b of the layer, and h = f(y) is the value of the activation. Where the derivative follows from h
# alone, y is not kept: it is an array without elements. A derivative takes the place of dh.


def affine_relu(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    """h = max(0, x @ W + b)"""
    return np.maximum(affine(x, W, b, h), 0, out=h)


def relu_backward(dh: Array, y: Array, h: Array) -> Array:
    """dy = dh where h > 0, else 0          at y = 0 the derivative is taken as 0"""
    dh[...] = np.where(h > 0, dh, 0)
    return dh


def affine_tanh(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    """h = tanh(x @ W + b)"""
    return np.tanh(affine(x, W, b, h), out=h)


def tanh_backward(dh: Array, y: Array, h: Array) -> Array:
    """dy = dh (1 - h^2)                    tanh' = 1 - tanh^2"""
    dh *= (1 - h) * (1 + h)
    return dh


def affine_softplus(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    """h = log(1 + exp(x @ W + b))         within 4 ulp, from the rounded x @ W + b"""
    total = affine(x, W, b, h)
    return np.add(np.maximum(total, 0), np.log1p(np.exp(-np.abs(total))), out=h)


def softplus_backward(dh: Array, y: Array, h: Array) -> Array:
    """dy = dh (1 - exp(-h))                softplus' = sigmoid, and exp(-h) = 1 - sigmoid"""
    dh *= -np.expm1(-h)
    return dh


def affine_silu(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    """y = x @ W + b;  h = y sigmoid(y)"""
    affine(x, W, b, y)
    return np.multiply(y, sigmoid(y), out=h)


def silu_backward(dh: Array, y: Array, h: Array) -> Array:
    """dy = dh sigmoid(y) (1 + y sigmoid(-y))"""
    dh *= sigmoid(y) * (1 + y * sigmoid(-y))
    return dh


def affine_gelu(x: Array, W: Array, b: Array, y: Array, h: Array) -> Array:
    """y = x @ W + b;  h = y Phi(y)          Phi(y): the probability that a standard normal number is below y"""
    affine(x, W, b, y)
    return np.multiply(y, normal_cdf(y), out=h)


def gelu_backward(dh: Array, y: Array, h: Array) -> Array:
    """dy = dh (Phi(y) + y exp(-y^2 / 2) / sqrt(2 pi))          Phi' is the density of N(0, 1)"""
    dh *= normal_cdf(y) + y * np.exp(-y * y / 2) / math.sqrt(2 * math.pi)
    return dh


def normal_cdf(y: Array) -> Array:
    """Phi(y) = 1/2 erfc(-y / sqrt(2)), which loses no digits for a large -y"""
    from scipy.special import ndtr  # here, because its import takes longer than NumPy's

    return ndtr(y)


# ----------------------------------------------------------------------------- the sample z and its gradient's path
# Kingma & Welling 2014 (arXiv 1312.6114), section 2.3: with the randomness in eps, z is a differentiable function.


def reparameterize(mu: Array, logvar: Array, eps: Array, z: Array) -> Array:
    """z = mu + exp(logvar / 2) eps         mu, logvar (B, Z); eps, z (L, B, Z)"""
    np.multiply(np.exp(logvar / 2), eps, out=z)
    z += mu
    return z


def reparameterize_backward_add(
    dz: Array, mu: Array, logvar: Array, eps: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array]:
    """dmu += sum_l dz;  dlogvar += sum_l dz eps exp(logvar / 2) / 2"""
    dmu += dz.sum(axis=0)
    dlogvar += (dz * eps).sum(axis=0) * np.exp(logvar / 2) / 2
    return dmu, dlogvar


# ------------------------------------------------------------------------------------------- KL(q(z|x) || p(z)), nats
# Two forms with one signature: in closed form, once per example (K = 1), or from the samples themselves (K = L).


def gaussian_kl(mu: Array, logvar: Array, eps: Array, z: Array, kl: Array) -> Array:
    """kl = 1/2 sum_z (mu^2 + exp(logvar) - 1 - logvar)          kl (1, B)

    The integral of q log(q / N(0, 1)) for q = N(mu, exp(logvar)): Kingma & Welling 2014, appendix B.
    """
    np.sum(mu * mu + np.expm1(logvar) - logvar, axis=-1, out=kl[0])
    kl /= 2
    return kl


def gaussian_kl_backward(
    dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array, Array]:
    """dmu = dkl mu;  dlogvar = dkl (exp(logvar) - 1) / 2;  dz += 0          dkl (1, B)"""
    np.multiply(dkl[0][:, None], mu, out=dmu)
    np.multiply(dkl[0][:, None], np.expm1(logvar) / 2, out=dlogvar)
    return dz, dmu, dlogvar


def sampled_kl(mu: Array, logvar: Array, eps: Array, z: Array, kl: Array) -> Array:
    """kl = log q(z|x) - log p(z) = 1/2 sum_z (z^2 - eps^2 - logvar)          kl (L, B)

    log q(z|x) = -1/2 sum (log 2 pi + logvar + eps^2), as (z - mu)^2 / exp(logvar) is eps^2;
    log p(z) = -1/2 sum (log 2 pi + z^2).
    """
    np.sum((z - eps) * (z + eps) - logvar, axis=-1, out=kl)
    kl /= 2
    return kl


def sampled_kl_backward(
    dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array, Array]:
    """dz += dkl z;  dmu = 0;  dlogvar = -1/2 sum_l dkl          dkl (L, B)"""
    dz += dkl[:, :, None] * z
    dmu[...] = 0
    dlogvar[...] = -dkl.sum(axis=0)[:, None] / 2
    return dz, dmu, dlogvar


# --------------------------------------------------------------------------------- nll = -log p(x|z) per sample, nats
# output and output_logvar are the decoder's two results (L, B, D); an output_logvar that all inputs share is (L, B, 1).


def bernoulli_nll(logits: Array, output_logvar: Array, x: Array, nll: Array) -> Array:
    """nll = -sum_d (x log sigmoid(logits) + (1 - x) log sigmoid(-logits))          x (B, D) in [0, 1]; nll (L, B)

    -log sigmoid(l) = max(-l, 0) + log(1 + exp(-|l|)) needs neither a probability nor a difference, for any logit. output_logvar
    is not read.
    """
    large = (1 - x) * np.maximum(logits, 0) + x * np.maximum(-logits, 0)
    return np.sum(large + np.log1p(np.exp(-np.abs(logits))), axis=-1, out=nll)


def bernoulli_nll_backward(
    dnll: Array, logits: Array, output_logvar: Array, x: Array, dlogits: Array, doutput_logvar: Array
) -> tuple[Array, Array]:
    """dlogits = dnll (sigmoid(logits) - x)

    It is computed as (1 - x) sigmoid(l) - x sigmoid(-l), which loses no digit where sigmoid(l) rounds to 1.
    """
    np.multiply(dnll[:, :, None], (1 - x) * sigmoid(logits) - x * sigmoid(-logits), out=dlogits)
    return dlogits, doutput_logvar


def gaussian_nll(mean: Array, output_logvar: Array, x: Array, nll: Array) -> Array:
    """nll = 1/2 sum_d (log 2 pi + output_logvar + (x - mean)^2 exp(-output_logvar))

    output_logvar is the log-variance of x given z. Where it is 0, nll is half the squared error and a constant.
    """
    np.sum(LOG_2PI + output_logvar + (x - mean) ** 2 * np.exp(-output_logvar), axis=-1, out=nll)
    nll /= 2
    return nll


def gaussian_nll_backward(
    dnll: Array, mean: Array, output_logvar: Array, x: Array, dmean: Array, doutput_logvar: Array
) -> tuple[Array, Array]:
    """dmean = dnll (mean - x) exp(-output_logvar);  doutput_logvar = dnll/2 (1 - (x - mean)^2 exp(-output_logvar))

    doutput_logvar is summed over d where all inputs share one log-variance.
    """
    precision = np.exp(-output_logvar)
    np.multiply(dnll[:, :, None], (mean - x) * precision, out=dmean)
    per_input = dnll[:, :, None] / 2 * (1 - (x - mean) ** 2 * precision)
    doutput_logvar[...] = per_input if doutput_logvar.shape == mean.shape else per_input.sum(axis=-1, keepdims=True)
    return dmean, doutput_logvar


def bernoulli_mean(logits: Array, mean: Array) -> Array:
    """mean = sigmoid(logits)          the probability of a 1"""
    mean[...] = sigmoid(logits)
    return mean


def gaussian_mean(output: Array, mean: Array) -> Array:
    """mean = output"""
    mean[...] = output
    return mean


def continuous_bernoulli_nll(logits: Array, output_logvar: Array, x: Array, nll: Array) -> Array:
    """nll = sum_d (log((exp(logits) - 1) / logits) - x logits)          x (B, D) in [0, 1]; nll (L, B)

    The density of grey pixels that is proportional to exp(x logits): Loaiza-Ganem & Cunningham 2019 (arXiv 1907.06845).
    With S(l) = log(sinh(l / 2) / (l / 2)) the logarithm is l / 2 + S(l), where S is a series of l^2 near 0; elsewhere it is
    max(l, 0) + log(1 - exp(-|l|)) - log |l|. output_logvar is not read.
    """
    near, size = np.abs(logits) < NEAR_0, np.maximum(np.abs(logits), NEAR_0)
    squares = np.minimum(np.abs(logits), NEAR_0) ** 2
    of_near = (0.5 - x) * logits + squares * polynomial(SINH_SERIES, squares)
    large = (1 - x) * np.maximum(logits, 0) + x * np.maximum(-logits, 0)
    return np.sum(np.where(near, of_near, large + (np.log1p(-np.exp(-size)) - np.log(size))), axis=-1, out=nll)


def continuous_bernoulli_nll_backward(
    dnll: Array, logits: Array, output_logvar: Array, x: Array, dlogits: Array, doutput_logvar: Array
) -> tuple[Array, Array]:
    """dlogits = dnll (1/2 + 1 / (2 tanh(logits / 2)) - 1 / logits - x)

    The derivative is the mean of p(x|z) less x. For l > 0 it is computed as (1 - x) - (1 - mean), which loses no digit where the
    mean rounds to 1.
    """
    less = lesser_mean(np.abs(logits))
    np.multiply(dnll[:, :, None], np.where(logits > 0, (1 - x) - less, less - x), out=dlogits)
    return dlogits, doutput_logvar


def continuous_bernoulli_mean(logits: Array, mean: Array) -> Array:
    """mean = 1/2 + 1 / (2 tanh(logits / 2)) - 1 / logits"""
    less = lesser_mean(np.abs(logits))
    mean[...] = np.where(logits > 0, 1 - less, less)
    return mean


def lesser_mean(size: Array) -> Array:
    """The mean of the continuous Bernoulli distribution at a logit of -size, or 1 minus the mean at +size; size >= 0

    It is 1 / size - 1 / (exp(size) - 1), which cancels near 0: there it is 1/2 - S'(size), by the series of S.
    """
    squares, far = np.minimum(size, NEAR_0) ** 2, np.maximum(size, NEAR_0)
    e = np.exp(-far)
    return np.where(size < NEAR_0, 0.5 - np.minimum(size, NEAR_0) * polynomial(COTH_SERIES, squares), 1 / far - e / (1 - e))


def _bernoulli_numbers(n: int) -> list[Fraction]:
    """B_2, B_4, .., B_2n, by sum_k binomial(m + 1, k) B_k = 0"""
    numbers = [Fraction(1)]
    for m in range(1, 2 * n + 1):
        numbers.append(-sum((math.comb(m + 1, k) * numbers[k] for k in range(m)), Fraction(0)) / (m + 1))
    return numbers[2::2]


NEAR_0 = 2.0  # the size of a logit below which the series is used; each term of it is a tenth of the one before
# S'(l) = sum of B_2k / (2k)! l^(2k-1), and S(l) of the same divided by 2k, times l.
COTH_SERIES = tuple(float(b / math.factorial(2 * k)) for k, b in enumerate(_bernoulli_numbers(17), 1))
SINH_SERIES = tuple(c / (2 * k) for k, c in enumerate(COTH_SERIES, 1))


def sigmoid(y: Array) -> Array:
    """1 / (1 + exp(-y)), computed as exp(y) / (1 + exp(y)) where y < 0, so that neither overflows; within 4 ulp"""
    e = np.exp(-np.abs(y))
    return np.where(y >= 0, 1, e) / (1 + e)


# ------------------------------------------------------------- the bound: what each sample weighs in its example's loss


def elbo(nll: Array, kl: Array, beta: Number, loss: Array) -> Array:
    """loss = mean_l nll + beta mean_k kl          nll (L, B); kl (K, B); loss (B,), and the loss of a batch is its mean"""
    np.mean(nll, axis=0, out=loss)
    loss += beta * np.mean(kl, axis=0)
    return loss


def elbo_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    """dnll = 1 / (L n_examples);  dkl = beta / (K n_examples)          every sample weighs the same

    n_examples is the number of examples of the batch, of which the loss is the mean. It is B where the batch is whole.
    """
    dnll[...] = 1 / (len(nll) * n_examples)
    dkl[...] = beta / (len(kl) * n_examples)
    return dnll, dkl


def iwae(nll: Array, kl: Array, beta: Number, loss: Array) -> Array:
    """loss = -log mean_l w_l,  log w = -(nll + beta kl)          kl (L, B), so that w = p(x, z) / q(z|x) at beta = 1

    Burda, Grosse & Salakhutdinov 2016 (arXiv 1509.00519), eq. 8, by log-sum-exp.
    """
    log_w = -(nll + beta * kl)
    top = log_w.max(axis=0)
    loss[...] = -(top + np.log(np.mean(np.exp(log_w - top), axis=0)))
    return loss


def iwae_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    """dnll = w~ / n_examples;  dkl = beta dnll;  w~ = softmax_l(log w)          each sample counts by its weight: eq. 14"""
    log_w = -(nll + beta * kl)
    w = np.exp(log_w - log_w.max(axis=0))
    np.divide(w, w.sum(axis=0) * n_examples, out=dnll)
    np.multiply(beta, dnll, out=dkl)
    return dnll, dkl


# ---------------------------------------------------------------- other estimators of the gradient by mu and logvar of q
# The derivative of a bound holds the score of q, the derivative of log q(z|x) by mu and logvar at a fixed z:
# eps exp(-logvar / 2) and (eps^2 - 1) / 2. Its mean over z is 0, so that there are several estimators with the same mean. They
# differ in two factors of each sample: that of the derivative along the path through z, and that of the score, which is dkl
# where the score stands alone. No parameter of the decoder stands in q: the gradient of the decoder is the same for all.


def sampled_kl_path_backward(
    dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array, Array]:
    """dz += dkl (z - eps exp(-logvar / 2));  dmu = 0;  dlogvar = 0          dkl (L, B)

    The derivative of the sampled KL along the path through z alone: the score of q is left out. Roeder, Wu & Duvenaud 2017
    (arXiv 1703.09194), "sticking the landing": where q is the posterior, each sample gives exactly 0.
    """
    dz += dkl[:, :, None] * (z - eps * np.exp(-logvar / 2))
    dmu[...] = 0
    dlogvar[...] = 0
    return dz, dmu, dlogvar


def score_backward(
    dkl: Array, mu: Array, logvar: Array, eps: Array, z: Array, dz: Array, dmu: Array, dlogvar: Array
) -> tuple[Array, Array, Array]:
    """dz = 0;  dmu = sum_l dkl eps exp(-logvar / 2);  dlogvar = sum_l dkl (eps - 1) (eps + 1) / 2

    The score of q, times the factor dkl of each sample. No derivative goes through z: Williams 1992 (REINFORCE).
    """
    dz[...] = 0
    np.sum(dkl[:, :, None] * eps, axis=0, out=dmu)
    dmu *= np.exp(-logvar / 2)
    np.sum(dkl[:, :, None] * ((eps - 1) * (eps + 1)), axis=0, out=dlogvar)
    dlogvar /= 2
    return dz, dmu, dlogvar


def elbo_score_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    """dnll = 1 / (L n_examples);  dkl = (mean_l log w - log w) / ((L - 1) n_examples);  log w = -(nll + beta kl)

    The factor of the score of a sample is its loss -log w less the mean loss of the other samples, the leave-one-out baseline,
    divided by L. One sample has no others, and so no baseline: its dkl is -log w / n_examples.
    """
    cost = nll + beta * kl
    if len(cost) > 1:
        cost -= cost.mean(axis=0)
    dnll[...] = 1 / (len(nll) * n_examples)
    np.divide(cost, max(len(cost) - 1, 1) * n_examples, out=dkl)
    return dnll, dkl


def iwae_score_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    """dnll = w~ / n_examples;  dkl = (beta w~ - log mean_l w) / n_examples;  w~ = softmax_l(log w)

    The loss -log mean_l w is the same for all samples of an example, and there is no baseline. beta w~ is the derivative of the
    loss by the log q in log w, whose mean is not 0.
    """
    iwae_backward(nll, kl, beta, n_examples, dnll, dkl)
    dkl += iwae(nll, kl, beta, np.empty_like(nll[0])) / n_examples
    return dnll, dkl


def vimco_backward(nll: Array, kl: Array, beta: Number, n_examples: int, dnll: Array, dkl: Array) -> tuple[Array, Array]:
    """dkl = (beta w~ - log sum_l w + log(sum_l w - w + exp((sum_l log w - log w) / (L - 1)))) / n_examples;  dnll = w~ / n_examples

    The baseline of a sample is the loss in which the geometric mean of the other weights takes the place of its own weight:
    Mnih & Rezende 2016 (arXiv 1602.06725). The sums over the others are added up from both ends. As a difference of sums they
    would vanish where one weight dominates. One sample has no others: its dkl is that of `iwae_score_backward`.
    """
    if len(nll) == 1:
        return iwae_score_backward(nll, kl, beta, n_examples, dnll, dkl)
    iwae_backward(nll, kl, beta, n_examples, dnll, dkl)
    log_w = -(nll + beta * kl)
    log_w -= log_w.max(axis=0)
    mean_of_others = of_others(np.add, log_w, 0) / (len(log_w) - 1)
    with_baseline = np.logaddexp(of_others(np.logaddexp, log_w, -np.inf), mean_of_others)
    dkl += (with_baseline - np.log(np.exp(log_w).sum(axis=0))) / n_examples
    return dnll, dkl


def of_others(add: np.ufunc, x: Array, nothing: float) -> Array:
    """What a ufunc makes of all elements of the first axis but one, for each of them; nothing: its value for no element."""
    before, after = np.full_like(x, nothing), np.full_like(x, nothing)
    add.accumulate(x[:-1], out=before[1:])
    add.accumulate(x[:0:-1], out=after[-2::-1])
    return add(before, after)


def unit_path_weight(dnll: Array, beta: Number, n_examples: int, dz: Array) -> Array:
    """dz *= 1          along the path through z each sample weighs what it weighs in the loss"""
    return dz


def dreg_path_weight(dnll: Array, beta: Number, n_examples: int, dz: Array) -> Array:
    """dz *= 1 - beta + beta n_examples dnll          n_examples dnll = w~

    After `sampled_kl_path_backward`. A sample then has the weight w~ (1 - beta) + beta w~^2, because the score of q that was
    left out is reparameterized a second time: Tucker, Lawson, Gu & Maddison 2018 (arXiv 1810.04152), for beta = 1.
    """
    dz *= ((1 - beta) + beta * (n_examples * dnll))[:, :, None]
    return dz


# ------------------------------------------------------------------- updates of the flat parameters p by the gradient g


def sgd(p: Array, g: Array, velocity: Array, learning_rate: Number, momentum: float) -> Array:
    """velocity = momentum velocity + g;  p -= learning_rate velocity"""
    velocity *= momentum
    velocity += g
    p -= learning_rate * velocity
    return p


def adagrad(p: Array, g: Array, squares: Array, learning_rate: Number, epsilon: float) -> Array:
    """squares += g^2;  p -= learning_rate g / (sqrt(squares) + epsilon)          Duchi, Hazan & Singer 2011"""
    squares += g * g
    p -= learning_rate * g / (np.sqrt(squares) + epsilon)
    return p


def adam(
    p: Array, g: Array, m: Array, v: Array, step: int | Array, learning_rate: Number, beta1: float, beta2: float, epsilon: float
) -> Array:
    """m, v: running means of g and g^2;  p -= learning_rate m^ / (sqrt(v^) + epsilon)

    m^ = m / (1 - beta1^step), v^ = v / (1 - beta2^step); step counts the updates from 1. Kingma & Ba 2015, algorithm 1.
    """
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    v += (1 - beta2) * g * g
    m_hat = m / (1 - beta1**step)
    v_hat = v / (1 - beta2**step)
    p -= learning_rate * m_hat / (np.sqrt(v_hat) + epsilon)
    return p


def adamw(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    decays: Array,
    step: Any,
    learning_rate: Number,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
) -> Array:
    """p -= learning_rate weight_decay decays p, and then the update of `adam`          decays: 1 for a weight, 0 for a bias

    The decay goes past m and v, so that every weight shrinks by the same factor whatever its gradients are; the derivative of
    an L2 term would be divided by sqrt(v^) too: Loshchilov & Hutter 2019 (arXiv 1711.05101), algorithm 2,
    whose lambda is learning_rate weight_decay here, as it is in PyTorch.
    """
    p -= learning_rate * weight_decay * decays * p
    return adam(p, g, m, v, step, learning_rate, beta1, beta2, epsilon)


# ---------------------------------------------------------------------------------------- batches and random numbers
# A random number is a pure function of a key and a counter (step, sample, example, latent), so that it is the same on every
# backend, in every batch and after a resume. It is made with +, -, *, /, sqrt and integers alone, so that every IEEE machine
# gives the same bits.


def gather(data: Array, rows: Array, x: Array) -> Array:
    """x = data[rows]; bytes become pixels, 0..255 -> 0..1          data (N, D); rows (B,); x (B, D)"""
    x[...] = data[rows]
    if data.itemsize == 1:
        x /= 255
    return x


def philox(counter: Sequence[Any], key: int | np.uint64) -> tuple[Array, Array, Array, Array]:
    """Philox 4x32-10: four random 32-bit words from a counter of four words and a key of 64 bits (as uint64 arrays)

    Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
    """
    word = np.uint64(0xFFFFFFFF)
    shift = np.uint64(32)
    a, b, c, d = counter
    low, high = np.uint64(key) & word, np.uint64(key) >> shift
    for _ in range(10):
        ac, cc = a * np.uint64(0xD2511F53), c * np.uint64(0xCD9E8D57)
        a, b, c, d = (cc >> shift) ^ b ^ low, cc & word, (ac >> shift) ^ d ^ high, ac & word
        low, high = (low + np.uint64(0x9E3779B9)) & word, (high + np.uint64(0xBB67AE85)) & word
    return a, b, c, d


def words(key: int | np.uint64, step: int | Array, n_samples: int, examples: Array, n_columns: int) -> Array:
    """The words of counters (column block, example, sample, step), four columns a block: (L, B, >= n_columns), uint64"""
    blocks = np.arange(-(-n_columns // 4), dtype=np.uint64)
    samples = np.arange(n_samples, dtype=np.uint64)[:, None, None]
    counter = np.broadcast_arrays(blocks, examples.astype(np.uint64)[:, None], samples, np.uint64(step))
    return np.stack(philox(counter, key), axis=-1).reshape(n_samples, len(examples), -1)


def normals(key: int | np.uint64, step: int | Array, examples: Array, eps: Array) -> Array:
    """eps ~ N(0, 1): each pair of words makes two normals (Box & Muller 1958)          examples (B,); eps (L, B, Z)

    They are computed in double precision and then rounded to the dtype of eps. Words have 32 bits, so that |eps| < 6.8.
    """
    w = words(key, step, eps.shape[0], examples, eps.shape[2])
    radius, (cosine, sine) = np.sqrt(-2 * log_uniform(w[..., 0::2])), circle(w[..., 1::2])
    pairs = np.stack([radius * cosine, radius * sine], axis=-1)
    eps[...] = pairs.reshape(w.shape)[..., : eps.shape[2]]
    return eps


LOG_SERIES = tuple(2 / (2 * k + 1) for k in range(12))  # log((1 + s) / (1 - s)) = sum of 2 s^(2k+1) / (2k+1)
SIN_SERIES = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(9))
COS_SERIES = tuple((-1) ** k / math.factorial(2 * k) for k in range(9))


def polynomial(coefficients: tuple[float, ...], t: Any) -> Any:
    """sum_k coefficients[k] t^k, by Horner's rule"""
    p = coefficients[-1]
    for c in coefficients[-2::-1]:
        p = p * t + c
    return p


def log_uniform(w: Array) -> Array:
    """log u of u = (w + 1/2) / 2^32, within 2.5 ulp          w: words; u is never 0 or 1"""
    m, exponent = np.frexp((2.0 * w + 1) * 2.0**-33)
    small = m < math.sqrt(0.5)
    m, exponent = np.where(small, 2 * m, m), exponent - small
    s = (m - 1) / (m + 1)
    return s * polynomial(LOG_SERIES, s * s) + exponent * math.log(2)


def circle(w: Array) -> tuple[Array, Array]:
    """cos and sin of 2 pi w / 2^32, within 2e-16: by the nearest quarter turn, and a series for the rest of the angle"""
    quarter = (w + np.uint64(1 << 29)) >> np.uint64(30)
    angle = (w.astype(np.int64) - (quarter << np.uint64(30)).astype(np.int64)) * (2.0**-30 * (math.pi / 2))
    cosine = polynomial(COS_SERIES, angle * angle)
    sine = polynomial(SIN_SERIES, angle * angle) * angle
    quarter = quarter & np.uint64(3)
    cosine, sine = np.where(quarter % 2 == 1, -sine, cosine), np.where(quarter % 2 == 1, cosine, sine)
    return np.where(quarter >= 2, -cosine, cosine), np.where(quarter >= 2, -sine, sine)


def binarize(pixels: Array, key: int | np.uint64, step: int | Array, examples: Array, x: Array) -> Array:
    """x = 1 with probability pixels, else 0          pixels, x (B, D); examples (B,)"""
    u = words(key, step, 1, examples, pixels.shape[1])[0, :, : pixels.shape[1]] * 2.0**-32
    x[...] = u < pixels
    return x


# --------------------------------------------------------------------------------- matrix products of rounded operands
# A layer rounds the two matrices that it multiplies, and nothing else: sums, biases, activations, weights and their updates
# keep the dtype of the arrays. The derivative of the rounding is taken as 1.


def rounded(x: Array, bits: int) -> Array:
    """x = m 2^e, 1/2 <= |m| < 1, with m rounded to `bits` binary digits, ties to even (IEEE 754-2019, section 4.3.1)"""
    m, e = np.frexp(x)
    return np.ldexp(np.rint(np.ldexp(m, bits)), e - bits)


def layers_of_rounded(bits: int) -> dict[str, Callable[..., Any]]:
    """The layers that multiply, with the operands of their products rounded to so many bits, and the sentence about them."""

    def of_rounded(layer):
        return functools.wraps(layer)(lambda left, right, *rest: layer(rounded(left, bits), rounded(right, bits), *rest))

    def gradients_of_rounded(x: Array, dy: Array, W: Array, l2: Number, dW: Array, db: Array) -> tuple[Array, Array]:
        """dW = rounded(x).T @ rounded(dy) + l2 W;  db = sum_rows dy, which is not a product"""
        affine_gradients(rounded(x, bits), rounded(dy, bits), W, l2, dW, db)
        return constant_gradients(x, dy, W, l2, dW, db)

    return {name: of_rounded(globals()[name]) for name in LAYERS if name.startswith("affine")} | {
        "affine_gradients": gradients_of_rounded,
        "about": lambda: f"{about()}, after their operands were rounded to {bits} significant bits",
    }


def precisions() -> dict[str, dict[str, Callable[..., Any]]]:
    """The layers at each precision: bfloat16 keeps 8 of the 24 significant bits of float32, TF32 11. Both keep its range."""
    return {"bfloat16": layers_of_rounded(8), "tfloat32": layers_of_rounded(11)}
