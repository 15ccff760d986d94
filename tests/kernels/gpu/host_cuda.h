// Compiles the text of a .cu file for the host: every CUDA thread of a block is a fiber, blocks run one after another.
// A module of kernels is compiled with this header before it; the runtime, which runs the fibers, is compiled once from
// this header alone with HOST_CUDA_RUNTIME defined.
#pragma once
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <type_traits>
#include <utility>

struct uint3 { unsigned x, y, z; };
struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
constexpr int warpSize = 32;

#ifdef HOST_CUDA_RUNTIME
#define HOST_CUDA_READONLY
#else
#define HOST_CUDA_READONLY extern const
#endif

extern "C" {
HOST_CUDA_READONLY uint3 threadIdx, blockIdx;
HOST_CUDA_READONLY dim3 blockDim, gridDim;
// `what` a thread waits at, and on which line, tell one rendezvous from another.
unsigned long long host_cuda_block(const char* what, int line, bool predicate);
unsigned long long host_cuda_warp(const char* what, int line, unsigned mask, unsigned long long value, int source);
[[noreturn]] void host_cuda_fault(const char* text, int line);
}

namespace host_cuda {
struct Argument { char kind; bool pointer; short size; };  // of a pointer: the kind and size of what it points to
struct Entry {
    const char* name;
    void (*kernel)();
    void (*call)(void (*)(), void**);
    int bound, count;
    const Argument* arguments;
};
struct Range { char* begin; size_t size; };
enum Order { FORWARD, REVERSE, SHUFFLED };
struct Report { size_t address, instruction; int line; unsigned block[3], thread[3]; char text[256]; };
}

#ifdef HOST_CUDA_RUNTIME  // ----------------------------------------------------------------------- the runtime
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

namespace host_cuda {
enum State { READY, AT_WARP, AT_BLOCK, RETURNED };
struct Thread {
    uint3 index;
    State state;
    int fiber;  // on which it runs from its first turn to its last; -1 before and after
    const char* what;
    int line, source;
    unsigned mask;
    unsigned long long value, result;
};
struct Fiber {
    bool started;
    jmp_buf context;
};
constexpr int LIMIT = 1024;
static const size_t PAGE = size_t(sysconf(_SC_PAGESIZE));
static const size_t STACK = 17 * PAGE;  // the lowest page is a guard; an odd number spreads them over the cache
static Thread threads[LIMIT];
static Fiber fibers[LIMIT];
static int idle[LIMIT], idle_count;  // fibers of no thread, that last used the last: its stack is in the cache
static int total, current;  // threads of a block; the one that runs, or that a report is about
static jmp_buf scheduler, way_out;
static char* stacks;
static const Entry* entry;
static void** arguments;
static Report* report;
static Order order;
static unsigned long long seed;
static volatile unsigned long long turns, turns_before;  // those taken in a launch, and how many they were an alarm earlier
static unsigned long long most_turns;
static volatile bool launching;
static pthread_t launcher;

static unsigned below(unsigned n) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return unsigned(((seed >> 33) * n) >> 31);
}

template <class T> static void arrange(T* places, size_t n) {
    for (size_t i = 0; i < n; ++i) places[i] = T(order == REVERSE ? n - 1 - i : i);
    for (size_t i = n; order == SHUFFLED && i > 1; --i) std::swap(places[i - 1], places[below(unsigned(i))]);
}

__attribute__((noinline)) static void leave(int fiber) {
    if (!_setjmp(fibers[fiber].context)) _longjmp(scheduler, 1);
}

static void body() {
    for (;;) {
        entry->call(entry->kernel, arguments);
        Thread& t = threads[current];
        t.state = RETURNED;
        const int fiber = idle[idle_count++] = t.fiber;
        t.fiber = -1;
        leave(fiber);
    }
}

static void forget_fibers() {  // that stand wherever they stood
    for (int i = 0; i < LIMIT; ++i) fibers[i].started = false, idle[i] = LIMIT - 1 - i;
    idle_count = LIMIT;
}

__attribute__((noinline)) static void run(int i) {  // up to its next rendezvous, or its end
    current = i;
    turns = turns + 1;
    if (turns > most_turns) host_cuda_fault("more turns are taken than allowed", threads[i].line);
    threadIdx = threads[i].index;
    if (threads[i].fiber < 0) threads[i].fiber = idle[--idle_count];
    if (_setjmp(scheduler)) return;
    const int fiber = threads[current].fiber;
    if (fibers[fiber].started) _longjmp(fibers[fiber].context, 1);
    static ucontext_t start;
    getcontext(&start);
    mprotect(stacks + fiber * STACK, PAGE, PROT_NONE);
    start.uc_stack.ss_sp = stacks + fiber * STACK;
    start.uc_stack.ss_size = STACK - fiber % 32 * 128;  // or all would lie in the same lines of the cache
    makecontext(&start, body, 0);
    fibers[fiber].started = true;
    setcontext(&start);
}

