/* Red zones for the arena: AddressSanitizer sees one big allocation, so the tape tells it which
 * parts are in use. Without the sanitizer everything here does nothing. */
#ifndef LOQUAT_REDZONE_H
#define LOQUAT_REDZONE_H

#include <stddef.h>

size_t lq_redzone_bytes(void);                  /* unused bytes behind every item; 0 without ASan */
void lq_redzone_close(const void *p, size_t n); /* any access is an error from now on */
void lq_redzone_open(const void *p, size_t n);

#endif
