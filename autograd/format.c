/* The table of number formats and the scalar conversions between float types. See format.h. */
#include "format.h"

#include "halves_scalar.h"

#include <assert.h>
#include <string.h>
#include <strings.h>

const lq_format lq_i32 = {"i32", "I32", 26, -1, 1, 4, NULL, NULL};

const lq_format *const lq_formats[] = {
    &lq_f32, &lq_f16, &lq_bf16, &lq_q8_0, &lq_q4_0, &lq_q4_1, &lq_q5_0, &lq_q5_1,
    &lq_q2_k, &lq_q3_k, &lq_q4_k, &lq_q5_k, &lq_q6_k,
    &lq_iq4_nl, &lq_iq4_xs, &lq_mxfp4, &lq_nvfp4, &lq_tq1_0, &lq_tq2_0, &lq_q1_0, &lq_q2_0,
    &lq_iq1_s, &lq_iq1_m, &lq_iq2_xxs, &lq_iq2_xs, &lq_iq2_s, &lq_iq3_xxs, &lq_iq3_s,
    NULL,
};

const lq_format *lq_format_by_name(const char *name) {
    for (int i = 0; lq_formats[i]; i++)
        if (strcasecmp(lq_formats[i]->name, name) == 0) return lq_formats[i];
    return NULL;
}

const lq_format *lq_format_by_ggml_id(int ggml_id) {
    for (int i = 0; lq_formats[i]; i++)
        if (lq_formats[i]->ggml_id == ggml_id) return lq_formats[i];
    return NULL;
}

/* enum ggml_type; the gaps are types that ggml has removed. */
static const char *const ggml_names[] = {
    [0] = "f32", [1] = "f16", [2] = "q4_0", [3] = "q4_1", [6] = "q5_0", [7] = "q5_1", [8] = "q8_0",
    [9] = "q8_1", [10] = "q2_K", [11] = "q3_K", [12] = "q4_K", [13] = "q5_K", [14] = "q6_K",
    [15] = "q8_K", [16] = "iq2_xxs", [17] = "iq2_xs", [18] = "iq3_xxs", [19] = "iq1_s",
    [20] = "iq4_nl", [21] = "iq3_s", [22] = "iq2_s", [23] = "iq4_xs", [24] = "i8", [25] = "i16",
    [26] = "i32", [27] = "i64", [28] = "f64", [29] = "iq1_m", [30] = "bf16", [34] = "tq1_0",
    [35] = "tq2_0", [39] = "mxfp4", [40] = "nvfp4", [41] = "q1_0", [42] = "q2_0",
};

const char *lq_ggml_type_name(int ggml_id) {
    return ggml_id >= 0 && ggml_id < LQ_ARRAY_LEN(ggml_names) ? ggml_names[ggml_id] : NULL;
}

int lq_ggml_type_by_name(const char *name) {
    for (int id = 0; id < LQ_ARRAY_LEN(ggml_names); id++)
        if (ggml_names[id] && strcasecmp(ggml_names[id], name) == 0) return id;
    return -1;
}

size_t lq_format_bytes(const lq_format *fmt, int64_t n) {
    assert(n >= 0 && n % fmt->block == 0);
    return (size_t)(n / fmt->block) * (size_t)fmt->bytes;
}

uint16_t lq_f16_from_f32(float x) { return f16_from_f32(x); }

float lq_f32_from_f16(uint16_t h) { return f32_from_f16(h); }

uint16_t lq_bf16_from_f32(float x) { return bf16_from_f32(x); }

float lq_f32_from_bf16(uint16_t h) { return f32_from_bf16(h); }
