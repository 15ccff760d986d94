// The latents, likelihoods, bounds and estimators of kernels/reference.py, where the formulas stand. A number that changes from step to
// step is passed as a pointer.

// ------------------------------------------------------------------------------- the sample z and its gradient's path
// Examples are (B, Z), which are BZ elements; samples are (L, B, Z).

extern "C" __global__ void reparameterize(const REAL *mu, const REAL *logvar, const REAL *eps, REAL *z, size L, size BZ) {
    FOR_EACH(i, L * BZ) z[i] = sample(mu[i % BZ], logvar[i % BZ], eps[i]);
}

extern "C" __global__ void reparameterize_backward_add(const REAL *dz, const REAL *logvar, const REAL *eps, REAL *dmu,
                                                       REAL *dlogvar, size L, size BZ) {
    FOR_EACH(i, BZ) {
        REAL of_mu, of_logvar;
        derivatives_of_samples(dz, eps, logvar[i], L, BZ, i, &of_mu, &of_logvar);
        dmu[i] += of_mu;
        dlogvar[i] += of_logvar;
    }
}

// --------------------------------------------------------------------------------------------- KL(q(z|x) || p(z)), nats

extern "C" __global__ void gaussian_kl(const REAL *mu, const REAL *logvar, REAL *kl, size B, size Z) {
    FOR_EACH_ROW(b, B) {
        REAL total = 0;
        FOR_EACH_IN_ROW(j, Z) total += twice_kl(mu[b * Z + j], logvar[b * Z + j]);
        total = sum_of_block(total);
        if (threadIdx.x == 0) kl[b] = total / 2;
    }
}

extern "C" __global__ void gaussian_kl_backward(const REAL *dkl, const REAL *mu, const REAL *logvar, REAL *dmu, REAL *dlogvar,
                                                size B, size Z) {
    FOR_EACH(i, B * Z) {
        dmu[i] = dkl[i / Z] * mu[i];
        dlogvar[i] = dkl[i / Z] * expm1(logvar[i]) / 2;
    }
}

extern "C" __global__ void sampled_kl(const REAL *logvar, const REAL *eps, const REAL *z, REAL *kl, size L, size B, size Z) {
    FOR_EACH_ROW(r, L * B) {
        REAL total = 0;
        FOR_EACH_IN_ROW(j, Z) {
            REAL e = eps[r * Z + j], s = z[r * Z + j];
            total += (s - e) * (s + e) - logvar[r % B * Z + j];
        }
        total = sum_of_block(total);
        if (threadIdx.x == 0) kl[r] = total / 2;
    }
}

extern "C" __global__ void sampled_kl_backward(const REAL *dkl, const REAL *z, REAL *dz, REAL *dmu, REAL *dlogvar, size L,
                                               size B, size Z) {
    FOR_EACH(i, B * Z) {
        REAL total = 0;
        for (size l = 0; l < L; l++) {
            REAL weight = dkl[l * B + i / Z];
            dz[l * B * Z + i] += weight * z[l * B * Z + i];
            total += weight;
        }
        dmu[i] = 0;
        dlogvar[i] = -total / 2;
    }
}

// ----------------------------------------------------------------------------------- nll = -log p(x|z) per sample, nats
// A row is a sample of an example, with D inputs; x (B, D) is the same for all samples. per_row is the number of log-variances
// of a row: D, or 1 where all inputs share one.

extern "C" __global__ void bernoulli_nll(const REAL *logits, const REAL *x, REAL *nll, size L, size B, size D) {
    FOR_EACH_ROW(r, L * B) {
        REAL total = 0;
        FOR_EACH_IN_ROW(d, D) {
            REAL l = logits[r * D + d], pixel = x[r % B * D + d];
            total += bernoulli(l, pixel);
        }
        total = sum_of_block(total);
        if (threadIdx.x == 0) nll[r] = total;
    }
}

extern "C" __global__ void bernoulli_nll_backward(const REAL *dnll, const REAL *logits, const REAL *x, REAL *dlogits, size L,
                                                  size B, size D) {
    FOR_EACH(i, L * B * D) dlogits[i] = dnll[i / D] * bernoulli_slope(logits[i], x[i % (B * D)]);
}

