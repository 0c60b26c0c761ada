/* The rows of the table lq_optims: one file each. Nothing outside optim/ includes this. */
#ifndef LOQUAT_RULES_H
#define LOQUAT_RULES_H

#include "optim.h"

extern const lq_optim lq_adamw, lq_sgd;

#endif
