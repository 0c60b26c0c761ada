/* Types and sizes in GGUF files. Every block layout of ggml is listed, also those that Loquat does
 * not compute with: their tensors are bounded and copied like any other. */
#include "gguf_parts.h"

typedef struct layout { uint16_t block, bytes; } layout;

/* By ggml type id (ggml.h, ggml-common.h); {0, 0}: an id that was removed. */
static const layout layouts[] = {
    [0] = {1, 4},      /* F32 */
    [1] = {1, 2},      /* F16 */
    [2] = {32, 18},    /* Q4_0 */
    [3] = {32, 20},    /* Q4_1 */
    [6] = {32, 22},    /* Q5_0 */
    [7] = {32, 24},    /* Q5_1 */
    [8] = {32, 34},    /* Q8_0 */
    [9] = {32, 36},    /* Q8_1 */
    [10] = {256, 84},  /* Q2_K */
    [11] = {256, 110}, /* Q3_K */
    [12] = {256, 144}, /* Q4_K */
    [13] = {256, 176}, /* Q5_K */
    [14] = {256, 210}, /* Q6_K */
    [15] = {256, 292}, /* Q8_K */
    [16] = {256, 66},  /* IQ2_XXS */
    [17] = {256, 74},  /* IQ2_XS */
    [18] = {256, 98},  /* IQ3_XXS */
    [19] = {256, 50},  /* IQ1_S */
    [20] = {32, 18},   /* IQ4_NL */
    [21] = {256, 110}, /* IQ3_S */
    [22] = {256, 82},  /* IQ2_S */
    [23] = {256, 136}, /* IQ4_XS */
    [24] = {1, 1},     /* I8 */
    [25] = {1, 2},     /* I16 */
    [26] = {1, 4},     /* I32 */
    [27] = {1, 8},     /* I64 */
    [28] = {1, 8},     /* F64 */
    [29] = {256, 56},  /* IQ1_M */
    [30] = {1, 2},     /* BF16 */
    [34] = {256, 54},  /* TQ1_0 */
    [35] = {256, 66},  /* TQ2_0 */
    [39] = {32, 17},   /* MXFP4 */
    [40] = {64, 36},   /* NVFP4 */
    [41] = {128, 18},  /* Q1_0 */
    [42] = {64, 18},   /* Q2_0 */
};

static const struct { const char *name; size_t bytes; } value_types[LQ_GGUF_N_TYPES] = {
    {"u8", 1}, {"i8", 1}, {"u16", 2}, {"i16", 2}, {"u32", 4}, {"i32", 4}, {"f32", 4},
    {"bool", 1}, {"string", 0}, {"array", 0}, {"u64", 8}, {"i64", 8}, {"f64", 8},
};

int lq_gguf_type_block(int ggml_type) {
    return ggml_type >= 0 && ggml_type < LQ_ARRAY_LEN(layouts) ? layouts[ggml_type].block : 0;
}

size_t lq_gguf_type_bytes(lq_gguf_type type) { return value_types[type].bytes; }

const char *lq_gguf_type_name(lq_gguf_type type) { return value_types[type].name; }

static lq_status count_elements(int64_t *out, const char *name, int ndim, const int64_t *ne) {
    *out = 1;
    bool empty = false;
    for (int i = 0; i < ndim; i++) {
        if (ne[i] < 0)
            return lq_fail(LQ_EFORMAT, "tensor %s: size %d is negative (%lld)", name, i,
                           (long long)ne[i]);
        empty |= ne[i] == 0;
        const int64_t n = ne[i] ? ne[i] : 1;
        if (*out > INT64_MAX / n)
            return lq_fail(LQ_EFORMAT, "tensor %s: its number of elements overflows", name);
        *out *= n;
    }
    if (empty) *out = 0;
    return LQ_OK;
}

lq_status lq_gguf_tensor_bytes(uint64_t *out, const char *name, int ggml_type, int ndim,
                               const int64_t *ne) {
    if (ggml_type < 0 || ggml_type >= LQ_ARRAY_LEN(layouts) || !layouts[ggml_type].block)
        return lq_fail(LQ_EFORMAT, "tensor %s: unknown type %d", name, ggml_type);
    const layout l = layouts[ggml_type];
    int64_t n;
    LQ_TRY(count_elements(&n, name, ndim, ne));
    const int64_t row = ndim ? ne[0] : 1;
    if (row % l.block)
        return lq_fail(LQ_EFORMAT,
                       "tensor %s: a row of %lld elements is not a whole number of blocks of %d",
                       name, (long long)row, l.block);
    const uint64_t blocks = (uint64_t)n / l.block;
    if (blocks > INT64_MAX / l.bytes)
        return lq_fail(LQ_EFORMAT, "tensor %s: its size in bytes overflows", name);
    *out = blocks * l.bytes;
    return LQ_OK;
}

bool lq_gguf_pad(uint64_t *out, uint64_t x, uint64_t alignment) {
    *out = (x + alignment - 1) & ~(alignment - 1);
    return *out >= x;
}

bool lq_gguf_alignment_valid(uint32_t alignment) {
    return alignment && !(alignment & (alignment - 1));
}