extern "C" __global__ void bernoulli_mean(const REAL *logits, REAL *mean, size n) {
    FOR_EACH(i, n) {
        REAL p_zero;
        mean[i] = sigmoid(logits[i], &p_zero);
    }
}

// Near 0 the two series of l^2; see the reference.
__device__ REAL series(const REAL *coefficients, int n, REAL t) {
    REAL p = coefficients[n - 1];
    for (int k = n - 2; k >= 0; k--) p = p * t + coefficients[k];
    return p;
}

// 1 / a - 1 / (exp(a) - 1)
__device__ REAL lesser_mean(REAL a) {
    const REAL coth[] = {COTH_SERIES};
    REAL e = exp(-a);
    return a < (REAL)NEAR_0 ? (REAL)0.5 - a * series(coth, sizeof(coth) / sizeof(REAL), a * a) : 1 / a - e / (1 - e);
}

extern "C" __global__ void continuous_bernoulli_nll(const REAL *logits, const REAL *x, REAL *nll, size L, size B, size D) {
    const REAL sinh_series[] = {SINH_SERIES};
    FOR_EACH_ROW(r, L * B) {
        REAL total = 0;
        FOR_EACH_IN_ROW(d, D) {
            REAL l = logits[r * D + d], pixel = x[r % B * D + d], a = fabs(l);
            if (a < (REAL)NEAR_0)
                total += ((REAL)0.5 - pixel) * l + l * l * series(sinh_series, sizeof(sinh_series) / sizeof(REAL), l * l);
            else
                total += (l > 0 ? (1 - pixel) * l : -pixel * l) + (log1p(-exp(-a)) - log(a));
        }
        total = sum_of_block(total);
        if (threadIdx.x == 0) nll[r] = total;
    }
}

extern "C" __global__ void continuous_bernoulli_nll_backward(const REAL *dnll, const REAL *logits, const REAL *x, REAL *dlogits,
                                                             size L, size B, size D) {
    FOR_EACH(i, L * B * D) {
        REAL l = logits[i], pixel = x[i % (B * D)], less = lesser_mean(fabs(l));
        dlogits[i] = dnll[i / D] * (l > 0 ? (1 - pixel) - less : less - pixel);
    }
}

extern "C" __global__ void continuous_bernoulli_mean(const REAL *logits, REAL *mean, size n) {
    FOR_EACH(i, n) {
        REAL less = lesser_mean(fabs(logits[i]));
        mean[i] = logits[i] > 0 ? 1 - less : less;
    }
}

extern "C" __global__ void gaussian_nll(const REAL *mean, const REAL *output_logvar, const REAL *x, REAL *nll, size L,
                                        size B, size D, size per_row) {
    const REAL log_2pi = (REAL)1.8378770664093454836;
    FOR_EACH_ROW(r, L * B) {
        REAL total = 0;
        FOR_EACH_IN_ROW(d, D) {
            REAL error = x[r % B * D + d] - mean[r * D + d], s = output_logvar[r * per_row + (per_row > 1 ? d : 0)];
            total += log_2pi + s + error * error * exp(-s);
        }
        total = sum_of_block(total);
        if (threadIdx.x == 0) nll[r] = total / 2;
    }
}

extern "C" __global__ void gaussian_nll_backward(const REAL *dnll, const REAL *mean, const REAL *output_logvar, const REAL *x,
                                                 REAL *dmean, REAL *doutput_logvar, size L, size B, size D, size per_row) {
    FOR_EACH_ROW(r, L * B) {
        REAL total = 0;
        FOR_EACH_IN_ROW(d, D) {
            REAL error = mean[r * D + d] - x[r % B * D + d];
            REAL precision = exp(-output_logvar[r * per_row + (per_row > 1 ? d : 0)]);
            REAL of_logvar = dnll[r] / 2 * (1 - error * error * precision);
            dmean[r * D + d] = dnll[r] * error * precision;
            if (per_row > 1) doutput_logvar[r * D + d] = of_logvar;
            total += of_logvar;
        }
        total = sum_of_block(total);
        if (threadIdx.x == 0 && per_row == 1) doutput_logvar[r] = total;
    }
}

// --------------------------------------------------------------- the bound: what each sample weighs in its example's loss

