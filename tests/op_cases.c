/* See op_cases.h. One build function and one reference per case; odd sizes, so that every kernel
 * has tails. */
#include "op_cases.h"

#include "op_cases_families.h"
#include "op_cases_trained.h"
#include "ref.h"

/* ---- values of i32 inputs ------------------------------------------------------------------- */

static int32_t some_ids(int64_t t) { return (int32_t)((t * 5 + 3) % 7); }
static int32_t two_texts(int64_t t) { return (int32_t)(t < 6 ? t : t - 6 + 40); }  /* positions */

/* ---- embed ---------------------------------------------------------------------------------- */

enum { EMBED_COLS = 70, EMBED_ROWS = 7 };

static lq_tensor *embed_trained(op_bench *b) {
    lq_tensor *const ids = bench_ints(b, some_ids);
    return lq_embed(b->tape, ids, bench_param(b, EMBED_ROWS, EMBED_COLS), NULL,
                    (lq_embed_attr){.scale = 1.5f});
}

static void embed_trained_ref(const op_bench *b, double *out) {
    ref_embed(out, b->item[0].ints, b->item[1].v, 1.5, b->rows, EMBED_COLS);
}

/* A frozen table plus something trained, so that there is a loss to go back from. */
static lq_tensor *embed_frozen(op_bench *b, const lq_format *fmt) {
    lq_tensor *const ids = bench_ints(b, some_ids);
    lq_tensor *const h = lq_embed(b->tape, ids, bench_weight(b, fmt, EMBED_ROWS, 64), NULL,
                                  (lq_embed_attr){.scale = 1});
    return lq_add(b->tape, h, bench_rows(b, 64));
}

static lq_tensor *embed_f16(op_bench *b) { return embed_frozen(b, &lq_f16); }
static lq_tensor *embed_q4_0(op_bench *b) { return embed_frozen(b, &lq_q4_0); }

static void embed_frozen_ref(const op_bench *b, double *out) {
    ref_embed(out, b->item[0].ints, b->item[1].v, 1, b->rows, 64);
    for (int64_t i = 0; i < b->rows * 64; i++) out[i] += b->item[2].v[i];
}

/* ---- rmsnorm -------------------------------------------------------------------------------- */

static lq_tensor *rmsnorm_of(op_bench *b, int64_t cols, int64_t d) {
    lq_tensor *const x = bench_rows(b, cols);
    return lq_rmsnorm(b->tape, x, bench_param(b, 0, d), (lq_rmsnorm_attr){1e-5f});
}

static lq_tensor *rmsnorm_row(op_bench *b) { return rmsnorm_of(b, 67, 67); }
static lq_tensor *rmsnorm_head(op_bench *b) { return rmsnorm_of(b, 3 * 18, 18); }

static lq_tensor *rmsnorm_frozen(op_bench *b) {
    lq_tensor *const x = bench_rows(b, 20);
    return lq_rmsnorm(b->tape, x, bench_weight(b, &lq_f32, 0, 20), (lq_rmsnorm_attr){1e-5f});
}

static void rmsnorm_ref(const op_bench *b, double *out) {
    ref_rmsnorm(out, b->item[0].v, b->item[1].v, (double)1e-5f, b->rows, b->item[0].cols,
                b->item[1].cols);
}

/* ---- rope ----------------------------------------------------------------------------------- */

static const lq_rope_attr rope_llama = {.head_dim = 18, .n_rot = 18, .freq_base = 100,
                                        .freq_scale = 1, .attn_factor = 1};
static const lq_rope_attr rope_neox = {.head_dim = 40, .n_rot = 34, .neox = true, .freq_base = 1e4f,
                                       .freq_scale = 0.25f, .attn_factor = 1.1f};
static const lq_rope_attr rope_factors = {.head_dim = 40, .n_rot = 38, .freq_base = 1e4f,
                                          .freq_scale = 1, .attn_factor = 1};

