/* format.c, formats/, cpu/quant_*.c, rounding.c: exact bytes of every format, on every instruction
 * set. The golden hashes are of what ggml's own quantizers make of the same input;
 * conformance/check_formats.py makes that comparison live. */
#include "cpu.h"
#include "format.h"
#include "format_hashes.h"
#include "hard_rows.h"
#include "nibbles_scalar.h"
#include "rounding.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

enum { ROW = 1024, ROWS = 4, N = ROW * ROWS };

static float golden_x[N], golden_imatrix[ROW];
static uint8_t noise[FORMAT_NOISE];
static const lq_format *block_formats[64]; /* with more than one element per block */
static int n_block_formats;

static uint32_t draw(uint32_t *state) { return *state = *state * 1664525u + 1013904223u; }

static void make_golden_input(void) {
    uint32_t state = 12345;
    for (int i = 0; i < N; i++) {
        int32_t sum = 0;
        for (int k = 0; k < 4; k++) sum += (int32_t)(draw(&state) >> 16) - 32768;
        golden_x[i] = (float)sum * 0x1p-20f;
    }
    for (int i = 0; i < ROW; i++) golden_imatrix[i] = (float)((draw(&state) >> 24) + 1) / 64;
    for (int i = 0; i < FORMAT_NOISE; i++) noise[i] = (uint8_t)(draw(&state) >> 24);
}

static uint64_t fnv1a(const void *data, size_t n) {
    const uint8_t *p = data;
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
    return hash;
}

/* The kinds of format_hashes.py, in its order. */
static float kind_at(int kind, int i) {
    const float x = golden_x[i];
    const float values[FORMAT_KINDS] = {
        x, 0, i % 3 ? 0.0f : -0.0f, -0.3f, x * 0x1p-27f, x * 0x1p-126f, x * 0x1p30f, x * 0x1p126f,
        lq_f32_from_bf16(lq_bf16_from_f32(x)), (float)(i * 7 % 33 - 16) * 0.5f,
        i % 32 == 17 ? 1e4f : x * 0x1p-10f, fabsf(x) + 0.125f, i % 37 == 0 ? x : 0,
    };
    return values[kind];
}

static uint64_t hash_of_blocks(const lq_format *fmt, int kind, const float *imatrix) {
    static float x[N];
    static uint8_t bytes[N * 4];
    const size_t row_bytes = lq_format_bytes(fmt, ROW);
    for (int i = 0; i < N; i++) x[i] = kind_at(kind, i);
    for (int r = 0; r < ROWS; r++)
        fmt->quant(x + r * ROW, bytes + (size_t)r * row_bytes, ROW, imatrix);
    return fnv1a(bytes, row_bytes * ROWS);
}

static uint64_t hash_of_noise(const lq_format *fmt) {
    static float x[FORMAT_NOISE * 8];
    const int n = FORMAT_NOISE / fmt->bytes * fmt->block;
    fmt->dequant(noise, x, n);
    for (int i = 0; i < n; i++)
        if (isnan(x[i])) memcpy(&x[i], &(const uint32_t){0x7fc00000u}, sizeof x[i]);
    return fnv1a(x, (size_t)n * sizeof *x);
}

static const struct format_hashes *hashes_of(const lq_format *fmt) {
    for (int i = 0; i < LQ_ARRAY_LEN(format_hashes); i++)
        if (strcmp(format_hashes[i].name, fmt->name) == 0) return &format_hashes[i];
    return NULL;
}

START_TEST(golden_input_is_the_scripts) {
    make_golden_input();
    ck_assert_uint_eq(fnv1a(golden_x, sizeof golden_x), 0xb5967020b5327118u);
    ck_assert_uint_eq(fnv1a(golden_imatrix, sizeof golden_imatrix), 0x63bf9b92f36dc65au);
}
END_TEST

/* Every block format makes ggml's bytes of every kind of numbers, and reads any bytes as ggml
 * does. */
