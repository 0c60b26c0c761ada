/* Methods of strings, as Python has them. */
#include "jinja_methods.h"

#include <string.h>

static const jstr *self(const jcall *c) { return c->self.u.str; }

static const jstr *need_str(jx *x, const jcall *c, int i) {
    const jstr *s = lq_jarg_str(x, c, i, NULL);
    if (!s) lq_jthrow(&x->m, LQ_EVALUE, "str.%s: argument %d is missing", c->name, i + 1);
    return s;
}

static const jstr *chars_arg(jx *x, const jcall *c) {
    return lq_jgiven(c->arg[0]) ? lq_jarg_str(x, c, 0, NULL) : NULL;
}

static jvalue m_strip(jx *x, const jcall *c) {
    return lq_jstrip(&x->m, self(c), chars_arg(x, c), true, true);
}
static jvalue m_lstrip(jx *x, const jcall *c) {
    return lq_jstrip(&x->m, self(c), chars_arg(x, c), true, false);
}
static jvalue m_rstrip(jx *x, const jcall *c) {
    return lq_jstrip(&x->m, self(c), chars_arg(x, c), false, true);
}
static jvalue m_upper(jx *x, const jcall *c) { return lq_jupper(&x->m, self(c)); }
static jvalue m_lower(jx *x, const jcall *c) { return lq_jlower(&x->m, self(c)); }

static jvalue m_capitalize(jx *x, const jcall *c) {
    return lq_japply_filter(x, "capitalize", c->self, &(jargs){0});
}

/* Python's title: a letter after anything that is no letter is upper. swap: swapcase instead. */
static jvalue recase(jx *x, const jcall *c, bool swap) {
    const jstr *s = self(c);
    jbuf b = {0};
    bool inside = false;
    for (int64_t at = 0; at < s->n;) {
        uint32_t code;
        char out[4];
        at += lq_utf8_decode(s->s + at, s->n - at, &code);
        const bool upper = swap ? lq_to_upper(code) != code : !inside;
        inside = lq_is_alpha(code);
        lq_jbuf_add(&x->m, &b, out,
                    (size_t)lq_utf8_encode(upper ? lq_to_upper(code) : lq_to_lower(code), out));
    }
    return lq_jbuf_value(&x->m, &b);
}

static jvalue m_title(jx *x, const jcall *c) { return recase(x, c, false); }
static jvalue m_swapcase(jx *x, const jcall *c) { return recase(x, c, true); }

static jvalue m_replace(jx *x, const jcall *c) {
    return lq_jreplace(&x->m, self(c), need_str(x, c, 0), need_str(x, c, 1),
                       lq_jarg_int(x, c, 2, -1));
}

/* ---- splitting ---- */
static jvalue split_space(jx *x, const jstr *s, int64_t max) {
    const jvalue out = lq_jseq(&x->m, J_LIST, 0);
    const jstr *rest = lq_jstrip(&x->m, s, NULL, true, false).u.str;
    while (rest->n) {
        int64_t end = 0;
        for (uint32_t code; end < rest->n;) {
            const int n = lq_utf8_decode(rest->s + end, rest->n - end, &code);
            if (lq_is_space(code)) break;
            end += n;
        }
        if (max-- == 0) {
            lq_jpush(&x->m, out, lq_jstr(&x->m, rest->s, rest->n));
            break;
        }
        lq_jpush(&x->m, out, lq_jstr(&x->m, rest->s, end));
        const jvalue tail = lq_jstr(&x->m, rest->s + end, rest->n - end);
        rest = lq_jstrip(&x->m, tail.u.str, NULL, true, false).u.str;
    }
    return out;
}

static jvalue reverse_list(jx *x, jvalue list) {
    const jvalue none = lq_jnone();
    return lq_jslice(&x->m, list, none, none, lq_jint(-1));
}

