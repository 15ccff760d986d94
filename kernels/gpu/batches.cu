// Batches and their random numbers: the same bits as those of kernels/reference.py, where the formulas stand. This file is
// compiled without fused multiply-adds. CuPy compiles with --ftz=true, so that in single precision the bits differ in one case:
// data below 2^-126 become 0 where `gather` rounds them from double to float, and where `binarize` reads them.

typedef unsigned long long word;  // a word has 32 bits; the other 32 make room for a product

template <typename T>
__device__ void gather(const T *data, const whole *rows, REAL *x, size B, size D, REAL divisor) {
    FOR_EACH(i, B * D) x[i] = (REAL)data[rows[i / D] * D + i % D] / divisor;
}

extern "C" __global__ void gather_uint8(const unsigned char *data, const whole *rows, REAL *x, size B, size D) {
    gather(data, rows, x, B, D, 255);
}

extern "C" __global__ void gather_float32(const float *data, const whole *rows, REAL *x, size B, size D) {
    gather(data, rows, x, B, D, 1);
}

extern "C" __global__ void gather_float64(const double *data, const whole *rows, REAL *x, size B, size D) {
    gather(data, rows, x, B, D, 1);
}

// Philox 4x32-10: it turns the four words of a counter into four random words.
__device__ void philox(word w[4], word key) {
    const word WORD = 0xFFFFFFFFull;
    word low = key & WORD, high = key >> 32;
    for (int round = 0; round < 10; round++) {
        word ac = w[0] * 0xD2511F53ull, cc = w[2] * 0xCD9E8D57ull;
        w[0] = (cc >> 32) ^ w[1] ^ low;
        w[1] = cc & WORD;
        w[2] = (ac >> 32) ^ w[3] ^ high;
        w[3] = ac & WORD;
        low = (low + 0x9E3779B9ull) & WORD;
        high = (high + 0xBB67AE85ull) & WORD;
    }
}

template <int N>
__device__ double polynomial(const double (&coefficients)[N], double t) {
    double p = coefficients[N - 1];
    for (int k = N - 2; k >= 0; k--) p = p * t + coefficients[k];
    return p;
}

__device__ double log_uniform(word w) {
    const double SERIES[] = {LOG_SERIES};
    long long bits = __double_as_longlong((2.0 * w + 1.0) * (1.0 / 8589934592.0));
    double m = __longlong_as_double((bits & ((1ll << 52) - 1)) | 1022ll << 52), exponent = (bits >> 52) - 1022;
    if (m < SQRT_HALF) {
        m = 2 * m;
        exponent = exponent - 1;
    }
    double s = (m - 1) / (m + 1);
    return s * polynomial(SERIES, s * s) + exponent * LOG_2;
}

__device__ void circle(word w, double *cosine, double *sine) {
    const double COSINE[] = {COS_SERIES}, SINE[] = {SIN_SERIES};
    word quarter = (w + (1ull << 29)) >> 30;
    double angle = (double)((long long)w - (long long)(quarter << 30)) * QUARTER_TURN;
    double c = polynomial(COSINE, angle * angle), s = polynomial(SINE, angle * angle) * angle;
    bool odd = quarter & 1, half = quarter & 2;
    *cosine = odd ? -s : c;
    *sine = odd ? c : s;
    if (half) {
        *cosine = -*cosine;
        *sine = -*sine;
    }
}

// A thread makes the four normals of a counter.
__device__ void make_normals(word key, whole step, const whole *examples, REAL *eps, size L, size B, size Z) {
    size blocks = (Z + 3) / 4;
    FOR_EACH(i, L * B * blocks) {
        size block = i % blocks, b = i / blocks % B, l = i / blocks / B;
        word w[4] = {(word)block, (word)examples[b], (word)l, (word)step};
        philox(w, key);
        double four[4];
        for (int k = 0; k < 4; k += 2) {
            double radius = sqrt(-2 * log_uniform(w[k])), cosine, sine;
            circle(w[k + 1], &cosine, &sine);
            four[k] = radius * cosine;
            four[k + 1] = radius * sine;
        }
        for (int k = 0; k < 4 && 4 * block + k < Z; k++) eps[(l * B + b) * Z + 4 * block + k] = four[k];
    }
}

extern "C" __global__ void normals(word key, const whole *step, const whole *examples, REAL *eps, size L, size B, size Z) {
    make_normals(key, *step, examples, eps, L, B, Z);
}

// pixels and x may be the same array: a thread reads each of its pixels before it writes it.
extern "C" __global__ void binarize(const REAL *pixels, word key, const whole *step, const whole *examples, REAL *x, size B,
                                    size D) {
    size blocks = (D + 3) / 4;
    FOR_EACH(i, B * blocks) {
        size block = i % blocks, b = i / blocks;
        word w[4] = {(word)block, (word)examples[b], 0, (word)*step};
        philox(w, key);
        for (int k = 0; k < 4 && 4 * block + k < D; k++) {
            size at = b * D + 4 * block + k;
            x[at] = w[k] * (1.0 / 4294967296.0) < (double)pixels[at] ? 1 : 0;
        }
    }
}

// What begins a step that is replayed: `feed` of steps.cu, `gather` and `normals` in one. feeds has at `rows_at` the numbers of
// the rows, and at `step_at` the number of the step.
template <typename T>
__device__ void begin(const whole *feeds, size n, whole *counters, size rows_at, size step_at, const T *data, REAL *x, size B,
                      size D, REAL divisor, word key, REAL *eps, size L, size Z) {
    const whole *rows = (const whole *)feeds[3 * rows_at + 1] + counters[0] * B;
    const whole *step = (const whole *)feeds[3 * step_at + 1] + counters[0];
    gather(data, rows, x, B, D, divisor);
    make_normals(key, *step, rows, eps, L, B, Z);
    FOR_EACH_ROW(f, n) feed_array(feeds + 3 * f, counters[0]);
    if (blockIdx.x == 0 && threadIdx.x == 0) counters[1] = counters[1] + 1;
}

extern "C" __global__ void begin_uint8(const whole *feeds, size n, whole *counters, size rows_at, size step_at,
                                        const unsigned char *data, REAL *x, size B, size D, word key, REAL *eps, size L, size Z) {
    begin(feeds, n, counters, rows_at, step_at, data, x, B, D, (REAL)255, key, eps, L, Z);
}

extern "C" __global__ void begin_float32(const whole *feeds, size n, whole *counters, size rows_at, size step_at,
                                        const float *data, REAL *x, size B, size D, word key, REAL *eps, size L, size Z) {
    begin(feeds, n, counters, rows_at, step_at, data, x, B, D, (REAL)1, key, eps, L, Z);
}

extern "C" __global__ void begin_float64(const whole *feeds, size n, whole *counters, size rows_at, size step_at,
                                        const double *data, REAL *x, size B, size D, word key, REAL *eps, size L, size Z) {
    begin(feeds, n, counters, rows_at, step_at, data, x, B, D, (REAL)1, key, eps, L, Z);
}
