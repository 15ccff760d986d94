// What modules of kernels (device.h) and the runtime (runtime.cpp) have in common.
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

// A thread calls one of these functions where it waits for others: all threads of its block, or those of its warp in `mask`.
// All of them must wait at the same place: the same function (`what`) on the same line.
// The block: returns how many threads gave a predicate that is true.
unsigned long long host_cuda_block(const char* what, int line, bool predicate);
// The warp: returns the value of the lane `source`, or, if that is negative, the mask of the lanes that are there in the upper
// half and those of them whose value is not 0 in the lower half.
unsigned long long host_cuda_warp(const char* what, int line, unsigned mask, unsigned long long value, int source);

// Ends the launch with a report about the thread that runs. `line` is 0 where only the instruction is known.
[[noreturn]] void host_cuda_fault(const char* text, int line);
}

// runtime.py has the same structures.
namespace host_cuda {
// The type of an argument: b, i, u, f or V (any other), and its size; of a pointer, those of what it points to.
struct Argument { char kind; bool pointer; short size; };
struct Entry {
    const char* name;
    void (*kernel)();
    void (*call)(void (*)(), void**);  // calls the kernel with the arguments at these addresses
    int bound, count;  // the largest number of threads in a block, or 0; the number of arguments
    const Argument* arguments;
};
struct Range { char* begin; size_t size; };
enum Order { FORWARD, REVERSE, SHUFFLED };
struct Report { size_t address, instruction; int line; unsigned block[3], thread[3]; char text[256]; };
}  // namespace host_cuda
