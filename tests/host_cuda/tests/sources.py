"""The kernels of these tests, and functions that compile and launch one."""

import functools
from typing import Any

import numpy as np

from tests import host_cuda as cp

CODE = r"""
typedef unsigned long long u64;

extern "C" __global__ void total(const REAL* __restrict__ x, REAL* out, int n) {
    __shared__ REAL parts[32];
    REAL sum = 0;
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) sum += x[i];
    const int lane = threadIdx.x % warpSize, lanes = min(warpSize, int(blockDim.x) - int(threadIdx.x) / 32 * 32);
    for (int by = 16; by; by /= 2) {
        const REAL other = __shfl_down_sync(0xffffffffu, sum, by);
        if (lane + by < lanes) sum += other;
    }
    if (lane == 0) parts[threadIdx.x / warpSize] = sum;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int w = 1; w < (blockDim.x + 31) / 32; ++w) sum += parts[w];
    out[blockIdx.x] = sum;
}

extern "C" __global__ void map(const REAL* x, REAL* y, int n, REAL by) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) y[i] = by * exp(x[i]);
}

#define TILE 16
extern "C" __global__ void transpose(const REAL* x, REAL* y, int rows, int columns) {
    __shared__ REAL tile[TILE][TILE + 1];
    const int across = (columns + TILE - 1) / TILE, down = (rows + TILE - 1) / TILE;
    for (int t = blockIdx.x; t < across * down; t += gridDim.x) {
        const int top = t / across * TILE, left = t % across * TILE;
        for (int k = threadIdx.x; k < TILE * TILE; k += blockDim.x) {
            const int i = top + k / TILE, j = left + k % TILE;
            if (i < rows && j < columns) tile[k / TILE][k % TILE] = x[i * columns + j];
        }
        __syncthreads();
        for (int k = threadIdx.x; k < TILE * TILE; k += blockDim.x) {
            const int i = top + k % TILE, j = left + k / TILE;
            if (i < rows && j < columns) y[j * rows + i] = tile[k % TILE][k / TILE];
        }
        AFTER_TILE
    }
}

extern "C" __global__ void votes(int* out) {
    const int lane = threadIdx.x % 32, odd = lane & 1;
    const unsigned mine = odd ? 0xaaaaaaaau : 0x55555555u;
    out[threadIdx.x] = __syncthreads_count(odd) + 1000 * __syncthreads_or(odd) + 2000 * __syncthreads_and(odd);
    if (odd) out[threadIdx.x] += 10000 * __popc(__ballot_sync(mine, lane > 8));
    else out[threadIdx.x] += 10000 * (__any_sync(mine, lane > 8) + 2 * __all_sync(mine, lane < 31));
    __syncwarp();
}

extern "C" __global__ void shuffles(double* out, long long shift) {
    const int lane = threadIdx.x;
    const double value = lane;
    out[lane] = __shfl_sync(~0u, value, 5);
    out[32 + lane] = __shfl_sync(~0u, value, lane + 1, 8);
    out[64 + lane] = __shfl_xor_sync(~0u, value, 3);
    out[96 + lane] = __shfl_up_sync(~0u, value, unsigned(shift), 16);
    out[128 + lane] = __shfl_down_sync(~0u, value, unsigned(shift), 16);
    out[160 + lane] = double(__shfl_xor_sync(~0u, (1ll << 40) + lane, 16));
    if (lane < 4) out[192 + lane] = __shfl_sync(0xfu, value, 4 + lane);
    else out[192 + lane] = -1;
}

extern "C" __global__ void histogram(const int* x, int* counts, float* sum, u64* many, int n) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
        atomicAdd(&counts[x[i]], 1);
        atomicAdd(sum, 0.5f);
        atomicAdd(many, u64(1) << 33);
    }
}

extern "C" __global__ void arithmetic(REAL* out) {
    const float f = 1.0f;
    out[0] = sizeof(exp(f)) == 4 && sizeof(exp(1.0)) == 8 && sizeof(sqrt(f)) == 4 && sizeof(max(f, f)) == 4;
    out[1] = __umulhi(0x80000000u, 6u);
    out[2] = __int_as_float(0x40490fdb);
    out[3] = __longlong_as_double(0x3ff8000000000000ll);
    out[4] = __double_as_longlong(1.5) == 0x3ff8000000000000ll;
    out[5] = isfinite(out[3]) && !isfinite(__int_as_float(0x7f800000)) && isnan(__int_as_float(0x7fc00000));
    out[6] = __fmul_rn(0.1f, 3.0f) == 0.1f * 3.0f && __fma_rn(0.1, 10.0, -1.0) != __dadd_rn(__dmul_rn(0.1, 10.0), -1.0);
    out[7] = rsqrt(REAL(4)) + min(3, 4) + max(1.5f, 2.5f) + __ldg(out + 3);
    out[8] = __double2uint_rn(2.5) + __clz(1) + __ffs(8);
    out[9] = fma(f, f, f) + fmaf(f, f, f) + expf(0) + log1pf(0) + fabs(-f);
}
"""
REALS = {"float": np.float32, "double": np.float64}


@functools.cache
def module(code: str, **macros: Any) -> cp.RawModule:
    """Return a source as a module. It is compiled once for each set of macros."""
    options = ("--std=c++17", "--fmad=false", *(f"-D{name}={value}" for name, value in macros.items()))
    return cp.RawModule(code=code, options=options)


def launch(code: str, *args: Any, grid: tuple = (1,), block: tuple = (64,), name: str = "kernel", **macros: Any) -> None:
    """Launch a kernel of a source."""
    module(code, **macros).get_function(name)(grid, block, args)


def kernel(body: str, parameters: str = "float* x") -> str:
    """Return the source of a kernel; t is the number of the thread. The body begins on line 2."""
    return f'extern "C" __global__ void kernel({parameters}) {{ const int t = threadIdx.x;\n{body}\n}}'
