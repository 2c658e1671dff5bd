// Runs CUDA kernels on a CPU: enough of CUDA C++ for the kernels of `backends/cupy/kernels`.
//
// Every thread of a block is a fibre with its own stack, and `__syncthreads` goes on with the next
// one, so all threads reach it before any leaves it; a shuffle is such a place for the 32 threads of a
// warp. Blocks run one after the other, or, where a launch is cooperative, take turns: a block that
// waits for others says so with `__nanosleep`. `__shared__` is a section of memory that is put away
// for the next block. A fibre starts with `makecontext` and changes places with `longjmp`, which costs
// no system call. Compile without contraction: plain operators then round once each.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

struct Place { unsigned x, y, z; };
inline Place threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __shared__ static __attribute__((section("cuda_shared")))
#define __launch_bounds__(...)

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

extern "C" __attribute__((weak, visibility("hidden"))) char __start_cuda_shared[];
extern "C" __attribute__((weak, visibility("hidden"))) char __stop_cuda_shared[];

namespace cuda_on_cpu {

constexpr std::size_t STACK = 65536, WARP = 32;

// Where a thread is when it does not run.
enum State { READY, AT_BLOCK, AT_WARP, SPINNING, FINISHED };

struct Fibre {
    std::unique_ptr<char[]> stack{new char[STACK]};
    ucontext_t start;
    jmp_buf place;
    bool begun = false;
    State state = FINISHED;
    unsigned waits = 0;      // how often it has met __syncthreads
    unsigned exchanges = 0;  // and the other threads of its warp
    Place thread;
};

struct Block {
    Place index;
    std::size_t number;
    std::vector<std::unique_ptr<Fibre>> fibres;
    std::vector<char> shared;  // while another block runs
    std::vector<unsigned long long> exchanged;  // two words for each thread, used by turns
    bool finished = false;
};

inline std::vector<std::unique_ptr<Block>> blocks;
inline std::function<void()> body;
inline Block *current;
inline Fibre *running;
inline jmp_buf scheduler;

inline void live() {
    for (;;) {
        body();
        running->state = FINISHED;
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

// Not inlined: the compiler must not keep threadIdx over it.
__attribute__((noinline)) inline void leave(State state) {
    running->state = state;
    if (!_setjmp(running->place)) _longjmp(scheduler, 1);
}

inline void synchronize() {
    ++running->waits;
    leave(AT_BLOCK);
}

inline void synchronize_warp() {
    ++running->exchanges;
    leave(AT_WARP);
}

inline std::size_t number_in_block() {
    return threadIdx.x + blockDim.x * (threadIdx.y + std::size_t(blockDim.y) * threadIdx.z);
}

// The word of the lane that lies `distance` further on; its own where there is none.
inline unsigned long long exchange_down(unsigned long long word, unsigned distance) {
    const std::size_t thread = number_in_block(), turn = running->exchanges % 2;
    current->exchanged[2 * thread + turn] = word;
    synchronize_warp();
    const bool inside = thread % WARP + distance < WARP;
    return current->exchanged[2 * (inside ? thread + distance : thread) + turn];
}

// Why the last launch did not come to its end; fibres that it has left are begun anew.
inline const char *complaint = "";

inline void begin(Block &block, std::size_t number, Place index) {
    const std::size_t threads = std::size_t(blockDim.x) * blockDim.y * blockDim.z;
    block.index = index;
    block.number = number;
    block.finished = false;
    block.shared.assign(__stop_cuda_shared - __start_cuda_shared, char(0xFF));
    block.exchanged.assign(2 * threads, 0);
    while (block.fibres.size() < threads) block.fibres.push_back(std::make_unique<Fibre>());
    for (std::size_t t = 0; t < threads; ++t) {
        Fibre &fibre = *block.fibres[t];
        fibre.begun &= fibre.state == FINISHED;
        fibre.state = READY;
        fibre.waits = fibre.exchanges = 0;
        fibre.thread = {unsigned(t % blockDim.x), unsigned(t / blockDim.x % blockDim.y),
                        unsigned(t / blockDim.x / blockDim.y)};
    }
}

// Lets those go on that have all arrived: a whole block, or a whole warp. Returns whether there are.
inline bool release(Block &block, std::size_t threads) {
    auto all = [&](std::size_t first, std::size_t end, State state) {
        for (std::size_t t = first; t < end; ++t)
            if (block.fibres[t]->state != state) return false;
        return true;
    };
    auto go = [&](std::size_t first, std::size_t end) {
        for (std::size_t t = first; t < end; ++t) block.fibres[t]->state = READY;
        return true;
    };
    block.finished = all(0, threads, FINISHED);
    if (block.finished) return true;
    if (all(0, threads, AT_BLOCK)) return go(0, threads);
    bool some = false;
    for (std::size_t first = 0; first < threads; first += WARP) {
        const std::size_t end = first + WARP < threads ? first + WARP : threads;
        if (all(first, end, AT_WARP)) some = go(first, end);
    }
    return some;
}

// A block runs until it has finished or can only wait for others; returns whether it got further.
// Threads go in ascending or in descending order: a kernel that lacks a barrier depends on it.
inline bool take_turn(Block &block, std::size_t threads, bool descending) {
    current = &block;
    blockIdx = block.index;
    std::copy(block.shared.begin(), block.shared.end(), __start_cuda_shared);
    bool progress = false;
    for (;;) {
        bool spinning = false;
        for (std::size_t i = 0; i < threads; ++i) {
            Fibre &fibre = *block.fibres[descending ? threads - 1 - i : i];
            if (fibre.state != READY && fibre.state != SPINNING) continue;
            resume(fibre);
            spinning |= fibre.state == SPINNING;
        }
        const bool released = release(block, threads);
        progress |= released;
        if (block.finished || (spinning && !released)) break;
        if (!released) {
            complaint = "threads of a block disagree about a barrier";
            break;
        }
    }
    std::copy(__start_cuda_shared, __stop_cuda_shared, block.shared.begin());
    return progress;
}

// Blocks first … end-1 of the grid, which are all on the device at the same time. Returns whether all
// came to their end.
inline bool run_together(std::size_t first, std::size_t end, bool descending) {
    const std::size_t count = end - first;
    const std::size_t threads = std::size_t(blockDim.x) * blockDim.y * blockDim.z;
    while (blocks.size() < count) blocks.push_back(std::make_unique<Block>());
    for (std::size_t b = 0; b < count; ++b) {
        const std::size_t n = first + b;
        begin(*blocks[b], n,
              {unsigned(n % gridDim.x), unsigned(n / gridDim.x % gridDim.y),
               unsigned(n / gridDim.x / gridDim.y)});
    }
    for (unsigned idle = 0;;) {
        bool progress = false, finished = true;
        for (std::size_t i = 0; i < count; ++i) {
            Block &block = *blocks[descending ? count - 1 - i : i];
            if (!block.finished) progress |= take_turn(block, threads, descending);
            finished &= block.finished;
        }
        if (finished) return true;
        idle = progress ? 0 : idle + 1;
        if (idle > 2) complaint = "blocks wait for each other for ever";
        if (*complaint) return false;
    }
}

// Returns 0 if all went well.
inline int run_grid(const unsigned *grid, const unsigned *block, bool descending, bool together) {
    complaint = "";
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    const std::size_t count = std::size_t(grid[0]) * grid[1] * grid[2];
    const std::size_t each = together ? count : 1;
    for (std::size_t b = 0; b < count; b += each)
        if (!run_together(b, b + each, descending)) return 1;
    return 0;
}

template <typename... Parameters, std::size_t... Index>
void prepare(void (*kernel)(Parameters...), void **arguments, std::index_sequence<Index...>) {
    body = [=] { kernel(*static_cast<Parameters *>(arguments[Index])...); };
}

template <typename... Parameters>
void prepare(void (*kernel)(Parameters...), void **arguments) {
    prepare(kernel, arguments, std::index_sequence_for<Parameters...>{});
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
#define __syncwarp() cuda_on_cpu::synchronize_warp()
#define __nanosleep(time) cuda_on_cpu::leave(cuda_on_cpu::SPINNING)
#define __threadfence() ((void)0)

inline unsigned atomicAdd(unsigned *at, unsigned more) { return (*at += more) - more; }

template <typename Number>
Number __shfl_down_sync(unsigned, Number mine, unsigned distance) {
    unsigned long long word = 0;
    std::memcpy(&word, &mine, sizeof mine);
    word = cuda_on_cpu::exchange_down(word, distance);
    std::memcpy(&mine, &word, sizeof mine);
    return mine;
}

// What the library offers: why a launch failed, and for each kernel
extern "C" const char *complaint() { return cuda_on_cpu::complaint; }

#define OFFER(kernel)                                                                             \
    extern "C" int launch_##kernel(const unsigned *grid, const unsigned *block, void **arguments, \
                                   int descending, int together) {                                \
        cuda_on_cpu::prepare(kernel, arguments);                                                  \
        return cuda_on_cpu::run_grid(grid, block, descending != 0, together != 0);                 \
    }                                                                                             \
    extern "C" int describe_##kernel(int *sizes) { return cuda_on_cpu::describe(kernel, sizes); }
