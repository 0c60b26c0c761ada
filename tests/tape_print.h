/* A compiled tape as text: one line per schedule entry with shapes, lifetimes and bytes, then the
 * arena. */
#ifndef LOQUAT_TAPE_PRINT_H
#define LOQUAT_TAPE_PRINT_H

#include "tape.h"

/* The caller's, freed with lq_free. */
lq_status tape_print(const lq_tape *tape, char **out_text);

#endif
