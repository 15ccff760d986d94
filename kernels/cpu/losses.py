"""The latents, likelihoods, bounds and estimators of `kernels.reference` as compiled loops.

The formulas stand in `kernels.reference`, under the same names. A term of a sum is a function of its own, because only the sum
around it may be reordered (`jit.REORDER`).
"""

import math

from vae_np.kernels.cpu.jit import exact, inlined, kernel
from vae_np.kernels.cpu.layers import rows
from vae_np.kernels.cpu.mathematics import exp, expm1, inline, lesser_mean, log1p, log_exp_ratio, log_sinh_ratio, sigmoids
from vae_np.kernels.reference import NEAR_0

LOG_2PI = math.log(2 * math.pi)

# ----------------------------------------------------------------------------- the sample z and its gradient's path


@kernel
def reparameterize(mu, logvar, eps, z):
    half = mu.dtype.type(0.5)
    for l in range(z.shape[0]):
        for b in range(z.shape[1]):
            mu_row, logvar_row, eps_row, z_row = mu[b], logvar[b], eps[l, b], z[l, b]
            for j in range(z_row.shape[0]):
                z_row[j] = mu_row[j] + exp(half * logvar_row[j]) * eps_row[j]
    return z


@kernel
def reparameterize_backward_add(dz, mu, logvar, eps, dmu, dlogvar):
    half = mu.dtype.type(0.5)
    for l in range(dz.shape[0]):
        for b in range(dz.shape[1]):
            logvar_row, eps_row, dz_row, dmu_row, dlogvar_row = logvar[b], eps[l, b], dz[l, b], dmu[b], dlogvar[b]
            for j in range(dz_row.shape[0]):
                dmu_row[j] += dz_row[j]
                dlogvar_row[j] += half * dz_row[j] * eps_row[j] * exp(half * logvar_row[j])
    return dmu, dlogvar


# ------------------------------------------------------------------------------------------- KL(q(z|x) || p(z)), nats


@inline
def gaussian_kl_term(mu, logvar):
    return mu * mu + (expm1(logvar) - logvar)


@kernel
def gaussian_kl(mu, logvar, eps, z, kl):
    half, zero = mu.dtype.type(0.5), mu.dtype.type(0)
    for b in range(mu.shape[0]):
        total = zero
        mu_row, logvar_row = mu[b], logvar[b]
        for j in range(mu_row.shape[0]):
            total += gaussian_kl_term(mu_row[j], logvar_row[j])
        kl[0, b] = half * total
    return kl


@kernel
def gaussian_kl_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
    half = mu.dtype.type(0.5)
    for b in range(mu.shape[0]):
        for j in range(mu.shape[1]):
            dmu[b, j] = dkl[0, b] * mu[b, j]
            dlogvar[b, j] = dkl[0, b] * half * expm1(logvar[b, j])
    return dz, dmu, dlogvar


@inline
def sampled_kl_term(logvar, eps, z):
    return (z - eps) * (z + eps) - logvar


@kernel
def sampled_kl(mu, logvar, eps, z, kl):
    half, zero = mu.dtype.type(0.5), mu.dtype.type(0)
    for l in range(z.shape[0]):
        for b in range(z.shape[1]):
            total = zero
            logvar_row, eps_row, z_row = logvar[b], eps[l, b], z[l, b]
            for j in range(z_row.shape[0]):
                total += sampled_kl_term(logvar_row[j], eps_row[j], z_row[j])
            kl[l, b] = half * total
    return kl


@kernel
def sampled_kl_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
    half = mu.dtype.type(0.5)
    dmu[:] = 0
    dlogvar[:] = 0
    for l in range(z.shape[0]):
        for b in range(z.shape[1]):
            for j in range(z.shape[2]):
                dz[l, b, j] += dkl[l, b] * z[l, b, j]
                dlogvar[b, j] -= half * dkl[l, b]
    return dz, dmu, dlogvar


# --------------------------------------------------------------------------------- nll = -log p(x|z) per sample, nats


@inline
def bernoulli_term(logit, x, zero, one):
    large = (one - x) * logit if logit > zero else -x * logit
    return large + log1p(exp(-abs(logit)))


@kernel
def bernoulli_nll(logits, output_logvar, x, nll):
    """Each term is within 3 ulp or flushed."""
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    for l in range(logits.shape[0]):
        for b in range(logits.shape[1]):
            total = zero
            logits_row, x_row = logits[l, b], x[b]
            for d in range(logits_row.shape[0]):
                total += bernoulli_term(logits_row[d], x_row[d], zero, one)
            nll[l, b] = total
    return nll


