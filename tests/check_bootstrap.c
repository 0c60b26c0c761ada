/* The bootstrap interval: by hand where nothing can vary, against theory where it can. */
#include "bootstrap.h"
#include "random.h"
#include "test_util.h"

#include <math.h>

enum { E = 400, S = 3 };

static double a[S][E], b[S][E];
static const double *const side_a[S] = {a[0], a[1], a[2]}, *const side_b[S] = {b[0], b[1], b[2]};
static int64_t tokens[E];

static void fill(double shift, double noise) {
    for (int e = 0; e < E; e++) {
        tokens[e] = 1 + e % 5;
        for (int s = 0; s < S; s++) {
            b[s][e] = (double)tokens[e] * (2 + (double)lq_random_normal(1, (uint64_t)e));
            a[s][e] = b[s][e] + (double)tokens[e] * shift +
                      noise * (double)lq_random_normal(2, (uint64_t)(s * E + e));
        }
    }
}

/* The same shift on every token: examples differ wildly, the paired difference does not. */
START_TEST(constant_shift_has_no_width) {
    lq_interval d;
    fill(0.25, 0);
    ck_ok(lq_bootstrap(&d, &(lq_bootstrap_side){side_a, S}, &(lq_bootstrap_side){side_b, S}, true,
                       tokens, E));
    ck_assert_double_eq_tol(d.difference, 0.25, 1e-12);
    ck_assert_double_eq_tol(d.low, 0.25, 1e-12);
    ck_assert_double_eq_tol(d.high, 0.25, 1e-12);
}
END_TEST

/* Independent noise on one seed: the width is that of a normal mean. */
START_TEST(width_of_a_mean) {
    lq_interval d, again;
    double sum = 0;
    fill(0, 1);
    for (int e = 0; e < E; e++) sum += (double)tokens[e];
    const double error = sqrt(E) / sum; /* of the sum of E normals over all tokens */
    const lq_bootstrap_side x = {side_a, 1}, y = {side_b, 1};
    ck_ok(lq_bootstrap(&d, &x, &y, true, tokens, E));
    ck_assert_double_eq_tol((d.high - d.low) / (2 * 1.96 * error), 1, 0.15);
    ck_assert(d.low < d.difference && d.difference < d.high);
    ck_ok(lq_bootstrap(&again, &x, &y, true, tokens, E));
    ck_assert_mem_eq(&d, &again, sizeof d);
}
END_TEST

/* Unpaired seeds that differ from one another make the interval wider. */
START_TEST(seeds_count) {
    lq_interval paired, unpaired;
    fill(0, 0);
    for (int s = 0; s < S; s++)
        for (int e = 0; e < E; e++) {
            a[s][e] += (double)tokens[e] * 0.3 * s;
            b[s][e] += (double)tokens[e] * 0.3 * s;
        }
    const lq_bootstrap_side x = {side_a, S}, y = {side_b, S};
    ck_ok(lq_bootstrap(&paired, &x, &y, true, tokens, E));
    ck_ok(lq_bootstrap(&unpaired, &x, &y, false, tokens, E));
    ck_assert_double_eq_tol(paired.high - paired.low, 0, 1e-12);
    ck_assert_double_gt(unpaired.high - unpaired.low, 0.3);
}
END_TEST

static lq_status once(void *ctx) {
    lq_interval d;
    (void)ctx;
    return lq_bootstrap(&d, &(lq_bootstrap_side){side_a, 1}, &(lq_bootstrap_side){side_b, 1}, true,
                        tokens, 5);
}

START_TEST(out_of_memory) {
    fill(0, 1);
    test_alloc_failures(once, NULL);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bootstrap");
    TCase *tc = tcase_create("bootstrap");
    tcase_set_timeout(tc, 30);
    tcase_add_test(tc, constant_shift_has_no_width);
    tcase_add_test(tc, width_of_a_mean);
    tcase_add_test(tc, seeds_count);
    tcase_add_test(tc, out_of_memory);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
