// What surrounds a step that is replayed: `feed` gives its first half its numbers, and `note` keeps its results and gives its
// second half its numbers. counters[0] tells `feed` the number of the step, and counters[1] tells it `note`. Each increments the
// counter of the other, because no kernel may change what its own blocks read.

extern "C" __global__ void feed(const whole *feeds, size n, whole *counters) {
    FOR_EACH_ROW(f, n) feed_array(feeds + 3 * f, counters[0]);
    if (blockIdx.x == 0 && threadIdx.x == 0) counters[1] = counters[1] + 1;
}

// A row of arrays is the address of an array, its number of elements, 0 for their mean or 1 for the sum of their squares,
// and the number of parts before its own: an array is summed in parts of at most `length` elements, of which there are
// `parts` in all. kept has the shape (steps, n).
//
// A block sums one part after another. The last block to arrive sums the parts of each array, in their order: the result does
// not depend on the number of blocks, nor on which of them is the last.
extern "C" __global__ void note(const whole *arrays, size n, size length, volatile double *sums, size parts, unsigned *arrived,
                                double *kept, const whole *feeds, size n_feeds, whole *counters) {
    __shared__ bool is_last;
    FOR_EACH_ROW(part, parts) {
        size r = n - 1;
        while (arrays[4 * r + 3] > part) r--;
        const REAL *array = (const REAL *)arrays[4 * r];
        whole first = (part - arrays[4 * r + 3]) * length, count = min((whole)length, arrays[4 * r + 1] - first);
        double total = 0;
        FOR_EACH_IN_ROW(i, count) {
            double element = array[first + i];
            total += arrays[4 * r + 2] ? element * element : element;
        }
        total = sum_of_block(total);
        if (threadIdx.x == 0) sums[part] = total;
    }
    if (threadIdx.x == 0) {
        __threadfence();  // whoever sees that this block has arrived sees its sums
        is_last = atomicAdd(arrived, 1u) == gridDim.x - 1;
        __threadfence();  // and the last block does not read the sums of others before
    }
    __syncthreads();
    if (!is_last) return;
    for (size r = 0; r < n; r++) {
        whole first = arrays[4 * r + 3], stop = r + 1 < n ? arrays[4 * r + 7] : parts;
        double total = 0;
        FOR_EACH_IN_ROW(i, stop - first) total += sums[first + i];
        total = sum_of_block(total);
        if (threadIdx.x == 0) kept[(counters[1] - 1) * n + r] = arrays[4 * r + 2] ? total : total / arrays[4 * r + 1];
    }
    for (size f = 0; f < n_feeds; f++) feed_array(feeds + 3 * f, counters[1] - 1);
    if (threadIdx.x == 0) {
        *arrived = 0;
        counters[0] = counters[0] + 1;
    }
}
