/* See emulate.h. A fiber runs threads until one has to wait; then the scheduler takes another fiber.
 * So a kernel without barriers is a plain loop. */
#include "emulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { MAX_THREADS = 1024, WARP = 32, STACK = 1 << 18, POISON = 0xa5 };

typedef struct fiber {
    void *sp, *stack;            /* saved stack pointer; lowest address */
    int thread;                  /* that it runs */
    bool busy;                   /* a thread has begun and not ended */
    const uint64_t *event;       /* waits until *event differs from seen; NULL: can run */
    uint64_t seen;
    void *fake;                  /* AddressSanitizer's */
} fiber;

typedef struct warp {
    uint64_t value[2][WARP], generation;
    unsigned mask, arrived;      /* of the operation under way; arrived 0: none */
} warp;

lq_uint3 threadIdx, blockIdx, blockDim, gridDim;

static fiber pool[MAX_THREADS];
static warp warps[MAX_THREADS / WARP];
static int n_fibers, n_threads, next_thread, n_alive, n_at_barrier;
static uint64_t barrier_generation;
static bool is_reversed;
static fiber *running;
static fiber scheduler;
static void *shared;
static void (*thread_body)(void *);
static void *thread_ctx;

/* ---- switching stacks ------------------------------------------------------------------------ */

void lq_fiber_switch(void **save, void *load);
__asm__(".text\n.globl lq_fiber_switch\n.type lq_fiber_switch,@function\nlq_fiber_switch:\n"
        "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\n"
        "mov %rsp,(%rdi)\nmov %rsi,%rsp\n"
        "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n"
        ".size lq_fiber_switch,.-lq_fiber_switch\n");

void __sanitizer_start_switch_fiber(void **fake, const void *bottom, size_t size)
    __attribute__((weak));
void __sanitizer_finish_switch_fiber(void *fake, const void **bottom, size_t *size)
    __attribute__((weak));

static const void *main_stack;
static size_t main_stack_bytes;

static void arrived_from_scheduler(fiber *f) {
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(f->fake, &main_stack, &main_stack_bytes);
}

static void to_scheduler(fiber *f) {
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&f->fake, main_stack, main_stack_bytes);
    lq_fiber_switch(&f->sp, scheduler.sp);
    arrived_from_scheduler(f);
}

static void set_thread(fiber *f, int thread) {
    f->thread = thread;
    threadIdx.x = (unsigned)thread % blockDim.x;
    threadIdx.y = (unsigned)thread / blockDim.x % blockDim.y;
    threadIdx.z = (unsigned)thread / (blockDim.x * blockDim.y);
}

static void to_fiber(fiber *f) {
    running = f;
    set_thread(f, f->thread);
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(&scheduler.fake, f->stack, STACK);
    lq_fiber_switch(&scheduler.sp, f->sp);
    if (__sanitizer_finish_switch_fiber)
        __sanitizer_finish_switch_fiber(scheduler.fake, NULL, NULL);
}

void lq_emulated_die(const char *what) {
    fprintf(stderr, "emulated CUDA: block %u %u %u: %s\n", blockIdx.x, blockIdx.y, blockIdx.z,
            what);
    abort();
}

/* ---- threads --------------------------------------------------------------------------------- */

static int take_thread(void) {
    const int at = next_thread++;
    return is_reversed ? n_threads - 1 - at : at;
}

static void release_barrier(void) {
    if (n_at_barrier == 0 || n_at_barrier < n_alive) return;
    n_at_barrier = 0;
    barrier_generation++;
}

static void fiber_main(void) {
    fiber *const f = running;
    arrived_from_scheduler(f);
    for (;;) {
        thread_body(thread_ctx);
        n_alive--;
        release_barrier();
        if (next_thread < n_threads) {
            set_thread(f, take_thread());
            continue;
        }
        f->busy = false;
        to_scheduler(f);
    }
}

static void make_fiber(fiber *f) {
    f->stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->stack == MAP_FAILED) lq_emulated_die("no memory for a stack");
    void **top = (void **)((char *)f->stack + STACK) - 9;   /* as a call leaves it */
    memset(top - 7, 0, 8 * sizeof *top);
    top[-1] = (void *)fiber_main;   /* the return address above six saved registers */
    f->sp = top - 7;
}

