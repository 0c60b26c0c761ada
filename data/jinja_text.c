/* UTF-8 and the string operations that both filters and methods use. Positions seen by templates
 * are code points, as in Python; case mapping is one to one (plus the sharp s), from the C
 * library's tables. */
#include "jinja_text.h"

#include <locale.h>
#include <string.h>
#include <threads.h>
#include <wctype.h>

int lq_utf8_decode(const char *s, int64_t n, uint32_t *code) {
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 0x80 || n < 2) {
        *code = p[0];
        return 1;
    }
    if (p[0] < 0xE0) {
        *code = (uint32_t)(p[0] & 0x1F) << 6 | (p[1] & 0x3F);
        return 2;
    }
    if (p[0] < 0xF0 && n >= 3) {
        *code = (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (p[2] & 0x3F);
        return 3;
    }
    if (n >= 4) {
        *code = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 |
                (uint32_t)(p[2] & 0x3F) << 6 | (p[3] & 0x3F);
        return 4;
    }
    *code = 0xFFFD;
    return 1;
}

int lq_utf8_encode(uint32_t code, char out[4]) {
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    const int n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (int i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    out[0] = (char)(lead[n] | code);
    return n;
}

bool lq_utf8_valid(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        const unsigned char c = (unsigned char)s[i];
        const size_t len = c < 0x80                ? 1
                           : c >= 0xC2 && c < 0xE0 ? 2
                           : c >= 0xE0 && c < 0xF0 ? 3
                           : c >= 0xF0 && c < 0xF5 ? 4
                                                   : 0;
        if (!len || len > n - i) return false;
        for (size_t k = 1; k < len; k++)
            if (((unsigned char)s[i + k] & 0xC0) != 0x80) return false;
        uint32_t code;
        lq_utf8_decode(s + i, (int64_t)len, &code);
        if ((len == 3 && code < 0x800) || (len == 4 && code < 0x10000) || code > 0x10FFFF ||
            (code >= 0xD800 && code < 0xE000))
            return false;
        i += len;
    }
    return true;
}

int64_t lq_utf8_offset(const jstr *s, int64_t chars) {
    if (chars >= s->chars) return s->n;
    if (s->chars == s->n) return chars; /* ASCII */
    int64_t at = 0;
    for (uint32_t code; chars > 0 && at < s->n; chars--)
        at += lq_utf8_decode(s->s + at, s->n - at, &code);
    return at;
}

bool lq_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

bool lq_is_printable(uint32_t c) {
    return c == ' ' ||
           (c > ' ' && c != 0x7F && !(c >= 0x80 && c < 0xA0) && c != 0xAD && !lq_is_space(c) &&
            !(c >= 0x200B && c <= 0x200F) && !(c >= 0x202A && c <= 0x202E) &&
            !(c >= 0x2060 && c <= 0x206F) && !(c >= 0xD800 && c < 0xF900) && c != 0xFEFF &&
            !(c >= 0xFFF0 && c <= 0xFFFB) && c < 0xE0000);
}

/* The C library's tables by way of a UTF-8 locale of our own, so that the process's locale plays no
 * part. It is made once and lives as long as the process; without it only ASCII has case. */
static locale_t unicode;
static once_flag unicode_once = ONCE_FLAG_INIT;

static void make_unicode(void) { unicode = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0); }

static locale_t unicode_locale(void) {
    call_once(&unicode_once, make_unicode);
    return unicode;
}

uint32_t lq_to_upper(uint32_t c) {
    if (c < 0x80) return c >= 'a' && c <= 'z' ? c - 32 : c;
    const locale_t locale = unicode_locale();
    return locale ? (uint32_t)towupper_l((wint_t)c, locale) : c;
}

uint32_t lq_to_lower(uint32_t c) {
    if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
    const locale_t locale = unicode_locale();
    return locale ? (uint32_t)towlower_l((wint_t)c, locale) : c;
}

bool lq_is_digit(uint32_t c) { return c >= '0' && c <= '9'; }

bool lq_is_alpha(uint32_t c) {
    if (c < 0x80) return (c | 32) >= 'a' && (c | 32) <= 'z';
    const locale_t locale = unicode_locale();
    return locale && iswalpha_l((wint_t)c, locale);
}

