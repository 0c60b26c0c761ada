/* The integer codes inside a block format's bytes, for telemetry: which changed, which lie at the
 * ends of their range. One row per format that has such codes; others (floats, codebooks of
 * vectors) have none. */
#ifndef LOQUAT_CODES_H
#define LOQUAT_CODES_H

#include "format.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A bit field of every element: `bits` wide, in bytes from `at` on. `run` neighbouring elements lie
 * in as many neighbouring bytes; the next run takes the next bits of the same bytes. */
typedef struct lq_code_plane { int bits, at, run; } lq_code_plane;

typedef struct lq_code_layout {
    const char *format;          /* lq_format's name */
    lq_code_plane low, high;     /* code = low | high << low.bits; high.bits 0: none */
    uint8_t end[2];              /* the codes at the ends of the range */
} lq_code_layout;

/* NULL: the format has no codes. */
const lq_code_layout *lq_codes_of(const lq_format *fmt);
/* codes (n): of the n elements at `in`; n a multiple of the block. */
void lq_codes_read(const lq_code_layout *layout, const lq_format *fmt, const void *in,
                   uint8_t *codes, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