static lq_tensor *rope_of(op_bench *b, lq_rope_attr attr, bool factors) {
    lq_tensor *const x = bench_rows(b, 2 * attr.head_dim), *const pos = bench_ints(b, two_texts);
    lq_tensor *const f = factors ? bench_weight(b, &lq_f32, 0, attr.n_rot / 2) : NULL;
    return lq_rope(b->tape, x, pos, f, attr);
}

static void rope_of_ref(const op_bench *b, double *out, lq_rope_attr attr) {
    const double *const factors = b->n_items > 2 ? b->item[2].v : NULL;
    ref_rope(out, b->item[0].v, b->item[1].ints, factors, attr, b->rows, 2 * attr.head_dim);
}

static lq_tensor *build_rope_llama(op_bench *b) { return rope_of(b, rope_llama, false); }
static lq_tensor *build_rope_neox(op_bench *b) { return rope_of(b, rope_neox, false); }
static lq_tensor *build_rope_factors(op_bench *b) { return rope_of(b, rope_factors, true); }
static void rope_llama_ref(const op_bench *b, double *out) { rope_of_ref(b, out, rope_llama); }
static void rope_neox_ref(const op_bench *b, double *out) { rope_of_ref(b, out, rope_neox); }
static void rope_factors_ref(const op_bench *b, double *out) { rope_of_ref(b, out, rope_factors); }

/* ---- glu ------------------------------------------------------------------------------------ */

enum { GLU_COLS = 37 };

static lq_tensor *glu_of(op_bench *b, lq_act act) {
    lq_tensor *const gate = bench_rows(b, GLU_COLS), *const up = bench_rows(b, GLU_COLS);
    return lq_glu(b->tape, gate, up, (lq_glu_attr){act});
}

static lq_tensor *glu_silu(op_bench *b) { return glu_of(b, LQ_SILU); }
static lq_tensor *glu_gelu(op_bench *b) { return glu_of(b, LQ_GELU_TANH); }

static void glu_silu_ref(const op_bench *b, double *out) {
    ref_glu(out, b->item[0].v, b->item[1].v, LQ_SILU, b->rows * GLU_COLS);
}

static void glu_gelu_ref(const op_bench *b, double *out) {
    ref_glu(out, b->item[0].v, b->item[1].v, LQ_GELU_TANH, b->rows * GLU_COLS);
}

/* ---- add, softcap --------------------------------------------------------------------------- */

enum { ADD_COLS = 21 };

static lq_tensor *add_two(op_bench *b) {
    lq_tensor *const x = bench_rows(b, ADD_COLS);
    return lq_add(b->tape, x, bench_rows(b, ADD_COLS));
}

static void add_two_ref(const op_bench *b, double *out) {
    for (int64_t i = 0; i < b->rows * ADD_COLS; i++) out[i] = b->item[0].v[i] + b->item[1].v[i];
}

static lq_tensor *add_same(op_bench *b) {
    lq_tensor *const x = bench_rows(b, ADD_COLS);
    return lq_add(b->tape, x, x);
}

static void add_same_ref(const op_bench *b, double *out) {
    for (int64_t i = 0; i < b->rows * ADD_COLS; i++) out[i] = 2 * b->item[0].v[i];
}

static lq_tensor *softcap(op_bench *b) {
    return lq_softcap(b->tape, bench_rows(b, ADD_COLS), (lq_softcap_attr){3});
}

static void softcap_ref(const op_bench *b, double *out) {
    ref_softcap(out, b->item[0].v, 3, b->rows * ADD_COLS);
}

/* ---- linear --------------------------------------------------------------------------------- */

enum { LINEAR_D = 32, LINEAR_O = 21 };

static lq_tensor *linear_frozen(op_bench *b, const lq_format *fmt) {
    lq_tensor *const x = bench_rows(b, LINEAR_D);
    return lq_linear(b->tape, x, bench_weight(b, fmt, LINEAR_O, LINEAR_D), NULL);
}

static lq_tensor *linear_f32(op_bench *b) { return linear_frozen(b, &lq_f32); }
static lq_tensor *linear_bf16(op_bench *b) { return linear_frozen(b, &lq_bf16); }
static lq_tensor *linear_q8_0(op_bench *b) { return linear_frozen(b, &lq_q8_0); }
static lq_tensor *linear_q4_0(op_bench *b) { return linear_frozen(b, &lq_q4_0); }

