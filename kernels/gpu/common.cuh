// All source files begin with this one. REAL is float or double.
//
// Arrays are contiguous, and the last axis is the fastest. A `size` is the length of an axis, and n is a number of
// elements. A kernel works with any grid and any block: its threads stride over the elements, or the threads of a block
// stride together over the rows that they sum.

typedef long long size;

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