/* As split_space from the right. */
static jvalue rsplit_space(jx *x, const jstr *s, int64_t max) {
    const jvalue out = lq_jseq(&x->m, J_LIST, 0);
    const jstr *rest = lq_jstrip(&x->m, s, NULL, false, true).u.str;
    while (rest->n) {
        int64_t start = rest->n;
        while (start > 0) {
            int64_t last = start - 1;
            uint32_t code;
            while (last > 0 && ((unsigned char)rest->s[last] & 0xC0) == 0x80) last--;
            lq_utf8_decode(rest->s + last, rest->n - last, &code);
            if (lq_is_space(code)) break;
            start = last;
        }
        if (max-- == 0) {
            lq_jpush(&x->m, out, lq_jstr(&x->m, rest->s, rest->n));
            break;
        }
        lq_jpush(&x->m, out, lq_jstr(&x->m, rest->s + start, rest->n - start));
        rest = lq_jstrip(&x->m, lq_jstr(&x->m, rest->s, start).u.str, NULL, false, true).u.str;
    }
    return reverse_list(x, out);
}

static int64_t rfind_bytes(const jstr *s, const jstr *part, int64_t from, int64_t end) {
    for (int64_t at = end - part->n; at >= from; at--)
        if (!memcmp(s->s + at, part->s, (size_t)part->n)) return at;
    return -1;
}

static const jstr *separator(jx *x, const jcall *c) {
    const jstr *sep = chars_arg(x, c);
    if (sep && !sep->n) lq_jthrow(&x->m, LQ_EVALUE, "str.%s: empty separator", c->name);
    return sep;
}

static jvalue m_split(jx *x, const jcall *c) {
    const jstr *s = self(c), *sep = separator(x, c);
    int64_t max = lq_jarg_int(x, c, 1, -1), at = 0, hit;
    if (!sep) return split_space(x, s, max);
    const jvalue out = lq_jseq(&x->m, J_LIST, 0);
    for (; max != 0 && (hit = lq_jfind_bytes(s, sep, at, s->n)) >= 0; max--) {
        lq_jpush(&x->m, out, lq_jstr(&x->m, s->s + at, hit - at));
        at = hit + sep->n;
    }
    lq_jpush(&x->m, out, lq_jstr(&x->m, s->s + at, s->n - at));
    return out;
}

static jvalue m_rsplit(jx *x, const jcall *c) {
    const jstr *s = self(c), *sep = separator(x, c);
    int64_t max = lq_jarg_int(x, c, 1, -1), end = s->n, hit;
    if (!sep) return rsplit_space(x, s, max);
    const jvalue out = lq_jseq(&x->m, J_LIST, 0);
    for (; max != 0 && (hit = rfind_bytes(s, sep, 0, end)) >= 0; max--) {
        lq_jpush(&x->m, out, lq_jstr(&x->m, s->s + hit + sep->n, end - hit - sep->n));
        end = hit;
    }
    lq_jpush(&x->m, out, lq_jstr(&x->m, s->s, end));
    return reverse_list(x, out);
}

static jvalue three(jx *x, const jstr *s, int64_t at, int64_t n) {
    const jvalue out = lq_jseq(&x->m, J_TUPLE, 3);
    lq_jpush(&x->m, out, lq_jstr(&x->m, s->s, at));
    lq_jpush(&x->m, out, lq_jstr(&x->m, s->s + at, n));
    lq_jpush(&x->m, out, lq_jstr(&x->m, s->s + at + n, s->n - at - n));
    return out;
}

static jvalue m_partition(jx *x, const jcall *c) {
    const jstr *s = self(c), *sep = need_str(x, c, 0);
    separator(x, c);
    const int64_t at = lq_jfind_bytes(s, sep, 0, s->n);
    return at < 0 ? three(x, s, s->n, 0) : three(x, s, at, sep->n);
}

static jvalue m_rpartition(jx *x, const jcall *c) {
    const jstr *s = self(c), *sep = need_str(x, c, 0);
    separator(x, c);
    const int64_t at = rfind_bytes(s, sep, 0, s->n);
    return at < 0 ? three(x, s, 0, 0) : three(x, s, at, sep->n);
}

