/* Every kernel of every table against the plain C one: all lengths around the vector widths,
 * unaligned, and nothing written past the end. exp and tanh also against double precision; the
 * choice of a table. */
#include "cpu.h"
#include "random.h"
#include "test_util.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 200, GUARD = 24, KEYS = 3 };

static const int64_t lengths[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65,
                                  100, 128, 131};

/* ---- one row per kernel: y is in and out ----------------------------------------------------- */

typedef struct args { const float *a, *b, *c; int64_t n; } args;

static void dot(const lq_cpu *k, float *y, args x) { *y = k->dot(x.a, x.b, x.n); }
static void axpy(const lq_cpu *k, float *y, args x) { k->axpy(y, 0.7f, x.a, x.n); }
static void scale(const lq_cpu *k, float *y, args x) { k->scale(y, -1.3f, x.n); }
static void add(const lq_cpu *k, float *y, args x) { k->add(y, x.a, x.b, x.n); }
static void max(const lq_cpu *k, float *y, args x) { *y = x.n ? k->max(x.a, x.n) : 0; }
static void sum_squares(const lq_cpu *k, float *y, args x) { *y = (float)k->sum_squares(x.a, x.n); }
static void dot3(const lq_cpu *k, float *y, args x) { *y = (float)k->dot3(x.a, x.b, x.c, x.n); }
static void exp_sum(const lq_cpu *k, float *y, args x) {
    const float sum = (float)k->exp_sum(y, x.a, 9, x.n);
    y[x.n] = sum;
}
/* Scores of lengths[] queries and 3 keys, some of them not visible. */
static void fill_scores(lq_scores *s, float *at, const float *from, int64_t n) {
    *s = (lq_scores){.s = at, .m = KEYS, .n = n < LQ_SCORE_QUERIES ? n : LQ_SCORE_QUERIES};
    for (int64_t i = 0; i < s->n; i++) {
        s->begin[i] = (int32_t)(i % 5 == 4);
        s->end[i] = (int32_t)(i % 4);
        for (int64_t k = 0; k < KEYS; k++) at[k * LQ_SCORE_QUERIES + i] = from[i] * (float)(k + 1);
    }
}

/* Row k of the scores, into y. */
static void softmax_row(const lq_cpu *k, float *y, args x, int64_t row) {
    float s[KEYS * LQ_SCORE_QUERIES], max[LQ_SCORE_QUERIES], sum[LQ_SCORE_QUERIES],
        shrink[LQ_SCORE_QUERIES];
    lq_scores scores;
    fill_scores(&scores, s, x.a, x.n);
    for (int64_t i = 0; i < scores.n; i++) {
        max[i] = i % 3 ? -INFINITY : x.b[i];
        sum[i] = i % 3 ? 0 : 1.5f;
    }
    k->softmax(&scores, max, sum, shrink);
    const float *const rows[] = {s, s + LQ_SCORE_QUERIES, s + 2 * LQ_SCORE_QUERIES, sum, shrink};
    memcpy(y, rows[row], (size_t)scores.n * sizeof *y);
}
static void softmax_0(const lq_cpu *k, float *y, args x) { softmax_row(k, y, x, 0); }
static void softmax_1(const lq_cpu *k, float *y, args x) { softmax_row(k, y, x, 1); }
static void softmax_2(const lq_cpu *k, float *y, args x) { softmax_row(k, y, x, 2); }
static void softmax_sum(const lq_cpu *k, float *y, args x) { softmax_row(k, y, x, 3); }
static void softmax_shrink(const lq_cpu *k, float *y, args x) { softmax_row(k, y, x, 4); }

