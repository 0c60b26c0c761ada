/* enum ggml_type by name, also of the types that Loquat has no format for: a file's tensors and the
 * rules of file mixes speak of them all. Numbers: ggml.h. */
#ifndef LOQUAT_GGML_TYPES_H
#define LOQUAT_GGML_TYPES_H

enum {
    LQ_TYPE_F32 = 0, LQ_TYPE_F16 = 1, LQ_TYPE_BF16 = 30,
    LQ_TYPE_Q4_0 = 2, LQ_TYPE_Q4_1 = 3, LQ_TYPE_Q5_0 = 6, LQ_TYPE_Q5_1 = 7, LQ_TYPE_Q8_0 = 8,
    LQ_TYPE_Q2_K = 10, LQ_TYPE_Q3_K = 11, LQ_TYPE_Q4_K = 12, LQ_TYPE_Q5_K = 13, LQ_TYPE_Q6_K = 14,
    LQ_TYPE_IQ4_NL = 20, LQ_TYPE_IQ4_XS = 23,
    LQ_TYPE_TQ1_0 = 34, LQ_TYPE_TQ2_0 = 35,
    LQ_TYPE_MXFP4 = 39, LQ_TYPE_NVFP4 = 40, LQ_TYPE_Q1_0 = 41, LQ_TYPE_Q2_0 = 42
};

#endif