static bool same(const Thread& a, const Thread& b) { return a.what == b.what && a.line == b.line; }

static const char* where(const Thread& t, char* text) {
    if (t.state == RETURNED) return "has returned";
    snprintf(text, 100, "waits at %s on line %d", t.what, t.line);
    return text;
}

static void diverged(int i, int j) {
    char one[100], other[100], text[256];
    const uint3 &p = threads[i].index, &q = threads[j].index;
    snprintf(text, sizeof text, "thread (%u, %u, %u) %s, but thread (%u, %u, %u) %s", p.x, p.y, p.z,
             where(threads[i], one), q.x, q.y, q.z, where(threads[j], other));
    current = i;
    host_cuda_fault(text, threads[i].line);
}

// Lets go the threads of a warp that wait for no one else.
static bool release(int first) {
    bool released = false;
    const int lanes = total - first < warpSize ? total - first : warpSize;
    Thread* warp = threads + first;
    for (int i = 0; i < lanes; ++i) {
        if (warp[i].state != AT_WARP) continue;
        unsigned present = 0, ballot = 0;
        bool complete = true;
        for (int j = 0; j < lanes; ++j) {
            if (!(warp[i].mask >> j & 1)) continue;
            present |= 1u << j;
            ballot |= unsigned(warp[j].value != 0) << j;
            complete &= warp[j].state == AT_WARP && same(warp[i], warp[j]) && warp[i].mask == warp[j].mask;
        }
        if (!complete) continue;
        for (int j = 0; j < lanes; ++j) {
            if (!(present >> j & 1)) continue;
            const int source = warp[j].source;
            if (source < 0) warp[j].result = (unsigned long long)present << 32 | ballot;
            else warp[j].result = present >> source & 1 ? warp[source].value : ~0ull;
            warp[j].state = READY;
        }
        released = true;
    }
    return released;
}

static void run_warp(int first) {
    unsigned char lanes[warpSize];
    do {
        arrange(lanes, warpSize);
        for (int lane : lanes)
            if (first + lane < total && threads[first + lane].state == READY) run(first + lane);
    } while (release(first));
    for (int i = first; i < total && i < first + warpSize; ++i) {
        if (threads[i].state != AT_WARP) continue;
        for (int j = first; j < total && j < first + warpSize; ++j)
            if (threads[i].mask >> (j - first) & 1 && (threads[j].state != AT_WARP || !same(threads[i], threads[j])))
                diverged(i, j);
        host_cuda_fault("threads wait for one another with different masks", threads[current = i].line);
    }
}

static void run_block() {
    for (int i = 0; i < total; ++i) {
        threads[i].index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        threads[i].state = READY;
        threads[i].fiber = -1;
        threads[i].line = 0;
    }
    for (;;) {
        unsigned char warps[LIMIT / warpSize];
        const int n = (total + warpSize - 1) / warpSize;
        arrange(warps, n);
        for (int i = 0; i < n; ++i) run_warp(warps[i] * warpSize);
        int waiting = total;
        unsigned long long votes = 0;
        for (int i = total - 1; i >= 0; --i)
            if (threads[i].state == AT_BLOCK) waiting = i, votes += threads[i].value;
        if (waiting == total) return;
        for (int i = 0; i < total; ++i)
            if (threads[i].state != AT_BLOCK || !same(threads[i], threads[waiting])) diverged(waiting, i);
        for (int i = 0; i < total; ++i) threads[i].state = READY, threads[i].result = votes;
    }
}

static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE}, ALARM = SIGRTMIN + 7;
static struct sigaction before[4];

static void on_signal(int number, siginfo_t* info, void* context) {
    if (!launching || !pthread_equal(pthread_self(), launcher)) {  // another thread meets its fault again, as it was
        for (int i = 0; i < 4; ++i)
            if (SIGNALS[i] == number) sigaction(number, &before[i], nullptr);
        return;
    }
    if (number == ALARM && turns != turns_before) {
        turns_before = turns;
        return;
    }
#if defined(__x86_64__)
    report->instruction = size_t(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
    report->instruction = size_t(static_cast<ucontext_t*>(context)->uc_mcontext.pc);
#endif
    if (number == ALARM) host_cuda_fault("no turn ends within the seconds that are allowed", 0);
    report->address = size_t(info->si_addr);
    const char* stack = stacks + threads[current].fiber * STACK;
    const char* address = static_cast<const char*>(info->si_addr);
    host_cuda_fault(address >= stack && address < stack + PAGE ? "its stack is full" : strsignal(number), 0);
}
}  // namespace host_cuda

