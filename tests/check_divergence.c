/* The statistics of a comparison, against values worked out by hand. */
#include "divergence.h"
#include "test_util.h"

#include <math.h>

enum { V = 4 };

/* Uniform base; the model gives the token that came half of everything. */
static void one_token(lq_divergence *d, float boost) {
    const float base[V] = {0, 0, 0, 0}, logits[V] = {boost, 0, 0, 0};
    float log_p[V];
    lq_log_softmax(base, log_p, V);
    for (int i = 0; i < V; i++) ck_assert_double_eq_tol((double)log_p[i], -log(4), 1e-6);
    lq_divergence_add(d, log_p, logits, lq_log_sum_exp(logits, V), V, 0);
}

START_TEST(one_value_by_hand) {
    lq_divergence d;
    lq_divergence_summary s;
    ck_ok(lq_divergence_init(&d, 1));
    one_token(&d, logf(3)); /* p = 3/6, then 1/6 three times */
    lq_divergence_summarize(&d, &s);
    const double kl = 0.25 * log(0.25 / 0.5) + 0.75 * log(0.25 / (1.0 / 6));
    ck_assert_double_eq_tol(s.kl_mean, kl, 1e-6);
    ck_assert_double_eq_tol(s.kl_median, kl, 1e-6);
    ck_assert_double_eq_tol(s.kl_max, kl, 1e-6);
    ck_assert_double_eq_tol(s.ln_ppl_ratio, log(0.25 / 0.5), 1e-6);
    ck_assert_double_eq_tol(s.mean_delta_p, 0.25, 1e-6);
    ck_assert_double_eq_tol(s.rms_delta_p, 0.25, 1e-6);
    ck_assert_double_eq(s.same_top, 1);
    ck_assert_double_eq(s.kl_error, 0);
    lq_divergence_clear(&d);
}
END_TEST

START_TEST(order_statistics_and_errors) {
    enum { N = 101 };
    lq_divergence d;
    lq_divergence_summary s;
    ck_ok(lq_divergence_init(&d, N));
    for (int i = 0; i < N; i++) { /* 0, 1, ... 100 in another order */
        d.kl[i] = (i * 37) % N;
        d.ratio[i] = i % 2 ? 1 : -1;
        d.delta_p[i] = i % 2 ? 0.5 : -0.5;
    }
    d.n = N;
    d.same_top = 25;
    lq_divergence_summarize(&d, &s);
    ck_assert_double_eq_tol(s.kl_mean, 50, 1e-12);
    ck_assert_double_eq_tol(s.kl_error, sqrt((N * N - 1) / 12.0 / (N - 1)), 1e-12);
    ck_assert_double_eq_tol(s.kl_median, 50, 1e-12);
    ck_assert_double_eq_tol(s.kl_90, 90, 1e-12);
    ck_assert_double_eq_tol(s.kl_99, 99, 1e-12);
    ck_assert_double_eq_tol(s.kl_99_9, 99.9, 1e-12);
    ck_assert_double_eq(s.kl_max, 100);
    ck_assert_double_eq_tol(s.same_top, 25.0 / N, 1e-12);
    ck_assert_double_eq_tol(s.rms_delta_p, 0.5, 1e-12);
    ck_assert_double_eq_tol(s.mean_delta_p, -0.5 / N, 1e-12);
    ck_assert_double_eq_tol(s.ln_ppl_ratio, -1.0 / N, 1e-12);
    ck_assert_double_eq_tol(s.ln_ppl_ratio_error, 0.1, 1e-4);
    lq_divergence_clear(&d);
}
END_TEST

static lq_status init(void *ctx) {
    lq_divergence d;
    (void)ctx;
    LQ_TRY(lq_divergence_init(&d, 10));
    lq_divergence_clear(&d);
    return LQ_OK;
}

START_TEST(out_of_memory) { test_alloc_failures(init, NULL); }
END_TEST

int main(void) {
    Suite *suite = suite_create("divergence");
    TCase *tc = tcase_create("divergence");
    tcase_add_test(tc, one_value_by_hand);
    tcase_add_test(tc, order_statistics_and_errors);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
