// What surrounds a step that is replayed: `feed` gives it its numbers, and `note` keeps its results. counters[0] tells
// `feed` the number of the step, and counters[1] tells it `note`. Each increments the counter of the other, because no
// kernel may change what its own blocks read.

// A row of feeds is the address of an array, the address of its values for all steps, and its size in bytes, a multiple of 4.
extern "C" __global__ void feed(const size *feeds, size n, size *counters) {
    for (size f = blockIdx.x; f < n; f += gridDim.x) {
        int *array = (int *)feeds[3 * f];
        size words = feeds[3 * f + 2] / 4;
        const int *values = (const int *)feeds[3 * f + 1] + counters[0] * words;
        FOR_EACH_IN_ROW(i, words) array[i] = values[i];
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) counters[1] = counters[1] + 1;
}

// A row of arrays is the address of an array, its number of elements, and 0 for their mean or 1 for the sum of their
// squares. kept has the shape (steps, n).
extern "C" __global__ void note(const size *arrays, size n, double *kept, size *counters) {
    FOR_EACH_ROW(r, n) {
        const REAL *array = (const REAL *)arrays[3 * r];
        size count = arrays[3 * r + 1], squares = arrays[3 * r + 2];
        double total = 0;
        FOR_EACH_IN_ROW(i, count) total += squares ? (double)array[i] * array[i] : (double)array[i];
        total = sum_of_block(total);
        if (threadIdx.x == 0) kept[(counters[1] - 1) * n + r] = squares ? total : total / count;
    }
    if (blockIdx.x == 0 && threadIdx.x == 0) counters[0] = counters[0] + 1;
}
