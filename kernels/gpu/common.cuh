// What all sources begin with. REAL is float or double.
//
// Arrays are whole, the last axis the fastest; a `size` is how long an axis is, n how many elements there are. Any grid and
// any block will do: threads stride over elements, or a block's threads together over the rows that they sum.

typedef long long size;

#define FOR_EACH(i, n) \
    for (size i = blockIdx.x * (size)blockDim.x + threadIdx.x; i < (n); i += gridDim.x * (size)blockDim.x)
#define FOR_EACH_ROW(r, n) for (size r = blockIdx.x; r < (n); r += gridDim.x)
#define FOR_EACH_IN_ROW(j, n) for (size j = threadIdx.x; j < (n); j += blockDim.x)

// The sum of every thread's value, in the block's first thread. All its threads must call it.
template <typename T>
__device__ T sum_of_block(T value) {
    __shared__ T of_warp[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    int lanes = min(32, (int)blockDim.x - 32 * warp);  // the last warp may have fewer
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