START_TEST(bytes_are_ggmls) {
    make_golden_input();
    const lq_format *const fmt = block_formats[_i];
    const struct format_hashes *const want = hashes_of(fmt);
    ck_assert_msg(want, "%s has no row in format_hashes.h", fmt->name);
    for (const lq_cpu *const *cpu = lq_cpu_tables(); *cpu; cpu++) {
        lq_cpu_force(*cpu);
        ck_assert_msg(hash_of_noise(fmt) == want->dequantized, "%s, dequantized, %s", fmt->name,
                      (*cpu)->name);
    }
    lq_cpu_force(NULL);
    ck_assert_msg((fmt->quant != NULL) == (want->plain[0] != 0), "%s, target", fmt->name);
    for (int k = 0; fmt->quant && k < FORMAT_KINDS; k++) {
        ck_assert_msg(hash_of_blocks(fmt, k, NULL) == want->plain[k], "%s, %s", fmt->name,
                      format_kinds[k]);
        ck_assert_msg(hash_of_blocks(fmt, k, golden_imatrix) == want->weighted[k],
                      "%s, %s, weighted", fmt->name, format_kinds[k]);
    }
}
END_TEST

/* Activations, keys and values: the same numbers as on a CPU with AVX2. */
static uint64_t hash_of_rounded(const lq_rounding *how, int kind) {
    static float x[N];
    for (int i = 0; i < N; i++) x[i] = kind_at(kind, i);
    how->round(how, x, x, N);
    for (int i = 0; i < N; i++) {
        x[i] += 0; /* no -0 */
        if (isnan(x[i])) memcpy(&x[i], &(const uint32_t){0x7fc00000u}, sizeof x[i]);
    }
    return fnv1a(x, sizeof x);
}

START_TEST(activations_are_ggmls) {
    const struct rounding_hashes *const want = &rounding_hashes[_i];
    const lq_rounding *how = lq_activation_rounding(&lq_iq4_xs); /* Q8_K is no cache type */
    make_golden_input();
    if (strcmp(want->name, "q8_K") != 0) ck_ok(lq_cache_rounding(&how, "", want->name));
    for (const lq_cpu *const *cpu = lq_cpu_tables(); *cpu; cpu++) {
        lq_cpu_force(*cpu);
        for (int k = 0; k < FORMAT_KINDS; k++)
            ck_assert_msg(hash_of_rounded(how, k) == want->rounded[k], "%s, %s, %s", want->name,
                          format_kinds[k], (*cpu)->name);
    }
    lq_cpu_force(NULL);
}
END_TEST

START_TEST(roundings_are_found) {
    const lq_rounding *how;
    ck_assert_ptr_null(lq_activation_rounding(&lq_f32));
    ck_assert_ptr_eq(lq_activation_rounding(&lq_f16)->fmt, &lq_f16);
    ck_assert_ptr_eq(lq_activation_rounding(&lq_bf16)->fmt, &lq_bf16);
    ck_assert_ptr_eq(lq_activation_rounding(&lq_q2_0), lq_activation_rounding(&lq_q8_0));
    ck_assert_int_eq(lq_activation_rounding(&lq_tq2_0)->block, 256);
    ck_ok(lq_cache_rounding(&how, "here", "F32"));
    ck_assert_ptr_null(how);
    ck_ok(lq_cache_rounding(&how, "here", "q4_0"));
    ck_assert_ptr_eq(how->fmt, &lq_q4_0);
    ck_fails(lq_cache_rounding(&how, "here", "q9"), LQ_ECONFIG,
             "here: found 'q9', wanted f32, f16");
}
END_TEST

/* ---- rows that are hard to quantize ----------------------------------------------------------- */

static const lq_format *target_formats[64]; /* those of the table that can be quantized to */
static int n_target_formats;

static float importance_at(int i) { return i % 11 == 0 ? 0 : golden_imatrix[i % ROW]; }

/* Almost HARD numbers of a kind, as one row, through the kernels of `cpu`: their blocks, and those
 * read back. */
static void through(const lq_cpu *cpu, const lq_format *fmt, int kind, const float *imatrix,
                    uint8_t *blocks, float *back) {
    static float x[HARD];
    const int n = HARD - fmt->block; /* no multiple of what kernels take at a time */
    hard_fill(x, kind);
    lq_cpu_force(cpu);
    fmt->quant(x, blocks, n, imatrix);
    fmt->dequant(blocks, back, n);
    lq_cpu_force(NULL);
}

