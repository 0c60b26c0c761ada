/* Search and packing of the scales of Q4_K and Q5_K. See kquant_affine.h. */
#include "kquant_affine.h"

#include "format.h"
#include "scales_scalar.h"

enum { GROUPS = LQ_KA_GROUPS, SIZE = LQ_KA_SIZE, SCALE_TOP = 63 };

typedef struct scale_codes {
    uint8_t scale[GROUPS], min[GROUPS];
} scale_codes;

static void unpack_scales(const uint8_t in[12], scale_codes *c) {
    uint32_t w[3];   /* four bytes at a time */
    memcpy(w, in, sizeof w);
    const uint32_t six = 0x3f3f3f3fu, four = 0x0f0f0f0fu, upper = 0x30303030u;
    const uint32_t scale[2] = {w[0] & six, (w[2] & four) | (w[0] >> 2 & upper)};
    const uint32_t min[2] = {w[1] & six, (w[2] >> 4 & four) | (w[1] >> 2 & upper)};
    memcpy(c->scale, scale, sizeof scale);
    memcpy(c->min, min, sizeof min);
}

/* Without importance: root mean square of the group plus magnitude. */
static void plain_weights(const float *x, int groups, float *w) {
    for (int g = 0; g < groups; g++) {
        const float rms = sqrtf(lq_sum_squares(x + g * SIZE, SIZE) / SIZE);
        for (int i = g * SIZE; i < (g + 1) * SIZE; i++) w[i] = rms + fabsf(x[i]);
    }
}

static void importance_weights(const float *x, int blocks, const float *imatrix, float *w) {
    for (int b = 0; b < blocks * LQ_K_BLOCK; b += LQ_K_BLOCK)
        lq_importance(x + b, imatrix + b, LQ_K_BLOCK,
                      2 * lq_sum_squares(x + b, LQ_K_BLOCK) / LQ_K_BLOCK, w + b);
}

static void limit(uint8_t codes[GROUPS], uint8_t most) {
    for (int g = 0; g < GROUPS; g++) codes[g] = codes[g] < most ? codes[g] : most;
}

/* The scales and minima of the block whose first group is fit's `first`; weight: NULL without
 * importance. */
static void store_scales(const lq_fit *fit, int first, const float *weight, uint8_t most,
                        lq_ka_head *head) {
    const float *const scale = fit->scale + first, *const min = fit->min + first;
    const float *const w = weight ? weight + first : NULL;
    scale_codes c;
    const float d = code_scales(scale, w, GROUPS, SCALE_TOP, c.scale);
    const float dmin = code_scales(min, w, GROUPS, SCALE_TOP, c.min);
    limit(c.scale, most);
    limit(c.min, most);
    pack_q4_scales(c.scale, c.min, head->scales);
    head->d = lq_f16_from_f32(d);
    head->dmin = lq_f16_from_f32(dmin);
}

static void scales_of(const lq_ka_head *head, float d[restrict GROUPS], float m[restrict GROUPS]) {
    const float scale = lq_f32_from_f16(head->d), min = lq_f32_from_f16(head->dmin);
    scale_codes c;
    unpack_scales(head->scales, &c);
    for (int g = 0; g < GROUPS; g++) {
        d[g] = scale * c.scale[g];
        m[g] = min * c.min[g];
    }
}

/* Codes by the stored scales; where the scale is 0, those of the search. */
static void code_block(const float *x, const lq_fit *fit, int first, int top,
                       const lq_ka_head *head, uint8_t *codes) {
    float d[GROUPS], m[GROUPS];
    scales_of(head, d, m);
    for (int g = 0; g < GROUPS; g++, x += SIZE, codes += SIZE)
        if (d[g] != 0)
            lq_groups()->round(x, SIZE, m[g], d[g], 0, top, codes);
        else
            lq_fit_codes(fit, first + g, x, SIZE, 0, top, codes);
}

/* One or two super-blocks. */
static void quant_blocks(const float *x, int blocks, const float *imatrix, const lq_ka_kind *kind,
                         lq_ka_head *head, uint8_t codes[][LQ_K_BLOCK]) {
    const lq_affine_rule weighted = {kind->rule.top, -0.9f, 0.05f, 36, .absolute = 0};
    float w[2 * LQ_K_BLOCK] = {0}, sums[LQ_GROUPS];
    lq_columns c;
    lq_fit fit;
    if (imatrix)
        importance_weights(x, blocks, imatrix, w);
    else
        plain_weights(x, blocks * GROUPS, w);
    lq_columns_fill(&c, x, w, blocks * GROUPS, SIZE);
    lq_columns_weight_sums(&c, sums);
    lq_groups()->fit_affine(&c, imatrix ? &weighted : &kind->rule, &fit);
    for (int b = 0; b < blocks; b++) {
        store_scales(&fit, b * GROUPS, imatrix ? sums : NULL,
                    imatrix ? kind->scale_limit : SCALE_TOP, &head[b]);
        code_block(x + b * LQ_K_BLOCK, &fit, b * GROUPS, kind->rule.top, &head[b], codes[b]);
    }
}

void lq_ka_quant(const lq_ka_kind *kind, const float *x, void *out, int64_t n,
                 const float *imatrix) {
    uint8_t *block = out;
    for (int64_t i = 0, blocks; i < n; i += blocks * LQ_K_BLOCK) {
        lq_ka_head head[2];
        uint8_t codes[2][LQ_K_BLOCK];
        blocks = n - i > LQ_K_BLOCK ? 2 : 1;
        quant_blocks(x + i, (int)blocks, imatrix ? imatrix + i : NULL, kind, head, codes);
        for (int64_t k = 0; k < blocks; k++, block += sizeof *head + kind->code_bytes) {
            memcpy(block, &head[k], sizeof *head);
            kind->pack(codes[k], block + sizeof *head);
        }
    }
}

void lq_ka_dequant(const lq_ka_kind *kind, const void *in, float *out, int64_t n) {
    const uint8_t *block = in;
    for (int64_t i = 0; i < n; i += LQ_K_BLOCK, block += sizeof(lq_ka_head) + kind->code_bytes) {
        lq_ka_head head;
        uint8_t codes[LQ_K_BLOCK];
        float d[GROUPS], m[GROUPS];
        memcpy(&head, block, sizeof head);
        kind->unpack(block + sizeof head, codes);
        scales_of(&head, d, m);
        lq_groups()->expand(codes, GROUPS, SIZE, 0, d, m, out + i);
    }
}
