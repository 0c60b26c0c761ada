/* See op_cases_families.h. */
#include "op_cases_families.h"

#include "ref.h"

#include <math.h>
#include <string.h>

/* ---- layernorm ------------------------------------------------------------------------------ */

enum { NORM = 29 };

lq_tensor *case_layernorm(op_bench *b) {
    lq_tensor *const x = bench_rows(b, NORM), *const w = bench_param(b, 0, NORM);
    return lq_layernorm(b->tape, x, w, bench_param(b, 0, NORM), (lq_layernorm_attr){1e-5f});
}

lq_tensor *case_layernorm_frozen(op_bench *b) {
    lq_tensor *const x = bench_rows(b, NORM);
    return lq_layernorm(b->tape, x, bench_weight(b, &lq_f32, 0, NORM), NULL,
                        (lq_layernorm_attr){1e-5f});
}

void case_layernorm_ref(const op_bench *b, double *out) {
    ref_layernorm(out, b->item[0].v, b->item[1].v, b->n_items > 2 ? b->item[2].v : NULL,
                  (double)1e-5f, b->rows, NORM);
}

/* ---- scale, clamp, glu without a gate, ALiBi ------------------------------------------------- */

enum { WIDTH = 19 };

lq_tensor *case_scale(op_bench *b) {
    return lq_scale_rows(b->tape, bench_rows(b, WIDTH), (lq_scale_attr){1.75f});
}

void case_scale_ref(const op_bench *b, double *out) {
    for (int64_t i = 0; i < b->rows * WIDTH; i++) out[i] = 1.75 * b->item[0].v[i];
}

/* In the middle between two numbers of BF16: rounding to it takes no x to the other side. */
static const float limit = 0.5f + 0x1p-9f;

lq_tensor *case_clamp(op_bench *b) {
    return lq_clamp(b->tape, bench_rows(b, WIDTH), (lq_clamp_attr){limit});
}

void case_clamp_ref(const op_bench *b, double *out) {
    const double most = (double)limit;
    for (int64_t i = 0; i < b->rows * WIDTH; i++) out[i] = fmin(fmax(b->item[0].v[i], -most), most);
}

lq_tensor *case_gelu(op_bench *b) {
    lq_tensor *const gate = bench_rows(b, WIDTH), *const up = bench_rows(b, WIDTH);
    return lq_glu(b->tape, gate, up, (lq_glu_attr){LQ_GELU});
}

lq_tensor *case_gelu_alone(op_bench *b) {
    return lq_glu(b->tape, bench_rows(b, WIDTH), NULL, (lq_glu_attr){LQ_GELU});
}

lq_tensor *case_tanh_alone(op_bench *b) {
    return lq_glu(b->tape, bench_rows(b, WIDTH), NULL, (lq_glu_attr){LQ_GELU_TANH});
}

void case_gelu_ref(const op_bench *b, double *out) {
    ref_glu(out, b->item[0].v, b->item[1].v, LQ_GELU, b->rows * WIDTH);
}

void case_gelu_alone_ref(const op_bench *b, double *out) {
    ref_glu(out, b->item[0].v, NULL, LQ_GELU, b->rows * WIDTH);
}

void case_tanh_alone_ref(const op_bench *b, double *out) {
    ref_glu(out, b->item[0].v, NULL, LQ_GELU_TANH, b->rows * WIDTH);
}

static const lq_attention_attr alibi = {.n_head = 3, .n_head_kv = 1, .head_dim = 5, .scale = 1,
                                        .alibi = 8};

static int32_t two_segments(int64_t t) { return t < 7 ? 0 : 7; }

lq_tensor *case_alibi(op_bench *b) {
    lq_tensor *const q = bench_rows(b, 15), *const k = bench_rows(b, 5);
    lq_tensor *const v = bench_rows(b, 5);
    return lq_attention(b->tape, q, k, v, bench_ints(b, two_segments), NULL, NULL, alibi);
}

void case_alibi_ref(const op_bench *b, double *out) {
    ref_attention(out, b->item[0].v, b->item[1].v, b->item[2].v, b->item[3].ints, alibi, b->rows);
}

/* ---- columns, row_gate ---------------------------------------------------------------------- */

enum { COLS = 21, FIRST = 3, PART = 17 };

