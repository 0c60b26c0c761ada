/* Filters on one value: text, numbers, JSON. Those on sequences are in jinja_filters_seq.c. */
#include "jinja.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static jvalue f_upper(jx *x, const jcall *c) { return lq_jupper(&x->m, lq_jself_str(x, c)); }
static jvalue f_lower(jx *x, const jcall *c) { return lq_jlower(&x->m, lq_jself_str(x, c)); }
static jvalue f_string(jx *x, const jcall *c) { return lq_jto_str(&x->m, c->self); }

static jvalue f_trim(jx *x, const jcall *c) {
    const jstr *chars = lq_jgiven(c->arg[0]) ? lq_jarg_str(x, c, 0, NULL) : NULL;
    return lq_jstrip(&x->m, lq_jself_str(x, c), chars, true, true);
}

/* First letter of each word upper, the rest lower; words begin after white space and -({[<. */
static jvalue f_title(jx *x, const jcall *c) {
    const jstr *s = lq_jself_str(x, c);
    jbuf b = {0};
    bool begins = true;
    for (int64_t at = 0; at < s->n;) {
        uint32_t code;
        char out[4];
        at += lq_utf8_decode(s->s + at, s->n - at, &code);
        lq_jbuf_add(&x->m, &b, out,
                    (size_t)lq_utf8_encode(begins ? lq_to_upper(code) : lq_to_lower(code), out));
        begins = lq_is_space(code) || (code < 128 && strchr("-({[<", (int)code));
    }
    return lq_jbuf_value(&x->m, &b);
}

static jvalue f_capitalize(jx *x, const jcall *c) {
    const jstr *s = lq_jlower(&x->m, lq_jself_str(x, c)).u.str;
    uint32_t code;
    if (!s->n) return lq_jtext(&x->m, "");
    const int n = lq_utf8_decode(s->s, s->n, &code);
    const jvalue first = lq_jupper(&x->m, lq_jstr(&x->m, s->s, n).u.str);
    return lq_jarith(&x->m, '+', first, lq_jstr(&x->m, s->s + n, s->n - n));
}

static jvalue f_replace(jx *x, const jcall *c) {
    if (c->arg[1].type == J_MISSING)
        lq_jthrow(&x->m, LQ_EVALUE, "replace needs what to replace and by what");
    const jstr *from = lq_jto_str(&x->m, c->arg[0]).u.str, *to = lq_jto_str(&x->m, c->arg[1]).u.str;
    const int64_t count = lq_jgiven(c->arg[2]) ? lq_jarg_int(x, c, 2, -1) : -1;
    return lq_jreplace(&x->m, lq_jself_str(x, c), from, to, count);
}

static jvalue f_indent(jx *x, const jcall *c) {
    const jstr *s = lq_jself_str(x, c);
    const bool first = lq_jarg_bool(c, 1, false), blank = lq_jarg_bool(c, 2, false);
    jvalue pad = c->arg[0];
    if (pad.type != J_STR)
        pad = lq_jarith(&x->m, '*', lq_jtext(&x->m, " "), lq_jint(lq_jarg_int(x, c, 0, 4)));
    const jvalue text = lq_jarith(&x->m, '+', lq_jstr(&x->m, s->s, s->n), lq_jtext(&x->m, "\n"));
    const jseq *lines =
        lq_jcall_builtin(x, lq_jfind_method(text, "splitlines"), text, &(jargs){0}).u.seq;
    jbuf b = {0};
    for (int64_t i = 0; i < lines->n; i++) {
        if (i) lq_jbuf_puts(&x->m, &b, "\n");
        if (i ? lines->v[i].u.str->n || blank : first) lq_jprint(&x->m, &b, pad);
        lq_jprint(&x->m, &b, lines->v[i]);
    }
    return lq_jbuf_value(&x->m, &b);
}

static jvalue f_default(jx *x, const jcall *c) {
    const bool replace =
        c->self.type == J_UNDEFINED || (lq_jarg_bool(c, 1, false) && !lq_jtruth(c->self));
    if (!replace) return c->self;
    return c->arg[0].type == J_MISSING ? lq_jtext(&x->m, "") : c->arg[0];
}

static jvalue f_safe(jx *x, const jcall *c) {
    jvalue v = lq_jto_str(&x->m, c->self);
    v.markup = true;
    return v;
}

static jvalue f_escape(jx *x, const jcall *c) {
    return c->self.markup ? c->self : lq_jescape(&x->m, lq_jself_str(x, c));
}

