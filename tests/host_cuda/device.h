// What kernels may use: g++ includes this header before the preprocessed source of a module.
#pragma once
#include "interface.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static __attribute__((used))  // static data in functions: kernels.py finds it by its mangled name
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

// ------------------------------------------------------------------------------------ barriers, votes and shuffles

// The last argument of functions that wait: the line of the call.
#define HOST_CUDA_LINE int line = __builtin_LINE()

inline void __syncthreads(HOST_CUDA_LINE) { host_cuda_block("__syncthreads", line, false); }
inline int __syncthreads_count(int p, HOST_CUDA_LINE) { return int(host_cuda_block("__syncthreads_count", line, p)); }
inline int __syncthreads_or(int p, HOST_CUDA_LINE) { return host_cuda_block("__syncthreads_or", line, p) != 0; }
inline int __syncthreads_and(int p, HOST_CUDA_LINE) { return host_cuda_block("__syncthreads_and", line, !p) == 0; }

inline void __syncwarp(unsigned mask = 0xffffffffu, HOST_CUDA_LINE) { host_cuda_warp("__syncwarp", line, mask, 0, -1); }
inline unsigned __ballot_sync(unsigned mask, int p, HOST_CUDA_LINE) {
    return unsigned(host_cuda_warp("__ballot_sync", line, mask, p != 0, -1));
}
inline int __any_sync(unsigned mask, int p, HOST_CUDA_LINE) {
    return unsigned(host_cuda_warp("__any_sync", line, mask, p != 0, -1)) != 0;
}
inline int __all_sync(unsigned mask, int p, HOST_CUDA_LINE) {
    return unsigned(host_cuda_warp("__all_sync", line, mask, p == 0, -1)) == 0;
}

namespace host_cuda {
inline int lane() { return int((threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % warpSize); }
template <class T> T shuffle(const char* what, int line, unsigned mask, T value, int source, int width) {
    static_assert(std::is_arithmetic<T>::value && (sizeof(T) == 4 || sizeof(T) == 8), "a shuffle takes 4 or 8 bytes");
    const bool right = width >= 1 && width <= warpSize && !(width & (width - 1));
    if (!right) host_cuda_fault("the width is not a power of two from 1 to 32", line);
    unsigned long long bits = 0;
    memcpy(&bits, &value, sizeof value);
    bits = host_cuda_warp(what, line, mask, bits, source);
    memcpy(&value, &bits, sizeof value);
    return value;
}
}  // namespace host_cuda

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, HOST_CUDA_LINE) {
    const int lane = host_cuda::lane(), first = lane & ~(width - 1);
    return host_cuda::shuffle("__shfl_sync", line, mask, value, first | (source & (width - 1)), width);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = warpSize, HOST_CUDA_LINE) {
    const int lane = host_cuda::lane(), last = lane | (width - 1), source = lane ^ (bits & 31);
    return host_cuda::shuffle("__shfl_xor_sync", line, mask, value, source <= last ? source : lane, width);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = warpSize, HOST_CUDA_LINE) {
    const int lane = host_cuda::lane(), last = lane | (width - 1), source = lane + int(by & 31);
    return host_cuda::shuffle("__shfl_down_sync", line, mask, value, source <= last ? source : lane, width);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = warpSize, HOST_CUDA_LINE) {
    const int lane = host_cuda::lane(), first = lane & ~(width - 1), source = lane - int(by & 31);
    return host_cuda::shuffle("__shfl_up_sync", line, mask, value, source >= first ? source : lane, width);
}

// --------------------------------------------------------------------------------------------- memory and numbers

// A turn is never interrupted, so that every update is atomic, and every write is seen by all threads.
#define HOST_CUDA_ATOMIC(T) inline T atomicAdd(T* at, T by) { const T old = *at; *at = old + by; return old; }
HOST_CUDA_ATOMIC(int) HOST_CUDA_ATOMIC(unsigned) HOST_CUDA_ATOMIC(unsigned long long)
HOST_CUDA_ATOMIC(float) HOST_CUDA_ATOMIC(double)
inline void __threadfence() {}
inline void __threadfence_block() {}
template <class T> T __ldg(const T* at) { return *at; }

#define HOST_CUDA_BITS(name, From, To) \
    inline To name(From from) { To to; memcpy(&to, &from, sizeof to); return to; }
HOST_CUDA_BITS(__int_as_float, int, float) HOST_CUDA_BITS(__float_as_int, float, int)
HOST_CUDA_BITS(__uint_as_float, unsigned, float) HOST_CUDA_BITS(__float_as_uint, float, unsigned)
HOST_CUDA_BITS(__longlong_as_double, long long, double) HOST_CUDA_BITS(__double_as_longlong, double, long long)