static void softmax_bwd_row(const lq_cpu *k, float *y, args x, bool p, int64_t row) {
    float s[KEYS * LQ_SCORE_QUERIES], dp[KEYS * LQ_SCORE_QUERIES], lse[LQ_SCORE_QUERIES];
    lq_scores scores;
    fill_scores(&scores, s, x.a, x.n);
    for (int64_t i = 0; i < scores.n; i++) {
        lse[i] = 9;
        for (int64_t j = 0; j < KEYS; j++) dp[j * LQ_SCORE_QUERIES + i] = x.b[i] + (float)j;
    }
    k->softmax_bwd(&scores, dp, lse, x.c, 0.7f, 0.1f);
    memcpy(y, (p ? s : dp) + row * LQ_SCORE_QUERIES, (size_t)scores.n * sizeof *y);
}
static void softmax_p(const lq_cpu *k, float *y, args x) { softmax_bwd_row(k, y, x, true, 1); }
static void softmax_ds_0(const lq_cpu *k, float *y, args x) { softmax_bwd_row(k, y, x, false, 0); }
static void softmax_ds_2(const lq_cpu *k, float *y, args x) { softmax_bwd_row(k, y, x, false, 2); }
static void exp_in_place(const lq_cpu *k, float *y, args x) { k->exp_sum(y, y, 9, x.n); }
static void rmsnorm(const lq_cpu *k, float *y, args x) { k->rmsnorm(y, x.a, x.b, 0.8f, x.n); }
static void rmsnorm_bwd(const lq_cpu *k, float *y, args x) {
    k->rmsnorm_bwd(y, x.a, x.b, x.c, 0.8f, -0.1f, x.n);
}
static void silu(const lq_cpu *k, float *y, args x) { k->silu_mul(y, x.a, x.b, x.n); }
static void gelu(const lq_cpu *k, float *y, args x) { k->gelu_mul(y, x.a, x.b, x.n); }
static void silu_dgate(const lq_cpu *k, float *y, args x) {
    k->silu_mul_bwd(y, NULL, x.a, x.b, x.c, x.n);
}
static void silu_dup(const lq_cpu *k, float *y, args x) {
    k->silu_mul_bwd(NULL, y, x.a, x.b, x.c, x.n);
}
static void gelu_dgate(const lq_cpu *k, float *y, args x) {
    k->gelu_mul_bwd(y, NULL, x.a, x.b, x.c, x.n);
}
static void gelu_dup(const lq_cpu *k, float *y, args x) {
    k->gelu_mul_bwd(NULL, y, x.a, x.b, x.c, x.n);
}
static void tanh_cap(const lq_cpu *k, float *y, args x) { k->tanh_cap(y, x.a, 3, x.n); }
/* Heads of up to `most` columns side by side, as many as there are numbers for. */
static void turn(const lq_cpu *k, float *y, const float *x, args a, int64_t most, lq_rope_row row) {
    row.n_pairs = most / 2 < a.n / 2 ? most / 2 : a.n / 2;
    row.head_dim = 2 * row.n_pairs;
    row.n_heads = row.n_pairs ? a.n / row.head_dim : 0;
    k->rope(y, x, a.b, a.c, &row);
}

static void rope_pairs(const lq_cpu *k, float *y, args x) {
    turn(k, y, x.a, x, MOST, (lq_rope_row){.sign = 1});
}
static void rope_pairs_back(const lq_cpu *k, float *y, args x) {
    turn(k, y, x.a, x, MOST, (lq_rope_row){.sign = -1, .adds = true});
}
static void rope_halves(const lq_cpu *k, float *y, args x) {
    turn(k, y, x.a, x, MOST, (lq_rope_row){.sign = 1, .neox = true});
}
static void rope_halves_back(const lq_cpu *k, float *y, args x) {
    turn(k, y, x.a, x, MOST, (lq_rope_row){.sign = -1, .neox = true, .adds = true});
}
static void rope_of_2(const lq_cpu *k, float *y, args x) {
    turn(k, y, x.a, x, 2, (lq_rope_row){.sign = 1, .neox = true});
}
static void rope_of_8(const lq_cpu *k, float *y, args x) {
    turn(k, y, x.a, x, 8, (lq_rope_row){.sign = -1, .adds = true});
}
static void rope_of_12(const lq_cpu *k, float *y, args x) {
    turn(k, y, x.a, x, 12, (lq_rope_row){.sign = 1});
}
static void rope_of_16(const lq_cpu *k, float *y, args x) {
    turn(k, y, x.a, x, 16, (lq_rope_row){.sign = 1, .neox = true});
}
static void rope_in_place(const lq_cpu *k, float *y, args x) {
    turn(k, y, y, x, MOST, (lq_rope_row){.sign = 1});
    turn(k, y, y, x, 8, (lq_rope_row){.sign = 1, .neox = true});
}