static jvalue map_case(jmem *m, const jstr *s, bool upper) {
    jbuf b = {0};
    char out[4];
    for (int64_t at = 0; at < s->n;) {
        uint32_t code;
        at += lq_utf8_decode(s->s + at, s->n - at, &code);
        if (upper && code == 0xDF) lq_jbuf_puts(m, &b, "SS");
        else
            lq_jbuf_add(m, &b, out,
                        (size_t)lq_utf8_encode(upper ? lq_to_upper(code) : lq_to_lower(code), out));
    }
    return lq_jbuf_value(m, &b);
}

jvalue lq_jupper(jmem *m, const jstr *s) { return map_case(m, s, true); }
jvalue lq_jlower(jmem *m, const jstr *s) { return map_case(m, s, false); }

static bool is_stripped(uint32_t code, const jstr *chars) {
    if (!chars) return lq_is_space(code);
    for (int64_t at = 0; at < chars->n;) {
        uint32_t c;
        at += lq_utf8_decode(chars->s + at, chars->n - at, &c);
        if (c == code) return true;
    }
    return false;
}

jvalue lq_jstrip(jmem *m, const jstr *s, const jstr *chars, bool left, bool right) {
    int64_t start = 0, end = s->n;
    uint32_t code;
    while (left && start < end) {
        const int n = lq_utf8_decode(s->s + start, end - start, &code);
        if (!is_stripped(code, chars)) break;
        start += n;
    }
    while (right && end > start) {
        int64_t last = end - 1;
        while (last > start && ((unsigned char)s->s[last] & 0xC0) == 0x80) last--;
        lq_utf8_decode(s->s + last, end - last, &code);
        if (!is_stripped(code, chars)) break;
        end = last;
    }
    return lq_jstr(m, s->s + start, end - start);
}

int64_t lq_jfind_bytes(const jstr *s, const jstr *part, int64_t from, int64_t end) {
    if (from > end || part->n > end - from) return -1;
    if (!part->n) return from;
    const char *const last = s->s + end - part->n;
    for (const char *p = s->s + from; p <= last; p++) {
        p = memchr(p, part->s[0], (size_t)(last - p) + 1);
        if (!p) return -1;
        if (!memcmp(p, part->s, (size_t)part->n)) return p - s->s;
    }
    return -1;
}

jvalue lq_jreplace(jmem *m, const jstr *s, const jstr *from, const jstr *to, int64_t count) {
    jbuf b = {0};
    int64_t at = 0;
    while (count != 0 && at <= s->n) {
        const int64_t hit = lq_jfind_bytes(s, from, at, s->n);
        if (hit < 0) break;
        lq_jstep(m, 1);
        lq_jbuf_add(m, &b, s->s + at, (size_t)(hit - at));
        lq_jbuf_add(m, &b, to->s, (size_t)to->n);
        at = hit + from->n;
        if (!from->n) { /* an empty pattern matches before every character and at the end */
            uint32_t code;
            const int64_t n = at < s->n ? lq_utf8_decode(s->s + at, s->n - at, &code) : 1;
            if (at < s->n) lq_jbuf_add(m, &b, s->s + at, (size_t)n);
            at += n;
        }
        count--;
    }
    if (at < s->n) lq_jbuf_add(m, &b, s->s + at, (size_t)(s->n - at));
    return lq_jbuf_value(m, &b);
}

jvalue lq_jescape(jmem *m, const jstr *s) {
    jbuf b = {0};
    for (int64_t i = 0; i < s->n; i++) {
        const char c = s->s[i];
        const char *const entity = c == '&'    ? "&amp;"
                                   : c == '<'  ? "&lt;"
                                   : c == '>'  ? "&gt;"
                                   : c == '"'  ? "&#34;"
                                   : c == '\'' ? "&#39;"
                                               : NULL;
        if (entity) lq_jbuf_puts(m, &b, entity);
        else lq_jbuf_add(m, &b, &c, 1);
    }
    jvalue v = lq_jbuf_value(m, &b);
    v.markup = true;
    return v;
}