static jvalue f_wordcount(jx *x, const jcall *c) {
    const jstr *s = lq_jself_str(x, c);
    int64_t words = 0;
    bool inside = false;
    for (int64_t at = 0; at < s->n;) {
        uint32_t code;
        at += lq_utf8_decode(s->s + at, s->n - at, &code);
        const bool word = code == '_' || lq_is_alpha(code) || lq_is_digit(code);
        words += word && !inside;
        inside = word;
    }
    return lq_jint(words);
}

static jvalue f_center(jx *x, const jcall *c) {
    jvalue width = lq_jint(lq_jarg_int(x, c, 0, 80));
    const jvalue text = lq_jto_str(&x->m, c->self);
    return lq_jcall_builtin(x, lq_jfind_method(text, "center"), text,
                            &(jargs){.v = &width, .n = 1});
}

/* ---- numbers ---- */
/* A number in `text` as Python's int() or float() reads it: surrounding space and single _ allowed.
 */
static bool parse_number(jx *x, const jstr *text, int base, bool as_float, jvalue *out) {
    const jstr *s = lq_jstrip(&x->m, text, NULL, true, true).u.str;
    jbuf b = {0};
    lq_jbuf_puts(&x->m, &b, "");
    for (int64_t i = 0; i < s->n; i++) {
        const bool joined = s->s[i] == '_' && i > 0 && lq_is_digit((unsigned char)s->s[i - 1]) &&
                            lq_is_digit((unsigned char)s->s[i + 1]);
        if (!joined) lq_jbuf_add(&x->m, &b, s->s + i, 1);
    }
    if (as_float && strpbrk(b.s, "xXpP"))
        return false; /* strtod reads hexadecimal, Python does not */
    const char *digits = b.s + (b.s[0] == '-' || b.s[0] == '+');
    const char mark = base == 16 ? 'x' : base == 8 ? 'o' : base == 2 ? 'b' : 0;
    const bool prefixed = mark && digits[0] == '0' && (digits[1] | 32) == mark;
    char *rest = b.s;
    if (as_float) *out = lq_jfloat(strtod(b.s, &rest));
    else *out = lq_jint(strtoll(prefixed ? digits + 2 : b.s, &rest, base));
    if (!as_float && prefixed && b.s[0] == '-') out->u.i = -out->u.i;
    return b.n > 0 && rest != b.s && !*rest;
}

static bool to_float(jx *x, jvalue v, jvalue *out) {
    if (v.type == J_STR) return parse_number(x, v.u.str, 10, true, out);
    if (!lq_jis_number(v)) return false;
    *out = lq_jfloat(lq_jnumber(v));
    return true;
}

static jvalue f_int(jx *x, const jcall *c) {
    const jvalue otherwise = c->arg[0].type == J_MISSING ? lq_jint(0) : c->arg[0];
    const int64_t base = lq_jarg_int(x, c, 1, 10);
    jvalue v;
    lq_jneed_defined(&x->m, c->self);
    if (base < 2 || base > 36)
        lq_jthrow(&x->m, LQ_EVALUE, "int: base %lld is not supported", (long long)base);
    if (c->self.type == J_INT) return c->self;
    if (c->self.type == J_STR && parse_number(x, c->self.u.str, (int)base, false, &v)) return v;
    if (!to_float(x, c->self, &v) || !isfinite(v.u.f)) return otherwise;
    if (fabs(v.u.f) >= 9.2e18) lq_jthrow(&x->m, LQ_EVALUE, "an integer does not fit in 64 bits");
    return lq_jint((int64_t)v.u.f);
}

static jvalue f_float(jx *x, const jcall *c) {
    jvalue v;
    lq_jneed_defined(&x->m, c->self);
    if (to_float(x, c->self, &v)) return v;
    return c->arg[0].type == J_MISSING ? lq_jfloat(0) : c->arg[0];
}

static jvalue f_abs(jx *x, const jcall *c) {
    if (!lq_jis_number(c->self))
        lq_jthrow(&x->m, LQ_EVALUE, "abs needs a number, not %s", lq_jtype_name(c->self));
    const bool negative = lq_jnumber(c->self) < 0;
    return negative ? lq_jnegate(&x->m, c->self) : lq_jarith(&x->m, '+', c->self, lq_jint(0));
}

