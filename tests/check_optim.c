/* Update rules against PyTorch's values and a double-precision reference; the norm; thread
 * independence. */
#include "optim.h"

#include "optim_reference.h"
#include "test_util.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum { N = 7, STEPS = 5, LONG = 100003 };

static const struct {
    const char *name;
    lq_optim_options o;
    float lr;
    const float (*torch)[N];
} cases[] = {
    {"adamw",
     {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.1},
     0.01f,
     torch_adamw},
    {"adamw", {.beta1 = 0.8, .beta2 = 0.95, .epsilon = 1e-3}, 0.05f, torch_adamw_betas},
    {"sgd", {.momentum = 0.9, .weight_decay = 0.01}, 0.1f, torch_sgd},
};

static float gradient(int step, int i) { return (float)((3 * step + 5 * i) % 11 - 5) / 8; }

static void start(float *param, float *state, int n_state) {
    for (int i = 0; i < N; i++) param[i] = (float)(i - 3) / 4;
    memset(state, 0, (size_t)(n_state * N) * sizeof *state);
}

START_TEST(as_torch) {
    const lq_optim *rule = lq_optim_by_name(cases[_i].name);
    float param[N], grad[N], state[2 * N];
    start(param, state, rule->n_state);
    for (int step = 0; step < STEPS; step++) {
        for (int i = 0; i < N; i++) grad[i] = gradient(step, i);
        lq_optim_step(rule, &cases[_i].o, NULL, 0, cases[_i].lr, step + 1, N, param, grad, state);
        test_close(cases[_i].name, param, cases[_i].torch[step], N, 1e-7, 3e-7);
    }
}
END_TEST

/* The published formulas, in double: p and the state of one parameter after a step. */
static double reference(const char *name, const lq_optim_options *o, double lr, int t, double p,
                        double g, double *s) {
    if (strcmp(name, "sgd") == 0) {
        s[0] = o->momentum * s[0] + g + o->weight_decay * p;
        return p - lr * s[0];
    }
    s[0] = o->beta1 * s[0] + (1 - o->beta1) * g;
    s[1] = o->beta2 * s[1] + (1 - o->beta2) * g * g;
    const double m_hat = s[0] / (1 - pow(o->beta1, t)), v_hat = s[1] / (1 - pow(o->beta2, t));
    return p - lr * o->weight_decay * p - lr * m_hat / (sqrt(v_hat) + o->epsilon);
}

START_TEST(as_the_formula) {
    const lq_optim *rule = lq_optim_by_name(cases[_i].name);
    float param[N], grad[N], state[2 * N], want[N];
    double p[N], s[N][2] = {{0}};
    start(param, state, rule->n_state);
    for (int i = 0; i < N; i++) p[i] = param[i];
    for (int step = 0; step < 50; step++) {
        for (int i = 0; i < N; i++) {
            grad[i] = gradient(step, i);
            p[i] = reference(rule->name, &cases[_i].o, (double)cases[_i].lr, step + 1, p[i],
                             (double)grad[i], s[i]);
        }
        lq_optim_step(rule, &cases[_i].o, NULL, 0, cases[_i].lr, step + 1, N, param, grad, state);
    }
    for (int i = 0; i < N; i++) want[i] = (float)p[i];
    test_close(rule->name, param, want, N, 2e-6, 2e-6);
}
END_TEST

/* Groups have rates of their own, what lies in no group stays, and a split of the span changes
 * nothing. */
START_TEST(groups) {
    const lq_optim *rule = lq_optims[_i];
    const lq_optim_options o = {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8, .momentum = 0.5};
    const lq_optim_group some[] = {{0, 2, 1}, {4, 3, 16}};
    float param[N], ref[N], fast[N], grad[N], state[2 * N];
    for (int i = 0; i < N; i++) grad[i] = gradient(1, i);
    start(ref, state, rule->n_state);
    lq_optim_step(rule, &o, NULL, 0, 0.01f, 1, N, ref, grad, state);
    start(fast, state, rule->n_state);
    lq_optim_step(rule, &o, NULL, 0, 0.16f, 1, N, fast, grad, state);
    start(param, state, rule->n_state);
    lq_optim_step(rule, &o, some, 2, 0.01f, 1, N, param, grad, state);
    for (int i = 0; i < N; i++)
        ck_assert_float_eq(param[i], i < 2 ? ref[i] : i < 4 ? (float)(i - 3) / 4 : fast[i]);
}
END_TEST

