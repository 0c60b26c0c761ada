/* A device's kernels against the CPU's on shapes too large for check_ops's differences: rows that a
 * whole block of threads shares, 16-byte accesses, tails behind them, more rows than a block has.
 * Skips where there is no device but the CPU. */
#include "op_bench.h"
#include "test_device.h"
#include "test_util.h"

#include <math.h>
#include <stdio.h>

enum { WIDE = 1280, UNEVEN = 1283, NARROW = 64, TABLE = 50, EXPERTS = 70, HEADS = 3 };

static int32_t some_ids(int64_t t) { return (int32_t)(t * 5 % 7); }
static int32_t far_positions(int64_t t) { return (int32_t)(t < 6 ? t : t - 6 + 130000); }
static int32_t two_starts(int64_t t) { return t < 8 ? 0 : 8; }

static lq_tensor *rmsnorm_of(op_bench *b, int64_t cols, int64_t d) {
    lq_tensor *const x = bench_rows(b, cols);
    return lq_rmsnorm(b->tape, x, bench_param(b, 0, d), (lq_rmsnorm_attr){1e-5f});
}

static lq_tensor *rmsnorm_wide(op_bench *b) { return rmsnorm_of(b, WIDE, WIDE); }
static lq_tensor *rmsnorm_uneven(op_bench *b) { return rmsnorm_of(b, UNEVEN, UNEVEN); }
static lq_tensor *rmsnorm_heads(op_bench *b) { return rmsnorm_of(b, HEADS * NARROW, NARROW); }

static lq_tensor *layernorm_of(op_bench *b, int64_t d) {
    lq_tensor *const x = bench_rows(b, d), *const w = bench_param(b, 0, d);
    return lq_layernorm(b->tape, x, w, bench_param(b, 0, d), (lq_layernorm_attr){1e-5f});
}

static lq_tensor *layernorm_wide(op_bench *b) { return layernorm_of(b, WIDE); }
static lq_tensor *layernorm_narrow(op_bench *b) { return layernorm_of(b, NARROW); }

static lq_tensor *row_gate_wide(op_bench *b) {
    lq_tensor *const x = bench_rows(b, WIDE);
    return lq_row_gate(b->tape, x, bench_rows(b, 1));
}

static lq_tensor *columns_aligned(op_bench *b) {
    return lq_columns(b->tape, bench_rows(b, WIDE), (lq_columns_attr){.first = 8, .n = NARROW});
}

static lq_tensor *rope_of(op_bench *b, bool neox, int n_rot) {
    lq_tensor *const x = bench_rows(b, HEADS * NARROW), *const pos = bench_ints(b, far_positions);
    return lq_rope(b->tape, x, pos, NULL,
                   (lq_rope_attr){.head_dim = NARROW, .n_rot = n_rot, .neox = neox,
                                  .freq_base = 5e5f, .freq_scale = 1, .attn_factor = 1});
}

static lq_tensor *rope_neox(op_bench *b) { return rope_of(b, true, NARROW); }
static lq_tensor *rope_pairs(op_bench *b) { return rope_of(b, false, NARROW); }
static lq_tensor *rope_part(op_bench *b) { return rope_of(b, true, NARROW / 2); }

static lq_tensor *route_many(op_bench *b) {
    return lq_route(b->tape, bench_rows(b, EXPERTS), (lq_route_attr){9, true, 1.5f});
}

static lq_tensor *embed_noisy(op_bench *b) {
    lq_tensor *const ids = bench_ints(b, some_ids), *const starts = bench_ints(b, two_starts);
    lq_tensor *const w = bench_param(b, TABLE, WIDE);
    return lq_embed(b->tape, ids, w, starts, (lq_embed_attr){.scale = 2, .noise_alpha = 5});
}

/* ---- heads: a vocabulary that ends within a pack, more labelled rows than a chunk ------------ */

enum { HEAD_D = 32, HEAD_V = 1283, MANY_ROWS = 2100, FEW_V = 37, TOP = 5 };

static int32_t some_masked(int64_t t) { return t % 3 == 1 ? -100 : (int32_t)(t * 17 % FEW_V); }

static int32_t few_masked(int64_t t) { return t % 50 == 1 ? -100 : (int32_t)(t * 17 % FEW_V); }

static lq_tensor *ce_of(op_bench *b, int64_t V, bool trained, float softcap) {
    lq_tensor *const h = bench_rows(b, HEAD_D);
    lq_tensor *const w =
        trained ? bench_param(b, V, lq_cols(h)) : bench_weight(b, &lq_q8_0, V, lq_cols(h));
    lq_tensor *const labels = bench_ints(b, V == FEW_V ? few_masked : some_masked);
    return lq_ce_head(b->tape, h, w, labels, (lq_ce_head_attr){softcap});
}

static lq_tensor *ce_wide(op_bench *b) { return ce_of(b, HEAD_V, false, 0); }
static lq_tensor *ce_capped(op_bench *b) { return ce_of(b, HEAD_V, true, 2); }
static lq_tensor *ce_many(op_bench *b) { return ce_of(b, FEW_V, false, 0); }
static lq_tensor *ce_many_trained(op_bench *b) { return ce_of(b, FEW_V, true, 0); }

static lq_tensor *kd_wide(op_bench *b) {
    lq_tensor *const h = bench_rows(b, HEAD_D), *const w = bench_param(b, HEAD_V, HEAD_D);
    lq_tensor *const labels = bench_ints(b, some_masked);
    lq_tensor *const teacher =
        lq_embed(b->tape, b->ids, bench_weight(b, &lq_f32, BENCH_CAPACITY, NARROW), NULL,
                 (lq_embed_attr){.scale = 1});
    return lq_kd_head(b->tape, h, w, labels, teacher, bench_weight(b, &lq_f32, HEAD_V, NARROW),
                      (lq_kd_head_attr){.alpha = 0.5f, .temperature = 2, .teacher_softcap = 3});
}