#define HOST_CUDA_ROUNDED(T, letter, fused) \
    inline T __##letter##add_rn(T a, T b) { return a + b; } \
    inline T __##letter##sub_rn(T a, T b) { return a - b; } \
    inline T __##letter##mul_rn(T a, T b) { return a * b; } \
    inline T __##letter##div_rn(T a, T b) { return a / b; } \
    inline T __##letter##sqrt_rn(T a) { return sqrt(a); } \
    inline T fused(T a, T b, T c) { return fma(a, b, c); }
HOST_CUDA_ROUNDED(float, f, __fmaf_rn) HOST_CUDA_ROUNDED(double, d, __fma_rn)

#define HOST_CUDA_CONVERT(name, From, To) \
    inline To __##name##_rn(From x) { return static_cast<To>(rint(x)); } \
    inline To __##name##_rz(From x) { return static_cast<To>(x); }
HOST_CUDA_CONVERT(float2int, float, int) HOST_CUDA_CONVERT(float2uint, float, unsigned)
HOST_CUDA_CONVERT(double2int, double, int) HOST_CUDA_CONVERT(double2uint, double, unsigned)
HOST_CUDA_CONVERT(double2ll, double, long long) HOST_CUDA_CONVERT(double2ull, double, unsigned long long)
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }
inline double __int2double_rn(int x) { return x; }
inline double __uint2double_rn(unsigned x) { return x; }
inline double __ll2double_rn(long long x) { return double(x); }
inline double __ull2double_rn(unsigned long long x) { return double(x); }

inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __ffs(int x) { return __builtin_ffs(x); }

inline float rsqrtf(float x) { return 1 / sqrtf(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline double rsqrt(double x) { return 1 / sqrt(x); }
inline float normcdf(float x) { return float(erfc(-double(x) * M_SQRT1_2) / 2); }
inline double normcdf(double x) { return double(erfcl(-x * sqrtl(0.5L)) / 2); }
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point<T>::value) return fmax(T(a), T(b));
    else return T(a) < T(b) ? T(b) : T(a);
}
template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
    using T = std::common_type_t<A, B>;
    if constexpr (std::is_floating_point<T>::value) return fmin(T(a), T(b));
    else return T(b) < T(a) ? T(b) : T(a);
}
extern "C" int printf(const char*, ...);

#define HOST_CUDA_VECTOR(T, name) \
    struct alignas(2 * sizeof(T)) name##2 { T x, y; }; \
    struct alignas(16) name##4 { T x, y, z, w; }; \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; } \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
HOST_CUDA_VECTOR(float, float) HOST_CUDA_VECTOR(double, double)
HOST_CUDA_VECTOR(int, int) HOST_CUDA_VECTOR(unsigned, uint)

// ------------------------------------------------------------------------------------------------------- launches

// The types of a kernel's arguments, and a function that calls it with arguments at given addresses.
namespace host_cuda {
template <class T> constexpr char kind() {
    if (std::is_same<T, bool>::value) return 'b';
    if (std::is_floating_point<T>::value) return 'f';
    if (std::is_integral<T>::value) return std::is_signed<T>::value ? 'i' : 'u';
    return 'V';
}
template <class T> constexpr Argument argument() {
    using Target = std::remove_cv_t<std::remove_pointer_t<T>>;
    if constexpr (std::is_void<Target>::value) return {'V', true, 0};
    else return {kind<Target>(), std::is_pointer<T>::value, short(sizeof(Target))};
}
template <class... A> struct Thunk {
    static constexpr Argument arguments[] = {argument<A>()..., Argument{}};
    template <size_t... I> static void unpack(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
        kernel(*static_cast<std::remove_cv_t<A>*>(args[I])...);
    }
    static void call(void (*kernel)(), void** args) {
        unpack(reinterpret_cast<void (*)(A...)>(kernel), args, std::index_sequence_for<A...>());
    }
};
template <class... A> Entry entry(const char* name, void (*kernel)(A...), int bound) {
    return {name, reinterpret_cast<void (*)()>(kernel), Thunk<A...>::call, bound, sizeof...(A), Thunk<A...>::arguments};
}
}  // namespace host_cuda
#define HOST_CUDA_ENTRIES(...) \
    extern "C" __attribute__((visibility("default"))) const host_cuda::Entry* host_cuda_entries() { \
        static const host_cuda::Entry entries[] = {__VA_ARGS__}; \
        return entries; \
    }

// NVRTC has neither the standard library nor its macros.
#undef INFINITY
#undef NAN
#undef HUGE_VAL
#undef M_PI
#undef M_E
#undef M_SQRT2
#undef M_LN2
#pragma GCC poison std int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t