static lq_tensor *linear_trained(op_bench *b) {
    lq_tensor *const x = bench_rows(b, LINEAR_D), *const w = bench_param(b, LINEAR_O, LINEAR_D);
    return lq_linear(b->tape, x, w, bench_param(b, 0, LINEAR_O));
}

static void linear_ref(const op_bench *b, double *out) {
    const double *const bias = b->n_items > 2 ? b->item[2].v : NULL;
    ref_linear(out, b->item[0].v, b->item[1].v, bias, b->rows, LINEAR_D, LINEAR_O);
}

/* ---- lora_linear: items x, W, A, B, and a bias that may be absent ---------------------------- */

enum { LORA_R = 5 };

static const float lora_scale = 0.75f;

static lq_tensor *lora_of(op_bench *b, const lq_format *fmt, bool bias, bool merged) {
    lq_tensor *const x = bench_rows(b, LINEAR_D);
    lq_tensor *const w = bench_weight(b, fmt, LINEAR_O, LINEAR_D);
    lq_tensor *const a = bench_param(b, LORA_R, LINEAR_D);
    lq_tensor *const up = bench_param(b, LINEAR_O, LORA_R);
    lq_tensor *const c = bias ? bench_param(b, 0, LINEAR_O) : NULL;
    return lq_lora_linear(b->tape, x, NULL, w, c, a, up,
                          (lq_lora_attr){.scale = lora_scale, .merged = merged});
}

static lq_tensor *lora_separate(op_bench *b) { return lora_of(b, &lq_q4_0, true, false); }
static lq_tensor *lora_plain(op_bench *b) { return lora_of(b, &lq_f16, false, false); }
static lq_tensor *lora_merged(op_bench *b) { return lora_of(b, &lq_q4_0, false, true); }

/* out += factor * scale * (x A^T) B^T */
static void add_adapter(double *out, const op_bench *b, const double *x, const double *a,
                        const double *up, double factor) {
    double low[BENCH_CAPACITY * LORA_R], full[BENCH_CAPACITY * LINEAR_O];
    ref_linear(low, x, a, NULL, b->rows, LINEAR_D, LORA_R);
    ref_linear(full, low, up, NULL, b->rows, LORA_R, LINEAR_O);
    const double by = factor * (double)lora_scale;
    for (int64_t i = 0; i < b->rows * LINEAR_O; i++) out[i] += by * full[i];
}

static void lora_ref(const op_bench *b, double *out) {
    const double *const bias = b->n_items > 4 ? b->item[4].v : NULL;
    ref_linear(out, b->item[0].v, b->item[1].v, bias, b->rows, LINEAR_D, LINEAR_O);
    add_adapter(out, b, b->item[0].v, b->item[2].v, b->item[3].v, 1);
}

/* W holds the adapter at its present values: nudging A and B adds the difference to those. */
static void lora_merged_ref(const op_bench *b, double *out) {
    double a[LORA_R * LINEAR_D], up[LINEAR_O * LORA_R];
    for (int i = 0; i < LORA_R * LINEAR_D; i++) a[i] = (double)b->item[2].data[i];
    for (int i = 0; i < LINEAR_O * LORA_R; i++) up[i] = (double)b->item[3].data[i];
    lora_ref(b, out);
    add_adapter(out, b, b->item[0].v, a, up, -1);
}

/* The frozen product's input is another one, item 0; the adapter's is item 4. */
static lq_tensor *lora_rounded(op_bench *b) {
    lq_tensor *const rounded = bench_rows(b, LINEAR_D);
    lq_tensor *const w = bench_weight(b, &lq_q4_0, LINEAR_O, LINEAR_D);
    lq_tensor *const a = bench_param(b, LORA_R, LINEAR_D);
    lq_tensor *const up = bench_param(b, LINEAR_O, LORA_R);
    return lq_lora_linear(b->tape, bench_rows(b, LINEAR_D), rounded, w, NULL, a, up,
                          (lq_lora_attr){.scale = lora_scale});
}