/* The teacher's top tokens and what is left for the others, the same for every row. */
static lq_tensor *kd_top_of(op_bench *b, bool reverse) {
    static int32_t id[BENCH_CAPACITY][TOP];
    static float log_p[BENCH_CAPACITY][TOP + 1];
    lq_tensor *const h = bench_rows(b, HEAD_D), *const w = bench_param(b, HEAD_V, HEAD_D);
    lq_tensor *const labels = bench_ints(b, some_masked);
    for (int t = 0; t < BENCH_CAPACITY; t++)
        for (int k = 0; k <= TOP; k++) {
            if (k < TOP) id[t][k] = (int32_t)((t * 17 + k * 250) % HEAD_V);
            log_p[t][k] = logf(k < TOP ? 0.3f / (float)(k + 1) : 1 - 0.3f * 137 / 60);
        }
    const int64_t ids_dim[] = {BENCH_CAPACITY, TOP}, p_dim[] = {BENCH_CAPACITY, TOP + 1};
    return lq_kd_head(b->tape, h, w, labels,
                      lq_tape_weight(b->tape, "top ids", &lq_i32, 2, ids_dim, id),
                      lq_tape_weight(b->tape, "top shares", &lq_f32, 2, p_dim, log_p),
                      (lq_kd_head_attr){.alpha = 0.75f, .temperature = 1.5f, .softcap = 4,
                                        .reverse = reverse, .top_k = TOP});
}

static lq_tensor *kd_top(op_bench *b) { return kd_top_of(b, false); }
static lq_tensor *kd_top_reverse(op_bench *b) { return kd_top_of(b, true); }

/* ---- comparing ------------------------------------------------------------------------------- */

typedef struct wide_case { op_case c; int64_t rows; } wide_case;   /* rows 0: BENCH_CAPACITY */

static const wide_case cases[] = {
    {{.op = "rmsnorm", "wide", rmsnorm_wide}, 0},
    {{.op = "rmsnorm", "uneven", rmsnorm_uneven}, 0},
    {{.op = "rmsnorm", "heads", rmsnorm_heads}, 0},
    {{.op = "layernorm", "wide", layernorm_wide}, 0},
    {{.op = "layernorm", "narrow", layernorm_narrow}, 0},
    {{.op = "row_gate", "wide", row_gate_wide}, 0},
    {{.op = "columns", "aligned", columns_aligned}, 0},
    {{.op = "rope", "neox, far away", rope_neox}, 0},
    {{.op = "rope", "pairs, far away", rope_pairs}, 0},
    {{.op = "rope", "part of a head", rope_part}, 0},
    {{.op = "route", "many experts", route_many, .spread = 3}, 0},
    {{.op = "embed", "noise", embed_noisy, .random = true}, 0},
    {{.op = "ce_head", "wide", ce_wide, .is_loss = true}, 0},
    {{.op = "ce_head", "capped", ce_capped, .is_loss = true}, 0},
    {{.op = "ce_head", "chunks", ce_many, .is_loss = true}, MANY_ROWS},
    {{.op = "ce_head", "chunks, trained", ce_many_trained, .is_loss = true}, MANY_ROWS},
    {{.op = "kd_head", "wide", kd_wide, .is_loss = true}, 0},
    {{.op = "kd_head", "top", kd_top, .is_loss = true}, 0},
    {{.op = "kd_head", "top, reverse", kd_top_reverse, .is_loss = true}, 0},
};

static double largest(const float *x, int64_t n) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fmax(most, fabs((double)x[i]));
    return most;
}

static void compare(const char *part, const op_bench *got, const float *a, const float *b,
                    int64_t n) {
    char what[128];
    const bool bf16 = got->dev->activation == &lq_bf16;
    const double tolerance = bf16 ? 8 * 0x1p-8 : 6e-6;
    snprintf(what, sizeof what, "%s %s%s, %s", got->c->op, got->c->name, bf16 ? ", bf16" : "",
             part);
    test_close(what, a, b, n, tolerance * largest(b, n) + 1e-9, tolerance);
}

static void check_case(lq_dev *dev, const wide_case *wide) {
    const lq_tape_options train = {.training = true};
    const op_case *const c = &wide->c;
    const int64_t rows = wide->rows ? wide->rows : BENCH_CAPACITY;
    op_bench got, want;
    ck_ok(bench_open(&want, lq_dev_cpu(), c, rows, train));
    ck_ok(bench_open(&got, dev, c, rows, train));
    ck_ok(bench_run(&want, true));
    ck_ok(bench_run(&got, true));
    compare("out", &got, got.result, want.result, bench_out_size(&got));
    for (int i = 0; i < got.n_items; i++) {
        const bench_item *const item = &got.item[i];
        if (item->trained)
            compare("gradient", &got, item->grad, want.item[i].grad, item->rows * item->cols);
    }
    bench_close(&got);
    bench_close(&want);
}

START_TEST(gives_what_the_cpu_gives) {
    for (int bf16 = 0; bf16 < 2; bf16++) {
        lq_dev *dev = NULL;
        ck_ok(lq_dev_open(&dev, "cuda", bf16));
        check_case(dev, &cases[_i]);
        lq_dev_close(dev);
    }
}
END_TEST

int main(void) {
    if (!test_has_device()) return 77;
    Suite *const suite = suite_create("wide_ops");
    TCase *const tcase = tcase_create("wide_ops");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, gives_what_the_cpu_gives, 0, LQ_ARRAY_LEN(cases));
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