static const struct {
    const char *name;
    void (*apply)(const lq_cpu *k, float *y, args x);
} kernels[] = {
    {"dot", dot}, {"axpy", axpy}, {"scale", scale}, {"add", add}, {"max", max},
    {"sum_squares", sum_squares}, {"dot3", dot3}, {"exp_sum", exp_sum},
    {"softmax_0", softmax_0}, {"softmax_1", softmax_1}, {"softmax_2", softmax_2},
    {"softmax_sum", softmax_sum}, {"softmax_shrink", softmax_shrink}, {"softmax_p", softmax_p},
    {"softmax_ds_0", softmax_ds_0}, {"softmax_ds_2", softmax_ds_2},
    {"exp_sum in place", exp_in_place},
    {"rmsnorm", rmsnorm}, {"rmsnorm_bwd", rmsnorm_bwd}, {"silu_mul", silu}, {"gelu_mul", gelu},
    {"silu_mul_bwd gate", silu_dgate}, {"silu_mul_bwd up", silu_dup},
    {"gelu_mul_bwd gate", gelu_dgate},
    {"gelu_mul_bwd up", gelu_dup}, {"tanh_cap", tanh_cap}, {"rope", rope_pairs},
    {"rope back", rope_pairs_back}, {"rope neox", rope_halves},
    {"rope neox back", rope_halves_back}, {"rope of 2", rope_of_2},
    {"rope of 8", rope_of_8}, {"rope of 12", rope_of_12}, {"rope of 16", rope_of_16},
    {"rope in place", rope_in_place},
};

/* ---- against the reference ------------------------------------------------------------------ */

/* All start one float past an aligned address. */
static float in[3][MOST + 1], got[MOST + GUARD + 1], want[MOST + GUARD + 1];

static void fill(uint64_t key) {
    for (int i = 0; i < 3; i++) test_fill(in[i], MOST + 1, lq_random_key(key, (uint64_t)i));
    for (int i = 0; i <= MOST; i++) in[0][i] *= 8; /* the argument of exp, sigmoid, tanh */
    test_fill(want, MOST + GUARD + 1, lq_random_key(key, 3));
    memcpy(got, want, sizeof got);
}

START_TEST(equals_reference) {
    for (const lq_cpu *const *table = lq_cpu_tables(); *table; table++) {
        for (int i = 0; i < LQ_ARRAY_LEN(lengths); i++) {
            const args x = {in[0] + 1, in[1] + 1, in[2] + 1, lengths[i]};
            char what[80];
            snprintf(what, sizeof what, "%s %s of %lld", (*table)->name, kernels[_i].name,
                     (long long)x.n);
            fill((uint64_t)x.n);
            kernels[_i].apply(&lq_cpu_ref, want + 1, x);
            kernels[_i].apply(*table, got + 1, x);
            test_close(what, got, want, MOST + GUARD + 1, 3e-6, 1e-6);
            const int64_t written = x.n > 1 ? x.n : 1; /* exp_sum keeps its sum behind it */
            ck_assert_msg(!memcmp(got + 2 + written, want + 2 + written, GUARD * sizeof *got),
                          "%s: written past the end", what);
        }
    }
}
END_TEST

/* Both gradients in one call are the two of separate calls. */
START_TEST(both_gate_gradients) {
    for (const lq_cpu *const *table = lq_cpu_tables(); *table; table++) {
        float dgate[2][MOST] = {{0}}, dup[2][MOST] = {{0}};
        fill(5);
        (*table)->silu_mul_bwd(dgate[0], dup[0], in[0], in[1], in[2], 77);
        (*table)->silu_mul_bwd(dgate[1], NULL, in[0], in[1], in[2], 77);
        (*table)->silu_mul_bwd(NULL, dup[1], in[0], in[1], in[2], 77);
        ck_assert_mem_eq(dgate[0], dgate[1], sizeof dgate[0]);
        ck_assert_mem_eq(dup[0], dup[1], sizeof dup[0]);
    }
}
END_TEST

/* ---- against double precision --------------------------------------------------------------- */

START_TEST(exp_is_accurate) {
    enum { N = 4096 };
    static float x[N], y[N];
    for (const lq_cpu *const *table = lq_cpu_tables(); *table; table++) {
        for (int part = 0; part < 16; part++) {
            for (int i = 0; i < N; i++) x[i] = -(float)(part * N + i) * (104.0f / (16 * N));
            double sum = 0;
            const double total = (*table)->exp_sum(y, x, 0, N);
            for (int i = 0; i < N; i++) {
                const double exact = exp((double)x[i]), error = fabs((double)y[i] - exact);
                const double allowed = exact < (double)FLT_MIN ? exact : 2e-7 * exact;
                ck_assert_msg(error <= allowed + 1.5e-45, "%s: exp(%.9g) is %.9g, wanted %.9g",
                              (*table)->name, (double)x[i], (double)y[i], exact);
                sum += (double)y[i];
            }
            ck_assert(fabs(total - sum) <= 1e-12 * sum);
        }
    }
}
END_TEST

