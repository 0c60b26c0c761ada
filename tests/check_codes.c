/* codes.c: the codes read out of a block are those that its values come from, for every format that
 * has any: elements that share a scale have the same code exactly when they have the same value. */
#include "codes.h"
#include "test_util.h"

enum { N = 1024, SHARE = 16 /* neighbours below one scale, in every format */ };

static float x[N], value[N];
static uint8_t codes[N], bytes[N * 4];

START_TEST(codes_explain_values) {
    const lq_format *fmt = lq_formats[_i];
    const lq_code_layout *layout = lq_codes_of(fmt);
    if (!layout || !fmt->quant) return;
    int at_end[2] = {0, 0};
    test_fill(x, N, 3);
    fmt->quant(x, bytes, N, NULL);
    fmt->dequant(bytes, value, N);
    lq_codes_read(layout, fmt, bytes, codes, N);
    for (int i = 0; i < N; i++) {
        for (int e = 0; e < 2; e++) at_end[e] += codes[i] == layout->end[e];
        for (int j = i - i % SHARE; j < i; j++) {
            const bool same = codes[i] == codes[j] || (value[i] == 0 && value[j] == 0);
            ck_assert_msg(same == (value[i] == value[j]),
                          "%s: elements %d and %d: codes %d and %d, values %g and %g", fmt->name,
                          j, i, codes[j], codes[i], (double)value[j], (double)value[i]);
        }
    }
    ck_assert_msg(at_end[0] > 0 && at_end[1] > 0, "%s: %d and %d codes at the ends", fmt->name,
                  at_end[0], at_end[1]);
}
END_TEST

START_TEST(by_hand) {
    for (int i = 0; i < 32; i++) x[i] = (float)(i % 16) - 8; /* d = 1: codes 0..15 */
    lq_q4_0.quant(x, bytes, 32, NULL);
    lq_codes_read(lq_codes_of(&lq_q4_0), &lq_q4_0, bytes, codes, 32);
    for (int i = 0; i < 32; i++) ck_assert_int_eq(codes[i], i % 16);
    ck_assert_ptr_null(lq_codes_of(&lq_f16));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("codes");
    TCase *tc = tcase_create("codes");
    int n = 0;
    while (lq_formats[n]) n++;
    tcase_add_loop_test(tc, codes_explain_values, 0, n);
    tcase_add_test(tc, by_hand);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
