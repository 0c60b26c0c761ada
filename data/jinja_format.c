/* The two ways Python formats values into text: '%s items' % args and '{} items'.format(args). */
#include "jinja_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* One conversion: [[fill]align][sign][#][0][width][,][.precision][type], shared by both notations.
 */
typedef struct spec {
    char fill[5];
    char align; /* '<' '>' '^' '=' or 0 */
    char sign;  /* '+' ' ' or 0 */
    bool alternate, zero, comma;
    int width, precision; /* precision -1: not given */
    char type;            /* 0: not given */
} spec;

enum { MAX_WIDTH = 10000 };

static int read_int(jmem *m, const char **p) {
    int n = 0;
    for (; **p >= '0' && **p <= '9'; (*p)++) {
        n = n * 10 + (**p - '0');
        if (n > MAX_WIDTH) lq_jthrow(m, LQ_EVALUE, "format: a width above %d", MAX_WIDTH);
    }
    return n;
}

/* Puts commas between groups of three of the integer digits. */
static jbuf group_digits(jmem *m, const char *digits) {
    jbuf b = {0};
    const size_t n = strspn(digits, "0123456789");
    for (size_t i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) lq_jbuf_puts(m, &b, ",");
        lq_jbuf_add(m, &b, digits + i, 1);
    }
    lq_jbuf_puts(m, &b, digits + n);
    return b;
}

/* Sign, digits and padding of a number whose digits (without sign) are given. */
static void put_padded(jmem *m, jbuf *out, const char *sign, const char *text, int64_t chars,
                       const spec *s, char default_align) {
    const int64_t used = chars + (int64_t)strlen(sign), pad = s->width > used ? s->width - used : 0;
    const char align = s->align ? s->align : s->zero ? '=' : default_align;
    const int64_t left = align == '<' ? 0 : align == '^' ? pad / 2 : pad;
    const char *const fill = s->zero && !s->align ? "0" : s->fill;
    if (align == '=') lq_jbuf_puts(m, out, sign);
    for (int64_t i = 0; i < left; i++) lq_jbuf_puts(m, out, fill);
    if (align != '=') lq_jbuf_puts(m, out, sign);
    lq_jbuf_puts(m, out, text);
    for (int64_t i = left; i < pad; i++) lq_jbuf_puts(m, out, fill);
}

static void put_integer(jmem *m, jbuf *out, int64_t v, const spec *s) {
    const uint64_t magnitude = v < 0 ? 0 - (uint64_t)v : (uint64_t)v;
    jbuf b = {0};
    const char *prefix = "";
    if (s->type == 'x' || s->type == 'X' || s->type == 'o') {
        const char format[] = {'%', 'l', 'l', s->type, 0};
        char text[32];
        snprintf(text, sizeof text, format, (unsigned long long)magnitude);
        prefix = !s->alternate ? "" : s->type == 'x' ? "0x" : s->type == 'X' ? "0X" : "0o";
        lq_jbuf_puts(m, &b, text);
    } else if (s->type == 'b') {
        int bit = 63;
        while (bit > 0 && !(magnitude >> bit)) bit--;
        for (; bit >= 0; bit--) lq_jbuf_puts(m, &b, magnitude >> bit & 1 ? "1" : "0");
        prefix = s->alternate ? "0b" : "";
    } else {
        lq_jbuf_printf(m, &b, "%0*llu", s->precision > 0 ? s->precision : 1,
                       (unsigned long long)magnitude);
    }
    if (s->comma) b = group_digits(m, b.s);
    const char sign[] = {v < 0 ? '-' : s->sign, 0};
    jbuf head = {0};
    lq_jbuf_puts(m, &head, sign);
    lq_jbuf_puts(m, &head, prefix);
    put_padded(m, out, head.s, b.s, (int64_t)b.n, s, '>');
}

static void put_float(jmem *m, jbuf *out, double v, const spec *s) {
    jbuf b = {0};
    const double magnitude = fabs(v);
    const bool percent = s->type == '%';
    char type = percent ? 'f' : s->type;
    if (!type && s->precision < 0) {
        lq_jprint_float(m, &b, magnitude);
    } else {
        const char format[] = {'%', '.', '*', type ? type : 'g', 0};
        char text[512];
        const int precision = s->precision < 0 ? 6 : s->precision > 100 ? 100 : s->precision;
        snprintf(text, sizeof text, format, precision, percent ? magnitude * 100 : magnitude);
        lq_jbuf_puts(m, &b, text);
        if (!type && !strpbrk(b.s, ".en")) lq_jbuf_puts(m, &b, ".0");
        if (percent) lq_jbuf_puts(m, &b, "%");
    }
    if (s->comma) b = group_digits(m, b.s);
    const char sign[] = {signbit(v) && !isnan(v) ? '-' : s->sign, 0};
    put_padded(m, out, sign, b.s, (int64_t)b.n, s, '>');
}

