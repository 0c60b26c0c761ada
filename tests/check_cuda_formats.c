/* cuda_formats.cu, formats/<name>.cu, rounding.cu: CUDA's quantizers write the CPU's bytes, its
 * dequantizers and roundings give the CPU's numbers, of every format. */
#include "cuda_formats.h"
#include "cuda_rounding.h"
#include "hard_rows.h"
#include "reround.h"
#include "test_device.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

enum { ROWS = 3 };

static float x[HARD], importance[HARD];
static const lq_format *targets[64];   /* those that can be written */
static int n_targets, n_formats;

static void setup(void) {
    test_fill(importance, HARD, 99);
    for (int i = 0; i < HARD; i++) importance[i] = i % 11 == 0 ? 0 : fabsf(importance[i]) * 4;
}

/* What the CPU makes of rows of cols numbers. */
static void on_cpu(const lq_format *fmt, uint8_t *bytes, int rows, int cols, bool weighted) {
    for (int r = 0; r < rows; r++)
        fmt->quant(x + r * cols, bytes + lq_format_bytes(fmt, (int64_t)r * cols), cols,
                   weighted ? importance : NULL);
}

typedef struct device_side {
    lq_dev *dev;
    float *x, *importance;   /* HARD each */
    void *bytes, *back;
} device_side;

static void side_open(device_side *s) {
    ck_ok(lq_dev_open(&s->dev, "cuda", false));
    const lq_device_row *const row = s->dev->row;
    ck_ok(row->alloc(s->dev, (void **)&s->x, sizeof x));
    ck_ok(row->alloc(s->dev, (void **)&s->importance, sizeof importance));
    ck_ok(row->alloc(s->dev, &s->bytes, sizeof x + 64));
    ck_ok(row->alloc(s->dev, &s->back, 2 * sizeof x));
    row->copy(s->dev, s->importance, importance, sizeof importance);
}

static void side_close(device_side *s) {
    const lq_device_row *const row = s->dev->row;
    row->free(s->dev, s->x);
    row->free(s->dev, s->importance);
    row->free(s->dev, s->bytes);
    row->free(s->dev, s->back);
    lq_dev_close(s->dev);
}

static void on_device(const device_side *s, const lq_cuda_format *row, uint8_t *bytes, int rows,
                      int cols, bool weighted) {
    const size_t n = lq_format_bytes(row->fmt, (int64_t)rows * cols);
    s->dev->row->copy(s->dev, s->x, x, sizeof x);
    s->dev->row->fill(s->dev, s->bytes, 0x5a, sizeof x + 64);
    row->quant(s->dev, s->x, s->bytes, rows, cols, weighted ? s->importance : NULL);
    s->dev->row->copy(s->dev, bytes, s->bytes, n + 16);
    ck_ok(s->dev->row->wait(s->dev));
    for (size_t i = n; i < n + 16; i++) ck_assert_msg(bytes[i] == 0x5a, "wrote beyond the end");
}

static void compare_bytes(const device_side *s, const lq_cuda_format *row, int kind, int rows,
                          int cols, bool weighted) {
    static uint8_t want[HARD * 4], got[HARD * 4 + 16];
    const size_t n = lq_format_bytes(row->fmt, (int64_t)rows * cols);
    on_cpu(row->fmt, want, rows, cols, weighted);
    on_device(s, row, got, rows, cols, weighted);
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(want[i] == got[i],
                      "%s%s, kind %d, %d x %d: byte %zu of block %zu is %02x, wanted %02x",
                      row->fmt->name, weighted ? " weighted" : "", kind, rows, cols,
                      i % (size_t)row->fmt->bytes, i / (size_t)row->fmt->bytes, got[i], want[i]);
}

/* Every kind of numbers; rows that fill no thread block, and whose bytes no 16 divide. */
START_TEST(bytes_are_the_cpus) {
    const lq_cuda_format *const row = lq_cuda_format_of(targets[_i]);
    device_side s;
    ck_assert_msg(row && row->quant, "%s has no kernels", targets[_i]->name);
    side_open(&s);
    const int block = row->fmt->block, cols = HARD / ROWS / block * block;
    for (int kind = 0; kind < HARD_KINDS; kind++) {
        hard_fill(x, kind);
        compare_bytes(&s, row, kind, ROWS, cols, false);
        compare_bytes(&s, row, kind, ROWS, cols, true);
    }
    hard_fill(x, 0);
    test_reverse_device(true);
    compare_bytes(&s, row, 0, 5, 3 * block, true);
    compare_bytes(&s, row, 0, 1, block, false);
    test_reverse_device(false);
    side_close(&s);
}
END_TEST

static void compare_numbers(const device_side *s, const lq_cuda_format *row, const void *bytes,
                            int n) {
    static float want[HARD], got[HARD];
    static uint16_t halves[HARD];
    row->fmt->dequant(bytes, want, n);
    s->dev->row->copy(s->dev, s->bytes, bytes, lq_format_bytes(row->fmt, n));
    row->dequant(s->dev, s->bytes, s->back, &lq_f32, n);
    s->dev->row->copy(s->dev, got, s->back, (size_t)n * sizeof *got);
    ck_ok(s->dev->row->wait(s->dev));
    ck_assert_msg(hard_same(want, got, n), "%s as F32", row->fmt->name);
    row->dequant(s->dev, s->bytes, s->back, &lq_bf16, n);
    s->dev->row->copy(s->dev, halves, s->back, (size_t)n * sizeof *halves);
    ck_ok(s->dev->row->wait(s->dev));
    for (int i = 0; i < n; i++) {
        want[i] = lq_f32_from_bf16(lq_bf16_from_f32(want[i]));
        got[i] = lq_f32_from_bf16(halves[i]);
    }
    ck_assert_msg(hard_same(want, got, n), "%s as BF16", row->fmt->name);
}