static void wait_for(const uint64_t *event, uint64_t seen) {
    fiber *const f = running;
    while (*event == seen) {
        f->event = event;
        f->seen = seen;
        to_scheduler(f);
    }
    f->event = NULL;
}

void lq_emulated_barrier(void) {
    const uint64_t seen = barrier_generation;
    n_at_barrier++;
    release_barrier();
    wait_for(&barrier_generation, seen);
}

const uint64_t *lq_emulated_exchange(unsigned mask, uint64_t value) {
    const int lane = running->thread % WARP;
    warp *const w = &warps[running->thread / WARP];
    const uint64_t seen = w->generation;
    if (!(mask >> lane & 1)) lq_emulated_die("a lane outside the mask of a warp operation");
    if (w->arrived && w->mask != mask) lq_emulated_die("lanes of a warp disagree about the mask");
    w->mask = mask;
    w->arrived |= 1u << lane;
    w->value[seen % 2][lane] = value;
    if (w->arrived == mask) {
        w->arrived = 0;
        w->generation++;
    }
    wait_for(&w->generation, seen);
    return w->value[seen % 2];
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* All fibers are idle when a block begins; one that becomes idle again finds no thread to start. */
static void start_threads(void) {
    for (int i = 0; next_thread < n_threads; i++) {
        fiber *const f = &pool[i];
        if (i == n_fibers) make_fiber(&pool[n_fibers++]);
        f->busy = true;
        f->event = NULL;
        f->thread = take_thread();
        to_fiber(f);
    }
}

static bool resume_fibers(int first, int end) {
    bool some = false;
    for (int i = first; i < end; i++) {
        fiber *const f = &pool[i];
        if (!f->busy || (f->event && *f->event == f->seen)) continue;
        to_fiber(f);
        some = true;
    }
    return some;
}

/* A warp runs as far as it can before the next one: a barrier that is missing between them shows. */
static bool resume_threads(void) {
    bool some = false;
    for (int first = 0; first < n_fibers; first += WARP)
        while (resume_fibers(first, first + WARP < n_fibers ? first + WARP : n_fibers)) some = true;
    return some;
}

static void run_block(size_t shared_bytes) {
    next_thread = n_at_barrier = 0;
    n_alive = n_threads;
    memset(warps, 0, sizeof warps);
    if (shared) memset(shared, POISON, shared_bytes);
    start_threads();
    while (n_alive > 0)
        if (!resume_threads())
            lq_emulated_die("threads wait for others that never come (barrier or warp operation)");
}

void *lq_emulated_shared(void) { return shared; }
void lq_emulate_reversed(bool reversed) { is_reversed = reversed; }

void lq_emulate(lq_uint3 grid, lq_uint3 block, size_t shared_bytes, void (*body)(void *),
                void *ctx) {
    const uint64_t n_blocks = (uint64_t)grid.x * grid.y * grid.z;
    gridDim = grid;
    blockDim = block;
    if (!n_blocks || !block.x || !block.y || !block.z) lq_emulated_die("an empty launch");
    if ((uint64_t)block.x * block.y * block.z > MAX_THREADS || block.z > 64)
        lq_emulated_die("more than 1024 threads in a block");
    if (grid.y > 65535 || grid.z > 65535) lq_emulated_die("more than 65535 blocks in y or z");
    if (shared_bytes > 227 * 1024) lq_emulated_die("more than 227 KiB of shared memory");
    n_threads = (int)(block.x * block.y * block.z);
    thread_body = body;
    thread_ctx = ctx;
    shared = shared_bytes ? aligned_alloc(128, (shared_bytes + 127) / 128 * 128) : NULL;
    if (shared_bytes && !shared) lq_emulated_die("no memory for shared memory");
    lq_emulated_memory_open();
    for (uint64_t i = 0; i < n_blocks; i++) {
        const uint64_t b = is_reversed ? n_blocks - 1 - i : i;
        blockIdx.x = (unsigned)(b % grid.x);
        blockIdx.y = (unsigned)(b / grid.x % grid.y);
        blockIdx.z = (unsigned)(b / grid.x / grid.y);
        run_block(shared_bytes);
    }
    lq_emulated_memory_close();
    free(shared);
    shared = NULL;
}
