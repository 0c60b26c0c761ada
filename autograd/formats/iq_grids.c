/* The code books in the CPU's memory. */
#include "iq_parts.h"

#define LQ_GRID const
#include "iq_grids.h"
