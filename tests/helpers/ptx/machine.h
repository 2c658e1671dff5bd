// What translated PTX runs on: the fibres of `cuda_on_cpu.h`, and memory that is watched.
//
// Every access to global memory must lie in a buffer that the host has named, every access to shared
// memory in what the kernel declares and, when it is read, be preceded by a write. Two accesses to the
// same word, one of them a write, by two threads must have a barrier between them, or within a warp an
// exchange; by two blocks, a place where all blocks have met. That is judged by what separates them, not by who came first: a
// race is seen although threads take turns here. The first fault is kept for the host.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <type_traits>

namespace {

// A word of 4 bytes: who wrote it last, and who has read it last.
struct Access {
    unsigned launch = 0, meeting = 0, epoch = 0, exchange = 0;
    int block = -1, thread = -1;
    bool several_threads = false, several_blocks = false;
};
struct Word { Access write, read; };
struct Buffer { uint64_t start, size; std::vector<Word> words; };

std::string fault;
const char *kernel_name = "";
unsigned launch_number = 0;
int left_out = -1;                // the number of a barrier that is not kept
std::vector<bool> reached(4096);  // by the number of the barrier
std::map<uint64_t, Buffer> buffers;  // by their ends
std::vector<unsigned char> shared_memory;  // of the blocks that are on the device
std::vector<Word> shared_words;
std::size_t shared_bytes = 0;
// How often all blocks have met, by block: as the block knows; by thread: when it last waited.
std::vector<unsigned> meetings_of_block, meetings_of_thread;

int thread_number() { return int(cuda_on_cpu::number_in_block()); }
std::size_t blocks_together = 1;
std::size_t block_place() { return cuda_on_cpu::current->number % blocks_together; }
unsigned &meeting() {
    const std::size_t threads = std::size_t(blockDim.x) * blockDim.y * blockDim.z;
    return meetings_of_thread[block_place() * threads + thread_number()];
}

void report(const char *what, const char *where, uint64_t address) {
    if (!fault.empty()) return;
    char text[256];
    std::snprintf(text, sizeof text, "%s: %s, %s %llu, block %d, thread %d, after %u barriers",
                  kernel_name, what, where, (unsigned long long)address,
                  int(cuda_on_cpu::current->number), thread_number(),
                  cuda_on_cpu::running->waits);
    fault = text;
}

// Whether both are of one warp, which has exchanged something in between.
bool exchanged_between(const Access &earlier, const Access &now) {
    constexpr int WARP = cuda_on_cpu::WARP;
    return earlier.thread / WARP == now.thread / WARP && earlier.exchange < now.exchange;
}

// Whether nothing separates an earlier access from one by this thread.
bool at_once(const Access &earlier, const Access &now) {
    if (earlier.launch != now.launch) return false;
    if (earlier.several_blocks || earlier.block != now.block) return earlier.meeting >= now.meeting;
    if (earlier.epoch != now.epoch) return false;
    if (earlier.several_threads) return true;
    return earlier.thread != now.thread && !exchanged_between(earlier, now);
}

void touch(Word &word, bool writes, const char *where, uint64_t address) {
    const Access now{launch_number, meeting(), cuda_on_cpu::running->waits,
                     cuda_on_cpu::running->exchanges,
                     int(cuda_on_cpu::current->number), thread_number(), false, false};
    if (at_once(word.write, now))
        report(writes ? "written twice at once" : "read and written at once", where, address);
    if (writes) {
        if (at_once(word.read, now)) report("read and written at once", where, address);
        word.write = now;
        return;
    }
    Access &read = word.read;
    const bool together = read.launch == now.launch && read.meeting == now.meeting;
    if (together && (read.block != now.block || read.several_blocks)) {
        read.several_blocks = true;
    } else if (together && read.epoch == now.epoch && !exchanged_between(read, now)) {
        read.several_threads |= read.thread != now.thread;
    } else {
        read = now;
    }
}

template <typename Number>
unsigned char *in_shared(uint64_t address, bool writes) {
    static unsigned char nowhere[8];
    if (address + sizeof(Number) > shared_bytes || address % sizeof(Number)) {
        report("outside of shared memory, or not aligned", "shared", address);
        return nowhere;
    }
    const uint64_t words = (shared_bytes + 3) / 4;
    for (uint64_t w = address / 4; w <= (address + sizeof(Number) - 1) / 4; ++w) {
        Word &word = shared_words[block_place() * words + w];
        const bool fresh = word.write.launch != launch_number ||
                           word.write.block != int(cuda_on_cpu::current->number);
        if (fresh && word.read.block != int(cuda_on_cpu::current->number)) word = Word{};
        if (fresh && !writes) report("read before it is written", "shared", address);
        touch(word, writes, "shared", address);
    }
    return &shared_memory[block_place() * shared_bytes + address];
}

template <typename Number>
unsigned char *in_global(uint64_t address, bool writes, bool watched = true) {
    static Buffer *last = nullptr;
    static unsigned of_launch = 0;
    static unsigned char nowhere[8];
    if (of_launch != launch_number || address < last->start ||
        address + sizeof(Number) > last->start + last->size) {
        const auto found = buffers.upper_bound(address);
        if (found == buffers.end() || address < found->second.start ||
            address + sizeof(Number) > found->first || address % sizeof(Number)) {
            report("outside of every buffer, or not aligned", "global", address);
            std::memset(nowhere, 0, sizeof nowhere);
            return nowhere;
        }
        last = &found->second;
        of_launch = launch_number;
    }
    if (address % sizeof(Number)) report("not aligned", "global", address);
    if (watched)
        for (uint64_t w = address / 4; w <= (address + sizeof(Number) - 1) / 4; ++w)
            touch(last->words[w - last->start / 4], writes, "global", address);
    return reinterpret_cast<unsigned char *>(address);
}

template <typename Number>
Number load(const unsigned char *from) {
    Number number;
    std::memcpy(&number, from, sizeof number);
    return number;
}
template <typename Number>
void store(unsigned char *to, Number number) { std::memcpy(to, &number, sizeof number); }

template <typename Number>
Number load_shared(uint64_t address) { return load<Number>(in_shared<Number>(address, false)); }
template <typename Number>
Number load_global(uint64_t address) { return load<Number>(in_global<Number>(address, false)); }
template <typename Number>
void store_shared(uint64_t address, Number number) {
    store(in_shared<Number>(address, true), number);
}
template <typename Number>
void store_global(uint64_t address, Number number) {
    store(in_global<Number>(address, true), number);
}

template <typename Number>
Number atomic_min(uint64_t address, Number number) {
    unsigned char *at = in_global<Number>(address, true, false);
    const Number before = load<Number>(at);
    store(at, std::min(before, number));
    return before;
}

// Blocks count up one word when they arrive, and read it until all have: then they have met.
template <typename Number>
Number atomic_add(uint64_t address, Number number) {
    unsigned char *at = in_global<Number>(address, true, false);
    const Number before = load<Number>(at);
    store(at, Number(before + number));
    return before;
}
template <typename Number>
Number observed(uint64_t address) {
    const Number number = load<Number>(in_global<Number>(address, false, false));
    const std::size_t grid = std::size_t(gridDim.x) * gridDim.y * gridDim.z;
    unsigned &known = meetings_of_block[block_place()];
    known = std::max(known, unsigned(number / grid));
    meeting() = known;
    return number;
}

void barrier(int number) {
    reached[number] = true;
    if (number == left_out) return;
    cuda_on_cpu::synchronize();
    meeting() = meetings_of_block[block_place()];
}
void barrier_of_warp(int number) {
    reached[number] = true;
    if (number == left_out) return;
    cuda_on_cpu::synchronize_warp();
    meeting() = meetings_of_block[block_place()];
}
uint32_t exchange(uint32_t word, uint32_t distance, uint32_t last_lane, uint32_t members) {
    if (last_lane != 31 || members != 0xffffffff) report("not by a whole warp", "exchange", distance);
    const uint32_t found = uint32_t(cuda_on_cpu::exchange_down(word, distance));
    meeting() = meetings_of_block[block_place()];
    return found;
}

template <typename To, typename From>
To bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
template <typename Number>
Number parameter(void *start, int offset) {
    return load<Number>(static_cast<unsigned char *>(start) + offset);
}
bool is_nan(double x) { return x != x; }
bool is_nan(float x) { return x != x; }

// Division by zero gives what a GPU gives, and the least number by -1 wraps around.
template <typename Number>
Number quotient(Number x, Number y) {
    if (y == 0) return Number(-1);
    if (std::is_signed_v<Number> && y == Number(-1)) return Number(0 - std::make_unsigned_t<Number>(x));
    return x / y;
}
template <typename Number>
Number remainder(Number x, Number y) {
    if (y == 0) return x;
    return std::is_signed_v<Number> && y == Number(-1) ? 0 : x % y;
}
template <typename Number>
Number shifted_left(Number x, uint32_t distance) {
    if (distance >= 8 * sizeof x) return 0;
    return Number(std::make_unsigned_t<Number>(x) << distance);
}
template <typename Number>
Number shifted_right(Number x, uint32_t distance) {
    if (distance >= 8 * sizeof x) return x < 0 ? Number(-1) : Number(0);
    return x >> distance;
}

// To the nearest number that fits; a NaN to 0, or where 64 bits take part to the highest bit alone.
template <typename Whole, typename Real>
Whole towards_zero(Real x) {
    constexpr Whole least = std::numeric_limits<Whole>::min(), most = std::numeric_limits<Whole>::max();
    const bool narrow = sizeof(Whole) < 8 && sizeof(Real) < 8;
    if (x != x) return narrow ? Whole(0) : Whole(1ull << (8 * sizeof(Whole) - 1));
    const Real whole = std::trunc(x), end = std::ldexp(Real(1), std::numeric_limits<Whole>::digits);
    if (whole >= end) return most;
    return whole < Real(least) ? least : Whole(whole);
}

int run(const char *name, void (*kernel)(void **), std::size_t bytes, const unsigned *grid,
        const unsigned *block, void **arguments, bool descending, bool together) {
    kernel_name = name;
    fault.clear();
    ++launch_number;
    shared_bytes = bytes;
    blocks_together = together ? std::size_t(grid[0]) * grid[1] * grid[2] : 1;
    const std::size_t threads = std::size_t(block[0]) * block[1] * block[2];
    shared_memory.assign(blocks_together * bytes, 0xFF);
    shared_words.assign(blocks_together * ((bytes + 3) / 4), Word{});
    meetings_of_block.assign(blocks_together, 0);
    meetings_of_thread.assign(blocks_together * threads, 0);
    cuda_on_cpu::body = [=] { kernel(arguments); };
    const int failed = cuda_on_cpu::run_grid(grid, block, descending, together);
    if (!fault.empty()) cuda_on_cpu::complaint = fault.c_str();
    return failed || !fault.empty();
}

}  // namespace

extern "C" void leave_out(int number) { left_out = number; }
extern "C" int was_reached(int number) { return reached[number]; }
extern "C" void forget_reached() { reached.assign(reached.size(), false); }

// The memory that launches may touch from now on.
extern "C" void permit(int count, const uint64_t *starts, const uint64_t *sizes) {
    std::map<uint64_t, Buffer> permitted;
    for (int i = 0; i < count; ++i) {
        if (sizes[i] == 0) continue;
        const uint64_t end = starts[i] + sizes[i];
        const auto known = buffers.find(end);
        if (known != buffers.end() && known->second.start == starts[i])
            permitted[end] = std::move(known->second);
        else
            permitted[end] = {starts[i], sizes[i], std::vector<Word>(sizes[i] / 4 + 2)};
    }
    buffers = std::move(permitted);
}

#define RUNS(kernel, bytes)                                                                       \
    extern "C" int launch_##kernel(const unsigned *grid, const unsigned *block, void **arguments, \
                                   int descending, int together) {                                \
        return run(#kernel, kernel_##kernel, bytes, grid, block, arguments, descending, together); \
    }
