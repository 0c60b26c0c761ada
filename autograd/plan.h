/* Lifetimes to offsets: a pure function over a list. Touches no tensor, device or file. */
#ifndef LOQUAT_PLAN_H
#define LOQUAT_PLAN_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lq_plan_item {
    size_t bytes;
    int first, last;   /* alive during schedule entries first..last, both included */
    size_t offset;     /* result; a multiple of 64 */
} lq_plan_item;

/* Gives every item an offset such that items alive at the same time do not overlap; largest first,
 * each into the lowest gap that fits. *out_total: bytes of the arena. With ASan each item is
 * followed by a red zone. */
lq_status lq_plan(size_t *out_total, lq_plan_item *items, int64_t n);

#ifdef __cplusplus
}
#endif
#endif