lq_tensor *case_columns(op_bench *b) {
    return lq_columns(b->tape, bench_rows(b, COLS), (lq_columns_attr){.first = FIRST, .n = PART});
}

void case_columns_ref(const op_bench *b, double *out) {
    for (int64_t t = 0; t < b->rows; t++)
        for (int j = 0; j < PART; j++) out[t * PART + j] = b->item[0].v[t * COLS + FIRST + j];
}

lq_tensor *case_row_gate(op_bench *b) {
    lq_tensor *const x = bench_rows(b, COLS);
    return lq_row_gate(b->tape, x, bench_rows(b, 1));
}

void case_row_gate_ref(const op_bench *b, double *out) {
    for (int64_t i = 0; i < b->rows * COLS; i++)
        out[i] = b->item[0].v[i] / (1 + exp(-b->item[1].v[i / COLS]));
}

/* ---- route ---------------------------------------------------------------------------------- */

enum { E = 4, USED = 2 };

static const lq_route_attr normalised = {.n_used = USED, .normalise = true, .scale = 1};
static const lq_route_attr plain = {.n_used = USED, .scale = 2.5f};

/* A token's shares (E). */
static void ref_route(double *out, const double *x, lq_route_attr attr) {
    double total = 0, chosen = 0, p[E];
    for (int e = 0; e < E; e++) total += exp(x[e]);
    for (int e = 0; e < E; e++) {
        int better = 0;
        for (int i = 0; i < E; i++) better += x[i] > x[e];
        p[e] = better < attr.n_used ? exp(x[e]) / total : 0;
        chosen += p[e];
    }
    for (int e = 0; e < E; e++)
        out[e] = (double)attr.scale * p[e] / (attr.normalise ? chosen : 1);
}

static void route_ref(const op_bench *b, double *out, lq_route_attr attr) {
    for (int64_t t = 0; t < b->rows; t++) ref_route(out + t * E, b->item[0].v + t * E, attr);
}

lq_tensor *case_route(op_bench *b) { return lq_route(b->tape, bench_rows(b, E), normalised); }
lq_tensor *case_route_plain(op_bench *b) { return lq_route(b->tape, bench_rows(b, E), plain); }
void case_route_ref(const op_bench *b, double *out) { route_ref(b, out, normalised); }
void case_route_plain_ref(const op_bench *b, double *out) { route_ref(b, out, plain); }

/* ---- experts: items scores, x, gate, up, down, and then A and B of each ---------------------- */

enum { R = 2, ADAPTERS = 5, SMALL_D = 6, SMALL_F = 5, BLOCK = 32 };

static const float scales[LQ_EXPERT_PARTS] = {0.5f, 0.75f, 1.25f};

static lq_tensor *experts_of(op_bench *b, const lq_format *fmt, bool lora, lq_act act,
                             const lq_rounding *how) {
    const bool blocks = fmt && fmt->block > 1;
    const int64_t D = blocks ? BLOCK : SMALL_D, F = blocks ? BLOCK : SMALL_F;
    const int64_t rows[LQ_EXPERT_PARTS] = {F, F, D}, cols[LQ_EXPERT_PARTS] = {D, D, F};
    lq_expert_part part[LQ_EXPERT_PARTS] = {{.w = NULL}};
    lq_tensor *const shares = lq_route(b->tape, bench_rows(b, E), normalised);
    lq_tensor *const x = bench_rows(b, D);
    for (int i = 0; i < LQ_EXPERT_PARTS; i++)
        part[i].w = fmt ? bench_weight(b, fmt, E * rows[i], cols[i])
                        : bench_param(b, E * rows[i], cols[i]);
    for (int i = 0; i < LQ_EXPERT_PARTS; i++) part[i].how = how;
    for (int i = 0; lora && i < LQ_EXPERT_PARTS; i++) {
        part[i].a = bench_param(b, E * R, cols[i]);
        part[i].b = bench_param(b, E * rows[i], R);
        part[i].lora.scale = scales[i];
    }
    return lq_experts(b->tape, x, shares, part, act);
}