extern "C" __global__ void elbo(const REAL *nll, const REAL *kl, const REAL *beta, REAL *loss, size L, size K, size B) {
    FOR_EACH(b, B) {
        REAL of_nll = 0, of_kl = 0;
        for (size l = 0; l < L; l++) of_nll += nll[l * B + b];
        for (size k = 0; k < K; k++) of_kl += kl[k * B + b];
        loss[b] = of_nll / L + *beta * (of_kl / K);
    }
}

extern "C" __global__ void elbo_backward(const REAL *beta, REAL *dnll, REAL *dkl, size L, size K, size B, size n_examples) {
    FOR_EACH(i, L * B) dnll[i] = 1 / ((REAL)L * n_examples);
    FOR_EACH(i, K * B) dkl[i] = *beta / ((REAL)K * n_examples);
}

// log w, with two roundings: it is computed twice. With a fused multiply-add in only one of the two places, the largest log
// w could differ from itself.
__device__ REAL log_weight(REAL nll, REAL kl, REAL beta) {
    volatile REAL weighted = beta * kl;
    return -(nll + weighted);
}

// The largest log w of an example.
__device__ REAL largest(const REAL *nll, const REAL *kl, REAL beta, size L, size B) {
    REAL top = log_weight(nll[0], kl[0], beta);
    for (size l = 1; l < L; l++) {
        REAL log_w = log_weight(nll[l * B], kl[l * B], beta);
        top = top >= log_w ? top : log_w;
    }
    return top;
}

extern "C" __global__ void iwae(const REAL *nll, const REAL *kl, const REAL *beta, REAL *loss, size L, size B) {
    FOR_EACH(b, B) {
        REAL top = largest(nll + b, kl + b, *beta, L, B), total = 0;
        for (size l = 0; l < L; l++) total += exp(log_weight(nll[l * B + b], kl[l * B + b], *beta) - top);
        loss[b] = -(top + log(total / L));
    }
}

// w = exp(log w - top) of the samples of an example, and their sum
__device__ REAL weights(const REAL *nll, const REAL *kl, REAL beta, REAL top, REAL *w, size L, size B) {
    REAL total = 0;
    for (size l = 0; l < L; l++) {
        w[l * B] = exp(log_weight(nll[l * B], kl[l * B], beta) - top);
        total += w[l * B];
    }
    return total;
}

extern "C" __global__ void iwae_backward(const REAL *nll, const REAL *kl, const REAL *beta, REAL *dnll, REAL *dkl, size L,
                                         size B, size n_examples) {
    FOR_EACH(b, B) {
        REAL top = largest(nll + b, kl + b, *beta, L, B), total = weights(nll + b, kl + b, *beta, top, dnll + b, L, B);
        for (size l = 0; l < L; l++) {
            REAL share = dnll[l * B + b] / (total * n_examples);
            dnll[l * B + b] = share;
            dkl[l * B + b] = *beta * share;
        }
    }
}

// ---------------------------------------------------------------- other estimators of the gradient by mu and logvar of q

extern "C" __global__ void sampled_kl_path_backward(const REAL *dkl, const REAL *logvar, const REAL *eps, const REAL *z,
                                                    REAL *dz, REAL *dmu, REAL *dlogvar, size L, size B, size Z) {
    FOR_EACH(i, B * Z) {
        REAL per_std = exp(-logvar[i] / 2);
        for (size l = 0; l < L; l++) {
            size k = l * B * Z + i;
            dz[k] += dkl[l * B + i / Z] * (z[k] - eps[k] * per_std);
        }
        dmu[i] = 0;
        dlogvar[i] = 0;
    }
}

extern "C" __global__ void score_backward(const REAL *dkl, const REAL *logvar, const REAL *eps, REAL *dz, REAL *dmu,
                                          REAL *dlogvar, size L, size B, size Z) {
    FOR_EACH(i, B * Z) {
        REAL of_mu = 0, of_logvar = 0;
        for (size l = 0; l < L; l++) {
            REAL weight = dkl[l * B + i / Z], e = eps[l * B * Z + i];
            of_mu += weight * e;
            of_logvar += weight * ((e - 1) * (e + 1));
            dz[l * B * Z + i] = 0;
        }
        dmu[i] = of_mu * exp(-logvar[i] / 2);
        dlogvar[i] = of_logvar / 2;
    }
}

