/* A whole file mapped read-only: its pages are shared and cost memory only where they are read. */
#ifndef LOQUAT_MAPPED_FILE_H
#define LOQUAT_MAPPED_FILE_H

#include "base.h"

typedef struct lq_mapped { const uint8_t *bytes; size_t n; } lq_mapped;

/* Fails, with the path, for what is not a file and for an empty one. */
lq_status lq_map_open(lq_mapped *out, const char *path);
void lq_map_close(lq_mapped *map);

#endif
