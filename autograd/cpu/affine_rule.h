/* Which grids a search for a scale and a minimum tries. See groups.h. */
#ifndef LOQUAT_AFFINE_RULE_H
#define LOQUAT_AFFINE_RULE_H

typedef struct lq_affine_rule {
    int top;                     /* codes are 0..top */
    float first, step;           /* candidate k has inverse (top + first + k step) / range */
    int steps;                   /* k = 0..steps */
    int absolute;                /* weigh |error| instead of its square */
} lq_affine_rule;

#endif