/* Bytes of the line break at `at`, 0 if there is none. */
static int line_break(const jstr *s, int64_t at, int *bytes) {
    uint32_t code;
    *bytes = lq_utf8_decode(s->s + at, s->n - at, &code);
    if (code == '\r' && s->s[at + 1] == '\n') return 2;
    const bool is = (code >= 10 && code <= 13) || (code >= 0x1C && code <= 0x1E) || code == 0x85 ||
                    code == 0x2028 || code == 0x2029;
    return is ? *bytes : 0;
}

static jvalue m_splitlines(jx *x, const jcall *c) {
    const jstr *s = self(c);
    const bool keep = lq_jarg_bool(c, 0, false);
    const jvalue out = lq_jseq(&x->m, J_LIST, 0);
    int64_t start = 0;
    for (int64_t at = 0; at < s->n;) {
        int bytes;
        const int n = line_break(s, at, &bytes);
        if (n) lq_jpush(&x->m, out, lq_jstr(&x->m, s->s + start, at + (keep ? n : 0) - start));
        at += n ? n : bytes;
        if (n) start = at;
    }
    if (start < s->n) lq_jpush(&x->m, out, lq_jstr(&x->m, s->s + start, s->n - start));
    return out;
}

/* ---- searching; positions are code points ---- */
/* Byte range [from, end) of the optional arguments start and end. False if it is empty and out of
 * range. */
static bool search_range(jx *x, const jcall *c, int64_t *from, int64_t *end) {
    const jstr *s = self(c);
    int64_t bound[2] = {0, s->chars};
    for (int i = 0; i < 2; i++) {
        if (!lq_jgiven(c->arg[1 + i])) continue;
        bound[i] = lq_jarg_int(x, c, 1 + i, 0);
        if (bound[i] < 0) bound[i] = bound[i] < -s->chars ? 0 : bound[i] + s->chars;
        if (bound[i] > s->chars && i) bound[i] = s->chars;
    }
    *from = lq_utf8_offset(s, bound[0]);
    *end = lq_utf8_offset(s, bound[1]);
    return bound[0] <= bound[1];
}

static int64_t position(jx *x, const jcall *c, bool from_right) {
    const jstr *s = self(c), *part = need_str(x, c, 0);
    int64_t from, end;
    if (!search_range(x, c, &from, &end)) return -1;
    const int64_t at =
        from_right ? rfind_bytes(s, part, from, end) : lq_jfind_bytes(s, part, from, end);
    return at < 0 ? -1 : lq_jstr(&x->m, s->s, at).u.str->chars;
}

static jvalue found(jx *x, const jcall *c, int64_t at) {
    if (at < 0) lq_jthrow(&x->m, LQ_EVALUE, "str.%s: substring not found", c->name);
    return lq_jint(at);
}

static jvalue m_find(jx *x, const jcall *c) { return lq_jint(position(x, c, false)); }
static jvalue m_rfind(jx *x, const jcall *c) { return lq_jint(position(x, c, true)); }
static jvalue m_index(jx *x, const jcall *c) { return found(x, c, position(x, c, false)); }
static jvalue m_rindex(jx *x, const jcall *c) { return found(x, c, position(x, c, true)); }

static jvalue m_count(jx *x, const jcall *c) {
    const jstr *s = self(c), *part = need_str(x, c, 0);
    int64_t from, end, n = 0;
    if (!search_range(x, c, &from, &end)) return lq_jint(0);
    if (!part->n) return lq_jint(lq_jstr(&x->m, s->s + from, end - from).u.str->chars + 1);
    for (int64_t at; (at = lq_jfind_bytes(s, part, from, end)) >= 0; from = at + part->n) n++;
    return lq_jint(n);
}

static bool has_affix(const jstr *s, const jstr *affix, int64_t from, int64_t end, bool at_end) {
    if (affix->n > end - from) return false;
    return !memcmp(s->s + (at_end ? end - affix->n : from), affix->s, (size_t)affix->n);
}