static void run_long(int threads, float *param, double *norm) {
    static float grad[LONG], state[2 * LONG];
    const lq_optim_options o = {.beta1 = 0.9, .beta2 = 0.99, .epsilon = 1e-8};
    const lq_optim_group halves[] = {{0, LONG / 3, 1}, {LONG / 3, LONG - LONG / 3, 2}};
    omp_set_num_threads(threads);
    memset(state, 0, sizeof state);
    test_fill(param, LONG, 1);
    test_fill(grad, LONG, 2);
    *norm = lq_grad_norm(grad, LONG);
    lq_scale(grad, LONG, 0.25f);
    lq_optim_step(lq_optim_by_name("adamw"), &o, halves, 2, 0.1f, 1, LONG, param, grad, state);
    lq_ema_update(grad, param, LONG, 0.5f);
    memcpy(param, grad, sizeof grad);
}

START_TEST(thread_count_changes_nothing) {
    static float one[LONG], three[LONG];
    double norm_one, norm_three;
    run_long(1, one, &norm_one);
    run_long(3, three, &norm_three);
    ck_assert_mem_eq(one, three, sizeof one);
    ck_assert_mem_eq(&norm_one, &norm_three, sizeof norm_one);
}
END_TEST

START_TEST(norm) {
    static float x[LONG];
    static const int64_t sizes[] = {0, 1, 7, 8, 9, 255, 257, 4096, LONG};
    test_fill(x, LONG, 3);
    for (int i = 0; i < LQ_ARRAY_LEN(sizes); i++) {
        double sum = 0;
        for (int64_t j = 0; j < sizes[i]; j++) sum += (double)x[j] * (double)x[j];
        ck_assert_double_eq_tol(lq_grad_norm(x, sizes[i]), sqrt(sum), 1e-11 * sqrt(sum) + 1e-300);
    }
    x[77777] = NAN;
    ck_assert(isnan(lq_grad_norm(x, LONG)));
    x[77777] = -INFINITY;
    ck_assert(isinf(lq_grad_norm(x, LONG)));
    x[77777] = 3e38f; /* its square does not fit in a float */
    ck_assert(isfinite(lq_grad_norm(x, LONG)));
}
END_TEST

START_TEST(ema) {
    float mean[3] = {1, 2, 3};
    const float param[3] = {3, 2, -1}, want[3] = {1.5f, 2, 2};
    lq_ema_update(mean, param, 3, 0.75f);
    test_close("ema", mean, want, 3, 0, 0);
}
END_TEST

START_TEST(names) {
    for (int i = 0; lq_optims[i]; i++)
        ck_assert_ptr_eq(lq_optim_by_name(lq_optims[i]->name), lq_optims[i]);
    ck_assert_str_eq(lq_optim_by_name("adamw_torch")->name, "adamw");
    ck_assert_ptr_null(lq_optim_by_name("lion"));
}
END_TEST

/* Every rule of the table has at least one row in `cases`. */
START_TEST(every_rule_has_a_case) {
    bool found = false;
    for (int i = 0; i < LQ_ARRAY_LEN(cases); i++)
        found |= strcmp(cases[i].name, lq_optims[_i]->name) == 0;
    ck_assert_msg(found, "%s has no case", lq_optims[_i]->name);
}
END_TEST

int main(void) {
    int n_rules = 0;
    while (lq_optims[n_rules]) n_rules++;
    Suite *suite = suite_create("optim");
    TCase *tc = tcase_create("optim");
    tcase_add_loop_test(tc, as_torch, 0, LQ_ARRAY_LEN(cases));
    tcase_add_loop_test(tc, as_the_formula, 0, LQ_ARRAY_LEN(cases));
    tcase_add_loop_test(tc, every_rule_has_a_case, 0, n_rules);
    tcase_add_loop_test(tc, groups, 0, n_rules);
    tcase_add_test(tc, thread_count_changes_nothing);
    tcase_add_test(tc, norm);
    tcase_add_test(tc, ema);
    tcase_add_test(tc, names);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
