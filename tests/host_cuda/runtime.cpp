// Runs a kernel: every CUDA thread of a block is a fiber, and blocks run one after another.
//
// A fiber has a stack of its own. It runs until its thread waits for others or returns, which is the end of a turn. Then the
// scheduler, which has the stack of the caller, chooses the next one. It lets threads go on when all that they wait for have
// come. When no thread can run and some still wait, a thread does not come, and the launch ends with a report.
#define HOST_CUDA_RUNTIME
#include "interface.h"

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
    int fiber;  // the same one from its first turn to its last; -1 before and after
    const char* what;  // where it waits, as it has told host_cuda_block or host_cuda_warp
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
static const size_t STACK = 17 * PAGE;  // the lowest page is a guard page; an odd number spreads the stacks over the cache
static Thread threads[LIMIT];
static Fiber fibers[LIMIT];
static int idle[LIMIT], idle_count;  // the fibers of no thread; the last one was used last, so that its stack is in the cache
static int total, current;  // the number of threads in a block; the thread that runs, or that a report is about
static jmp_buf scheduler, way_out;
static char* stacks;
static const Entry* entry;
static void** arguments;
static Report* report;
static Order order;
static unsigned long long seed;
static volatile unsigned long long turns, turns_before;  // the number of turns in this launch, now and one alarm earlier
static unsigned long long most_turns;
static volatile bool launching;
static pthread_t launcher;

static unsigned random_below(unsigned n) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return unsigned(((seed >> 33) * n) >> 31);
}

// Fills an array with 0 to n - 1, in the order in which they shall run.
template <class T> static void arrange(T* places, size_t n) {
    for (size_t i = 0; i < n; ++i) places[i] = T(order == REVERSE ? n - 1 - i : i);
    for (size_t i = n; order == SHUFFLED && i > 1; --i) std::swap(places[i - 1], places[random_below(unsigned(i))]);
}

// Ends the turn of the fiber; returns at the beginning of its next turn.
__attribute__((noinline)) static void leave(int fiber) {
    if (!_setjmp(fibers[fiber].context)) _longjmp(scheduler, 1);
}

// A fiber runs one thread after another, each up to its end.
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

// Makes all fibers new ones: after a fault they stop wherever they are.
static void forget_fibers() {
    for (int i = 0; i < LIMIT; ++i) fibers[i].started = false, idle[i] = LIMIT - 1 - i;
    idle_count = LIMIT;
}

// Runs a thread for one turn.
__attribute__((noinline)) static void run(int i) {
    current = i;
    turns = turns + 1;
    if (turns > most_turns) host_cuda_fault("the launch takes more turns than allowed", threads[i].line);
    threadIdx = threads[i].index;
    if (threads[i].fiber < 0) threads[i].fiber = idle[--idle_count];
    if (_setjmp(scheduler)) return;
    const int fiber = threads[current].fiber;
    if (fibers[fiber].started) _longjmp(fibers[fiber].context, 1);
    static ucontext_t start;
    getcontext(&start);
    mprotect(stacks + fiber * STACK, PAGE, PROT_NONE);
    start.uc_stack.ss_sp = stacks + fiber * STACK;
    start.uc_stack.ss_size = STACK - fiber % 32 * 128;  // so that not all of them lie in the same lines of the cache
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

// Reports that thread i waits, and thread j does not come.
static void diverged(int i, int j) {
    char one[100], other[100], text[256];
    const uint3 &p = threads[i].index, &q = threads[j].index;
    snprintf(text, sizeof text, "thread (%u, %u, %u) %s, but thread (%u, %u, %u) %s", p.x, p.y, p.z,
             where(threads[i], one), q.x, q.y, q.z, where(threads[j], other));
    current = i;
    host_cuda_fault(text, threads[i].line);
}

// Lets those threads of a warp go on that wait for nobody else; returns whether there are any.
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

// Runs the threads of a warp until each one has returned or waits for its block.
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

// Runs the threads of a block until all have returned.
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
    if (!launching || !pthread_equal(pthread_self(), launcher)) {
        // The fault is not that of a kernel. It happens again when this returns, with the handler that was there before.
        for (int i = 0; i < 4; ++i)
            if (SIGNALS[i] == number) sigaction(number, &before[i], nullptr);
        return;
    }
    if (number == ALARM && turns != turns_before) {  // since the last alarm a turn has ended
        turns_before = turns;
        return;
    }
#if defined(__x86_64__)
    report->instruction = size_t(static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP]);
#elif defined(__aarch64__)
    report->instruction = size_t(static_cast<ucontext_t*>(context)->uc_mcontext.pc);
#endif
    if (number == ALARM) host_cuda_fault("its turn does not end within the allowed seconds", 0);
    report->address = size_t(info->si_addr);
    const char* stack = stacks + threads[current].fiber * STACK;
    const char* address = static_cast<const char*>(info->si_addr);
    host_cuda_fault(address >= stack && address < stack + PAGE ? "its stack overflows" : strsignal(number), 0);
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

// The functions that the compiler's own checks (-fsanitize=...) call. Their first argument is a place in the source.
struct Place { const char* file; unsigned line, column; };
#define HOST_CUDA_CHECK(name, text) void __ubsan_handle_##name(Place* place) { host_cuda_fault(text, place->line); }
HOST_CUDA_CHECK(out_of_bounds, "the index is outside the array")
HOST_CUDA_CHECK(shift_out_of_bounds, "the shift is as wide as the word, or wider")
HOST_CUDA_CHECK(divrem_overflow, "an integer is divided by zero")
HOST_CUDA_CHECK(add_overflow, "a signed sum overflows")
HOST_CUDA_CHECK(sub_overflow, "a signed difference overflows")
HOST_CUDA_CHECK(mul_overflow, "a signed product overflows")
HOST_CUDA_CHECK(negate_overflow, "a signed negation overflows")
HOST_CUDA_CHECK(type_mismatch_v1, "the address is not aligned for its type")

// Runs a kernel; returns whether there is a report. `how` is an Order, and the last numbers are its seed and the two limits.
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
    // The handler ends with a jump, so that it must not mask signals.
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART;
    action.sa_sigaction = on_signal;
    for (int i = 0; i < 4; ++i) sigaction(SIGNALS[i], &action, &before[i]);
    sigaction(ALARM, &action, nullptr);  // it stays after the launch: an alarm that comes late does nothing
    timer_t timer;
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID, event.sigev_signo = ALARM;
    event._sigev_un._tid = int(syscall(SYS_gettid));
    itimerspec limit = {};
    limit.it_value = limit.it_interval = {time_t(seconds), long((seconds - double(time_t(seconds))) * 1e9)};
    timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer);  // computing time does not depend on how busy the machine is
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