/* Each instruction set writes the reference's bytes and reads them back to the same floats. */
static void compare_levels(const lq_format *fmt, int kind, const float *imatrix) {
    static float want[HARD], got[HARD];
    static uint8_t a[HARD * 4], b[HARD * 4];
    const int n = HARD - fmt->block;
    through(&lq_cpu_ref, fmt, kind, imatrix, a, want);
    for (const lq_cpu *const *cpu = lq_cpu_tables(); *cpu; cpu++) {
        through(*cpu, fmt, kind, imatrix, b, got);
        ck_assert_msg(memcmp(a, b, lq_format_bytes(fmt, n)) == 0, "%s%s, %s, row %d", fmt->name,
                      imatrix ? " weighted" : "", (*cpu)->name, kind);
        ck_assert_msg(hard_same(want, got, n), "%s back, %s, row %d", fmt->name,
                      (*cpu)->name, kind);
    }
}

START_TEST(instruction_sets_agree) {
    static float imatrix[HARD];
    make_golden_input();
    for (int i = 0; i < HARD; i++) imatrix[i] = importance_at(i);
    for (int kind = 0; kind < HARD_KINDS; kind++) {
        compare_levels(target_formats[_i], kind, NULL);
        compare_levels(target_formats[_i], kind, imatrix);
    }
}
END_TEST

/* Kernels take several blocks at a time; an odd number of them comes out as one by one. */
START_TEST(tails_are_like_the_rest) {
    enum { BLOCKS = 19 };
    static float x[HARD], whole[HARD], single[HARD];
    static uint8_t a[HARD * 4], b[HARD * 4];
    const lq_format *const fmt = target_formats[_i];
    hard_fill(x, 0);
    fmt->quant(x, a, BLOCKS * fmt->block, NULL);
    fmt->dequant(a, whole, BLOCKS * fmt->block);
    for (int k = 0; k < BLOCKS; k++) {
        fmt->quant(x + k * fmt->block, b + k * fmt->bytes, fmt->block, NULL);
        fmt->dequant(a + k * fmt->bytes, single + k * fmt->block, fmt->block);
    }
    ck_assert_msg(memcmp(a, b, (size_t)(BLOCKS * fmt->bytes)) == 0, "%s", fmt->name);
    ck_assert_msg(hard_same(whole, single, BLOCKS * fmt->block), "%s back", fmt->name);
}
END_TEST

/* Formats whose scale is searched: on the grid's own numbers the search may end elsewhere. */
static bool is_searched(const lq_format *fmt) {
    static const char *const searched[] = {"iq4_nl", "iq4_xs", "q2_K", "q3_K", "q4_K",
                                           "q5_K", "q6_K"};
    for (int i = 0; i < LQ_ARRAY_LEN(searched); i++)
        if (strcmp(fmt->name, searched[i]) == 0) return true;
    return false;
}

static double sum_of_squares(const float *x, const float *less, int n) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += pow(x[i] - less[i], 2);
    return sum;
}

/* What was stored is read back close to what it was, and stored again unchanged. */
static void check_round_trip(const lq_format *fmt) {
    static float x[HARD], once[HARD], zero[HARD];
    static uint8_t a[HARD * 4], b[HARD * 4];
    hard_fill(x, 0);
    fmt->quant(x, a, HARD, NULL);
    fmt->dequant(a, once, HARD);
    ck_assert_msg(sum_of_squares(x, once, HARD) < 0.3 * sum_of_squares(x, zero, HARD), "%s is far",
                  fmt->name);
    fmt->quant(once, b, HARD, NULL);
    ck_assert_msg(is_searched(fmt) || memcmp(a, b, lq_format_bytes(fmt, HARD)) == 0,
                  "%s is not idempotent", fmt->name);
}

