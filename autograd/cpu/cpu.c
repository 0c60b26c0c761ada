/* Which table of kernels this process uses: the last one that CPU and operating system support, or
 * the one that LOQUAT_CPU names. */
#include "cpu_tables.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

/* Slowest first. */
static const lq_cpu *available[4];
static const lq_cpu *default_table;
static _Atomic(const lq_cpu *) forced;
static once_flag once = ONCE_FLAG_INIT;

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static void choose(void) {
    int n = 0;
    available[n++] = &lq_cpu_ref;
    if (has_avx2()) available[n++] = &lq_cpu_avx2;
    if (has_avx512()) available[n++] = &lq_cpu_avx512;
    default_table = available[n - 1];
    const char *const wanted = getenv("LOQUAT_CPU");
    if (!wanted || !wanted[0]) return;
    for (int i = 0; i < n; i++) {
        if (strcmp(available[i]->name, wanted) != 0) continue;
        default_table = available[i];
        return;
    }
    lq_log(LQ_LOG_WARN, "LOQUAT_CPU=%s is not available here; using %s", wanted,
           default_table->name);
}

const lq_cpu *lq_cpu_kernels(void) {
    call_once(&once, choose);
    const lq_cpu *const table = atomic_load_explicit(&forced, memory_order_acquire);
    return table ? table : default_table;
}

const lq_cpu *const *lq_cpu_tables(void) {
    call_once(&once, choose);
    return available;
}

void lq_cpu_force(const lq_cpu *table) {
    atomic_store_explicit(&forced, table, memory_order_release);
}
