/* Growing string and edit distance. See str.h. */
#include "str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void lq_str_clear(lq_str *s) {
    lq_free(s->s);
    *s = (lq_str)LQ_STR_INIT;
}

void lq_str_reset(lq_str *s) {
    s->n = 0;
    s->failed = false;
    if (s->s) s->s[0] = 0;
}

static bool grow(lq_str *s, size_t extra) {
    if (s->failed) return false;
    const size_t want = s->n + extra + 1;
    if (want <= s->cap) return true;
    const size_t cap = want < 64 ? 64 : want + want / 2;
    char *p = lq_resize(s->s, (int64_t)cap, 1);
    if (!p) {
        s->failed = true;
        return false;
    }
    s->s = p;
    s->cap = cap;
    return true;
}

void lq_str_add(lq_str *s, const char *text, size_t n) {
    if (!grow(s, n)) return;
    if (n) memcpy(s->s + s->n, text, n);
    s->n += n;
    s->s[s->n] = 0;
}

void lq_str_puts(lq_str *s, const char *text) { lq_str_add(s, text, strlen(text)); }

void lq_str_putc(lq_str *s, char c) { lq_str_add(s, &c, 1); }

void lq_str_printf(lq_str *s, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n < 0 || !grow(s, (size_t)n)) return;
    va_start(args, fmt);
    vsnprintf(s->s + s->n, (size_t)n + 1, fmt, args);
    va_end(args);
    s->n += (size_t)n;
}

const char *lq_str_text(const lq_str *s) { return s->s && !s->failed ? s->s : ""; }

lq_status lq_str_status(const lq_str *s) {
    return s->failed ? lq_fail(LQ_EMEM, "out of memory while building a string") : LQ_OK;
}

char *lq_str_take(lq_str *s) {
    if (!s->s && !s->failed) lq_str_add(s, "", 0);
    char *text = s->failed ? NULL : s->s;
    if (s->failed) lq_free(s->s);
    *s = (lq_str)LQ_STR_INIT;
    return text;
}

int lq_edit_distance(const char *a, const char *b) {
    enum { MAX = 63 };
    const size_t na = strlen(a), nb = strlen(b);
    if (na > MAX || nb > MAX) return MAX + 1;
    int row[MAX + 1];
    for (size_t j = 0; j <= nb; j++) row[j] = (int)j;
    for (size_t i = 1; i <= na; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= nb; j++) {
            const int substitute = diagonal + (a[i - 1] != b[j - 1]);
            const int indel = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            diagonal = row[j];
            row[j] = substitute < indel ? substitute : indel;
        }
    }
    return row[nb];
}