static jvalue affix_test(jx *x, const jcall *c, bool at_end) {
    int64_t from, end;
    if (c->arg[0].type == J_UNDEFINED) lq_jneed_defined(&x->m, c->arg[0]);
    const bool in_range = search_range(x, c, &from, &end);
    if (c->arg[0].type != J_TUPLE)
        return lq_jbool(in_range & has_affix(self(c), need_str(x, c, 0), from, end, at_end));
    const jseq *any = c->arg[0].u.seq;
    for (int64_t i = 0; i < any->n; i++) {
        if (any->v[i].type != J_STR) lq_jthrow(&x->m, LQ_EVALUE, "str.%s: needs strings", c->name);
        if (in_range && has_affix(self(c), any->v[i].u.str, from, end, at_end))
            return lq_jbool(true);
    }
    return lq_jbool(false);
}

static jvalue m_startswith(jx *x, const jcall *c) { return affix_test(x, c, false); }
static jvalue m_endswith(jx *x, const jcall *c) { return affix_test(x, c, true); }

static jvalue m_removeprefix(jx *x, const jcall *c) {
    const jstr *s = self(c), *p = need_str(x, c, 0);
    return has_affix(s, p, 0, s->n, false) ? lq_jstr(&x->m, s->s + p->n, s->n - p->n) : c->self;
}

static jvalue m_removesuffix(jx *x, const jcall *c) {
    const jstr *s = self(c), *p = need_str(x, c, 0);
    return has_affix(s, p, 0, s->n, true) ? lq_jstr(&x->m, s->s, s->n - p->n) : c->self;
}

/* ---- joining and padding ---- */
static jvalue m_join(jx *x, const jcall *c) {
    const jseq *items = lq_jiterate(&x->m, c->arg[0]).u.seq;
    jbuf b = {0};
    for (int64_t i = 0; i < items->n; i++) {
        if (items->v[i].type != J_STR)
            lq_jthrow(&x->m, LQ_EVALUE, "str.join: item %lld is a %s, not a string", (long long)i,
                      lq_jtype_name(items->v[i]));
        lq_jstep(&x->m, 1);
        if (i) lq_jprint(&x->m, &b, c->self);
        lq_jprint(&x->m, &b, items->v[i]);
    }
    return lq_jbuf_value(&x->m, &b);
}

typedef enum side { LEFT, RIGHT, BOTH } side;

static jvalue pad(jx *x, const jcall *c, side where) {
    static const jstr space = {" ", 1, 1};
    const jvalue fill = {.type = J_STR, .u.str = lq_jarg_str(x, c, 1, &space)};
    const int64_t width = lq_jarg_int(x, c, 0, 0),
                  n = width > self(c)->chars ? width - self(c)->chars : 0;
    const int64_t left = where == LEFT    ? n
                         : where == RIGHT ? 0
                                          : n / 2 + (n & width & 1); /* as CPython */
    if (fill.u.str->chars != 1)
        lq_jthrow(&x->m, LQ_EVALUE, "str.%s: the fill must be one character", c->name);
    jbuf b = {0};
    lq_jprint(&x->m, &b, lq_jarith(&x->m, '*', fill, lq_jint(left)));
    lq_jprint(&x->m, &b, c->self);
    lq_jprint(&x->m, &b, lq_jarith(&x->m, '*', fill, lq_jint(n - left)));
    return lq_jbuf_value(&x->m, &b);
}

static jvalue m_ljust(jx *x, const jcall *c) { return pad(x, c, RIGHT); }
static jvalue m_rjust(jx *x, const jcall *c) { return pad(x, c, LEFT); }
static jvalue m_center(jx *x, const jcall *c) { return pad(x, c, BOTH); }