/* Python rounds the exact decimal value, half to even: so does printf. */
static jvalue f_round(jx *x, const jcall *c) {
    static const jstr common = {"common", 6, 6};
    const int64_t precision = lq_jarg_int(x, c, 0, 0);
    const jstr *method = lq_jarg_str(x, c, 1, &common);
    if (!lq_jis_number(c->self))
        lq_jthrow(&x->m, LQ_EVALUE, "round needs a number, not %s", lq_jtype_name(c->self));
    if (precision < 0 || precision > 30)
        lq_jthrow(&x->m, LQ_EVALUE, "round: precision must be 0 to 30");
    const double v = lq_jnumber(c->self), scale = pow(10, (double)precision);
    if (!strcmp(method->s, "ceil")) return lq_jfloat(ceil(v * scale) / scale);
    if (!strcmp(method->s, "floor")) return lq_jfloat(floor(v * scale) / scale);
    if (strcmp(method->s, "common"))
        lq_jthrow(&x->m, LQ_EVALUE, "round: method must be common, ceil or floor");
    if (c->self.type != J_FLOAT) return lq_jarith(&x->m, '+', c->self, lq_jint(0));
    jbuf b = {0};
    lq_jbuf_printf(&x->m, &b, "%.*f", (int)precision, v);
    return lq_jfloat(strtod(b.s, NULL));
}

/* ---- JSON and formatting ---- */
static jvalue f_tojson(jx *x, const jcall *c) {
    jjson_style style = {.ascii = lq_jarg_bool(c, 0, false),
                         .sort_keys = lq_jarg_bool(c, 3, false)};
    const jvalue indent = c->arg[1], separators = c->arg[2];
    if (indent.type == J_STR) style.indent = indent.u.str->s;
    else if (lq_jgiven(indent))
        style.indent =
            lq_jarith(&x->m, '*', lq_jtext(&x->m, " "), lq_jint(lq_jarg_int(x, c, 1, 0))).u.str->s;
    style.item_sep = style.indent ? "," : ", ";
    style.key_sep = ": ";
    if (lq_jgiven(separators)) {
        const jseq *pair = lq_jiterate(&x->m, separators).u.seq;
        if (pair->n != 2 || pair->v[0].type != J_STR || pair->v[1].type != J_STR)
            lq_jthrow(&x->m, LQ_EVALUE, "tojson: separators must be two strings");
        style.item_sep = pair->v[0].u.str->s;
        style.key_sep = pair->v[1].u.str->s;
    }
    jbuf b = {0};
    lq_jjson(&x->m, &b, c->self, &style);
    return lq_jbuf_value(&x->m, &b);
}

static jvalue f_format(jx *x, const jcall *c) {
    if (c->raw->keywords && c->raw->n)
        lq_jthrow(&x->m, LQ_EVALUE, "format takes positional or named values, not both");
    if (c->raw->keywords)
        return lq_jpercent(&x->m, lq_jself_str(x, c),
                           (jvalue){.type = J_DICT, .u.dict = c->raw->keywords});
    const jvalue args = lq_jseq(&x->m, J_TUPLE, c->raw->n);
    for (int64_t i = 0; i < c->raw->n; i++) lq_jpush(&x->m, args, c->raw->v[i]);
    return lq_jpercent(&x->m, lq_jself_str(x, c), args);
}

static jvalue f_attr(jx *x, const jcall *c) {
    const jstr *name = lq_jarg_str(x, c, 0, NULL);
    if (!name) lq_jthrow(&x->m, LQ_EVALUE, "attr needs a name");
    if (c->self.type == J_DICT && !lq_jfind_method(c->self, name->s))
        return lq_jundefined(&x->m, "'dict' object has no attribute '%s'", name->s);
    return lq_jget_attr(x, c->self, name->s);
}

const jbuiltin lq_jtext_filters[] = {
    {"abs", f_abs, ""}, {"attr", f_attr, "name"}, {"capitalize", f_capitalize, ""},
    {"center", f_center, "width"}, {"d", f_default, "default_value boolean"},
    {"default", f_default, "default_value boolean"}, {"e", f_escape, ""}, {"escape", f_escape, ""},
    {"float", f_float, "default"}, {"format", f_format, "*"},
    {"indent", f_indent, "width first blank"}, {"int", f_int, "default base"},
    {"lower", f_lower, ""}, {"replace", f_replace, "old new count"},
    {"round", f_round, "precision method"}, {"safe", f_safe, ""}, {"string", f_string, ""},
    {"title", f_title, ""}, {"tojson", f_tojson, "ensure_ascii indent separators sort_keys"},
    {"trim", f_trim, "chars"}, {"upper", f_upper, ""}, {"wordcount", f_wordcount, ""},
    {NULL, NULL, NULL}};
