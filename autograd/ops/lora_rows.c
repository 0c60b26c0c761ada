#include "lora_rows.h"

#include "cpu.h"
#include "gemm.h"

#include <omp.h>

enum { CHUNK = 128, SMALL_WEIGHT = 1 << 15, MAX_PARTS = 16, LEAST_ROWS = 32, COLS = 16 };

bool lq_lora_rows_pay(int64_t N, int64_t D, int64_t O) {
    return D * O <= SMALL_WEIGHT && N >= 2 * CHUNK;
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

/* ---- backward: a part of the rows ------------------------------------------------------------ */

static int64_t most_parts(int64_t N) {
    return lq_min64(MAX_PARTS, (N + LEAST_ROWS - 1) / LEAST_ROWS);
}

/* A part's dA (R,D) and, behind it, dB^T (R,O): so both are products with rows read as they lie. */
static int64_t share_floats(int64_t D, int64_t O, int64_t R) { return R * (D + O); }

size_t lq_lora_rows_scratch(int64_t N, int64_t D, int64_t O, int64_t R) {
    return (size_t)(most_parts(N) * share_floats(D, O, R)) * sizeof(float);
}

/* beta: 0 for a part's first rows. */
static void backward_chunk(const lq_lora_rows *r, const lq_lora_rows_grad *g, int64_t t, int64_t n,
                           float *share, float beta) {
    const int64_t D = r->D, O = r->O, R = r->R;
    const lq_mat x = {r->x + t * D, D, false}, dy = {g->dy + t * O, O, false};
    float *const q = g->q + t * R;
    lq_gemm_serial(q, R, 0, r->scale, dy, (lq_mat){r->b, R, false}, n, R, O);
    if (g->da) lq_gemm_serial(share, D, beta, 1, (lq_mat){q, R, true}, x, R, D, n);
    if (g->db)
        lq_gemm_serial(share + R * D, O, beta, 1, (lq_mat){g->p + t * R, R, true}, dy, R, O, n);
    if (!r->w || !g->dx) return;
    const lq_gemm_term term[] = {{dy, {r->w, D, false}, O},
                                 {{q, R, false}, {r->a, D, false}, R}};
    lq_gemm_sum(g->dx + t * D, D, g->beta, term, 2, n, D);
}

/* ---- the parts' shares ----------------------------------------------------------------------- */

typedef struct shares { const float *first; int64_t n, step; } shares;

/* grad (n) += the shares' elements [from, from + n) */
static void add(float *grad, const shares *s, int64_t from, int64_t n) {
    for (int64_t i = 0; i < s->n; i++)
        lq_cpu_kernels()->axpy(grad, 1, s->first + i * s->step + from, n);
}

/* grad (O,R): rows [o, o + n) += those columns of the shares' dB^T, which begin at `from`. */
static void add_transposed(float *grad, const shares *s, int64_t from, int64_t o, int64_t n,
                           int64_t O, int64_t R) {
    for (int64_t i = 0; i < s->n; i++)
        for (int64_t k = 0; k < R; k++) {
            const float *const row = s->first + i * s->step + from + k * O;
            for (int64_t j = o; j < o + n; j++) grad[j * R + k] += row[j];
        }
}

static void add_shares(const lq_lora_rows *r, const lq_lora_rows_grad *g, const shares *s) {
    const int64_t D = r->D, O = r->O, R = r->R;
#pragma omp parallel
    {
#pragma omp for schedule(static) nowait
        for (int64_t k = 0; k < (g->da ? R : 0); k++) add(g->da + k * D, s, k * D, D);
#pragma omp for schedule(static)
        for (int64_t o = 0; o < (g->db ? O : 0); o += COLS)
            add_transposed(g->db, s, R * D, o, lq_min64(COLS, O - o), O, R);
    }
}

void lq_lora_rows_backward(const lq_lora_rows *r, const lq_lora_rows_grad *g, float *scratch) {
    const int64_t step = share_floats(r->D, r->O, r->R);
    const int64_t threads = omp_get_max_threads();
    const int64_t wanted = lq_max64(threads, lq_min64(2 * threads, r->N / CHUNK));
    const int64_t parts = lq_min64(most_parts(r->N), wanted);
#pragma omp parallel for schedule(dynamic, 1)
    for (int64_t i = 0; i < parts; i++) {
        const int64_t begin = r->N * i / parts, end = r->N * (i + 1) / parts;
        for (int64_t t = begin; t < end; t += CHUNK)
            backward_chunk(r, g, t, lq_min64(CHUNK, end - t), scratch + i * step, t > begin);
    }
    add_shares(r, g, &(shares){scratch, parts, step});
}
