/* Regular expressions that a user gives to name tensors. */
#ifndef LOQUAT_NAME_REGEX_H
#define LOQUAT_NAME_REGEX_H

#include "base.h"

/* *found: does `regex` match anywhere in `text`? LQ_EVALUE says what is wrong with it, and where.
 * Compiles each time: for lists of tensors, not for texts. */
lq_status lq_regex_found(const char *regex, const char *text, bool *found);

#endif
