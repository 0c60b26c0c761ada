/* OpenBLAS, called on one thread per block of the result. See blas.h.
 *
 * Which of its kernels OpenBLAS uses is decided by the processor's model number when it is loaded.
 * A model newer than the library gets the oldest x86-64 kernels (SSE3, "Prescott"), five times
 * slower than the machine; then this file asks it once more, by instruction set. */
#include "blas.h"

#include "base.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Of OpenBLAS built for several processors (DYNAMIC_ARCH); absent in others. */
extern void gotoblas_dynamic_init(void) __attribute__((weak));
extern void gotoblas_dynamic_quit(void) __attribute__((weak));

static const char *core_by_instruction_set(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return "SkylakeX";
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? "Haswell" : NULL;
}

/* Runs when the library is loaded: before any thread, so changing the environment is safe. */
__attribute__((constructor)) static void choose_openblas_core(void) {
    const char *const variable = "OPENBLAS_CORETYPE";
    if (!gotoblas_dynamic_init || !gotoblas_dynamic_quit || getenv(variable)) return;
    const char *core = core_by_instruction_set();
    if (!core || strcmp(openblas_get_corename(), "Prescott") != 0) return;
    if (setenv(variable, core, 1) != 0) return;
    gotoblas_dynamic_quit();
    gotoblas_dynamic_init();
    unsetenv(variable);
}

void lq_gemm_serial(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
                    int64_t n, int64_t k) {
    assert(k > 0 && m <= INT_MAX && n <= INT_MAX && k <= INT_MAX && ldc <= INT_MAX);
    if (m == 0 || n == 0) return;
    if (m == 1 && !a.transposed) { /* one token: a vector times a matrix */
        cblas_sgemv(CblasRowMajor, b.transposed ? CblasNoTrans : CblasTrans,
                    (int)(b.transposed ? n : k), (int)(b.transposed ? k : n), alpha, b.data,
                    (int)b.ld, a.data, 1, beta, c, 1);
        return;
    }
    cblas_sgemm(CblasRowMajor, a.transposed ? CblasTrans : CblasNoTrans,
                b.transposed ? CblasTrans : CblasNoTrans, (int)m, (int)n, (int)k, alpha, a.data,
                (int)a.ld, b.data, (int)b.ld, beta, c, (int)ldc);
}

/* Where part i of n begins when split into `parts`, in whole vectors of 16. */
static int64_t part_begin(int64_t n, int64_t parts, int64_t i) {
    return i == parts ? n : n / 16 * i / parts * 16;
}

enum { PARALLEL_PRODUCTS = 1 << 18 }; /* some 5 us of one core: less does not pay for a barrier */

typedef struct split { int64_t rows, cols; } split;

/* Each part packs all of the operand that is not cut, so the longer side is cut first; but a
 * product with a short sum mostly writes c, which goes best by rows. */
static split choose_split(int64_t threads, int64_t m, int64_t n, int64_t k) {
    const int64_t most_rows = m < 64 ? 1 : m / 64, most_cols = n < 16 ? 1 : n / 16;
    const bool cols_first = n > m && k >= 64;
    const int64_t first = lq_min64(threads, cols_first ? most_cols : most_rows);
    const int64_t second = lq_min64(threads / first, cols_first ? most_rows : most_cols);
    return cols_first ? (split){second, first} : (split){first, second};
}

void lq_gemm(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
             int64_t n, int64_t k) {
    const bool alone = omp_in_parallel() || m * n * k < PARALLEL_PRODUCTS;
    const int threads = alone ? 1 : omp_get_max_threads();
    const split cut = choose_split(threads, m, n, k);
    const int64_t row_parts = cut.rows, col_parts = cut.cols, parts = row_parts * col_parts;
    const int64_t a_step = a.transposed ? 1 : a.ld, b_step = b.transposed ? b.ld : 1;
#pragma omp parallel for schedule(static, 1) num_threads((int)parts) if (parts > 1)
    for (int64_t part = 0; part < parts; part++) {
        const int64_t r = part / col_parts, s = part % col_parts;
        const int64_t row = part_begin(m, row_parts, r),
                      rows = part_begin(m, row_parts, r + 1) - row;
        const int64_t col = part_begin(n, col_parts, s),
                      cols = part_begin(n, col_parts, s + 1) - col;
        const lq_mat a_part = {a.data + row * a_step, a.ld, a.transposed};
        const lq_mat b_part = {b.data + col * b_step, b.ld, b.transposed};
        lq_gemm_serial(c + row * ldc + col, ldc, beta, alpha, a_part, b_part, rows, cols, k);
    }
}
