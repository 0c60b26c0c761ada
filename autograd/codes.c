/* See codes.h. Layouts as ggml-common.h of llama.cpp defines the blocks. */
#include "codes.h"

#include <string.h>

/* A format that comes later needs a row here to be counted; without one only its distance is. */
static const lq_code_layout layouts[] = {
    {"q8_0", {8, 2, 32}, {0, 0, 0}, {0x81, 0x7f}},
    {"q4_0", {4, 2, 16}, {0, 0, 0}, {0, 15}},
    {"q4_1", {4, 4, 16}, {0, 0, 0}, {0, 15}},
    {"q5_0", {4, 6, 16}, {1, 2, 1}, {0, 31}},
    {"q5_1", {4, 8, 16}, {1, 4, 1}, {0, 31}},
    {"q2_k", {2, 16, 32}, {0, 0, 0}, {0, 3}},
    {"q3_k", {2, 32, 32}, {1, 0, 32}, {0, 7}},
    {"q4_k", {4, 16, 32}, {0, 0, 0}, {0, 15}},
    {"q5_k", {4, 48, 32}, {1, 16, 32}, {0, 31}},
    {"q6_k", {4, 0, 64}, {2, 128, 32}, {0, 63}},
    {"iq4_nl", {4, 2, 16}, {0, 0, 0}, {0, 15}},
    {"iq4_xs", {4, 8, 16}, {0, 0, 0}, {0, 15}},
    {"mxfp4", {4, 1, 16}, {0, 0, 0}, {7, 15}},
};

const lq_code_layout *lq_codes_of(const lq_format *fmt) {
    for (int i = 0; i < LQ_ARRAY_LEN(layouts); i++)
        if (strcmp(layouts[i].format, fmt->name) == 0) return &layouts[i];
    return NULL;
}

/* Puts the plane's field of one block's elements at bit `shift` of their codes. */
static void read_plane(const lq_code_plane *p, const uint8_t *block, int n, int shift,
                       uint8_t *codes) {
    const int mask = (1 << p->bits) - 1;
    for (int first = 0; first < n; block += p->run)
        for (int bit = 0; bit < 8 && first < n; bit += p->bits, first += p->run)
            for (int i = 0; i < p->run; i++)
                codes[first + i] |= (uint8_t)((block[p->at + i] >> bit & mask) << shift);
}

void lq_codes_read(const lq_code_layout *layout, const lq_format *fmt, const void *in,
                   uint8_t *codes, int64_t n) {
    const uint8_t *block = in;
    memset(codes, 0, (size_t)n);
    for (int64_t i = 0; i < n; i += fmt->block, block += fmt->bytes) {
        read_plane(&layout->low, block, fmt->block, 0, codes + i);
        if (layout->high.bits)
            read_plane(&layout->high, block, fmt->block, layout->low.bits, codes + i);
    }
}
