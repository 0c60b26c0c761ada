/* What Q4_K and Q5_K share: super-blocks of eight groups of 32, each with a 6-bit scale and a 6-bit
 * minimum; value = d scale code - dmin minimum. */
#ifndef LOQUAT_KQUANT_AFFINE_H
#define LOQUAT_KQUANT_AFFINE_H

#include "group_parts.h"

enum { LQ_KA_GROUPS = 8, LQ_KA_SIZE = LQ_K_BLOCK / LQ_KA_GROUPS };

typedef struct lq_ka_head {
    uint16_t d, dmin;      /* F16 */
    uint8_t scales[12];    /* the 6-bit scales and minima, packed */
} lq_ka_head;

typedef struct lq_ka_kind {
    lq_affine_rule rule;   /* without importance weights; with them there is one for all */
    uint8_t scale_limit;   /* of scale codes with importance: ggml limits those of Q5_K to 63 and
                              lets negative ones of Q4_K wrap around, to at most 255 */
    int code_bytes;        /* behind the head, as `pack` packs them */
    void (*pack)(const uint8_t codes[LQ_K_BLOCK], uint8_t *out);
    void (*unpack)(const uint8_t *in, uint8_t codes[LQ_K_BLOCK]);
} lq_ka_kind;

void lq_ka_quant(const lq_ka_kind *kind, const float *x, void *out, int64_t n,
                 const float *imatrix);
void lq_ka_dequant(const lq_ka_kind *kind, const void *in, float *out, int64_t n);

#endif
