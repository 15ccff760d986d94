// All source files begin with this one. REAL is float or double, and INDEX is int or, where arrays are so large, long long.
//
// Arrays are contiguous, and the last axis is the fastest. A `size` is the length of an axis, and n is a number of
// elements. A `whole` is a whole number in an array: the number of a row or a step, or an address. A kernel works with any grid and any block: its threads stride over the elements, or the threads of a block
// stride together over the rows that they sum.

typedef INDEX size;
typedef long long whole;

#define FOR_EACH(i, n) \
    for (size i = blockIdx.x * (size)blockDim.x + threadIdx.x; i < (n); i += gridDim.x * (size)blockDim.x)
#define FOR_EACH_ROW(r, n) for (size r = blockIdx.x; r < (n); r += gridDim.x)
#define FOR_EACH_IN_ROW(j, n) for (size j = threadIdx.x; j < (n); j += blockDim.x)

// Returns sigmoid(l), and sets `other` to sigmoid(-l). Neither overflows.
__device__ REAL sigmoid(REAL l, REAL *other) {
    REAL e = exp(-fabs(l)), larger = 1 / (1 + e), smaller = e / (1 + e);
    *other = l >= 0 ? smaller : larger;
    return l >= 0 ? larger : smaller;
}

__device__ REAL relu(REAL y) { return y < 0 ? 0 : y; }  // a NaN stays a NaN

__device__ REAL softplus(REAL y) { return relu(y) + log1p(exp(-fabs(y))); }

// -log p(pixel | l) of a Bernoulli variable with the logit l, and its derivative by l.
__device__ REAL bernoulli(REAL l, REAL pixel) {
    return (l > 0 ? (1 - pixel) * l : -pixel * l) + log1p(exp(-fabs(l)));
}

__device__ REAL bernoulli_slope(REAL l, REAL pixel) {
    REAL p_zero, p_one = sigmoid(l, &p_zero);
    return (1 - pixel) * p_one - pixel * p_zero;
}

// A sample z of N(mu, exp(logvar)), and twice KL(N(mu, exp(logvar)) || N(0, 1)).
__device__ REAL sample(REAL mu, REAL logvar, REAL eps) { return mu + exp(logvar / 2) * eps; }

__device__ REAL twice_kl(REAL mu, REAL logvar) { return mu * mu + (expm1(logvar) - logvar); }

// The derivatives by mu and logvar of element i that come from its samples z, of which each has the derivative dz.
__device__ void derivatives_of_samples(const REAL *dz, const REAL *eps, REAL logvar, size L, size BZ, size i, REAL *of_mu,
                                       REAL *of_logvar) {
    REAL of_std = 0;
    *of_mu = 0;
    for (size l = 0; l < L; l++) {
        *of_mu += dz[l * BZ + i];
        of_std += dz[l * BZ + i] * eps[l * BZ + i];
    }
    *of_logvar = of_std * exp(logvar / 2) / 2;
}

// Copies to an array the values that it has in a step. A row of feeds is the address of the array, the address of its values
// for all steps, and its size in bytes, a multiple of 4.
__device__ void feed_array(const whole *feed, whole step) {
    int *array = (int *)feed[0];
    whole words = feed[2] / 4;
    const int *values = (const int *)feed[1] + step * words;
    FOR_EACH_IN_ROW(i, words) array[i] = values[i];
}

// The first thread of a block gets the sum of the values of all its threads, which must all call this function.
template <typename T>
__device__ T sum_of_block(T value) {
    __shared__ T of_warp[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int lanes = min(32, (int)blockDim.x - 32 * warp);  // the last warp may have fewer threads
    unsigned present = 0xFFFFFFFFu >> (32 - lanes);
    for (int apart = 16; apart > 0; apart /= 2) {
        T other = __shfl_down_sync(present, value, apart);
        if (lane + apart < lanes) value += other;
    }
    __syncthreads();  // what an earlier call left has been read
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    T total = 0;
    if (threadIdx.x == 0)
        for (int w = 0; 32 * w < blockDim.x; w++) total += of_warp[w];
    return total;
}
