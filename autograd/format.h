/* The table of number formats: how a row of numbers lies in memory, and how it is (de)quantized.
 *
 * There is one quantizer per format: the fake-quantization in the forward pass and the exporter
 * call the same function. Its bytes equal ggml's reference quantizer on x86-64 (ggml-quants.c,
 * quantize_row_*_ref; llama.cpp's file types are defined in ggml.h). Formats other than the plain
 * float ones are block formats: `block` consecutive elements of a row share `bytes` bytes. */
#ifndef LOQUAT_FORMAT_H
#define LOQUAT_FORMAT_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lq_format {
    const char *name;   /* ggml's type name in lower case: "f32", "q4_0", ... */
    const char *label;  /* as file names and llama-quantize spell it: "F32", "Q4_0" */
    int ggml_id;        /* enum ggml_type */
    int file_type;      /* enum llama_ftype of a file made of it; -1: none */
    int block, bytes;   /* elements and bytes of one block */
    /* Quantizes n elements (a multiple of block). `imatrix`: n non-negative importance weights, or
     * NULL. NULL: the format cannot be a target. NaN or infinity in x gives unspecified codes:
     * check first. */
    void (*quant)(const float *x, void *out, int64_t n, const float *imatrix);
    void (*dequant)(const void *in, float *out, int64_t n);  /* NULL for integer formats */
} lq_format;

extern const lq_format lq_f32, lq_f16, lq_bf16, lq_q8_0, lq_q4_0;
extern const lq_format lq_q4_1, lq_q5_0, lq_q5_1, lq_q2_k, lq_q3_k, lq_q4_k, lq_q5_k, lq_q6_k;
extern const lq_format lq_iq4_nl, lq_iq4_xs, lq_tq1_0, lq_tq2_0, lq_mxfp4, lq_nvfp4;
extern const lq_format lq_q1_0, lq_q2_0;
extern const lq_format lq_iq1_s, lq_iq1_m, lq_iq2_xxs, lq_iq2_xs, lq_iq2_s, lq_iq3_xxs, lq_iq3_s;
extern const lq_format lq_i32;  /* token ids, labels, positions: never a weight */

/* All formats that a weight can have, NULL-terminated. */
extern const lq_format *const lq_formats[];

const lq_format *lq_format_by_name(const char *name);     /* any case; NULL if unknown */
const lq_format *lq_format_by_ggml_id(int ggml_id);       /* NULL if unknown or not supported */
const char *lq_ggml_type_name(int ggml_id);   /* also of unsupported types; NULL: no such id */

int lq_ggml_type_by_name(const char *name);               /* any case; -1: no such type */

/* Bytes of n elements; n must be a multiple of block. */
size_t lq_format_bytes(const lq_format *fmt, int64_t n);

/* Scalar conversions (IEEE round to nearest even; NaN quieted), shared by formats and files. */
uint16_t lq_f16_from_f32(float x);
float lq_f32_from_f16(uint16_t h);
uint16_t lq_bf16_from_f32(float x);
float lq_f32_from_bf16(uint16_t h);

#ifdef __cplusplus
}
#endif
#endif
