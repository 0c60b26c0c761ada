/* exact.c: the same bits from every table, and the sums that are promised. */
#include "exact.h"
#include "cpu.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

static const struct { int64_t rows, cols, rank; } shapes[] = {
    {1, 1, 1}, {3, 31, 2}, {4, 32, 16}, {5, 64, 1}, {9, 172, 7}, {6, 300, 40}, {2, 33, 0},
};

static float *random_new(int64_t n, uint64_t key) {
    float *x = lq_alloc_array(n + 1, sizeof *x);
    test_fill(x, n, key);
    return x;
}

static void want_product(float *y, float scale, const float *b, const float *a, int64_t rows,
                         int64_t cols, int64_t rank) {
    for (int64_t i = 0; i < rows * cols; i++) {
        float sum = 0;
        for (int64_t k = 0; k < rank; k++)
            sum = fmaf(b[i / cols * rank + k], a[k * cols + i % cols], sum);
        y[i] = fmaf(scale, sum, y[i]);
    }
}

START_TEST(products_have_the_same_bits_everywhere) {
    const int64_t rows = shapes[_i].rows, cols = shapes[_i].cols, rank = shapes[_i].rank;
    const size_t bytes = (size_t)(rows * cols) * sizeof(float);
    float *a = random_new(rank * cols, 1), *b = random_new(rows * rank, 2);
    float *y = random_new(rows * cols, 3), *want = random_new(rows * cols, 3);
    want_product(want, 0.7f, b, a, rows, cols, rank);
    for (const lq_cpu *const *table = lq_cpu_tables(); *table; table++) {
        lq_cpu_force(*table);
        test_fill(y, rows * cols, 3);
        lq_exact_add_product(y, 0.7f, b, a, rows, cols, rank);
        ck_assert_msg(memcmp(y, want, bytes) == 0, "%s, %lld x %lld, rank %lld", (*table)->name,
                      (long long)rows, (long long)cols, (long long)rank);
    }
    lq_cpu_force(NULL);
    lq_free(a);
    lq_free(b);
    lq_free(y);
    lq_free(want);
}
END_TEST

/* Number i goes to sum i % 32: with one huge number the order decides what is lost. */
START_TEST(lengths_add_up_in_the_order_promised) {
    enum { N = 70 };
    float x[N];
    double sum[32] = {0};
    test_fill(x, N, 4);
    x[33] = 1e9f;
    for (int i = 0; i < N; i++) sum[i % 32] += (double)x[i] * (double)x[i];
    for (int half = 16; half > 0; half /= 2)
        for (int i = 0; i < half; i++) sum[i] += sum[i + half];
    ck_assert_float_eq(lq_exact_length(x, N), (float)sqrt(sum[0]));
    ck_assert_float_eq(lq_exact_length((const float[]){3, -4}, 2), 5);
    ck_assert_float_eq(lq_exact_length(x, 0), 0);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("exact");
    TCase *tc = tcase_create("exact");
    tcase_add_loop_test(tc, products_have_the_same_bits_everywhere, 0, LQ_ARRAY_LEN(shapes));
    tcase_add_test(tc, lengths_add_up_in_the_order_promised);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