static void lora_rounded_ref(const op_bench *b, double *out) {
    ref_linear(out, b->item[0].v, b->item[1].v, NULL, b->rows, LINEAR_D, LINEAR_O);
    add_adapter(out, b, b->item[4].v, b->item[2].v, b->item[3].v, 1);
}

/* ---- fakequant ------------------------------------------------------------------------------ */

enum { ROUNDED_COLS = 256 };

static lq_tensor *rounded_as(op_bench *b, const lq_format *weight) {
    const lq_rounding *const how = lq_activation_rounding(weight);
    return lq_fakequant(b->tape, bench_rows(b, ROUNDED_COLS), (lq_fakequant_attr){how});
}

/* What rounding gives at the present values, and from there the identity. */
static void rounded_ref(const op_bench *b, double *out, const lq_format *weight) {
    const lq_rounding *const how = lq_activation_rounding(weight);
    const bench_item *const x = &b->item[0];
    float y[BENCH_CAPACITY * ROUNDED_COLS];
    how->round(how, x->data, y, b->rows * ROUNDED_COLS);
    for (int64_t i = 0; i < b->rows * ROUNDED_COLS; i++)
        out[i] = (double)y[i] + x->v[i] - (double)x->data[i];
}

static lq_tensor *rounded_q8_0(op_bench *b) { return rounded_as(b, &lq_q4_0); }
static lq_tensor *rounded_q8_k(op_bench *b) { return rounded_as(b, &lq_iq4_xs); }
static void rounded_q8_0_ref(const op_bench *b, double *out) { rounded_ref(b, out, &lq_q4_0); }
static void rounded_q8_k_ref(const op_bench *b, double *out) { rounded_ref(b, out, &lq_iq4_xs); }

/* ---- attention ------------------------------------------------------------------------------ */

static const lq_attention_attr grouped = {.n_head = 4, .n_head_kv = 2, .head_dim = 9,
                                          .scale = 0.5f};
static const lq_attention_attr windowed = {.n_head = 1, .n_head_kv = 1, .head_dim = 16, .scale = 1,
                                           .window = 4};
static const lq_attention_attr capped = {.n_head = 3, .n_head_kv = 1, .head_dim = 8, .scale = 1,
                                         .softcap = 2};

static int32_t three_starts(int64_t t) { return t < 5 ? 0 : t < 6 ? 5 : 6; }

static lq_tensor *attention_of(op_bench *b, lq_attention_attr attr) {
    lq_tensor *const q = bench_rows(b, attr.n_head * attr.head_dim);
    lq_tensor *const k = bench_rows(b, attr.n_head_kv * attr.head_dim);
    lq_tensor *const v = bench_rows(b, attr.n_head_kv * attr.head_dim);
    return lq_attention(b->tape, q, k, v, bench_ints(b, three_starts), NULL, NULL, attr);
}

static void attention_of_ref(const op_bench *b, double *out, lq_attention_attr attr) {
    ref_attention(out, b->item[0].v, b->item[1].v, b->item[2].v, b->item[3].ints, attr, b->rows);
}

static lq_tensor *attention_grouped(op_bench *b) { return attention_of(b, grouped); }
static lq_tensor *attention_windowed(op_bench *b) { return attention_of(b, windowed); }
static lq_tensor *attention_capped(op_bench *b) { return attention_of(b, capped); }
static void grouped_ref(const op_bench *b, double *out) { attention_of_ref(b, out, grouped); }
static void windowed_ref(const op_bench *b, double *out) { attention_of_ref(b, out, windowed); }
static void capped_ref(const op_bench *b, double *out) { attention_of_ref(b, out, capped); }

/* ---- ce_head -------------------------------------------------------------------------------- */

enum { HEAD_D = 32, HEAD_V = 45 };

static int32_t some_masked(int64_t t) { return t % 3 == 1 ? -100 : (int32_t)(t * 17 % HEAD_V); }

