/* A growing byte string with a sticky out-of-memory flag: append, append, append, test once.
 * Always NUL-terminated when not failed; may contain NULs (use .n). */
#ifndef LOQUAT_STR_H
#define LOQUAT_STR_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lq_str {
    char *s;      /* owned; NULL while empty: use lq_str_text() to read */
    size_t n;     /* bytes, without the NUL */
    size_t cap;
    bool failed;
} lq_str;

#define LQ_STR_INIT {NULL, 0, 0, false}

void lq_str_clear(lq_str *s);                               /* frees; ready for use again */
void lq_str_reset(lq_str *s);                               /* empties, keeps the memory */
void lq_str_add(lq_str *s, const char *text, size_t n);
void lq_str_puts(lq_str *s, const char *text);
void lq_str_putc(lq_str *s, char c);
void lq_str_printf(lq_str *s, const char *fmt, ...) LQ_PRINTF(2, 3);
const char *lq_str_text(const lq_str *s);                   /* "" when empty or failed */
lq_status lq_str_status(const lq_str *s);                   /* LQ_OK or LQ_EMEM */
char *lq_str_take(lq_str *s);                               /* hands over the bytes; NULL: failed */

/* Damerau-free edit distance, for "did you mean" hints. */
int lq_edit_distance(const char *a, const char *b);

#ifdef __cplusplus
}
#endif
#endif