static jvalue m_zfill(jx *x, const jcall *c) {
    const jstr *s = self(c);
    const int64_t sign = s->n > 0 && (s->s[0] == '-' || s->s[0] == '+');
    const jvalue zeros =
        lq_jarith(&x->m, '*', lq_jtext(&x->m, "0"), lq_jint(lq_jarg_int(x, c, 0, 0) - s->chars));
    const jvalue head = lq_jarith(&x->m, '+', lq_jstr(&x->m, s->s, sign), zeros);
    return lq_jarith(&x->m, '+', head, lq_jstr(&x->m, s->s + sign, s->n - sign));
}

static jvalue m_format(jx *x, const jcall *c) {
    const jseq args = {.v = c->raw->v, .n = c->raw->n};
    return lq_jbrace_format(&x->m, self(c), &args, c->raw->keywords);
}

/* ---- questions about all characters ---- */
static bool is_alnum(uint32_t code) { return lq_is_alpha(code) || lq_is_digit(code); }
static bool is_ascii(uint32_t code) { return code < 128; }

/* isalpha and its like: every character, and at least one (isascii: or none), is of the kind. */
static jvalue m_all(jx *x, const jcall *c) {
    static const struct {
        const char *name;
        bool (*is)(uint32_t);
    } kinds[] = {{"isalnum", is_alnum},
                 {"isalpha", lq_is_alpha},
                 {"isascii", is_ascii},
                 {"isspace", lq_is_space}};
    const jstr *s = self(c);
    bool (*is)(uint32_t) = lq_is_digit;
    for (int i = 0; i < LQ_ARRAY_LEN(kinds); i++)
        if (!strcmp(kinds[i].name, c->name)) is = kinds[i].is;
    bool result = s->n > 0 || is == is_ascii;
    for (int64_t at = 0; at < s->n && result;) {
        uint32_t code;
        at += lq_utf8_decode(s->s + at, s->n - at, &code);
        lq_jstep(&x->m, 1);
        result = is(code);
    }
    return lq_jbool(result);
}

static jvalue m_islower(jx *x, const jcall *c) {
    return lq_jbool(lq_japply_test(x, "lower", c->self, &(jargs){0}));
}
static jvalue m_isupper(jx *x, const jcall *c) {
    return lq_jbool(lq_japply_test(x, "upper", c->self, &(jargs){0}));
}

const jbuiltin lq_jstr_methods[] = {
    {"capitalize", m_capitalize, ""}, {"casefold", m_lower, ""},
    {"center", m_center, "width fillchar"}, {"count", m_count, "sub start end"},
    {"endswith", m_endswith, "suffix start end"}, {"find", m_find, "sub start end"},
    {"format", m_format, "*"}, {"index", m_index, "sub start end"}, {"isalnum", m_all, ""},
    {"isalpha", m_all, ""}, {"isascii", m_all, ""}, {"isdecimal", m_all, ""},
    {"isdigit", m_all, ""}, {"islower", m_islower, ""}, {"isnumeric", m_all, ""},
    {"isspace", m_all, ""}, {"isupper", m_isupper, ""}, {"join", m_join, "iterable"},
    {"ljust", m_ljust, "width fillchar"}, {"lower", m_lower, ""}, {"lstrip", m_lstrip, "chars"},
    {"partition", m_partition, "sep"}, {"removeprefix", m_removeprefix, "prefix"},
    {"removesuffix", m_removesuffix, "suffix"}, {"replace", m_replace, "old new count"},
    {"rfind", m_rfind, "sub start end"}, {"rindex", m_rindex, "sub start end"},
    {"rjust", m_rjust, "width fillchar"}, {"rpartition", m_rpartition, "sep"},
    {"rsplit", m_rsplit, "sep maxsplit"}, {"rstrip", m_rstrip, "chars"},
    {"split", m_split, "sep maxsplit"}, {"splitlines", m_splitlines, "keepends"},
    {"startswith", m_startswith, "prefix start end"}, {"strip", m_strip, "chars"},
    {"swapcase", m_swapcase, ""}, {"title", m_title, ""}, {"upper", m_upper, ""},
    {"zfill", m_zfill, "width"}, {NULL, NULL, NULL}};
