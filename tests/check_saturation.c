/* saturation.c: what Q4_0 clips, against the definition; how much of a Gaussian that is. */
#include "random.h"
#include "saturation.h"
#include "test_util.h"

#include <math.h>

enum { BLOCKS = 4096, N = BLOCKS * LQ_CLIP_BITS };

static float x[N];
static uint8_t blocks[BLOCKS * 18];
static uint32_t mask[BLOCKS];

static bool is_clipped(int i) { return mask[i / LQ_CLIP_BITS] >> i % LQ_CLIP_BITS & 1; }

/* d is that of the largest magnitude at -8; beyond 7.5 steps there is no code. */
START_TEST(beyond_the_last_code) {
    int n = 0, wrong = 0;
    for (int i = 0; i < N; i++) x[i] = lq_random_normal(3, (uint64_t)i);
    lq_q4_0.quant(x, blocks, N, NULL);
    lq_saturation(&lq_q4_0, x, blocks, N, mask);
    for (int i = 0; i < N; i++) {
        const int first = i / LQ_CLIP_BITS * LQ_CLIP_BITS;
        float largest = 0;
        for (int j = first; j < first + LQ_CLIP_BITS; j++)
            if (fabsf(x[j]) > fabsf(largest)) largest = x[j];
        const double steps = (double)x[i] / ((double)largest / -8);
        wrong += fabs(steps - 7.5) > 0.01 && is_clipped(i) != (steps > 7.5);
        n += is_clipped(i);
    }
    ck_assert_int_eq(wrong, 0);
    ck_assert_double_eq_tol((double)n / N, 0.0053, 0.0005);
}
END_TEST

START_TEST(zeros_are_not_clipped) {
    for (int i = 0; i < N; i++) x[i] = 0;
    lq_q4_0.quant(x, blocks, N, NULL);
    lq_saturation(&lq_q4_0, x, blocks, N, mask);
    for (int i = 0; i < BLOCKS; i++) ck_assert_uint_eq(mask[i], 0);
}
END_TEST

START_TEST(what_is_known) {
    ck_assert(lq_can_saturate(&lq_q4_0) && lq_knows_saturation(&lq_q4_0));
    ck_assert(!lq_can_saturate(&lq_q8_0) && lq_knows_saturation(&lq_q8_0));
    ck_assert(!lq_can_saturate(&lq_f16) && lq_knows_saturation(&lq_f16));
    ck_assert(!lq_knows_saturation(&lq_iq4_nl));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("saturation");
    TCase *tc = tcase_create("saturation");
    tcase_add_test(tc, beyond_the_last_code);
    tcase_add_test(tc, zeros_are_not_clipped);
    tcase_add_test(tc, what_is_known);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