extern "C" {
[[noreturn]] void host_cuda_fault(const char* text, int line) {
    using namespace host_cuda;
    const uint3 t = threads[current].index;
    report->line = line;
    memcpy(report->block, &blockIdx, sizeof blockIdx);
    memcpy(report->thread, &t, sizeof t);
    snprintf(report->text, sizeof report->text, "%s", text);
    _longjmp(way_out, 1);
}

unsigned long long host_cuda_block(const char* what, int line, bool predicate) {
    host_cuda::Thread& t = host_cuda::threads[host_cuda::current];
    t.state = host_cuda::AT_BLOCK, t.what = what, t.line = line, t.value = predicate;
    host_cuda::leave(t.fiber);
    return t.result;
}

unsigned long long host_cuda_warp(const char* what, int line, unsigned mask, unsigned long long value, int source) {
    host_cuda::Thread& t = host_cuda::threads[host_cuda::current];
    if (!(mask >> host_cuda::current % warpSize & 1)) host_cuda_fault("its own lane is not in the mask", line);
    t.state = host_cuda::AT_WARP, t.what = what, t.line = line, t.mask = mask, t.value = value, t.source = source;
    host_cuda::leave(t.fiber);
    return t.result;
}

// What the compiler's own checks (-fsanitize=...) call; each is given the place in the source first.
struct Place { const char* file; unsigned line, column; };
#define HOST_CUDA_CHECK(name, text) void __ubsan_handle_##name(Place* place) { host_cuda_fault(text, place->line); }
HOST_CUDA_CHECK(out_of_bounds, "the index is outside the array")
HOST_CUDA_CHECK(shift_out_of_bounds, "the shift is as wide as the word, or wider")
HOST_CUDA_CHECK(divrem_overflow, "division of an integer by zero")
HOST_CUDA_CHECK(add_overflow, "a signed sum overflows")
HOST_CUDA_CHECK(sub_overflow, "a signed difference overflows")
HOST_CUDA_CHECK(mul_overflow, "a signed product overflows")
HOST_CUDA_CHECK(negate_overflow, "a signed negation overflows")
HOST_CUDA_CHECK(type_mismatch_v1, "the address is not a multiple of what the type needs")

int host_cuda_launch(const host_cuda::Entry* kernel, const host_cuda::Range* shared, size_t shared_count,
                     const unsigned* grid, const unsigned* block, void** args, int how, unsigned long long random,
                     unsigned long long most, double seconds, host_cuda::Report* out) {
    using namespace host_cuda;
    static unsigned* blocks;
    static size_t number;
    number = size_t(grid[0]) * grid[1] * grid[2];
    blocks = static_cast<unsigned*>(realloc(blocks, number * sizeof *blocks));
    if (!stacks) {
        stacks = static_cast<char*>(mmap(nullptr, LIMIT * STACK, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
        forget_fibers();
    }
    if (!blocks || stacks == MAP_FAILED) abort();
    entry = kernel, arguments = args, order = Order(how), seed = random, report = out, launcher = pthread_self();
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {block[0], block[1], block[2]};
    total = int(block[0] * block[1] * block[2]);
    arrange(blocks, number);
    turns = 0, turns_before = ~0ull, most_turns = most;

    static char handler_stack[1 << 16];
    stack_t alternative = {handler_stack, 0, sizeof handler_stack}, alternative_before;
    sigaltstack(&alternative, &alternative_before);
    struct sigaction action = {};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;  // it leaves by a jump: it may not mask signals
    action.sa_sigaction = on_signal;
    for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &action, &before[i]);
    sigaction(ALARM, &action, nullptr);  // stays: one that comes late finds no launch and does nothing
    timer_t timer;
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID, event.sigev_signo = ALARM;
    event._sigev_un._tid = int(syscall(SYS_gettid));
    itimerspec limit = {};
    limit.it_value = limit.it_interval = {time_t(seconds), long((seconds - double(time_t(seconds))) * 1e9)};
    timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);  // its own time, however busy the machine is
    timer_settime(timer, 0, &limit, nullptr);

    const int failed = _setjmp(way_out);
    launching = !failed;
    if (!failed) {
        for (size_t n = 0; n < number; ++n) {
            const unsigned b = blocks[n];
            blockIdx = {b % grid[0], b / grid[0] % grid[1], b / grid[0] / grid[1]};
            for (size_t i = 0; i < shared_count; ++i) memset(shared[i].begin, 0xFF, shared[i].size);
            run_block();
        }
    } else {
        forget_fibers();
    }
    launching = false;
    timer_delete(timer);
    for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
    sigaltstack(&alternative_before, nullptr);
    return failed;
}
}

#else  // ---------------------------------------------------------------------------------- what kernels may use
#define __global__
#define __device__
#define __host__
#define __constant__
#define __shared__ static __attribute__((used))  // by their mangled names these are found, to be poisoned
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)

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
    if (width < 1 || width > warpSize || (width & (width - 1))) host_cuda_fault("the width is no power of two", line);
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

// Fibers are not preempted, so that what is atomic needs nothing more.
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

// NVRTC has no standard library, and none of its macros.
#undef INFINITY
#undef NAN
#undef HUGE_VAL
#undef M_PI
#undef M_E
#undef M_SQRT2
#undef M_LN2
#pragma GCC poison std int8_t int16_t int32_t int64_t uint8_t uint16_t uint32_t uint64_t
#endif