static void put_text(jmem *m, jbuf *out, jvalue v, const spec *s, char default_align) {
    jvalue text = lq_jto_str(m, v);
    if (s->precision >= 0) text = lq_jslice(m, text, lq_jnone(), lq_jint(s->precision), lq_jnone());
    put_padded(m, out, "", text.u.str->s, text.u.str->chars, s, default_align);
}

static int64_t as_integer(jmem *m, jvalue v) {
    if (!lq_jis_number(v))
        lq_jthrow(m, LQ_EVALUE, "format: a number is wanted, not %s", lq_jtype_name(v));
    if (v.type == J_FLOAT && !(fabs(v.u.f) < 9.2e18))
        lq_jthrow(m, LQ_EVALUE, "format: an integer does not fit in 64 bits");
    return v.type == J_INT ? v.u.i : (int64_t)lq_jnumber(v);
}

/* ---- % ---- */
static jvalue next_arg(jmem *m, const jseq *args, int64_t *used) {
    if (*used >= args->n) lq_jthrow(m, LQ_EVALUE, "format: not enough arguments");
    return args->v[(*used)++];
}

static void put_percent(jmem *m, jbuf *out, jvalue v, spec *s) {
    jbuf repr = {0};
    switch (s->type) {
    case 's': put_text(m, out, v, s, '>'); break;
    case 'r':
        lq_jrepr(m, &repr, v);
        put_text(m, out, lq_jbuf_value(m, &repr), s, '>');
        break;
    case 'd':
    case 'i':
    case 'u':
        s->type = 'd';
        put_integer(m, out, as_integer(m, v), s);
        break;
    case 'x':
    case 'X':
    case 'o': put_integer(m, out, as_integer(m, v), s); break;
    case 'e':
    case 'E':
    case 'f':
    case 'F':
    case 'g':
    case 'G':
        if (!lq_jis_number(v))
            lq_jthrow(m, LQ_EVALUE, "format: a number is wanted, not %s", lq_jtype_name(v));
        put_float(m, out, lq_jnumber(v), s);
        break;
    default: lq_jthrow(m, LQ_EVALUE, "format: unsupported conversion '%%%c'", s->type);
    }
}

static const char *percent_spec(jmem *m, const char *p, const jseq *args, int64_t *used, spec *s) {
    for (; *p && strchr("-+ #0", *p); p++) {
        if (*p == '-') s->align = '<';
        if (*p == '+' || (*p == ' ' && !s->sign)) s->sign = *p;
        if (*p == '#') s->alternate = true;
        if (*p == '0') s->zero = true;
    }
    if (*p == '*') s->width = (int)as_integer(m, next_arg(m, args, used)), p++;
    else s->width = read_int(m, &p);
    if (s->width > MAX_WIDTH) lq_jthrow(m, LQ_EVALUE, "format: a width above %d", MAX_WIDTH);
    if (*p == '.') {
        p++;
        s->precision = read_int(m, &p);
    }
    while (*p == 'l' || *p == 'h') p++;
    s->type = *p;
    return *p ? p + 1 : p;
}

jvalue lq_jpercent(jmem *m, const jstr *format, jvalue args) {
    const jvalue single = lq_jseq(m, J_TUPLE, 1);
    lq_jpush(m, single, args);
    const jseq *const list = args.type == J_TUPLE ? args.u.seq : single.u.seq;
    int64_t used = 0;
    bool named = false;
    jbuf out = {0};
    for (const char *p = format->s, *const end = p + format->n; p < end;) {
        if (*p != '%' || p[1] == '%') {
            lq_jbuf_add(m, &out, p, 1);
            p += *p == '%' ? 2 : 1;
            continue;
        }
        spec s = {.fill = " ", .precision = -1};
        jvalue v = {.type = J_MISSING};
        p++;
        if (*p == '(') {
            const char *const close = strchr(p, ')');
            if (!close || args.type != J_DICT)
                lq_jthrow(m, LQ_EVALUE, "format: %%(name) needs a mapping");
            const jvalue *found = lq_jfind(m, args.u.dict, lq_jstr(m, p + 1, close - p - 1));
            if (!found)
                lq_jthrow(m, LQ_EVALUE, "format: no value named '%.*s'", (int)(close - p - 1),
                          p + 1);
            v = *found;
            named = true;
            p = close + 1;
        }
        p = percent_spec(m, p, list, &used, &s);
        put_percent(m, &out, v.type == J_MISSING ? next_arg(m, list, &used) : v, &s);
    }
    if (!named && used < list->n && args.type != J_DICT)
        lq_jthrow(m, LQ_EVALUE, "format: not all arguments were used");
    return lq_jbuf_value(m, &out);
}

