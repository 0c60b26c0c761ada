/* OpenBLAS. See blas.h.
 *
 * Which of its kernels OpenBLAS uses is decided by the processor's model number when it is loaded.
 * A model newer than the library gets the oldest x86-64 kernels (SSE3, "Prescott"), five times
 * slower than the machine; then this file asks it once more, by instruction set. */
#include "blas.h"

#include <assert.h>
#include <cblas.h>
#include <limits.h>
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

void lq_blas_gemm(float *c, int64_t ldc, float beta, float alpha, lq_mat a, lq_mat b, int64_t m,
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
