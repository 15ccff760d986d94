// The layers of kernels/reference.py, where the formulas stand. cuBLAS computes the products x @ W, dy @ W.T and x.T @ dy.

extern "C" __global__ void add_bias(const REAL *b, REAL *y, size n, size width) {
    FOR_EACH(i, n) y[i] += b[i % width];
}

extern "C" __global__ void constant(const REAL *b, REAL *y, size n, size width) {
    FOR_EACH(i, n) y[i] = b[i % width];
}

// db is the sum of dy over the rows. A block of whole warps sums 32 columns, the first of which is given: the warps take turns
// at the rows.
__device__ void sum_columns(const REAL *dy, REAL *db, size rows, size width, size first) {
    __shared__ REAL of_warp[32][33];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
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

extern "C" __global__ void column_sums(const REAL *dy, REAL *db, size rows, size width) {
    FOR_EACH_ROW(part, (width + 31) / 32) sum_columns(dy, db, rows, width, 32 * part);
}

// The same for several arrays. A row of arrays is the address of dy, the address of db, the number of rows, the width, and the
// number of parts before its own, of 32 columns each.
extern "C" __global__ void all_column_sums(const whole *arrays, size n, size parts) {
    FOR_EACH_ROW(part, parts) {
        size k = n - 1;
        while (arrays[5 * k + 4] > part) k--;
        const whole *array = arrays + 5 * k;
        sum_columns((const REAL *)array[0], (REAL *)array[1], array[2], array[3], 32 * (part - array[4]));
    }
}

extern "C" __global__ void scale(const REAL *W, REAL factor, REAL *dW, size n) {
    FOR_EACH(i, n) dW[i] = factor * W[i];
}

// -------------------------------------------------------- the operands of a product at a lower precision, ties to even

template <typename T, typename R, typename F>
__device__ void round_both(F rounded, const T *a, R *of_a, size n, const T *b, R *of_b, size m) {
    FOR_EACH(i, n + m) {
        if (i < n)
            of_a[i] = rounded(a[i]);
        else
            of_b[i - n] = rounded(b[i - n]);
    }
}

// The bits of the nearest number whose `last` last bits are 0. The exponents stay those of float32, so that numbers below 2^-126
// keep fewer bits than others.
__device__ unsigned nearest(float x, int last) {
    unsigned bits = __float_as_uint(x), odd = bits >> last & 1, half = 1u << (last - 1);
    if (x != x) return bits | 0x400000;  // still a NaN where only its last bits say so
    return ((bits + half - 1 + odd) >> last) << last;
}

extern "C" __global__ void to_bfloat16(const float *a, unsigned short *of_a, size n, const float *b, unsigned short *of_b,
                                       size m) {
    round_both([](float x) { return nearest(x, 16) >> 16; }, a, of_a, n, b, of_b, m);
}

extern "C" __global__ void to_tf32(const float *a, unsigned *of_a, size n, const float *b, unsigned *of_b, size m) {
    round_both([](float x) { return nearest(x, 13); }, a, of_a, n, b, of_b, m);
}

extern "C" __global__ void to_bits(const double *a, double *of_a, size n, const double *b, double *of_b, size m, size bits) {
    auto rounded = [=](double x) {
        int exponent;
        double part = frexp(x, &exponent);
        return ldexp(rint(ldexp(part, (int)bits)), exponent - (int)bits);
    };
    round_both(rounded, a, of_a, n, b, of_b, m);
}

// ----------------------------------------------------------------------- activations, which take the place of x @ W

// The derivative of an activation takes the place of dh. Where dh is a sum, `other` is its second term; else it is 0.
__device__ REAL sum_at(const REAL *dh, const REAL *other, size i) { return other ? dh[i] + other[i] : dh[i]; }

extern "C" __global__ void bias_relu(const REAL *b, REAL *h, size n, size width) {
    FOR_EACH(i, n) h[i] = relu(h[i] + b[i % width]);
}

extern "C" __global__ void relu_backward(REAL *dh, const REAL *other, const REAL *h, size n) {
    FOR_EACH(i, n) dh[i] = h[i] > 0 ? sum_at(dh, other, i) : 0;
}

extern "C" __global__ void bias_tanh(const REAL *b, REAL *h, size n, size width) {
    FOR_EACH(i, n) h[i] = tanh(h[i] + b[i % width]);
}

extern "C" __global__ void tanh_backward(REAL *dh, const REAL *other, const REAL *h, size n) {
    FOR_EACH(i, n) dh[i] = sum_at(dh, other, i) * ((1 - h[i]) * (1 + h[i]));
}

extern "C" __global__ void bias_softplus(const REAL *b, REAL *h, size n, size width) {
    FOR_EACH(i, n) h[i] = softplus(h[i] + b[i % width]);
}

extern "C" __global__ void softplus_backward(REAL *dh, const REAL *other, const REAL *h, size n) {
    FOR_EACH(i, n) dh[i] = sum_at(dh, other, i) * -expm1(-h[i]);
}

extern "C" __global__ void bias_silu(const REAL *b, REAL *y, REAL *h, size n, size width) {
    FOR_EACH(i, n) {
        REAL other;
        y[i] += b[i % width];
        h[i] = y[i] * sigmoid(y[i], &other);
    }
}

extern "C" __global__ void silu_backward(REAL *dh, const REAL *other, const REAL *y, size n) {
    FOR_EACH(i, n) {
        REAL reverse, slope = sigmoid(y[i], &reverse);
        dh[i] = sum_at(dh, other, i) * (slope + slope * (y[i] * reverse));
    }
}

extern "C" __global__ void bias_gelu(const REAL *b, REAL *y, REAL *h, size n, size width) {
    FOR_EACH(i, n) {
        y[i] += b[i % width];
        h[i] = y[i] * normcdf(y[i]);
    }
}

extern "C" __global__ void gelu_backward(REAL *dh, const REAL *other, const REAL *y, size n) {
    const REAL per_sqrt_2pi = (REAL)0.39894228040143267794;
    FOR_EACH(i, n) dh[i] = sum_at(dh, other, i) * (normcdf(y[i]) + y[i] * (exp(-y[i] * y[i] / 2) * per_sqrt_2pi));
}
