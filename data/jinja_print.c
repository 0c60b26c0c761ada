/* str(), repr() and json.dumps of template values, byte for byte as Python writes them. */
#include "jinja_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The shortest decimal that reads back as f, in Python's layout: 1.0, 1e+16, 1e-05. */
void lq_jprint_float(jmem *m, jbuf *b, double f) {
    if (isnan(f)) {
        lq_jbuf_puts(m, b, "nan");
        return;
    }
    if (isinf(f)) {
        lq_jbuf_puts(m, b, f < 0 ? "-inf" : "inf");
        return;
    }
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, f);
        if (strtod(text, NULL) == f) break;
    }
    const int exponent = atoi(strchr(text, 'e') + 1);
    const int digits =
        (int)(strchr(text, 'e') - text) - (text[0] == '-') - (strchr(text, '.') != NULL);
    if (exponent < -4 || exponent >= 16) lq_jbuf_puts(m, b, text);
    else lq_jbuf_printf(m, b, "%.*f", digits - 1 > exponent ? digits - 1 - exponent : 1, f);
}

static void print_repr_text(jmem *m, jbuf *b, const jstr *s) {
    const bool twice = memchr(s->s, '\'', (size_t)s->n) && !memchr(s->s, '"', (size_t)s->n);
    const char quote = twice ? '"' : '\'';
    lq_jbuf_add(m, b, &quote, 1);
    for (int64_t at = 0; at < s->n;) {
        uint32_t c;
        const int n = lq_utf8_decode(s->s + at, s->n - at, &c);
        if (c == (uint32_t)quote || c == '\\') lq_jbuf_puts(m, b, "\\");
        if (c == '\n') lq_jbuf_puts(m, b, "\\n");
        else if (c == '\r') lq_jbuf_puts(m, b, "\\r");
        else if (c == '\t') lq_jbuf_puts(m, b, "\\t");
        else if (lq_is_printable(c)) lq_jbuf_add(m, b, s->s + at, (size_t)n);
        else
            lq_jbuf_printf(m, b,
                           c < 0x100     ? "\\x%02x"
                           : c < 0x10000 ? "\\u%04x"
                                         : "\\U%08x",
                           (unsigned)c);
        at += n;
    }
    lq_jbuf_add(m, b, &quote, 1);
}

static void repr_items(jmem *m, jbuf *b, const jseq *seq) {
    for (int64_t i = 0; i < seq->n; i++) {
        if (i) lq_jbuf_puts(m, b, ", ");
        lq_jrepr(m, b, seq->v[i]);
    }
}

static void repr_seq(jmem *m, jbuf *b, jvalue v) {
    if (v.type == J_RANGE) {
        lq_jbuf_puts(m, b, v.u.seq->repr);
        return;
    }
    if (v.type == J_VIEW) {
        lq_jbuf_puts(m, b, v.u.seq->repr);
        lq_jbuf_puts(m, b, "(");
    }
    lq_jbuf_puts(m, b, v.type == J_TUPLE ? "(" : "[");
    repr_items(m, b, v.u.seq);
    if (v.type == J_TUPLE && v.u.seq->n == 1) lq_jbuf_puts(m, b, ",");
    lq_jbuf_puts(m, b, v.type == J_TUPLE ? ")" : "]");
    if (v.type == J_VIEW) lq_jbuf_puts(m, b, ")");
}

static void repr_dict(jmem *m, jbuf *b, const jdict *d) {
    lq_jbuf_puts(m, b, "{");
    for (int64_t i = 0; i < d->n; i++) {
        if (i) lq_jbuf_puts(m, b, ", ");
        lq_jrepr(m, b, d->v[i].key);
        lq_jbuf_puts(m, b, ": ");
        lq_jrepr(m, b, d->v[i].value);
    }
    lq_jbuf_puts(m, b, "}");
}

void lq_jrepr(jmem *m, jbuf *b, jvalue v) {
    lq_jenter(m);
    switch (v.type) {
    case J_UNDEFINED: lq_jbuf_puts(m, b, "Undefined"); break;
    case J_NONE: lq_jbuf_puts(m, b, "None"); break;
    case J_BOOL: lq_jbuf_puts(m, b, v.u.b ? "True" : "False"); break;
    case J_INT: lq_jbuf_printf(m, b, "%lld", (long long)v.u.i); break;
    case J_FLOAT: lq_jprint_float(m, b, v.u.f); break;
    case J_STR:
        if (v.markup) lq_jbuf_puts(m, b, "Markup(");
        print_repr_text(m, b, v.u.str);
        if (v.markup) lq_jbuf_puts(m, b, ")");
        break;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: repr_seq(m, b, v); break;
    case J_DICT: repr_dict(m, b, v.u.dict); break;
    case J_NAMESPACE:
        lq_jbuf_puts(m, b, "<Namespace ");
        repr_dict(m, b, v.u.dict);
        lq_jbuf_puts(m, b, ">");
        break;
    default: lq_jthrow(m, LQ_EVALUE, "a %s cannot be printed", lq_jtype_name(v));
    }
    lq_jleave(m);
}

void lq_jprint(jmem *m, jbuf *b, jvalue v) {
    if (v.type == J_STR) lq_jbuf_add(m, b, v.u.str->s, (size_t)v.u.str->n);
    else if (v.type != J_UNDEFINED) lq_jrepr(m, b, v);
}