static lq_tensor *head_of(op_bench *b, bool trained, float softcap) {
    lq_tensor *const h = bench_rows(b, HEAD_D);
    lq_tensor *const w =
        trained ? bench_param(b, HEAD_V, HEAD_D) : bench_weight(b, &lq_q8_0, HEAD_V, HEAD_D);
    return lq_ce_head(b->tape, h, w, bench_ints(b, some_masked), (lq_ce_head_attr){softcap});
}

static void head_of_ref(const op_bench *b, double *out, double softcap) {
    ref_ce_head(out, b->item[0].v, b->item[1].v, b->item[2].ints, softcap, b->rows, HEAD_D, HEAD_V);
}

static lq_tensor *head_frozen(op_bench *b) { return head_of(b, false, 0); }
static lq_tensor *head_trained(op_bench *b) { return head_of(b, true, 0); }
static lq_tensor *head_capped(op_bench *b) { return head_of(b, true, 3); }
static void head_ref(const op_bench *b, double *out) { head_of_ref(b, out, 0); }
static void head_capped_ref(const op_bench *b, double *out) { head_of_ref(b, out, 3); }

/* ---- kd_head: items h, W, labels, the teacher's rows and head -------------------------------- */

enum { TEACHER_D = 20 };

static const lq_kd_head_attr kd_forward = {.alpha = 0.75f, .temperature = 1};
static const lq_kd_head_attr kd_hot = {.softcap = 3, .teacher_softcap = 4, .alpha = 0.5f,
                                       .temperature = 2.5f};
static const lq_kd_head_attr kd_reverse = {.alpha = 1, .temperature = 1.5f, .reverse = true};

static lq_tensor *kd_of(op_bench *b, bool trained, lq_kd_head_attr attr) {
    lq_tensor *const h = bench_rows(b, HEAD_D);
    lq_tensor *const w =
        trained ? bench_param(b, HEAD_V, HEAD_D) : bench_weight(b, &lq_q8_0, HEAD_V, HEAD_D);
    lq_tensor *const labels = bench_ints(b, some_masked);
    lq_tensor *const teacher =
        lq_embed(b->tape, b->ids, bench_weight(b, &lq_f32, BENCH_CAPACITY, TEACHER_D), NULL,
                 (lq_embed_attr){.scale = 1});
    return lq_kd_head(b->tape, h, w, labels, teacher, bench_weight(b, &lq_f32, HEAD_V, TEACHER_D),
                      attr);
}

static void kd_of_ref(const op_bench *b, double *out, lq_kd_head_attr attr) {
    ref_kd_head(out, b->item[0].v, b->item[1].v, b->item[2].ints, b->item[3].v, b->item[4].v, attr,
                b->rows, HEAD_D, TEACHER_D, HEAD_V);
}

static lq_tensor *kd_frozen(op_bench *b) { return kd_of(b, false, kd_forward); }
static lq_tensor *kd_trained(op_bench *b) { return kd_of(b, true, kd_forward); }
static lq_tensor *kd_capped(op_bench *b) { return kd_of(b, true, kd_hot); }
static lq_tensor *kd_reversed(op_bench *b) { return kd_of(b, false, kd_reverse); }
static void kd_forward_ref(const op_bench *b, double *out) { kd_of_ref(b, out, kd_forward); }
static void kd_hot_ref(const op_bench *b, double *out) { kd_of_ref(b, out, kd_hot); }
static void kd_reverse_ref(const op_bench *b, double *out) { kd_of_ref(b, out, kd_reverse); }

