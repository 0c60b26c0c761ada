/* See hard_rows.h. */
#include "hard_rows.h"

#include "format.h"
#include "test_util.h"

#include <math.h>
#include <string.h>

static float bf16_rounded(float x) { return lq_f32_from_bf16(lq_bf16_from_f32(x)); }

static float random_at(int i, uint64_t key) {
    float x[1];
    test_fill(x, 1, key * 1000003u + (uint64_t)i);
    return x[0];
}

static float row_random(int i) { return random_at(i, 1); }
static float row_zero(int i) { (void)i; return 0; }
static float row_negative_zero(int i) { return i % 3 ? 0.0f : -0.0f; }
static float row_constant(int i) { (void)i; return -0.3f; }
static float row_tiny(int i) { return random_at(i, 2) * 1e-8f; } /* the F16 scale underflows */
static float row_subnormal(int i) { return random_at(i, 3) * 1e-38f; } /* 1 / scale may overflow */
static float row_smallest(int i) { return (float)(i % 5 - 2) * 0x1p-149f; }
static float row_huge(int i) { return random_at(i, 4) * 3e38f; } /* the F16 scale overflows */
static float row_ties(int i) { return bf16_rounded(random_at(i, 5)); }
static float row_grid(int i) { return (float)(i * 7 % 33 - 16) * 0.5f; } /* every half step */
static float row_eighths(int i) { return (float)(i * 37 % 509 - 254) * 0.5f; }
static float row_equal_extremes(int i) { return i % 32 == 5 ? -1.0f : i % 32 == 9 ? 1.0f : 0.125f; }
static float row_half(int i) { return i % 3 ? 0x1.fffffep-2f : i % 2 ? 1 : -0.5f; }
static float row_outlier(int i) { return i % 32 == 17 ? 1e4f : random_at(i, 6) * 1e-3f; }

static float (*const rows[HARD_KINDS])(int) = {
    row_random,    row_zero,           row_negative_zero, row_constant, row_tiny,
    row_subnormal, row_smallest,       row_huge,          row_ties,     row_grid,
    row_eighths,   row_equal_extremes, row_half, row_outlier,
};

void hard_fill(float *x, int kind) {
    for (int i = 0; i < HARD; i++) x[i] = rows[kind](i);
}

bool hard_same(const float *a, const float *b, int n) {
    for (int i = 0; i < n; i++)
        if (memcmp(&a[i], &b[i], sizeof *a) != 0 && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}