extern "C" __global__ void elbo_score_backward(const REAL *nll, const REAL *kl, const REAL *beta, REAL *dnll, REAL *dkl,
                                               size L, size B, size n_examples) {
    size n_others = L > 1 ? L - 1 : 1;
    FOR_EACH(b, B) {
        REAL mean = 0;
        if (L > 1)
            for (size l = 0; l < L; l++) mean += (nll[l * B + b] + *beta * kl[l * B + b]) / L;
        for (size l = 0; l < L; l++) {
            dnll[l * B + b] = 1 / ((REAL)L * n_examples);
            dkl[l * B + b] = (nll[l * B + b] + *beta * kl[l * B + b] - mean) / ((REAL)n_others * n_examples);
        }
    }
}

extern "C" __global__ void iwae_score_backward(const REAL *nll, const REAL *kl, const REAL *beta, REAL *dnll, REAL *dkl,
                                               size L, size B, size n_examples) {
    FOR_EACH(b, B) {
        REAL top = largest(nll + b, kl + b, *beta, L, B), total = weights(nll + b, kl + b, *beta, top, dnll + b, L, B);
        REAL loss = -(top + log(total / L));
        for (size l = 0; l < L; l++) {
            REAL share = dnll[l * B + b] / (total * n_examples);
            dnll[l * B + b] = share;
            dkl[l * B + b] = *beta * share + loss / n_examples;
        }
    }
}

// log(exp(log_more) + the sum of the weights of an example without the sample left_out)
__device__ REAL log_sum_with(const REAL *nll, const REAL *kl, REAL beta, size L, size B, size left_out, REAL log_more) {
    REAL top = log_more, total = 0;
    for (size l = 0; l < L; l++) {
        REAL log_w = log_weight(nll[l * B], kl[l * B], beta);
        if (l != left_out) top = top >= log_w ? top : log_w;
    }
    for (size l = 0; l < L; l++)
        if (l != left_out) total += exp(log_weight(nll[l * B], kl[l * B], beta) - top);
    return top + log(total + exp(log_more - top));
}

extern "C" __global__ void vimco_backward(const REAL *nll, const REAL *kl, const REAL *beta, REAL *dnll, REAL *dkl, size L,
                                          size B, size n_examples) {
    const REAL vanishing = (REAL)1e-20;  // below it a sum of exp(log w - top) may lack terms that exp has rounded to 0
    FOR_EACH(b, B) {
        REAL top = largest(nll + b, kl + b, *beta, L, B);
        // Of the samples before each one: the sum of their weights, in dkl, and the sum of the logarithms, in dnll.
        REAL total = 0, sum_of_logs = 0;
        for (size l = 0; l < L; l++) {
            REAL log_w = log_weight(nll[l * B + b], kl[l * B + b], *beta) - top;
            dkl[l * B + b] = total;
            dnll[l * B + b] = sum_of_logs;
            total += exp(log_w);
            sum_of_logs += log_w;
        }
        // Those of the samples after it are added from the other end.
        REAL sum_after = 0;
        sum_of_logs = 0;
        for (size l = L - 1; l >= 0; l--) {
            REAL log_w = log_weight(nll[l * B + b], kl[l * B + b], *beta) - top, w = exp(log_w), gain;
            REAL others = dkl[l * B + b] + sum_after, mean = (dnll[l * B + b] + sum_of_logs) / (L > 1 ? L - 1 : 1);
            if (L == 1)
                gain = -top;
            else if (others < vanishing)
                gain = log_sum_with(nll + b, kl + b, *beta, L, B, l, mean + top) - top;  // total is 1 here
            else
                gain = log(others + exp(mean)) - log(total);
            REAL share = w / (total * n_examples);
            dnll[l * B + b] = share;
            dkl[l * B + b] = *beta * share + gain / n_examples;
            sum_after += w;
            sum_of_logs += log_w;
        }
    }
}

extern "C" __global__ void dreg_path_weight(const REAL *dnll, const REAL *beta, REAL *dz, size L, size B, size Z,
                                            size n_examples) {
    FOR_EACH(i, L * B * Z) dz[i] *= (1 - *beta) + *beta * (n_examples * dnll[i / Z]);
}
