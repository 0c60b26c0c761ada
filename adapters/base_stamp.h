/* Which base an adapter belongs to: a fingerprint of the weights that its forward pass used,
 * written into adapter files and compared when one is loaded. */
#ifndef LOQUAT_BASE_STAMP_H
#define LOQUAT_BASE_STAMP_H

#include "hash.h"
#include "model.h"
#include "str.h"

#define LQ_STAMP_SHA256 "loquat.base_sha256"
#define LQ_STAMP_TYPES "loquat.base_types"

typedef struct lq_base_stamp {
    char sha256[LQ_SHA256_HEX];  /* over names, types and bytes of all weights, in the model's order
                                  */
    lq_str types;                /* "f32 61, q4_0 210": for people */
} lq_base_stamp;

/* patch: n_weights of them (a format there is what the forward used), or NULL: the file's weights.
 */
lq_status lq_base_stamp_make(lq_base_stamp *out, const lq_model *m, const lq_patch *patch);
void lq_base_stamp_clear(lq_base_stamp *stamp);

#endif
