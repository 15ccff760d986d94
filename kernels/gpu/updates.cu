// The updates of kernels/reference.py, where the formulas stand: the parameters p follow the gradient g. A number that changes
// from step to step is passed as a pointer.

extern "C" __global__ void sgd(REAL *p, const REAL *g, REAL *velocity, const double *learning_rate, double momentum, size n) {
    REAL rate = *learning_rate, keep = momentum;
    FOR_EACH(i, n) {
        velocity[i] = keep * velocity[i] + g[i];
        p[i] -= rate * velocity[i];
    }
}

extern "C" __global__ void adagrad(REAL *p, const REAL *g, REAL *squares, const double *learning_rate, double epsilon, size n) {
    REAL rate = *learning_rate, small = epsilon;
    FOR_EACH(i, n) {
        squares[i] += g[i] * g[i];
        p[i] -= rate * g[i] / (sqrt(squares[i]) + small);
    }
}

extern "C" __global__ void adam(REAL *p, const REAL *g, REAL *m, REAL *v, const whole *step, const double *learning_rate,
                                double beta1, double beta2, double epsilon, size n) {
    __shared__ REAL rate, per_std;  // each takes a power, for the correction of the bias
    if (threadIdx.x == 0) {
        rate = *learning_rate / (1 - pow(beta1, (double)*step));
        per_std = 1 / sqrt(1 - pow(beta2, (double)*step));
    }
    __syncthreads();
    REAL b1 = beta1, b2 = beta2, c1 = 1 - beta1, c2 = 1 - beta2, small = epsilon;
    FOR_EACH(i, n) {
        m[i] = b1 * m[i] + c1 * g[i];
        v[i] = b2 * v[i] + c2 * (g[i] * g[i]);
        p[i] -= rate * m[i] / (sqrt(v[i]) * per_std + small);
    }
}

// decays: 1 for a weight, 0 for a bias
extern "C" __global__ void decay(REAL *p, const REAL *decays, const double *learning_rate, double weight_decay, size n) {
    REAL shrink = *learning_rate * weight_decay;
    FOR_EACH(i, n) p[i] -= shrink * decays[i] * p[i];
}