lq_tensor *case_experts_trained(op_bench *b) { return experts_of(b, NULL, false, LQ_SILU, NULL); }
lq_tensor *case_experts_gelu(op_bench *b) { return experts_of(b, NULL, false, LQ_GELU_TANH, NULL); }
lq_tensor *case_experts_q8_0(op_bench *b) { return experts_of(b, &lq_q8_0, false, LQ_SILU, NULL); }
lq_tensor *case_experts_lora(op_bench *b) { return experts_of(b, &lq_f32, true, LQ_SILU, NULL); }

lq_tensor *case_experts_rounded(op_bench *b) {
    return experts_of(b, &lq_q8_0, false, LQ_SILU, lq_activation_rounding(&lq_q8_0));
}

/* One product of expert e for one token. */
static void ref_part(const op_bench *b, double *out, const double *x, int i, int e, bool lora) {
    const int64_t rows = b->item[2 + i].rows / E, cols = b->item[2 + i].cols;
    double low[R], more[BLOCK];
    ref_linear(out, x, b->item[2 + i].v + e * rows * cols, NULL, 1, cols, rows);
    if (!lora) return;
    ref_linear(low, x, b->item[ADAPTERS + 2 * i].v + e * R * cols, NULL, 1, cols, R);
    ref_linear(more, low, b->item[ADAPTERS + 2 * i + 1].v + e * rows * R, NULL, 1, R, rows);
    for (int64_t o = 0; o < rows; o++) out[o] += (double)scales[i] * more[o];
}

/* h (F) of expert e for x (D). */
static void ref_hidden(const op_bench *b, double *h, const double *x, int e, bool lora,
                       lq_act act) {
    double gate[BLOCK], up[BLOCK];
    ref_part(b, gate, x, LQ_EXPERT_GATE, e, lora);
    ref_part(b, up, x, LQ_EXPERT_UP, e, lora);
    ref_glu(h, gate, up, act, b->item[2 + LQ_EXPERT_DOWN].cols);
}

/* What rounding gives at x0, and from there the identity. */
static void enter(double *out, const double *x, const double *x0, const lq_rounding *how) {
    float from[BLOCK], to[BLOCK];
    for (int i = 0; i < BLOCK; i++) from[i] = (float)x0[i];
    how->round(how, from, to, BLOCK);
    for (int i = 0; i < BLOCK; i++) out[i] = (double)to[i] + x[i] - x0[i];
}

/* h as it enters `down`, x having been rounded, too. */
static void ref_rounded_hidden(const op_bench *b, double *h, int64_t t, int e) {
    const lq_rounding *const how = lq_activation_rounding(&lq_q8_0);
    double x0[BLOCK], x[BLOCK], h0[BLOCK];
    for (int i = 0; i < BLOCK; i++) x0[i] = (double)b->item[1].data[t * BLOCK + i];
    enter(x, b->item[1].v + t * BLOCK, x0, how);
    ref_hidden(b, h, x, e, false, LQ_SILU);
    enter(x, x0, x0, how);
    ref_hidden(b, h0, x, e, false, LQ_SILU);
    enter(h, h, h0, how);
}

static void experts_ref(const op_bench *b, double *out, bool lora, lq_act act, bool rounded) {
    const int64_t D = b->item[1].cols;
    for (int64_t t = 0; t < b->rows; t++) {
        const double *const x = b->item[1].v + t * D;
        double share[E], h[BLOCK], y[BLOCK];
        ref_route(share, b->item[0].v + t * E, normalised);
        memset(out + t * D, 0, (size_t)D * sizeof *out);
        for (int e = 0; e < E; e++) {
            if (share[e] == 0) continue;
            if (rounded) ref_rounded_hidden(b, h, t, e);
            else ref_hidden(b, h, x, e, lora, act);
            ref_part(b, y, h, LQ_EXPERT_DOWN, e, lora);
            for (int64_t j = 0; j < D; j++) out[t * D + j] += share[e] * y[j];
        }
    }
}

void case_experts_ref(const op_bench *b, double *out) {
    experts_ref(b, out, false, LQ_SILU, false);
}

void case_experts_lora_ref(const op_bench *b, double *out) {
    experts_ref(b, out, true, LQ_SILU, false);
}

void case_experts_rounded_ref(const op_bench *b, double *out) {
    experts_ref(b, out, false, LQ_SILU, true);
}

void case_experts_gelu_ref(const op_bench *b, double *out) {
    experts_ref(b, out, false, LQ_GELU_TANH, false);
}