/* Every weight format is found by name and id. */
START_TEST(table_is_consistent) {
    for (int i = 0; lq_formats[i]; i++) {
        const lq_format *fmt = lq_formats[i];
        ck_assert_ptr_eq(lq_format_by_name(fmt->name), fmt);
        ck_assert_ptr_eq(lq_format_by_name(fmt->label), fmt);
        ck_assert_ptr_eq(lq_format_by_ggml_id(fmt->ggml_id), fmt);
        ck_assert_str_eq(lq_ggml_type_name(fmt->ggml_id), fmt->name);
        ck_assert_uint_eq(lq_format_bytes(fmt, fmt->block * 3), (size_t)fmt->bytes * 3);
        if (fmt->quant) check_round_trip(fmt);
    }
    ck_assert_ptr_null(lq_format_by_name("q4_9"));
    ck_assert_ptr_null(lq_format_by_ggml_id(4));
    ck_assert_str_eq(lq_ggml_type_name(12), "q4_K");
    ck_assert_ptr_null(lq_ggml_type_name(4));
    ck_assert_ptr_null(lq_ggml_type_name(-1));
    ck_assert_ptr_null(lq_ggml_type_name(1000));
}
END_TEST

static double weighted_error(const lq_format *fmt, const float *imatrix) {
    static uint8_t blocks[ROW * 4];
    static float back[ROW];
    double error = 0;
    fmt->quant(golden_x, blocks, ROW, imatrix);
    fmt->dequant(blocks, back, ROW);
    for (int i = 0; i < ROW; i++) error += golden_imatrix[i] * pow(back[i] - golden_x[i], 2);
    return error;
}

static const struct { const lq_format *fmt; bool uses_importance; } importance[] = {
    {&lq_q4_0, true},  {&lq_q4_1, true},    {&lq_q5_0, true},   {&lq_q5_1, true},
    {&lq_q2_k, true},  {&lq_q3_k, true},    {&lq_q4_k, true},   {&lq_q5_k, true},
    {&lq_q6_k, true},  {&lq_iq4_nl, true},  {&lq_iq4_xs, true}, {&lq_q8_0, false},
    {&lq_bf16, false}, {&lq_mxfp4, false},  {&lq_tq2_0, false},
};

/* Where importance is used at all, it lowers the error that it weighs. */
START_TEST(importance_lowers_weighted_error) {
    make_golden_input();
    const lq_format *const fmt = importance[_i].fmt;
    const double plain = weighted_error(fmt, NULL), weighted = weighted_error(fmt, golden_imatrix);
    if (importance[_i].uses_importance)
        ck_assert_msg(weighted < plain, "%s: %g, plain %g", fmt->name, weighted, plain);
    else
        ck_assert_msg(weighted == plain, "%s: %g, plain %g", fmt->name, weighted, plain);
}
END_TEST

/* Every exponent: around each power of two, where log2f rounds up to it from below. */
START_TEST(mx_exponents_are_log2fs) {
    enum { NEAR = 150 };
    for (uint32_t power = 1; power < 0x7f800000u; power < 0x800000u ? power *= 2
                                                                   : (power += 0x800000u))
        for (int off = -NEAR; off <= NEAR; off++) {
            const uint32_t bits = power + (uint32_t)off;
            if (bits - 1 >= 0x7f7fffffu) continue; /* neither zero, nor beyond the numbers */
            const float x = float_of_bits(bits);
            const uint8_t want = (uint8_t)((int)floorf(log2f(x)) - 2 + 127);
            ck_assert_msg(mx_exponent(x) == want, "%a", (double)x);
        }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("format");
    TCase *tc = tcase_create("format");
    for (int i = 0; lq_formats[i]; i++)
        if (lq_formats[i]->block > 1) block_formats[n_block_formats++] = lq_formats[i];
    for (int i = 0; lq_formats[i]; i++)
        if (lq_formats[i]->quant) target_formats[n_target_formats++] = lq_formats[i];
    tcase_add_test(tc, golden_input_is_the_scripts);
    tcase_add_loop_test(tc, bytes_are_ggmls, 0, n_block_formats);
    tcase_add_loop_test(tc, activations_are_ggmls, 0, LQ_ARRAY_LEN(rounding_hashes));
    tcase_add_test(tc, roundings_are_found);
    tcase_add_loop_test(tc, instruction_sets_agree, 0, n_target_formats);
    tcase_add_loop_test(tc, tails_are_like_the_rest, 0, n_target_formats);
    tcase_add_test(tc, mx_exponents_are_log2fs);
    tcase_add_test(tc, table_is_consistent);
    tcase_add_loop_test(tc, importance_lowers_weighted_error, 0, LQ_ARRAY_LEN(importance));
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