@kernel
def bernoulli_nll_backward(dnll, logits, output_logvar, x, dlogits, doutput_logvar):
    """The factor of dnll is a difference that may cancel: it is within 4 ulp of the larger of its two terms, or flushed."""
    one = logits.dtype.type(1)
    for l in range(logits.shape[0]):
        for b in range(logits.shape[1]):
            logits_row, x_row, dlogits_row = logits[l, b], x[b], dlogits[l, b]
            for d in range(logits_row.shape[0]):
                p_one, p_zero = sigmoids(logits_row[d])
                dlogits_row[d] = dnll[l, b] * ((one - x_row[d]) * p_one - x_row[d] * p_zero)
    return dlogits, doutput_logvar


@kernel
def gaussian_nll(mean, output_logvar, x, nll):
    half, zero, log_2pi = mean.dtype.type(0.5), mean.dtype.type(0), mean.dtype.type(LOG_2PI)
    shared = output_logvar.shape[2] != mean.shape[2]
    for l in range(mean.shape[0]):
        for b in range(mean.shape[1]):
            mean_row, logvar_row, x_row = mean[l, b], output_logvar[l, b], x[b]
            total = zero
            if shared:
                for d in range(mean_row.shape[0]):
                    total += (x_row[d] - mean_row[d]) * (x_row[d] - mean_row[d])
                total = total * exp(-logvar_row[0]) + mean.dtype.type(mean_row.shape[0]) * logvar_row[0]
            else:
                for d in range(mean_row.shape[0]):
                    total += logvar_row[d] + (x_row[d] - mean_row[d]) * (x_row[d] - mean_row[d]) * exp(-logvar_row[d])
            nll[l, b] = half * (total + mean.dtype.type(mean_row.shape[0]) * log_2pi)
    return nll


@kernel
def gaussian_nll_backward(dnll, mean, output_logvar, x, dmean, doutput_logvar):
    half, zero, one = mean.dtype.type(0.5), mean.dtype.type(0), mean.dtype.type(1)
    shared = output_logvar.shape[2] != mean.shape[2]
    for l in range(mean.shape[0]):
        for b in range(mean.shape[1]):
            mean_row, logvar_row, x_row, dmean_row, dlogvar_row = (
                mean[l, b],
                output_logvar[l, b],
                x[b],
                dmean[l, b],
                doutput_logvar[l, b],
            )
            if shared:
                precision, squares = exp(-logvar_row[0]), zero
                for d in range(mean_row.shape[0]):
                    error = mean_row[d] - x_row[d]
                    squares += error * error
                    dmean_row[d] = dnll[l, b] * precision * error
                dlogvar_row[0] = half * dnll[l, b] * (mean.dtype.type(mean_row.shape[0]) - squares * precision)
            else:
                for d in range(mean_row.shape[0]):
                    error, precision = mean_row[d] - x_row[d], exp(-logvar_row[d])
                    dmean_row[d] = dnll[l, b] * precision * error
                    dlogvar_row[d] = half * dnll[l, b] * (one - error * error * precision)
    return dmean, doutput_logvar


@kernel
def bernoulli_mean(logits, mean):
    for i in range(rows(mean).shape[0]):
        row, logits_row = rows(mean)[i], rows(logits)[i]
        for d in range(row.shape[0]):
            row[d] = sigmoids(logits_row[d])[0]
    return mean


@kernel
def gaussian_mean(output, mean):
    mean[...] = output
    return mean


@inline
def continuous_bernoulli_term(logit, x, zero, half, one, near_0):
    near = (half - x) * logit + log_sinh_ratio(logit)
    far = ((one - x) * logit if logit > zero else -x * logit) + log_exp_ratio(abs(logit))
    return near if abs(logit) < near_0 else far


@inline
def continuous_bernoulli_slope(logit, x, zero, one):
    less = lesser_mean(abs(logit))
    return (one - x) - less if logit > zero else less - x


@kernel
def continuous_bernoulli_nll(logits, output_logvar, x, nll):
    """Each term is within 4 ulp of the larger of the two parts that it is the sum of."""
    zero, half, one, near_0 = logits.dtype.type(0), logits.dtype.type(0.5), logits.dtype.type(1), logits.dtype.type(NEAR_0)
    for l in range(logits.shape[0]):
        for b in range(logits.shape[1]):
            total = zero
            logits_row, x_row = logits[l, b], x[b]
            for d in range(logits_row.shape[0]):
                total += continuous_bernoulli_term(logits_row[d], x_row[d], zero, half, one, near_0)
            nll[l, b] = total
    return nll


