/* See op_cases_trained.h. */
#include "op_cases_trained.h"

#include "block_scales.h"
#include "ref.h"

/* ---- lora_linear with magnitudes: items x, W, A, B, m, norm, bias ---------------------------- */

enum { D = 32, O = 21, R = 5 };
enum { X, W, A, B, M, NORM, BIAS };

static const float scale = 0.75f;

static lq_tensor *dora_of(op_bench *b, bool merged) {
    lq_tensor *const x = bench_rows(b, D), *const w = bench_weight(b, &lq_q4_0, O, D);
    lq_tensor *const a = bench_param(b, R, D), *const up = bench_param(b, O, R);
    lq_tensor *const m = bench_param(b, 0, O), *const norm = bench_weight(b, &lq_f32, 0, O);
    return lq_dora_linear(b->tape, x, NULL, w, bench_param(b, 0, O), a, up, m, norm,
                          (lq_lora_attr){.scale = scale, .merged = merged});
}

lq_tensor *case_dora(op_bench *b) { return dora_of(b, false); }
lq_tensor *case_dora_merged(op_bench *b) { return dora_of(b, true); }

/* out += factor * scale * (x A^T) B^T */
static void add_adapter(double *out, const op_bench *b, const double *a, const double *up,
                        double factor) {
    double low[BENCH_CAPACITY * R], full[BENCH_CAPACITY * O];
    ref_linear(low, b->item[X].v, a, NULL, b->rows, D, R);
    ref_linear(full, low, up, NULL, b->rows, R, O);
    for (int64_t i = 0; i < b->rows * O; i++) out[i] += factor * (double)scale * full[i];
}

/* A norm that is not positive is that of a row without direction. */
static double factor_of(const op_bench *b, double m, int64_t o) {
    const double norm = b->item[NORM].v[o];
    return norm > 0 ? m / norm : 0;
}

void case_dora_ref(const op_bench *b, double *out) {
    ref_linear(out, b->item[X].v, b->item[W].v, NULL, b->rows, D, O);
    add_adapter(out, b, b->item[A].v, b->item[B].v, 1);
    for (int64_t i = 0; i < b->rows * O; i++)
        out[i] = factor_of(b, b->item[M].v[i % O], i % O) * out[i] + b->item[BIAS].v[i % O];
}

/* W holds the adapter and the magnitudes at their present values: nudging them adds the
 * difference, or scales. */
void case_dora_merged_ref(const op_bench *b, double *out) {
    double a[R * D], up[O * R], nudged[BENCH_CAPACITY * O] = {0};
    for (int i = 0; i < R * D; i++) a[i] = (double)b->item[A].data[i];
    for (int i = 0; i < O * R; i++) up[i] = (double)b->item[B].data[i];
    ref_linear(out, b->item[X].v, b->item[W].v, NULL, b->rows, D, O);
    add_adapter(nudged, b, b->item[A].v, b->item[B].v, 1);
    add_adapter(nudged, b, a, up, -1);
    for (int64_t i = 0; i < b->rows * O; i++) {
        const double now = b->item[M].v[i % O], m = (double)b->item[M].data[i % O];
        out[i] = now / m * out[i] + factor_of(b, m, i % O) * nudged[i] + b->item[BIAS].v[i % O];
    }
}

/* ---- scaled_linear: items x, W, scales, bias ------------------------------------------------- */

enum { BLOCK = 32, WIDE = 2 * BLOCK, TALL = 70 };   /* taller than a tile */
enum { SCALES = 2, SCALED_BIAS };

static lq_tensor *scaled_of(op_bench *b, const lq_format *fmt) {
    lq_tensor *const x = bench_rows(b, WIDE), *const w = bench_weight(b, fmt, TALL, WIDE);
    lq_tensor *const d = bench_param(b, TALL, WIDE / BLOCK);
    bench_item *const item = &b->item[SCALES];
    lq_block_scales_get(fmt, w->data, item->data, TALL * WIDE / BLOCK);
    for (int i = 0; i < TALL * WIDE / BLOCK; i++) item->v[i] = (double)item->data[i];
    return lq_scaled_linear(b->tape, x, w, bench_param(b, 0, TALL), d);
}

lq_tensor *case_scaled_q4_0(op_bench *b) { return scaled_of(b, &lq_q4_0); }
lq_tensor *case_scaled_q8_0(op_bench *b) { return scaled_of(b, &lq_q8_0); }

/* W is what its blocks are at the scales' present values: nudging a scale scales its block. */
void case_scaled_ref(const op_bench *b, double *out) {
    double w[TALL * WIDE];
    for (int i = 0; i < TALL * WIDE; i++)
        w[i] = b->item[W].v[i] * b->item[SCALES].v[i / BLOCK] /
               (double)b->item[SCALES].data[i / BLOCK];
    ref_linear(out, b->item[X].v, w, b->item[SCALED_BIAS].v, b->rows, WIDE, TALL);
}
