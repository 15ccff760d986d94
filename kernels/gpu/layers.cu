// The layers of kernels/reference.py, where the formulas stand. cuBLAS computes the products x @ W, dy @ W.T and x.T @ dy.

extern "C" __global__ void add_bias(const REAL *b, REAL *y, size n, size width) {
    FOR_EACH(i, n) y[i] += b[i % width];
}

extern "C" __global__ void constant(const REAL *b, REAL *y, size n, size width) {
    FOR_EACH(i, n) y[i] = b[i % width];
}

// db is the sum of dy over the rows. A block of whole warps sums 32 columns: the warps take turns at the rows.
extern "C" __global__ void column_sums(const REAL *dy, REAL *db, size rows, size width) {
    __shared__ REAL of_warp[32][33];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (size first = 32 * (size)blockIdx.x; first < width; first += 32 * (size)gridDim.x) {
        size column = first + lane;
        REAL total = 0;
        if (column < width)
            for (size r = warp; r < rows; r += warps) total += dy[r * width + column];
        __syncthreads();
        of_warp[warp][lane] = total;
        __syncthreads();
        if (warp == 0 && column < width) {
            total = 0;
            for (int w = 0; w < warps; w++) total += of_warp[w][lane];
            db[column] = total;
        }
    }
}

extern "C" __global__ void scale(const REAL *W, REAL factor, REAL *dW, size n) {
    FOR_EACH(i, n) dW[i] = factor * W[i];
}

// ----------------------------------------------------------------------- activations, which take the place of x @ W

extern "C" __global__ void bias_relu(const REAL *b, REAL *h, size n, size width) {
    FOR_EACH(i, n) {
        REAL y = h[i] + b[i % width];
        h[i] = y < 0 ? 0 : y;  // a NaN stays a NaN
    }
}

extern "C" __global__ void relu_backward(REAL *dh, const REAL *h, size n) {
    FOR_EACH(i, n) dh[i] = h[i] > 0 ? dh[i] : 0;
}

extern "C" __global__ void bias_tanh(const REAL *b, REAL *h, size n, size width) {
    FOR_EACH(i, n) h[i] = tanh(h[i] + b[i % width]);
}

extern "C" __global__ void tanh_backward(REAL *dh, const REAL *h, size n) {
    FOR_EACH(i, n) dh[i] *= (1 - h[i]) * (1 + h[i]);
}

extern "C" __global__ void bias_softplus(const REAL *b, REAL *h, size n, size width) {
    FOR_EACH(i, n) {
        REAL y = h[i] + b[i % width];
        h[i] = (y < 0 ? 0 : y) + log1p(exp(-fabs(y)));
    }
}

extern "C" __global__ void softplus_backward(REAL *dh, const REAL *h, size n) {
    FOR_EACH(i, n) dh[i] *= -expm1(-h[i]);
}

extern "C" __global__ void bias_silu(const REAL *b, REAL *y, REAL *h, size n, size width) {
    FOR_EACH(i, n) {
        REAL other;
        y[i] += b[i % width];
        h[i] = y[i] * sigmoid(y[i], &other);
    }
}

extern "C" __global__ void silu_backward(REAL *dh, const REAL *y, size n) {
    FOR_EACH(i, n) {
        REAL other, slope = sigmoid(y[i], &other);
        dh[i] *= slope + slope * (y[i] * other);
    }
}

extern "C" __global__ void bias_gelu(const REAL *b, REAL *y, REAL *h, size n, size width) {
    FOR_EACH(i, n) {
        y[i] += b[i % width];
        h[i] = y[i] * normcdf(y[i]);
    }
}

extern "C" __global__ void gelu_backward(REAL *dh, const REAL *y, size n) {
    const REAL per_sqrt_2pi = (REAL)0.39894228040143267794;
    FOR_EACH(i, n) dh[i] *= normcdf(y[i]) + y[i] * (exp(-y[i] * y[i] / 2) * per_sqrt_2pi);
}
