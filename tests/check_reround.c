/* reround.c: with the scales of a block kept, numbers on its grid give its codes back, others the
 * nearest code. */
#include "reround.h"

#include "test_util.h"

#include <math.h>
#include <string.h>

enum { N = 256 * 8 };

static const lq_format *formats[16];
static int n_formats;

static void find_formats(void) {
    for (int i = 0; lq_formats[i]; i++)
        if (lq_can_reround(lq_formats[i])) formats[n_formats++] = lq_formats[i];
}

static void uneven(float *x, uint64_t key) {
    test_fill(x, N, key);
    for (int i = 0; i < N; i++) x[i] *= i % 37 ? 0.1f : 1.0f;
    memset(x, 0, 64 * sizeof *x); /* groups whose scale is zero */
}

START_TEST(the_grid_is_left_alone) {
    const lq_format *fmt = formats[_i];
    float x[N], on[N], again[N];
    char block[N * 4];
    uneven(x, 1);
    fmt->quant(x, block, N, NULL);
    fmt->dequant(block, on, N);
    lq_reround(fmt, on, block, N);
    fmt->dequant(block, again, N);
    ck_assert_mem_eq(again, on, sizeof on);
}
END_TEST

/* No other code would be nearer: that of the value's neighbours on its grid. */
START_TEST(codes_are_the_nearest) {
    const lq_format *fmt = formats[_i];
    float x[N], moved[N], old[N], new[N];
    char block[N * 4], kept[N * 4];
    uneven(x, 1);
    uneven(moved, 2);
    fmt->quant(x, block, N, NULL);
    fmt->dequant(block, old, N);
    for (int i = 0; i < N; i++) moved[i] = x[i] + 0.05f * moved[i];
    memcpy(kept, block, sizeof block);
    lq_reround(fmt, moved, block, N);
    fmt->dequant(block, new, N);
    double worse = 0, before = 0, after = 0;
    for (int i = 0; i < N; i++) {
        const double was = fabs((double)old[i] - (double)moved[i]);
        const double is = fabs((double)new[i] - (double)moved[i]);
        worse = fmax(worse, is - was);
        before += was;
        after += is;
    }
    ck_assert_msg(worse < 1e-6, "%s: %g farther than the code before", fmt->name, worse);
    ck_assert_msg(after < before, "%s: distance %g, before %g", fmt->name, after, before);
    lq_reround(fmt, old, block, N); /* and back: the scales were kept */
    ck_assert_msg(memcmp(block, kept, lq_format_bytes(fmt, N)) == 0 ||
                      (fmt->dequant(block, new, N), memcmp(new, old, sizeof old) == 0),
                  "%s", fmt->name);
}
END_TEST

START_TEST(which) {
    ck_assert_int_eq(n_formats, 5);
    ck_assert(!lq_can_reround(&lq_q4_0) && !lq_can_reround(&lq_f32));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("reround");
    TCase *tc = tcase_create("reround");
    find_formats();
    tcase_add_test(tc, which);
    tcase_add_loop_test(tc, the_grid_is_left_alone, 0, n_formats);
    tcase_add_loop_test(tc, codes_are_the_nearest, 0, n_formats);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
