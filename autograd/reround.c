/* See reround.h. Every K-quant is, per group of 16 or 32 elements, x = step * code - low; a row of
 * the table reads a block's steps and lows and packs 256 codes into it. Layouts: ggml-common.h. */
#include "reround.h"

#include "ggml_types.h"
#include "groups_scalar.h"

#include <assert.h>

enum { SUPER = 256, MAX_GROUPS = 16 };

typedef struct grid { float step[MAX_GROUPS], low[MAX_GROUPS]; } grid;

typedef struct row {
    int type, group, top;    /* elements per group; the highest code */
    void (*read)(const uint8_t *block, grid *out);
    void (*pack)(uint8_t *block, const uint8_t *code);
} row;

static float f16_at(const uint8_t *p) {
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return lq_f32_from_f16(h);
}

/* ---- steps and lows -------------------------------------------------------------------------- */

/* Q2_K: 16 bytes of scale | min << 4, 64 of codes, d, dmin. */
static void read_q2(const uint8_t *b, grid *g) {
    const float d = f16_at(b + 80), dmin = f16_at(b + 82);
    for (int i = 0; i < 16; i++) {
        g->step[i] = d * (float)(b[i] & 15);
        g->low[i] = dmin * (float)(b[i] >> 4);
    }
}

/* Q3_K: 32 bytes of high bits, 64 of codes, 12 of scales (6 bits, minus 32), d. */
static void read_q3(const uint8_t *b, grid *g) {
    const uint8_t *s = b + 96;
    const float d = f16_at(b + 108);
    for (int i = 0; i < 16; i++) {
        const int low = i < 8 ? s[i] & 15 : s[i - 8] >> 4;
        const int high = s[8 + i % 4] >> (2 * (i / 4)) & 3;
        g->step[i] = d * (float)((low | high << 4) - 32);
        g->low[i] = 4 * g->step[i];
    }
}

/* Q4_K and Q5_K: d, dmin, 12 bytes of 8 scales and 8 mins of 6 bits, codes. */
static void read_q4(const uint8_t *b, grid *g) {
    const uint8_t *s = b + 4;
    const float d = f16_at(b), dmin = f16_at(b + 2);
    for (int i = 0; i < 8; i++) {
        const int scale = i < 4 ? s[i] & 63 : (s[i + 4] & 15) | (s[i - 4] >> 6) << 4;
        const int min = i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | (s[i] >> 6) << 4;
        g->step[i] = d * (float)scale;
        g->low[i] = dmin * (float)min;
    }
}

/* Q6_K: 128 bytes of low codes, 64 of high bits, 16 scales of a signed byte, d. */
static void read_q6(const uint8_t *b, grid *g) {
    const float d = f16_at(b + 208);
    for (int i = 0; i < 16; i++) {
        g->step[i] = d * (float)(int8_t)b[192 + i];
        g->low[i] = 32 * g->step[i];
    }
}

/* ---- codes ----------------------------------------------------------------------------------- */

/* 2 bits of 256 codes into 64 bytes: byte j of a half holds elements j, j + 32, j + 64, j + 96. */
static void pack_2_bits(uint8_t *out, const uint8_t *code, int shift) {
    for (int half = 0; half < 2; half++, out += 32, code += 128)
        for (int j = 0; j < 32; j++)
            out[j] = (uint8_t)((code[j] >> shift & 3) | (code[j + 32] >> shift & 3) << 2 |
                               (code[j + 64] >> shift & 3) << 4 | (code[j + 96] >> shift & 3) << 6);
}

/* One bit of 256 codes into 32 bytes: bit k of byte j is of element j + 32 k. */
static void pack_1_bit(uint8_t *out, const uint8_t *code, int shift) {
    memset(out, 0, 32);
    for (int i = 0; i < SUPER; i++)
        out[i % 32] = (uint8_t)(out[i % 32] | (code[i] >> shift & 1) << (i / 32));
}

/* Low nibbles, `span` elements and the `span` after them into as many bytes. */
static void pack_nibbles(uint8_t *out, const uint8_t *code, int span) {
    for (int first = 0; first < SUPER; first += 2 * span, out += span)
        for (int j = 0; j < span; j++)
            out[j] = (uint8_t)((code[first + j] & 15) | (code[first + span + j] & 15) << 4);
}

static void pack_q2(uint8_t *b, const uint8_t *code) { pack_2_bits(b + 16, code, 0); }

static void pack_q3(uint8_t *b, const uint8_t *code) {
    pack_1_bit(b, code, 2);
    pack_2_bits(b + 32, code, 0);
}

static void pack_q4(uint8_t *b, const uint8_t *code) { pack_nibbles(b + 16, code, 32); }

static void pack_q5(uint8_t *b, const uint8_t *code) {
    pack_1_bit(b + 16, code, 4);
    pack_nibbles(b + 48, code, 32);
}

static void pack_q6(uint8_t *b, const uint8_t *code) {
    pack_nibbles(b, code, 64);
    pack_2_bits(b + 128, code, 4);
}

static const row rows[] = {
    {LQ_TYPE_Q2_K, 16, 3, read_q2, pack_q2},  {LQ_TYPE_Q3_K, 16, 7, read_q3, pack_q3},
    {LQ_TYPE_Q4_K, 32, 15, read_q4, pack_q4}, {LQ_TYPE_Q5_K, 32, 31, read_q4, pack_q5},
    {LQ_TYPE_Q6_K, 16, 63, read_q6, pack_q6},
};

/* ---- rounding -------------------------------------------------------------------------------- */

static const row *find(const lq_format *fmt) {
    for (int i = 0; i < LQ_ARRAY_LEN(rows); i++)
        if (rows[i].type == fmt->ggml_id) return &rows[i];
    return NULL;
}

bool lq_can_reround(const lq_format *fmt) { return find(fmt) != NULL; }

static void round_block(const row *r, const float *x, uint8_t *block) {
    grid g;
    uint8_t code[SUPER];
    r->read(block, &g);
    for (int i = 0; i < SUPER; i++) {
        const int k = i / r->group;
        code[i] = kept_scale_code(x[i], g.step[k], g.low[k], r->top);
    }
    r->pack(block, code);
}

void lq_reround(const lq_format *fmt, const float *x, void *blocks, int64_t n) {
    const row *r = find(fmt);
    assert(r && n % SUPER == 0);
    for (uint8_t *b = blocks; n > 0; n -= SUPER, x += SUPER, b += fmt->bytes) round_block(r, x, b);
}
