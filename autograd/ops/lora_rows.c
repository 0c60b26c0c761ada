#include "lora_rows.h"

#include "cpu.h"
#include "gemm.h"

enum { CHUNK = 128, SMALL_WEIGHT = 1 << 15 };

bool lq_lora_rows_pay(int64_t N, int64_t D, int64_t O) {
    return D * O <= SMALL_WEIGHT && N >= 2 * CHUNK;
}

static int64_t n_chunks(int64_t N) { return (N + CHUNK - 1) / CHUNK; }

/* Of a chunk: Q, and its share of dA and dB. */
static int64_t chunk_floats(int64_t D, int64_t O, int64_t R) { return R * (CHUNK + D + O); }

size_t lq_lora_rows_scratch(int64_t N, int64_t D, int64_t O, int64_t R) {
    return (size_t)(n_chunks(N) * chunk_floats(D, O, R)) * sizeof(float);
}

/* ---- forward -------------------------------------------------------------------------------- */

static void forward_chunk(const lq_lora_rows *r, int64_t t, float *all_p, float *y) {
    const int64_t n = lq_min64(CHUNK, r->N - t);
    const lq_mat x = {r->x + t * r->D, r->D, false};
    float *const p = all_p + t * r->R;
    lq_gemm_serial(p, r->R, 0, r->scale, x, (lq_mat){r->a, r->D, true}, n, r->R, r->D);
    const lq_gemm_term term[] = {{x, {r->w, r->D, true}, r->D},
                                 {{p, r->R, false}, {r->b, r->R, true}, r->R}};
    lq_gemm_sum(y + t * r->O, r->O, 0, term, 2, n, r->O);
}

void lq_lora_rows_forward(const lq_lora_rows *r, float *p, float *y) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < r->N; t += CHUNK) forward_chunk(r, t, p, y);
}

/* ---- backward ------------------------------------------------------------------------------- */

static void backward_chunk(const lq_lora_rows *r, const lq_lora_rows_grad *g, int64_t t,
                           float *q) {
    const int64_t n = lq_min64(CHUNK, r->N - t), D = r->D, O = r->O, R = r->R;
    const lq_mat x = {r->x + t * D, D, false}, dy = {g->dy + t * O, O, false};
    const lq_mat dy_t = {dy.data, O, true}, q_t = {q, R, true};
    float *const da = q + CHUNK * R, *const db = da + D * R;
    lq_gemm_serial(q, R, 0, r->scale, dy, (lq_mat){r->b, R, false}, n, R, O);
    if (g->da) lq_gemm_serial(da, D, 0, 1, q_t, x, R, D, n);
    const lq_gemm_term term[] = {{dy, {r->w, D, false}, O},
                                 {{q, R, false}, {r->a, D, false}, R}};
    if (g->dx) lq_gemm_sum(g->dx + t * D, D, g->beta, term, 2, n, D);
    if (g->db) lq_gemm_serial(db, R, 0, 1, dy_t, (lq_mat){g->p + t * R, R, false}, O, R, n);
}

/* grad (rows,R or R,rows) += the chunks' shares, which begin at `share` of their part. */
static void add_shares(float *grad, const float *share, int64_t n, int64_t chunks, int64_t step) {
    if (!grad) return;
    for (int64_t c = 0; c < chunks; c++) lq_cpu_kernels()->axpy(grad, 1, share + c * step, n);
}

void lq_lora_rows_backward(const lq_lora_rows *r, const lq_lora_rows_grad *g, float *scratch) {
    const int64_t chunks = n_chunks(r->N), step = chunk_floats(r->D, r->O, r->R);
    const float *const da = scratch + CHUNK * r->R, *const db = da + r->D * r->R;
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < chunks; c++) backward_chunk(r, g, c * CHUNK, scratch + c * step);
    add_shares(g->da, da, r->D * r->R, chunks, step);
    add_shares(g->db, db, r->O * r->R, chunks, step);
}
