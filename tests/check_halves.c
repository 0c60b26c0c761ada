/* format.c, cpu/quant_*.c: F16 and BF16 to F32 and back, every one of them, on every instruction
 * set. */
#include "cpu.h"
#include "format.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

/* The first of all 65,536 halves that the format does not widen as `widen` does, or that does not
 * come back through `narrow`; -1: none. The vector version gets lengths that leave tails. */
static int first_wrong_half(const lq_format *fmt, float (*widen)(uint16_t),
                            uint16_t (*narrow)(float), int split) {
    static uint16_t half[65536];
    static float x[65536];
    for (int i = 0; i < 65536; i++) half[i] = (uint16_t)i;
    fmt->dequant(half, x, split);
    fmt->dequant(half + split, x + split, 65536 - split);
    for (int i = 0; i < 65536; i++) {
        const float want = widen(half[i]);
        if (memcmp(&want, &x[i], sizeof want) != 0 || (!isnan(want) && narrow(want) != half[i]))
            return i;
    }
    return -1;
}

START_TEST(halves_convert_exactly) {
    for (const lq_cpu *const *cpu = lq_cpu_tables(); *cpu; cpu++) {
        lq_cpu_force(*cpu);
        ck_assert_int_eq(first_wrong_half(&lq_f16, lq_f32_from_f16, lq_f16_from_f32, 3), -1);
        ck_assert_int_eq(first_wrong_half(&lq_bf16, lq_f32_from_bf16, lq_bf16_from_f32, 5), -1);
    }
    lq_cpu_force(NULL);
}
END_TEST

static const struct { float x; uint16_t f16, bf16; } rounded[] = {
    {1, 0x3c00, 0x3f80},
    {-2.5f, 0xc100, 0xc020},
    {0x1.002p0f, 0x3c00, 0x3f80},       /* half way between two F16: to even */
    {0x1.006p0f, 0x3c02, 0x3f80},
    {0x1.01p0f, 0x3c04, 0x3f80},        /* half way between two BF16: to even */
    {0x1.03p0f, 0x3c0c, 0x3f82},
    {65504, 0x7bff, 0x4780},
    {65519.996f, 0x7bff, 0x4780},
    {65520, 0x7c00, 0x4780},            /* the first that overflows F16 */
    {0x1p-25f, 0x0000, 0x3300},         /* half the smallest F16: to even */
    {0x1.000002p-25f, 0x0001, 0x3300},
    {0x1.8p-24f, 0x0002, 0x33c0},
    {0x1.ffep-15f, 0x0400, 0x3880},     /* rounds up into the normal numbers */
    {-0.0f, 0x8000, 0x8000},
    {INFINITY, 0x7c00, 0x7f80},
    {0x1p-149f, 0x0000, 0x0000},
};

START_TEST(floats_round_to_even) {
    ck_assert_uint_eq(lq_f16_from_f32(rounded[_i].x), rounded[_i].f16);
    ck_assert_uint_eq(lq_bf16_from_f32(rounded[_i].x), rounded[_i].bf16);
}
END_TEST

START_TEST(nan_stays_nan) {
    ck_assert(isnan(lq_f32_from_f16(lq_f16_from_f32(NAN))));
    ck_assert(isnan(lq_f32_from_bf16(lq_bf16_from_f32(NAN))));
    const uint32_t signalling = 0x7f800001u; /* would round to infinity */
    float x;
    memcpy(&x, &signalling, sizeof x);
    ck_assert(isnan(lq_f32_from_bf16(lq_bf16_from_f32(x))));
    ck_assert(isnan(lq_f32_from_f16(lq_f16_from_f32(x))));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("halves");
    TCase *tc = tcase_create("halves");
    tcase_add_test(tc, halves_convert_exactly);
    tcase_add_loop_test(tc, floats_round_to_even, 0, LQ_ARRAY_LEN(rounded));
    tcase_add_test(tc, nan_stays_nan);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
