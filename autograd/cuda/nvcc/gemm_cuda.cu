/* lq_cuda_gemm by cuBLASLt. It thinks in columns: a row-major c (m,n) is its c^T (n,m), so a and b
 * change places. What its heuristic chooses for a shape is kept, since asking takes longer than a
 * small product. */
#include "cuda_gemm.h"
#include "cublaslt.h"
#include "cuda_own.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { N_PLANS = 4096, PROBES = 8, WORKSPACE = 32 << 20, MOST_ALIGNED = 256 };

/* All that the choice depends on; compared as bytes, so it has no padding. */
typedef struct plan_key {
    int64_t m, n, k, lda, ldb, ldc;
    const lq_format *in_fmt, *c_fmt;
    int64_t a_transposed, b_transposed;
    int64_t align_a, align_b, align_c;
} plan_key;

typedef struct plan {
    plan_key key;
    bool used;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    size_t workspace_bytes;
} plan;

struct lq_cuda_plans {
    lq_cublaslt lt;
    cublasLtHandle_t handle;
    cublasLtMatmulPreference_t preference;
    void *workspace;
    plan plan[N_PLANS];   /* near the key's hash; where it is full, a newcomer replaces another */
};

static void note(lq_dev *dev, const char *what, const plan_key *key, cublasStatus_t status) {
    char text[160];
    if (status == CUBLAS_STATUS_SUCCESS) return;
    snprintf(text, sizeof text, "%s, %lld x %lld x %lld, %s to %s", what, (long long)key->m,
             (long long)key->n, (long long)key->k, key->in_fmt->name, key->c_fmt->name);
    lq_cuda_note(dev, text, lq_cuda_own_of(dev)->plans->lt.GetStatusString(status));
}