START_TEST(tanh_is_accurate) {
    enum { N = 1000 };
    float x[N], y[N];
    for (const lq_cpu *const *table = lq_cpu_tables(); *table; table++) {
        for (int i = 0; i < N; i++) x[i] = (i % 2 ? -1 : 1) * powf(10, -6 + 8.0f * (float)i / N);
        (*table)->tanh_cap(y, x, 5, N);
        for (int i = 0; i < N; i++) {
            const double exact = 5 * tanh((double)x[i] / 5);
            ck_assert_msg(fabs((double)y[i] - exact) <= 5e-7 * fabs(exact),
                          "%s: 5 tanh(%g/5) is %.9g", (*table)->name, (double)x[i], (double)y[i]);
        }
    }
}
END_TEST

START_TEST(special_values) {
    for (const lq_cpu *const *table = lq_cpu_tables(); *table; table++) {
        const lq_cpu *const k = *table;
        float x[20], y[20];
        for (int i = 0; i < 20; i++) x[i] = -INFINITY;
        ck_assert(k->exp_sum(y, x, 3, 20) == 0 && y[19] == 0);
        for (int i = 0; i < 20; i++) x[i] = -1e30f;
        ck_assert(k->exp_sum(y, x, 3, 20) == 0 && y[0] == 0);
        x[17] = 3;
        ck_assert(k->exp_sum(y, x, 3, 20) == 1 && y[17] == 1);
        ck_assert(k->max(x, 20) == 3 && k->max(x, 0) == -INFINITY);
        x[17] = NAN;
        ck_assert(isnan(k->exp_sum(y, x, 3, 20)) && isnan(y[17]));
        ck_assert(k->max(x, 20) == -1e30f);
        const float large[2] = {-200, 200}, one[2] = {1, 1};
        k->silu_mul(y, large, one, 2);
        ck_assert(fabsf(y[0]) < 1e-30f && y[1] == 200);
        k->gelu_mul(y, large, one, 2);
        ck_assert(fabsf(y[0]) < 1e-30f && y[1] == 200);
        k->tanh_cap(y, large, 2, 2);
        ck_assert(y[0] == -2 && y[1] == 2);
    }
}
END_TEST

/* ---- the choice ----------------------------------------------------------------------------- */

static char logged[256];

static void keep_line(void *ctx, lq_log_level level, const char *line) {
    (void)ctx;
    if (level == LQ_LOG_WARN) snprintf(logged, sizeof logged, "%s", line);
}

static bool one_process(void) {
    const char *const fork_mode = getenv("CK_FORK");
    return fork_mode && !strcmp(fork_mode, "no"); /* then another test has made the choice */
}

START_TEST(environment_chooses) {
    if (one_process()) return;
    setenv("LOQUAT_CPU", "ref", 1);
    ck_assert_ptr_eq(lq_cpu_kernels(), &lq_cpu_ref);
}
END_TEST

START_TEST(unknown_choice_is_said) {
    if (one_process()) return;
    setenv("LOQUAT_CPU", "abacus", 1);
    lq_set_log(keep_line, NULL);
    const lq_cpu *const *last = lq_cpu_tables();
    while (last[1]) last++;
    ck_assert_ptr_eq(lq_cpu_kernels(), *last);
    ck_assert_msg(test_contains(logged, "abacus"), "logged: '%s'", logged);
}
END_TEST

START_TEST(force_overrides) {
    for (const lq_cpu *const *table = lq_cpu_tables(); *table; table++) {
        lq_cpu_force(*table);
        ck_assert_ptr_eq(lq_cpu_kernels(), *table);
    }
    lq_cpu_force(NULL);
}
END_TEST

int main(void) {
    Suite *const suite = suite_create("cpu");
    TCase *const tcase = tcase_create("cpu");
    tcase_set_timeout(tcase, 60);
    tcase_add_loop_test(tcase, equals_reference, 0, LQ_ARRAY_LEN(kernels));
    tcase_add_test(tcase, both_gate_gradients);
    tcase_add_test(tcase, exp_is_accurate);
    tcase_add_test(tcase, tanh_is_accurate);
    tcase_add_test(tcase, special_values);
    tcase_add_test(tcase, environment_chooses);
    tcase_add_test(tcase, unknown_choice_is_said);
    tcase_add_test(tcase, force_overrides);
    suite_add_tcase(suite, tcase);
    return test_run(suite);
}