jvalue lq_jto_str(jmem *m, jvalue v) {
    if (v.type == J_STR) return v;
    jbuf b = {0};
    lq_jprint(m, &b, v);
    return lq_jbuf_value(m, &b);
}

/* ---- JSON ---- */
static void json_text(jmem *m, jbuf *b, const jstr *s, bool ascii) {
    lq_jbuf_puts(m, b, "\"");
    for (int64_t at = 0; at < s->n;) {
        uint32_t c;
        const int n = lq_utf8_decode(s->s + at, s->n - at, &c);
        static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
        const char *special = c && c < 128 ? strchr(from, (int)c) : NULL;
        if (special) lq_jbuf_add(m, b, (const char[]){'\\', to[special - from]}, 2);
        else if (c >= 0x10000 && ascii)
            lq_jbuf_printf(m, b, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((c - 0x10000) >> 10)),
                           (unsigned)(0xDC00 + ((c - 0x10000) & 0x3FF)));
        else if (c < 0x20 || (ascii && c >= 0x7F + 1)) lq_jbuf_printf(m, b, "\\u%04x", (unsigned)c);
        else lq_jbuf_add(m, b, s->s + at, (size_t)n);
        at += n;
    }
    lq_jbuf_puts(m, b, "\"");
}

static void json_newline(jmem *m, jbuf *b, const jjson_style *style, int level) {
    if (!style->indent) return;
    lq_jbuf_puts(m, b, "\n");
    for (int i = 0; i < level; i++) lq_jbuf_puts(m, b, style->indent);
}

static void json_value(jmem *m, jbuf *b, jvalue v, const jjson_style *style, int level);

static void json_float(jmem *m, jbuf *b, double f) {
    if (isnan(f)) lq_jbuf_puts(m, b, "NaN");
    else if (isinf(f)) lq_jbuf_puts(m, b, f < 0 ? "-Infinity" : "Infinity");
    else lq_jprint_float(m, b, f);
}

static void json_key(jmem *m, jbuf *b, jvalue key, const jjson_style *style) {
    if (key.type == J_STR) {
        json_text(m, b, key.u.str, style->ascii);
        return;
    }
    if (!lq_jis_number(key) && key.type != J_NONE)
        lq_jthrow(m, LQ_EVALUE, "tojson: a key cannot be a %s", lq_jtype_name(key));
    lq_jbuf_puts(m, b, "\"");
    json_value(m, b, key, style, 0);
    lq_jbuf_puts(m, b, "\"");
}

static jvalue sorted_keys(jmem *m, const jdict *d) {
    const jvalue out = lq_jdict(m, d->n);
    for (int64_t i = 0; i < d->n; i++) {
        lq_jappend_pair(m, out.u.dict, d->v[i].key, d->v[i].value);
        jpair *p = out.u.dict->v;
        for (int64_t k = i; k > 0 && lq_jcompare(m, p[k].key, p[k - 1].key) < 0; k--) {
            const jpair swap = p[k];
            p[k] = p[k - 1];
            p[k - 1] = swap;
            lq_jstep(m, 1);
        }
    }
    return out;
}

static void json_dict(jmem *m, jbuf *b, const jdict *d, const jjson_style *style, int level) {
    if (style->sort_keys) d = sorted_keys(m, d).u.dict;
    lq_jbuf_puts(m, b, "{");
    for (int64_t i = 0; i < d->n; i++) {
        if (i) lq_jbuf_puts(m, b, style->item_sep);
        json_newline(m, b, style, level + 1);
        json_key(m, b, d->v[i].key, style);
        lq_jbuf_puts(m, b, style->key_sep);
        json_value(m, b, d->v[i].value, style, level + 1);
    }
    if (d->n) json_newline(m, b, style, level);
    lq_jbuf_puts(m, b, "}");
}

static void json_list(jmem *m, jbuf *b, const jseq *seq, const jjson_style *style, int level) {
    lq_jbuf_puts(m, b, "[");
    for (int64_t i = 0; i < seq->n; i++) {
        if (i) lq_jbuf_puts(m, b, style->item_sep);
        json_newline(m, b, style, level + 1);
        json_value(m, b, seq->v[i], style, level + 1);
    }
    if (seq->n) json_newline(m, b, style, level);
    lq_jbuf_puts(m, b, "]");
}

static void json_value(jmem *m, jbuf *b, jvalue v, const jjson_style *style, int level) {
    lq_jenter(m);
    switch (v.type) {
    case J_NONE: lq_jbuf_puts(m, b, "null"); break;
    case J_BOOL: lq_jbuf_puts(m, b, v.u.b ? "true" : "false"); break;
    case J_INT: lq_jbuf_printf(m, b, "%lld", (long long)v.u.i); break;
    case J_FLOAT: json_float(m, b, v.u.f); break;
    case J_STR: json_text(m, b, v.u.str, style->ascii); break;
    case J_LIST:
    case J_TUPLE: json_list(m, b, v.u.seq, style, level); break;
    case J_DICT: json_dict(m, b, v.u.dict, style, level); break;
    case J_UNDEFINED: lq_jthrow(m, LQ_EVALUE, "tojson: %s", v.u.why);
    default: lq_jthrow(m, LQ_EVALUE, "tojson: a %s is not JSON serializable", lq_jtype_name(v));
    }
    lq_jleave(m);
}

void lq_jjson(jmem *m, jbuf *b, jvalue v, const jjson_style *style) {
    json_value(m, b, v, style, 0);
}
