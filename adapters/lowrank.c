/* See lowrank.h. With a random Omega (cols,k): Q spans e Omega, sharpened by power iterations, each
 * time made orthonormal; then e ~ Q (Q^T e), and the small Q^T e (k,cols) is decomposed. With k the
 * smaller side of e, Q spans all of e and nothing is lost. */
#include "lowrank.h"

#include "gemm.h"
#include "random.h"

#include <lapacke.h>
#include <math.h>
#include <string.h>

enum { OVERSAMPLING = 8, EXACT_BELOW = 4 /* times k */ };

static lq_status lapack_status(lapack_int info, const char *what) {
    if (info == 0) return LQ_OK;
    if (info == LAPACK_WORK_MEMORY_ERROR || info == LAPACK_TRANSPOSE_MEMORY_ERROR)
        return lq_fail(LQ_EMEM, "out of memory for %s", what);
    return lq_fail(LQ_ENONFINITE, "%s: LAPACK gives up with %d", what, (int)info);
}

/* Replaces the columns of x (n,k), n >= k, by orthonormal ones of the same span. */
static lq_status orthonormalize(float *x, int64_t n, int64_t k) {
    const lapack_int rows = (lapack_int)n, cols = (lapack_int)k;
    float *tau = lq_alloc_array(k, sizeof *tau);
    if (!tau) return LQ_EMEM;
    lapack_int info = LAPACKE_sgeqrf(LAPACK_ROW_MAJOR, rows, cols, x, cols, tau);
    if (info == 0) info = LAPACKE_sorgqr(LAPACK_ROW_MAJOR, rows, cols, cols, x, cols, tau);
    lq_free(tau);
    return lapack_status(info, "a QR decomposition");
}

typedef struct sketch {
    float *q;          /* (rows,k) */
    float *p;          /* (cols,k); at first Omega */
    float *small;      /* (k,cols) = q^T e */
    float *s;          /* (k) singular values of small, */
    float *left;       /* (k,k) its left vectors as columns, */
    float *right;      /* (k,cols) and its right ones as rows */
} sketch;

static lq_status sketch_open(sketch *t, int64_t rows, int64_t cols, int64_t k) {
    *t = (sketch){lq_alloc_array(rows * k, sizeof(float)), lq_alloc_array(cols * k, sizeof(float)),
                  lq_alloc_array(k * cols, sizeof(float)), lq_alloc_array(k, sizeof(float)),
                  lq_alloc_array(k * k, sizeof(float)), lq_alloc_array(k * cols, sizeof(float))};
    return t->q && t->p && t->small && t->s && t->left && t->right ? LQ_OK : LQ_EMEM;
}

static void sketch_close(sketch *t) {
    lq_free(t->q);
    lq_free(t->p);
    lq_free(t->small);
    lq_free(t->s);
    lq_free(t->left);
    lq_free(t->right);
}

static lq_status find_range(sketch *t, const float *e, int64_t rows, int64_t cols, int64_t k,
                            int iterations, uint64_t key) {
    const lq_mat em = {e, cols, false}, et = {e, cols, true};
    for (int64_t i = 0; i < cols * k; i++) t->p[i] = lq_random_normal(key, (uint64_t)i);
    for (int i = 0;; i++) {
        lq_gemm(t->q, k, 0, 1, em, (lq_mat){t->p, k, false}, rows, k, cols);
        LQ_TRY(orthonormalize(t->q, rows, k));
        if (i == iterations) return LQ_OK;
        lq_gemm(t->p, k, 0, 1, et, (lq_mat){t->q, k, false}, cols, k, rows);
        LQ_TRY(orthonormalize(t->p, cols, k));
    }
}

static lq_status decompose(sketch *t, const float *e, int64_t rows, int64_t cols, int64_t k) {
    lq_gemm(t->small, cols, 0, 1, (lq_mat){t->q, k, true}, (lq_mat){e, cols, false}, k, cols, rows);
    const lapack_int n = (lapack_int)cols, m = (lapack_int)k;
    return lapack_status(LAPACKE_sgesdd(LAPACK_ROW_MAJOR, 'S', m, n, t->small, n, t->s, t->left, m,
                                        t->right, n),
                         "a singular value decomposition");
}

static void write_factors(float *u, float *v, const sketch *t, int64_t rows, int64_t cols, int rank,
                          int64_t k) {
    const int64_t used = lq_min64(rank, k);
    memset(u, 0, (size_t)(rows * rank) * sizeof *u);
    memset(v, 0, (size_t)(rank * cols) * sizeof *v);
    for (int64_t r = 0; r < used; r++) {
        const float half = sqrtf(t->s[r]);
        for (int64_t i = 0; i < k; i++) t->left[i * k + r] *= half;
        for (int64_t j = 0; j < cols; j++) v[r * cols + j] = half * t->right[r * cols + j];
    }
    lq_gemm(u, rank, 0, 1, (lq_mat){t->q, k, false}, (lq_mat){t->left, k, false}, rows, used, k);
}

lq_status lq_lowrank(float *u, float *v, const float *e, int64_t rows, int64_t cols, int rank,
                     int iterations, uint64_t key) {
    const int64_t smaller = lq_min64(rows, cols), sketched = (int64_t)rank + OVERSAMPLING;
    const int64_t k = smaller <= EXACT_BELOW * sketched ? smaller : sketched;
    sketch t;
    lq_status status = LQ_OK;
    LQ_GOTO(status, sketch_open(&t, rows, cols, k));
    LQ_GOTO(status, find_range(&t, e, rows, cols, k, iterations, key));
    LQ_GOTO(status, decompose(&t, e, rows, cols, k));
    write_factors(u, v, &t, rows, cols, rank, k);
done:
    sketch_close(&t);
    return status;
}
