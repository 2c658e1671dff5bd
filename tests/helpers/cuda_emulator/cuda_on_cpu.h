// Runs CUDA kernels on a CPU: enough of CUDA C++ for the kernels of `backends/cuda`.
//
// Every thread of a block is a fibre with its own stack, and `__syncthreads` goes on with the next
// one, so all threads reach it before any leaves it. Blocks run one after the other; that is why
// `__shared__` may be `static`. A fibre starts with `makecontext` and changes places with `longjmp`,
// which costs no system call. Compile without contraction: plain operators then round once each.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

struct Place { unsigned x, y, z; };
inline Place threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)

inline double __dmul_rn(double x, double y) { return x * y; }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __dsqrt_rn(double x) { return std::sqrt(x); }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }

namespace cuda_on_cpu {

constexpr std::size_t STACK = 65536;

struct Fibre {
    std::unique_ptr<char[]> stack{new char[STACK]};
    ucontext_t start;
    jmp_buf place;
    bool begun = false, finished = true;
    unsigned waits = 0;  // how often it has met __syncthreads
    Place thread;
};

inline std::vector<std::unique_ptr<Fibre>> fibres;
inline std::function<void()> body;
inline Fibre *running;
inline jmp_buf scheduler;

inline void live() {
    for (;;) {
        body();
        running->finished = true;
        if (!_setjmp(running->place)) _longjmp(scheduler, 1);
    }
}

__attribute__((noinline)) inline void resume(Fibre &fibre) {
    running = &fibre;
    threadIdx = fibre.thread;
    if (_setjmp(scheduler)) return;
    if (fibre.begun) _longjmp(fibre.place, 1);
    fibre.begun = true;
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = fibre.stack.get();
    fibre.start.uc_stack.ss_size = STACK;
    fibre.start.uc_link = nullptr;
    makecontext(&fibre.start, live, 0);
    setcontext(&fibre.start);
}

inline void synchronize() {
    ++running->waits;
    if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

// Threads go in ascending or in descending order: a kernel that lacks a `__syncthreads` depends on it.
inline void run_block(std::size_t threads, bool descending) {
    for (std::size_t t = 0; t < threads; ++t) {
        if (t == fibres.size()) fibres.push_back(std::make_unique<Fibre>());
        Fibre &fibre = *fibres[t];
        fibre.finished = false;
        fibre.waits = 0;
        fibre.thread = {unsigned(t % blockDim.x), unsigned(t / blockDim.x % blockDim.y),
                        unsigned(t / blockDim.x / blockDim.y)};
    }
    do {
        for (std::size_t t = 0; t < threads; ++t) resume(*fibres[descending ? threads - 1 - t : t]);
        for (std::size_t t = 1; t < threads; ++t)
            if (fibres[t]->finished != fibres[0]->finished || fibres[t]->waits != fibres[0]->waits) {
                std::fprintf(stderr, "threads of a block disagree about __syncthreads\n");
                std::abort();
            }
    } while (!fibres[0]->finished);
}

template <typename... Parameters, std::size_t... Index>
void launch(void (*kernel)(Parameters...), const unsigned *grid, const unsigned *block,
            void **arguments, bool descending, std::index_sequence<Index...>) {
    body = [=] { kernel(*static_cast<Parameters *>(arguments[Index])...); };
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                blockIdx = {x, y, z};
                run_block(std::size_t(block[0]) * block[1] * block[2], descending);
            }
}

template <typename... Parameters>
void launch(void (*kernel)(Parameters...), const unsigned *grid, const unsigned *block,
            void **arguments, bool descending) {
    launch(kernel, grid, block, arguments, descending, std::index_sequence_for<Parameters...>{});
}

// How many parameters a kernel has, and how many bytes each.
template <typename... Parameters>
int describe(void (*)(Parameters...), int *sizes) {
    int count = 0;
    ((sizes[count++] = int(sizeof(Parameters))), ...);
    return count;
}

}  // namespace cuda_on_cpu

#define __syncthreads() cuda_on_cpu::synchronize()

// What the library offers for a kernel.
#define OFFER(kernel)                                                                             \
    extern "C" void launch_##kernel(const unsigned *grid, const unsigned *block, void **arguments, \
                                    int descending) {                                             \
        cuda_on_cpu::launch(kernel, grid, block, arguments, descending != 0);                      \
    }                                                                                             \
    extern "C" int describe_##kernel(int *sizes) { return cuda_on_cpu::describe(kernel, sizes); }
