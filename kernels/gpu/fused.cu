// Operations that follow one another, as one kernel each; `fusion` puts them in the place of the single ones.

// The biases of mu and logvar, the samples z and, where kl is not absent, the KL in closed form.
__device__ void make_latents(const REAL *b_mu, REAL *mu, const REAL *b_logvar, REAL *logvar, const REAL *eps, REAL *z, REAL *kl,
                             size L, size B, size Z, size b) {
    REAL total = 0;
    FOR_EACH_IN_ROW(j, Z) {
        REAL m = mu[b * Z + j] + b_mu[j], s = logvar[b * Z + j] + b_logvar[j];
        mu[b * Z + j] = m;
        logvar[b * Z + j] = s;
        total += twice_kl(m, s);
    }
    __syncthreads();
    FOR_EACH_IN_ROW(k, L * Z) {
        size i = b * Z + k % Z, of_sample = k / Z * B * Z + i;
        z[of_sample] = sample(mu[i], logvar[i], eps[of_sample]);
    }
    if (kl) {
        total = sum_of_block(total);
        if (threadIdx.x == 0) kl[b] = total / 2;
    }
}

extern "C" __global__ void latents(const REAL *b_mu, REAL *mu, const REAL *b_logvar, REAL *logvar, const REAL *eps, REAL *z,
                                   REAL *kl, size L, size B, size Z) {
    FOR_EACH_ROW(b, B) make_latents(b_mu, mu, b_logvar, logvar, eps, z, kl, L, B, Z, b);
}

// The same, and the first layer of the decoder, h = f(z @ W + bias). It has few inputs.
template <typename F>
__device__ void decode(F f, const REAL *z, const REAL *W, const REAL *bias, REAL *h, size L, size B, size Z, size H, size b) {
    __syncthreads();
    FOR_EACH_IN_ROW(k, L * H) {
        size row = k / H * B + b, column = k % H;
        REAL y = 0;
        for (size j = 0; j < Z; j++) y += z[row * Z + j] * W[j * H + column];
        h[row * H + column] = f(y + bias[column]);
    }
}

extern "C" __global__ void latents_relu(const REAL *b_mu, REAL *mu, const REAL *b_logvar, REAL *logvar, const REAL *eps,
                                        REAL *z, REAL *kl, size L, size B, size Z, const REAL *W, const REAL *bias, REAL *h,
                                        size H) {
    FOR_EACH_ROW(b, B) {
        make_latents(b_mu, mu, b_logvar, logvar, eps, z, kl, L, B, Z, b);
        decode([](REAL y) { return relu(y); }, z, W, bias, h, L, B, Z, H, b);
    }
}

extern "C" __global__ void latents_tanh(const REAL *b_mu, REAL *mu, const REAL *b_logvar, REAL *logvar, const REAL *eps,
                                        REAL *z, REAL *kl, size L, size B, size Z, const REAL *W, const REAL *bias, REAL *h,
                                        size H) {
    FOR_EACH_ROW(b, B) {
        make_latents(b_mu, mu, b_logvar, logvar, eps, z, kl, L, B, Z, b);
        decode([](REAL y) { return tanh(y); }, z, W, bias, h, L, B, Z, H, b);
    }
}

extern "C" __global__ void latents_softplus(const REAL *b_mu, REAL *mu, const REAL *b_logvar, REAL *logvar, const REAL *eps,
                                        REAL *z, REAL *kl, size L, size B, size Z, const REAL *W, const REAL *bias, REAL *h,
                                        size H) {
    FOR_EACH_ROW(b, B) {
        make_latents(b_mu, mu, b_logvar, logvar, eps, z, kl, L, B, Z, b);
        decode([](REAL y) { return softplus(y); }, z, W, bias, h, L, B, Z, H, b);
    }
}

// The derivatives by mu and logvar: from the KL in closed form, and through the samples.
extern "C" __global__ void latents_backward(const REAL *dkl, const REAL *mu, const REAL *logvar, const REAL *dz,
                                            const REAL *eps, REAL *dmu, REAL *dlogvar, size L, size B, size Z) {
    FOR_EACH(i, B * Z) {
        REAL of_mu, of_logvar;
        derivatives_of_samples(dz, eps, logvar[i], L, B * Z, i, &of_mu, &of_logvar);
        dmu[i] = dkl[i / Z] * mu[i] + of_mu;
        dlogvar[i] = dkl[i / Z] * expm1(logvar[i]) / 2 + of_logvar;
    }
}

// The bias of the logits, the nll and, where dlogits is not absent, the derivative by the logits.
extern "C" __global__ void bernoulli_output(const REAL *b, REAL *logits, const REAL *x, REAL *nll, const REAL *dnll,
                                            REAL *dlogits, size L, size B, size D) {
    FOR_EACH_ROW(r, L * B) {
        REAL total = 0;
        FOR_EACH_IN_ROW(d, D) {
            REAL l = logits[r * D + d] + b[d], pixel = x[r % B * D + d];
            logits[r * D + d] = l;
            total += bernoulli(l, pixel);
            if (dlogits) dlogits[r * D + d] = dnll[r] * bernoulli_slope(l, pixel);
        }
        total = sum_of_block(total);
        if (threadIdx.x == 0) nll[r] = total;
    }
}