@kernel
def continuous_bernoulli_nll_backward(dnll, logits, output_logvar, x, dlogits, doutput_logvar):
    """The factor of dnll is a difference that may cancel: it is within 6 ulp of the larger of its two terms, or flushed."""
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    for l in range(logits.shape[0]):
        for b in range(logits.shape[1]):
            logits_row, x_row, dlogits_row = logits[l, b], x[b], dlogits[l, b]
            for d in range(logits_row.shape[0]):
                dlogits_row[d] = dnll[l, b] * continuous_bernoulli_slope(logits_row[d], x_row[d], zero, one)
    return dlogits, doutput_logvar


@kernel
def continuous_bernoulli_mean(logits, mean):
    zero, one = logits.dtype.type(0), logits.dtype.type(1)
    for i in range(rows(mean).shape[0]):
        row, logits_row = rows(mean)[i], rows(logits)[i]
        for d in range(row.shape[0]):
            less = lesser_mean(abs(logits_row[d]))
            row[d] = one - less if logits_row[d] > zero else less
    return mean


# ------------------------------------------------------------- the bound: what each sample weighs in its example's loss


@kernel
def elbo(nll, kl, beta, loss):
    per_sample, per_kl = nll.dtype.type(1 / nll.shape[0]), beta * nll.dtype.type(1 / kl.shape[0])
    loss[:] = 0
    for row in nll:
        for b in range(row.shape[0]):
            loss[b] += per_sample * row[b]
    for row in kl:
        for b in range(row.shape[0]):
            loss[b] += per_kl * row[b]
    return loss


@kernel
def elbo_backward(nll, kl, beta, n_examples, dnll, dkl):
    dnll[:] = 1 / (nll.shape[0] * n_examples)
    dkl[:] = beta / (kl.shape[0] * n_examples)
    return dnll, dkl


# These are `exact`, because log w is computed twice and must be the same both times. With a fused multiply-add in only one
# of the two places, a log w of -1e41 would differ from itself by more than exp can take.


@exact
def iwae(nll, kl, beta, loss):
    for b in range(nll.shape[1]):
        top, total = -(nll[0, b] + beta * kl[0, b]), nll.dtype.type(0)
        for l in range(1, nll.shape[0]):
            top = max(top, -(nll[l, b] + beta * kl[l, b]))
        for l in range(nll.shape[0]):
            total += exp(-(nll[l, b] + beta * kl[l, b]) - top)
        loss[b] = -(top + math.log(total / nll.dtype.type(nll.shape[0])))
    return loss


@exact
def weights(nll, kl, beta, b, w):
    """w = exp(log w - top) of the samples of an example; (top, their sum)"""
    top, total = -(nll[0, b] + beta * kl[0, b]), nll.dtype.type(0)
    for l in range(1, nll.shape[0]):
        top = max(top, -(nll[l, b] + beta * kl[l, b]))
    for l in range(nll.shape[0]):
        w[l, b] = exp(-(nll[l, b] + beta * kl[l, b]) - top)
        total += w[l, b]
    return top, total


_weights = inlined(weights)


@exact
def iwae_backward(nll, kl, beta, n_examples, dnll, dkl):
    for b in range(nll.shape[1]):
        _, total = _weights(nll, kl, beta, b, dnll)
        share = nll.dtype.type(1 / n_examples) / total
        for l in range(nll.shape[0]):
            dnll[l, b] *= share
            dkl[l, b] = beta * dnll[l, b]
    return dnll, dkl


# ---------------------------------------------------------------- other estimators of the gradient by mu and logvar of q


@kernel
def sampled_kl_path_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
    half = mu.dtype.type(0.5)
    dmu[:] = 0
    dlogvar[:] = 0
    for l in range(z.shape[0]):
        for b in range(z.shape[1]):
            weight, logvar_row, eps_row, z_row, dz_row = dkl[l, b], logvar[b], eps[l, b], z[l, b], dz[l, b]
            for j in range(z_row.shape[0]):
                dz_row[j] += weight * (z_row[j] - eps_row[j] * exp(-half * logvar_row[j]))
    return dz, dmu, dlogvar