/* ---- {} ---- */
static void put_braced(jmem *m, jbuf *out, jvalue v, const char *p) {
    spec s = {.fill = " ", .precision = -1};
    uint32_t code;
    const int n = *p ? lq_utf8_decode(p, (int64_t)strlen(p), &code) : 1;
    if (*p && p[n] && strchr("<>^=", p[n])) {
        memcpy(s.fill, p, (size_t)n);
        s.fill[n] = 0;
        p += n;
    }
    if (*p && strchr("<>^=", *p)) s.align = *p++;
    if (*p && strchr("+- ", *p)) s.sign = *p == '-' ? 0 : *p, p++;
    if (*p == '#') s.alternate = true, p++;
    if (*p == '0') s.zero = true, p++;
    s.width = read_int(m, &p);
    if (*p == ',') s.comma = true, p++;
    if (*p == '.') {
        p++;
        s.precision = read_int(m, &p);
    }
    s.type = *p ? *p++ : 0;
    if (*p) lq_jthrow(m, LQ_EVALUE, "format: bad format specification");
    const bool integer = v.type == J_INT || (v.type == J_BOOL && s.type && s.type != 's');
    if (integer && (!s.type || strchr("dxXob", s.type))) put_integer(m, out, as_integer(m, v), &s);
    else if (lq_jis_number(v) && v.type != J_BOOL && (v.type == J_FLOAT || s.type) &&
             (!s.type || strchr("eEfFgG%", s.type)))
        put_float(m, out, lq_jnumber(v), &s);
    else if (!s.type || s.type == 's') put_text(m, out, v, &s, '<');
    else lq_jthrow(m, LQ_EVALUE, "format: '%c' does not format a %s", s.type, lq_jtype_name(v));
}

static jvalue subfield(jmem *m, jvalue v, const char *name, size_t n) {
    const bool is_index = n && strspn(name, "0123456789") >= n;
    int64_t i = 0;
    for (size_t k = 0; is_index && k < n && i < MAX_WIDTH; k++) i = i * 10 + (name[k] - '0');
    v = lq_jindex(m, v, is_index ? lq_jint(i) : lq_jstr(m, name, (int64_t)n));
    if (v.type == J_MISSING) lq_jthrow(m, LQ_EVALUE, "format: no field '%.*s'", (int)n, name);
    return v;
}

/* "name.attr[index]" up to ':' or '!' or the end. */
static jvalue field(jmem *m, const char *p, size_t n, const jseq *args, const jdict *kwargs,
                    int64_t *automatic) {
    const size_t head = strcspn(p, ".[:!}");
    jvalue v = {.type = J_MISSING};
    if (!head) {
        v = next_arg(m, args, automatic);
    } else if (strspn(p, "0123456789") >= head) {
        const char *q = p;
        int64_t i = read_int(m, &q);
        v = next_arg(m, args, &i);
    } else {
        const jvalue *found = kwargs ? lq_jfind(m, kwargs, lq_jstr(m, p, (int64_t)head)) : NULL;
        if (!found) lq_jthrow(m, LQ_EVALUE, "format: no value named '%.*s'", (int)head, p);
        v = *found;
    }
    for (size_t at = head; at < n;) {
        const size_t len = strcspn(p + at + 1, p[at] == '[' ? "]" : ".[:!}");
        v = subfield(m, v, p + at + 1, len);
        at += 1 + len + (p[at] == '[');
    }
    return v;
}

jvalue lq_jbrace_format(jmem *m, const jstr *format, const jseq *args, const jdict *kwargs) {
    int64_t automatic = 0;
    jbuf out = {0};
    for (const char *p = format->s, *const end = p + format->n; p < end;) {
        if ((*p != '{' && *p != '}') || p[1] == *p) {
            lq_jbuf_add(m, &out, p, 1);
            p += *p == '{' || *p == '}' ? 2 : 1;
            continue;
        }
        const char *const close = *p == '{' ? strchr(p, '}') : NULL;
        if (!close || memchr(p + 1, '{', (size_t)(close - p - 1)))
            lq_jthrow(m, LQ_EVALUE, "format: unbalanced or nested braces");
        size_t n = strcspn(p + 1, ":!}");
        jvalue v = field(m, p + 1, n, args, kwargs, &automatic);
        const char *q = p + 1 + n;
        if (*q == '!') {
            jbuf repr = {0};
            if (q[1] == 'r') lq_jrepr(m, &repr, v);
            else lq_jprint(m, &repr, v);
            v = lq_jbuf_value(m, &repr);
            q += 2;
        }
        const char *const text = *q == ':' ? q + 1 : close;
        put_braced(m, &out, v, lq_jstr(m, text, close - text).u.str->s);
        p = close + 1;
    }
    return lq_jbuf_value(m, &out);
}