static cudaDataType_t type_of(const lq_format *fmt) {
    return fmt == &lq_bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

static void clear(const lq_cublaslt *lt, plan *p) {
    if (p->c) lt->MatrixLayoutDestroy(p->c);
    if (p->b) lt->MatrixLayoutDestroy(p->b);
    if (p->a) lt->MatrixLayoutDestroy(p->a);
    if (p->op) lt->MatmulDescDestroy(p->op);
    memset(p, 0, sizeof *p);
}

lq_status lq_cuda_plans_open(lq_dev *dev) {
    lq_cuda_plans *const plans = (lq_cuda_plans *)lq_alloc(sizeof *plans);
    if (!plans) return LQ_EMEM;
    lq_cuda_own_of(dev)->plans = plans;
    const size_t bytes = WORKSPACE;
    LQ_TRY(lq_cublaslt_load(&plans->lt));
    cublasStatus_t status = plans->lt.Create(&plans->handle);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = plans->lt.MatmulPreferenceCreate(&plans->preference);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = plans->lt.MatmulPreferenceSetAttribute(plans->preference,
                                                      CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                      &bytes, sizeof bytes);
    if (status != CUBLAS_STATUS_SUCCESS)
        return lq_fail(LQ_EDEVICE, "cuBLASLt: %s", plans->lt.GetStatusString(status));
    return dev->row->alloc(dev, &plans->workspace, WORKSPACE);
}

void lq_cuda_plans_close(lq_cuda_own *own) {
    lq_cuda_plans *const plans = own->plans;
    if (!plans) return;
    for (int i = 0; i < N_PLANS; i++) clear(&plans->lt, &plans->plan[i]);
    if (plans->workspace) cudaFree(plans->workspace);
    if (plans->preference) plans->lt.MatmulPreferenceDestroy(plans->preference);
    if (plans->handle) plans->lt.Destroy(plans->handle);
    lq_free(plans);
    own->plans = NULL;
}

/* ---- plans ----------------------------------------------------------------------------------- */

static int64_t alignment(const void *p) {
    int64_t bytes = MOST_ALIGNED;
    while ((uintptr_t)p % (uintptr_t)bytes) bytes /= 2;
    return bytes;
}

static unsigned hash(const plan_key *key) {
    unsigned h = 2166136261u;   /* FNV-1a */
    for (size_t i = 0; i < sizeof *key; i++)
        h = (h ^ ((const unsigned char *)key)[i]) * 16777619u;
    return h;
}

static cublasStatus_t layout(const lq_cublaslt *lt, cublasLtMatrixLayout_t *out,
                             const lq_format *fmt, bool transposed, int64_t rows, int64_t cols,
                             int64_t ld) {
    return lt->MatrixLayoutCreate(out, type_of(fmt), (uint64_t)(transposed ? cols : rows),
                                      (uint64_t)(transposed ? rows : cols), ld);
}

static cublasStatus_t prefer_alignment(const lq_cuda_plans *plans, const plan_key *key) {
    static const cublasLtMatmulPreferenceAttributes_t which[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    const uint32_t bytes[] = {(uint32_t)key->align_b, (uint32_t)key->align_a,
                              (uint32_t)key->align_c, (uint32_t)key->align_c};
    for (int i = 0; i < 4; i++) {
        const cublasStatus_t status = plans->lt.MatmulPreferenceSetAttribute(
            plans->preference, which[i], &bytes[i], sizeof bytes[i]);
        if (status != CUBLAS_STATUS_SUCCESS) return status;
    }
    return CUBLAS_STATUS_SUCCESS;
}

/* The library's a is our b, and the other way. */
static cublasStatus_t describe(const lq_cublaslt *lt, plan *p) {
    const plan_key *const k = &p->key;
    const cublasOperation_t a = k->b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t b = k->a_transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasStatus_t s = lt->MatmulDescCreate(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->MatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &a, sizeof a);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = lt->MatmulDescSetAttribute(p->op, CUBLASLT_MATMUL_DESC_TRANSB, &b, sizeof b);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = layout(lt, &p->a, k->in_fmt, k->b_transposed, k->n, k->k, k->ldb);
    if (s == CUBLAS_STATUS_SUCCESS)
        s = layout(lt, &p->b, k->in_fmt, k->a_transposed, k->k, k->m, k->lda);
    if (s == CUBLAS_STATUS_SUCCESS) s = layout(lt, &p->c, k->c_fmt, false, k->n, k->m, k->ldc);
    return s;
}

static cublasStatus_t make_plan(const lq_cuda_plans *plans, plan *p, const plan_key *key) {
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    clear(&plans->lt, p);
    p->key = *key;
    cublasStatus_t status = describe(&plans->lt, p);
    if (status == CUBLAS_STATUS_SUCCESS) status = prefer_alignment(plans, key);
    if (status == CUBLAS_STATUS_SUCCESS)
        status = plans->lt.MatmulAlgoGetHeuristic(plans->handle, p->op, p->a, p->b, p->c, p->c,
                                                plans->preference, 1, &found, &n);
    if (status != CUBLAS_STATUS_SUCCESS || n == 0)
        return status == CUBLAS_STATUS_SUCCESS ? CUBLAS_STATUS_NOT_SUPPORTED : status;
    p->algo = found.algo;
    p->workspace_bytes = found.workspaceSize;
    p->used = true;
    return CUBLAS_STATUS_SUCCESS;
}

/* This key's plan, or the place for it. */
static plan *find_plan(lq_cuda_plans *plans, const plan_key *key) {
    const unsigned first = hash(key);
    for (unsigned i = 0; i < PROBES; i++) {
        plan *const p = &plans->plan[(first + i) % N_PLANS];
        if (!p->used || memcmp(&p->key, key, sizeof *key) == 0) return p;
    }
    return &plans->plan[first % N_PLANS];
}

static plan *plan_for(lq_dev *dev, const plan_key *key) {
    lq_cuda_plans *const plans = lq_cuda_own_of(dev)->plans;
    plan *const p = find_plan(plans, key);
    if (p->used && memcmp(&p->key, key, sizeof *key) == 0) return p;
    const cublasStatus_t status = make_plan(plans, p, key);
    note(dev, "cuBLASLt has no way for a product", key, status);
    return status == CUBLAS_STATUS_SUCCESS ? p : NULL;
}

extern "C" void lq_cuda_gemm(lq_dev *dev, void *c, const lq_format *c_fmt, int64_t ldc, float beta,
                             float alpha, lq_cuda_mat a, lq_cuda_mat b, int64_t m, int64_t n,
                             int64_t k) {
    const lq_cuda_plans *const plans = lq_cuda_own_of(dev)->plans;
    const plan_key key = {m, n, k, a.ld, b.ld, ldc, a.fmt, c_fmt, a.transposed, b.transposed,
                          alignment(a.data), alignment(b.data), alignment(c)};
    assert(a.fmt == b.fmt && (c_fmt == a.fmt || c_fmt == &lq_f32));
    lq_cuda_enter(dev);
    const plan *const p = plan_for(dev, &key);
    if (!p) return;
    note(dev, "a product", &key,
         plans->lt.Matmul(plans->handle, p->op, &alpha, b.data, p->a, a.data, p->b, &beta, c, p->c,
                        c, p->c, &p->algo, plans->workspace, p->workspace_bytes,
                        (cudaStream_t)dev->queue));
}