/* Of bytes that a quantizer made, and of any bytes. */
START_TEST(numbers_are_the_cpus) {
    static uint8_t bytes[HARD * 4];
    const lq_cuda_format *const row = lq_cuda_format_of(lq_formats[_i]);
    const int n = HARD - lq_formats[_i]->block;
    uint32_t state = 12345;
    device_side s;
    ck_assert_msg(row && row->dequant, "%s has no kernels", lq_formats[_i]->name);
    side_open(&s);
    hard_fill(x, 0);
    if (row->fmt->quant) {
        row->fmt->quant(x, bytes, n, NULL);
        compare_numbers(&s, row, bytes, n);
    }
    for (size_t i = 0; i < lq_format_bytes(row->fmt, n); i++)
        bytes[i] = (uint8_t)((state = state * 1664525u + 1013904223u) >> 24);
    compare_numbers(&s, row, bytes, n);
    side_close(&s);
}
END_TEST

/* Codes of other numbers by scales that were there before. */
START_TEST(kept_scales_are_the_cpus) {
    static uint8_t want[HARD * 4], got[HARD * 4];
    const lq_cuda_format *const row = lq_cuda_format_of(targets[_i]);
    const int n = HARD - row->fmt->block;
    const size_t bytes = lq_format_bytes(row->fmt, n);
    device_side s;
    ck_assert_msg((row->reround != NULL) == lq_can_reround(row->fmt), "%s", row->fmt->name);
    if (!row->reround) return;
    side_open(&s);
    for (int kind = 0; kind < HARD_KINDS; kind++) {
        hard_fill(x, 0);
        row->fmt->quant(x, want, n, NULL);
        s.dev->row->copy(s.dev, s.bytes, want, bytes);
        hard_fill(x, kind);
        lq_reround(row->fmt, x, want, n);
        s.dev->row->copy(s.dev, s.x, x, sizeof x);
        row->reround(s.dev, s.x, s.bytes, n);
        s.dev->row->copy(s.dev, got, s.bytes, bytes);
        ck_ok(s.dev->row->wait(s.dev));
        ck_assert_msg(memcmp(want, got, bytes) == 0, "%s, kind %d", row->fmt->name, kind);
    }
    side_close(&s);
}
END_TEST

static const lq_rounding *rounding_of(int i) {
    static const char *const cached[] = {"f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1",
                                         "iq4_nl"};
    const lq_rounding *how = lq_activation_rounding(&lq_iq4_xs); /* Q8_K is no cache type */
    if (i < LQ_ARRAY_LEN(cached)) ck_ok(lq_cache_rounding(&how, "here", cached[i]));
    return how;
}

enum { N_ROUNDINGS = 9 };

/* In F32 in place; in BF16 of what BF16 holds. */
static void compare_rounding(const device_side *s, const lq_rounding *how, const lq_format *type,
                             int kind) {
    static float want[HARD], got[HARD];
    static uint16_t halves[HARD];
    const int n = HARD - how->block;
    const lq_device_row *const row = s->dev->row;
    const bool plain = type == &lq_f32;
    hard_fill(x, kind);
    lq_bf16.quant(x, halves, n, NULL);
    if (!plain) lq_bf16.dequant(halves, x, n);
    how->round(how, x, want, n);
    row->copy(s->dev, s->x, plain ? (const void *)x : halves, lq_format_bytes(type, n));
    lq_cuda_round(s->dev, how, type, s->x, s->x, n, s->back);
    row->copy(s->dev, plain ? (void *)got : halves, s->x, lq_format_bytes(type, n));
    ck_ok(row->wait(s->dev));
    if (!plain) {
        lq_bf16.dequant(halves, got, n);
        lq_bf16.quant(want, halves, n, NULL);
        lq_bf16.dequant(halves, want, n);
    }
    for (int i = 0; i < n; i++) {
        want[i] += 0; /* no -0 */
        got[i] += 0;
    }
    ck_assert_msg(hard_same(want, got, n), "%s as %s, kind %d",
                  how->fmt ? how->fmt->name : "q8_K", type->name, kind);
}

START_TEST(roundings_are_the_cpus) {
    const lq_rounding *const how = rounding_of(_i);
    device_side s;
    side_open(&s);
    ck_assert_uint_le(lq_cuda_rounding_scratch(how, &lq_bf16, HARD), 2 * sizeof x);
    for (int kind = 0; kind < HARD_KINDS; kind++) {
        compare_rounding(&s, how, &lq_f32, kind);
        compare_rounding(&s, how, &lq_bf16, kind);
    }
    side_close(&s);
}
END_TEST

int main(void) {
    if (!test_has_device()) return 77;
    Suite *suite = suite_create("cuda_formats");
    TCase *tc = tcase_create("cuda_formats");
    for (int i = 0; lq_formats[i]; i++, n_formats++)
        if (lq_formats[i]->quant) targets[n_targets++] = lq_formats[i];
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_loop_test(tc, bytes_are_the_cpus, 0, n_targets);
    tcase_add_loop_test(tc, numbers_are_the_cpus, 0, n_formats);
    tcase_add_loop_test(tc, kept_scales_are_the_cpus, 0, n_targets);
    tcase_add_loop_test(tc, roundings_are_the_cpus, 0, N_ROUNDINGS);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