const op_case op_cases[] = {
    {.op = "embed", "trained", embed_trained, embed_trained_ref},
    {.op = "embed", "f16", embed_f16, embed_frozen_ref},
    {.op = "embed", "q4_0", embed_q4_0, embed_frozen_ref},
    {.op = "rmsnorm", "row", rmsnorm_row, rmsnorm_ref},
    {.op = "rmsnorm", "head", rmsnorm_head, rmsnorm_ref},
    {.op = "rmsnorm", "frozen", rmsnorm_frozen, rmsnorm_ref},
    {.op = "rope", "llama", build_rope_llama, rope_llama_ref},
    {.op = "rope", "neox", build_rope_neox, rope_neox_ref},
    {.op = "rope", "factors", build_rope_factors, rope_factors_ref},
    {.op = "glu", "silu", glu_silu, glu_silu_ref, .spread = 9},
    {.op = "glu", "gelu", glu_gelu, glu_gelu_ref, .spread = 5},
    {.op = "add", "two", add_two, add_two_ref},
    {.op = "add", "same", add_same, add_same_ref},
    {.op = "layernorm", "", case_layernorm, case_layernorm_ref},
    {.op = "layernorm", "frozen", case_layernorm_frozen, case_layernorm_ref},
    {.op = "scale", "", case_scale, case_scale_ref},
    {.op = "clamp", "", case_clamp, case_clamp_ref},
    {.op = "glu", "exact", case_gelu, case_gelu_ref, .spread = 5},
    {.op = "glu", "exact alone", case_gelu_alone, case_gelu_alone_ref, .spread = 5},
    {.op = "glu", "tanh alone", case_tanh_alone, case_tanh_alone_ref, .spread = 5},
    {.op = "attention", "alibi", case_alibi, case_alibi_ref},
    {.op = "columns", "", case_columns, case_columns_ref},
    {.op = "row_gate", "", case_row_gate, case_row_gate_ref, .spread = 3},
    {.op = "route", "normalised", case_route, case_route_ref, .spread = 2},
    {.op = "route", "plain", case_route_plain, case_route_plain_ref, .spread = 2},
    {.op = "experts", "trained", case_experts_trained, case_experts_ref},
    {.op = "experts", "gelu", case_experts_gelu, case_experts_gelu_ref},
    {.op = "experts", "q8_0", case_experts_q8_0, case_experts_ref},
    {.op = "experts", "lora", case_experts_lora, case_experts_lora_ref},
    {.op = "experts", "rounded", case_experts_rounded, case_experts_rounded_ref, .cpu_only = true},
    {.op = "softcap", "", softcap, softcap_ref, .spread = 6},
    {.op = "linear", "f32", linear_f32, linear_ref},
    {.op = "linear", "bf16", linear_bf16, linear_ref},
    {.op = "linear", "q8_0", linear_q8_0, linear_ref},
    {.op = "linear", "q4_0", linear_q4_0, linear_ref},
    {.op = "linear", "trained", linear_trained, linear_ref},
    {.op = "lora_linear", "separate", lora_separate, lora_ref},
    {.op = "lora_linear", "plain", lora_plain, lora_ref},
    {.op = "lora_linear", "merged", lora_merged, lora_merged_ref},
    {.op = "lora_linear", "rounded", lora_rounded, lora_rounded_ref},
    {.op = "lora_linear", "dora", case_dora, case_dora_ref},
    {.op = "lora_linear", "dora merged", case_dora_merged, case_dora_merged_ref},
    {.op = "scaled_linear", "q4_0", case_scaled_q4_0, case_scaled_ref},
    {.op = "scaled_linear", "q8_0", case_scaled_q8_0, case_scaled_ref},
    {.op = "fakequant", "q8_0", rounded_q8_0, rounded_q8_0_ref},
    {.op = "fakequant", "q8_K", rounded_q8_k, rounded_q8_k_ref},
    {.op = "attention", "grouped", attention_grouped, grouped_ref},
    {.op = "attention", "windowed", attention_windowed, windowed_ref},
    {.op = "attention", "capped", attention_capped, capped_ref},
    {.op = "ce_head", "frozen", head_frozen, head_ref, .is_loss = true},
    {.op = "ce_head", "trained", head_trained, head_ref, .is_loss = true},
    {.op = "ce_head", "capped", head_capped, head_capped_ref, .is_loss = true},
    {.op = "kd_head", "frozen", kd_frozen, kd_forward_ref, .is_loss = true},
    {.op = "kd_head", "trained", kd_trained, kd_forward_ref, .is_loss = true},
    {.op = "kd_head", "capped", kd_capped, kd_hot_ref, .is_loss = true},
    {.op = "kd_head", "reverse", kd_reversed, kd_reverse_ref, .is_loss = true},
    {.op = NULL},
};
