/* CUDA's execution model on the CPU, for tests of .cu files compiled as C++: blocks one after the
 * other, the threads of a block as fibers that switch at barriers and warp operations. So barriers,
 * shuffles, shared memory and divergence behave as on a device, one thread at a time.
 *
 * A misuse ends the program with a message: a barrier that some threads never reach, a warp
 * operation that lacks lanes of its mask. Threads run in ascending order or, reversed, in descending
 * order (blocks too): a result that depends on it is a race.
 *
 * Kernels, fills and copies are only queued, and done when the host waits: so a host that reads too
 * early, or writes what a copy has yet to read, gets wrong numbers here as there. */
#ifndef LOQUAT_EMULATE_H
#define LOQUAT_EMULATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lq_uint3 { unsigned x, y, z; } lq_uint3;

extern lq_uint3 threadIdx, blockIdx, blockDim, gridDim;   /* of the thread that runs */

/* Runs body(ctx) once for each thread of each block. */
void lq_emulate(lq_uint3 grid, lq_uint3 block, size_t shared_bytes, void (*body)(void *),
                void *ctx);
void lq_emulate_reversed(bool reversed);

/* ---- the queue ---- */
void lq_emulated_queue(void (*run)(void *ctx), void *ctx);   /* run frees ctx */
int64_t lq_emulated_queued(void);                /* entries so far */
void lq_emulated_reach(int64_t n);               /* the host waits for the first n entries */

/* ---- called by threads ---- */
void *lq_emulated_shared(void);                  /* the block's dynamic shared memory, poisoned */
void lq_emulated_barrier(void);                  /* __syncthreads */
/* Every lane of mask gives a value; returns the 32 values by lane, valid until the next call. */
const uint64_t *lq_emulated_exchange(unsigned mask, uint64_t value);

/* ---- the device's memory: without access but in kernels and in the device's functions ---- */
void lq_emulated_memory_open(void);              /* may be nested */
void lq_emulated_memory_close(void);
bool lq_emulated_memory_holds(const void *p);
void lq_emulated_die(const char *what) __attribute__((noreturn));

#ifdef __cplusplus
}
#endif
#endif