@kernel
def score_backward(dkl, mu, logvar, eps, z, dz, dmu, dlogvar):
    half, one = mu.dtype.type(0.5), mu.dtype.type(1)
    dz[:] = 0
    dmu[:] = 0
    dlogvar[:] = 0
    for l in range(eps.shape[0]):
        for b in range(eps.shape[1]):
            weight, logvar_row, eps_row, dmu_row, dlogvar_row = dkl[l, b], logvar[b], eps[l, b], dmu[b], dlogvar[b]
            for j in range(eps_row.shape[0]):
                dmu_row[j] += weight * eps_row[j] * exp(-half * logvar_row[j])
                dlogvar_row[j] += weight * half * ((eps_row[j] - one) * (eps_row[j] + one))
    return dz, dmu, dlogvar


@kernel
def elbo_score_backward(nll, kl, beta, n_examples, dnll, dkl):
    L, real = nll.shape[0], nll.dtype.type
    dnll[:] = 1 / (L * n_examples)
    share = real(1 / (max(L - 1, 1) * n_examples))
    for b in range(nll.shape[1]):
        mean = real(0)
        if L > 1:
            for l in range(L):
                mean += (nll[l, b] + beta * kl[l, b]) * real(1 / L)
        for l in range(L):
            dkl[l, b] = share * (nll[l, b] + beta * kl[l, b] - mean)
    return dnll, dkl


@exact
def iwae_score_backward(nll, kl, beta, n_examples, dnll, dkl):
    L, real = nll.shape[0], nll.dtype.type
    per_example = real(1 / n_examples)
    for b in range(nll.shape[1]):
        top, total = _weights(nll, kl, beta, b, dnll)
        share, loss = per_example / total, -(top + math.log(total / real(L)))
        for l in range(L):
            dnll[l, b] *= share
            dkl[l, b] = beta * dnll[l, b] + per_example * loss
    return dnll, dkl


@inline
def log_weight(nll, kl, beta):
    return -(nll + beta * kl)


VANISHING = 1e-20  # below it a sum of exp(log w - top) may lack terms that exp has rounded to 0


@exact
def log_sum_with(nll, kl, beta, b, left_out, log_more):
    """log(exp(log_more) + the sum of the weights of an example without the sample left_out)"""
    top, total = log_more, nll.dtype.type(0)
    for l in range(nll.shape[0]):
        if l != left_out:
            top = max(top, log_weight(nll[l, b], kl[l, b], beta))
    for l in range(nll.shape[0]):
        if l != left_out:
            total += exp(log_weight(nll[l, b], kl[l, b], beta) - top)
    return top + math.log(total + exp(log_more - top))


_log_sum_with = inlined(log_sum_with)


@exact
def vimco_backward(nll, kl, beta, n_examples, dnll, dkl):
    L, real = nll.shape[0], nll.dtype.type
    per_example, per_other = real(1 / n_examples), real(1 / max(L - 1, 1))
    for b in range(nll.shape[1]):
        top = log_weight(nll[0, b], kl[0, b], beta)
        for l in range(1, L):
            top = max(top, log_weight(nll[l, b], kl[l, b], beta))
        # Of the samples before each one: the sum of their weights, in dkl, and the sum of the logarithms, in dnll.
        total, sum_of_logs = real(0), real(0)
        for l in range(L):
            dkl[l, b], dnll[l, b] = total, sum_of_logs
            log_w = log_weight(nll[l, b], kl[l, b], beta) - top
            total += exp(log_w)
            sum_of_logs += log_w
        share, log_total = per_example / total, math.log(total)
        # Those of the samples after it are added from the other end.
        sum_after, sum_of_logs = real(0), real(0)
        for l in range(L - 1, -1, -1):
            log_w = log_weight(nll[l, b], kl[l, b], beta) - top
            w, others, mean = exp(log_w), dkl[l, b] + sum_after, (dnll[l, b] + sum_of_logs) * per_other
            if L == 1:
                gain = -top
            elif others < VANISHING:
                gain = _log_sum_with(nll, kl, beta, b, l, mean + top) - top  # total is 1 here
            else:
                gain = math.log(others + exp(mean)) - log_total
            dnll[l, b] = w * share
            dkl[l, b] = beta * dnll[l, b] + per_example * gain
            sum_after += w
            sum_of_logs += log_w
    return dnll, dkl


@kernel
def unit_path_weight(dnll, beta, n_examples, dz):
    return dz


@kernel
def dreg_path_weight(dnll, beta, n_examples, dz):
    one, n = dz.dtype.type(1), dz.dtype.type(n_examples)
    for l in range(dz.shape[0]):
        for b in range(dz.shape[1]):
            weight, dz_row = (one - beta) + beta * (n * dnll[l, b]), dz[l, b]
            for j in range(dz_row.shape[0]):
                dz_row[j] *= weight
    return dz
