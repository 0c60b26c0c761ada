/* Template source to tokens, with Jinja's white-space rules as Hugging Face sets them: trim_blocks
 * (the newline after a block or comment goes), lstrip_blocks (so does the indentation before one),
 * one final newline of the source dropped, and the - and + signs inside the delimiters. */
#include "jinja.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct lexer {
    jmem *m;
    const char *s; /* source with \n newlines */
    int64_t n, at;
    jtoken *tokens;
    int64_t n_tokens, cap;
} lexer;

static jtoken *push(lexer *l, jtoken_type type) {
    if (l->n_tokens == l->cap) {
        const int64_t cap = l->cap ? l->cap * 2 : 256;
        jtoken *grown = lq_jalloc_array(l->m, cap, sizeof *grown);
        if (l->n_tokens) memcpy(grown, l->tokens, (size_t)l->n_tokens * sizeof *grown);
        l->tokens = grown;
        l->cap = cap;
    }
    jtoken *t = &l->tokens[l->n_tokens++];
    *t = (jtoken){.type = type, .line = l->m->line};
    return t;
}

static void advance(lexer *l, int64_t to) {
    for (; l->at < to; l->at++) l->m->line += l->s[l->at] == '\n';
}

static bool looking_at(const lexer *l, int64_t at, const char *text) {
    return !strncmp(l->s + at, text, strlen(text)); /* the source is NUL-terminated */
}

static bool space_at(const lexer *l, int64_t at, int *bytes) {
    uint32_t code;
    *bytes = lq_utf8_decode(l->s + at, l->n - at, &code);
    return at < l->n && lq_is_space(code);
}

static int64_t skip_space(const lexer *l, int64_t at) {
    for (int n; space_at(l, at, &n);) at += n;
    return at;
}

/* Text from l->at to `end`, the start of a tag whose sign ('-', '+' or another character) is given.
 */
static void push_text(lexer *l, int64_t end, char sign, bool may_strip) {
    const int64_t start = l->at;
    int64_t stop = end;
    if (sign == '-') {
        while (stop > start) {
            int64_t last = stop - 1;
            int bytes;
            while (last > start && ((unsigned char)l->s[last] & 0xC0) == 0x80) last--;
            if (!space_at(l, last, &bytes)) break;
            stop = last;
        }
    } else if (sign != '+' && may_strip) {
        int64_t line = end;
        while (line > start && l->s[line - 1] != '\n') line--;
        const bool at_line_start = line > start || start == 0 || l->s[start - 1] == '\n';
        if (at_line_start && skip_space(l, line) >= end) stop = line;
    }
    if (stop > start) push(l, T_TEXT)->value = lq_jstr(l->m, l->s + start, stop - start);
    advance(l, end);
}

/* End of a tag at `at`: "%}" with an optional sign. Returns the position after it, or -1. */
static int64_t tag_end(const lexer *l, int64_t at, const char *close, bool is_print) {
    const char sign = l->s[at];
    const bool has_sign = sign == '-' || (sign == '+' && !is_print);
    if (!looking_at(l, at + has_sign, close)) return -1;
    at += has_sign + 2;
    if (has_sign && sign == '-') return skip_space(l, at);
    return !has_sign && !is_print && l->s[at] == '\n' ? at + 1 : at;
}

static void lex_comment(lexer *l) {
    for (int64_t at = l->at + 2; at < l->n; at++) {
        const int64_t end = tag_end(l, at, "#}", false);
        if (end < 0) continue;
        advance(l, end);
        return;
    }
    lq_jthrow(l->m, LQ_EVALUE, "a comment is not closed by '#}'");
}

/* "{% raw %}" at l->at: position after it, or -1. */
static int64_t raw_begin(const lexer *l) {
    int64_t at = l->at + 2;
    if (l->s[at] == '-' || l->s[at] == '+') at++;
    at = skip_space(l, at);
    if (!looking_at(l, at, "raw")) return -1;
    at = skip_space(l, at + 3);
    if (looking_at(l, at, "-%}")) return skip_space(l, at + 3);
    return looking_at(l, at, "%}") ? at + 2 : -1;
}

static void lex_raw(lexer *l, int64_t begin) {
    advance(l, begin);
    for (int64_t at = begin; at < l->n; at++) {
        if (!looking_at(l, at, "{%")) continue;
        const char sign = l->s[at + 2];
        const int64_t name = skip_space(l, at + 2 + (sign == '-' || sign == '+'));
        if (!looking_at(l, name, "endraw")) continue;
        const int64_t end = tag_end(l, skip_space(l, name + 6), "%}", false);
        if (end < 0) continue;
        push_text(l, at, sign, true);
        advance(l, end);
        return;
    }
    lq_jthrow(l->m, LQ_EVALUE, "a raw block is not closed by '{%% endraw %%}'");
}

/* ---- inside tags ---- */
static bool is_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static int64_t digits_end(const lexer *l, int64_t at) {
    while (lq_is_digit((unsigned char)l->s[at]) ||
           (l->s[at] == '_' && lq_is_digit((unsigned char)l->s[at + 1])))
        at++;
    return at;
}

static void lex_number(lexer *l) {
    int64_t end = digits_end(l, l->at);
    bool is_float = false;
    const bool is_index = l->at > 0 && l->s[l->at - 1] == '.'; /* x.0.1 is two subscripts */
    const char prefix = (char)(l->s[l->at + 1] | 32);
    const int base = l->s[l->at] != '0' ? 10
                     : prefix == 'x'    ? 16
                     : prefix == 'o'    ? 8
                     : prefix == 'b'    ? 2
                                        : 10;
    if (base != 10)
        for (end = l->at + 2; is_word(l->s[end]) && (unsigned char)l->s[end] < 0x80; end++) {}
    if (base == 10 && !is_index && l->s[end] == '.' && lq_is_digit((unsigned char)l->s[end + 1])) {
        end = digits_end(l, end + 1);
        is_float = true;
    }
    if (base == 10 && !is_index && (l->s[end] | 32) == 'e') {
        const int64_t exponent = end + 1 + (l->s[end + 1] == '+' || l->s[end + 1] == '-');
        if (lq_is_digit((unsigned char)l->s[exponent])) {
            end = digits_end(l, exponent);
            is_float = true;
        }
    }
    jbuf b = {0};
    for (int64_t i = l->at + (base != 10 ? 2 : 0); i < end; i++)
        if (l->s[i] != '_') lq_jbuf_add(l->m, &b, l->s + i, 1);
    lq_jbuf_add(l->m, &b, "", 0);
    char *rest;
    errno = 0;
    jtoken *t = push(l, is_float ? T_FLOAT : T_INT);
    t->value = is_float ? lq_jfloat(strtod(b.s, &rest)) : lq_jint(strtoll(b.s, &rest, base));
    if (*rest || !b.n || (errno && !is_float)) lq_jthrow(l->m, LQ_EVALUE, "bad number '%s'", b.s);
    advance(l, end);
}

static int64_t hex_escape(lexer *l, int64_t at, int digits, jbuf *b) {
    uint32_t code = 0;
    for (int i = 0; i < digits; i++) {
        const char c = l->s[at + i];
        const int v = c >= '0' && c <= '9'                 ? c - '0'
                      : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                           : -1;
        if (v < 0)
            lq_jthrow(l->m, LQ_EVALUE, "a string holds an incomplete \\x, \\u or \\U escape");
        code = code * 16 + (uint32_t)v;
    }
    if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        lq_jthrow(l->m, LQ_EVALUE, "a string holds an escape that is no character: U+%X",
                  (unsigned)code);
    char out[4];
    lq_jbuf_add(l->m, b, out, (size_t)lq_utf8_encode(code, out));
    return at + digits;
}

/* The escape whose character after the backslash is at `at`; returns the position after it. */
static int64_t lex_escape(lexer *l, int64_t at, jbuf *b) {
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    const char c = l->s[at];
    const char *known = strchr(from, c);
    if (known) lq_jbuf_add(l->m, b, &to[known - from], 1);
    else if (c == 'x') return hex_escape(l, at + 1, 2, b);
    else if (c == 'u') return hex_escape(l, at + 1, 4, b);
    else if (c == 'U') return hex_escape(l, at + 1, 8, b);
    else if (c >= '0' && c <= '7') {
        uint32_t code = 0;
        int64_t i = at;
        for (; i < at + 3 && l->s[i] >= '0' && l->s[i] <= '7'; i++)
            code = code * 8 + (uint32_t)(l->s[i] - '0');
        char out[4];
        lq_jbuf_add(l->m, b, out, (size_t)lq_utf8_encode(code, out));
        return i;
    } else if (c != '\n') { /* unknown: both characters stay; backslash newline: neither */
        lq_jbuf_add(l->m, b, l->s + at - 1, 2);
    }
    return at + 1;
}

static void lex_string(lexer *l) {
    const char quote = l->s[l->at];
    jbuf b = {0};
    int64_t at = l->at + 1;
    while (at < l->n && l->s[at] != quote) {
        if (l->s[at] == '\\' && at + 1 < l->n) at = lex_escape(l, at + 1, &b);
        else lq_jbuf_add(l->m, &b, l->s + at++, 1);
    }
    if (at >= l->n) lq_jthrow(l->m, LQ_EVALUE, "a string is not closed by %c", quote);
    push(l, T_STRING)->value = lq_jbuf_value(l->m, &b);
    advance(l, at + 1);
}

static void lex_operator(lexer *l) {
    static const struct {
        char text[3];
        int op;
    } two[] = {{"**", 'P'}, {"//", 'D'}, {"==", 'E'}, {"!=", 'N'}, {">=", 'G'}, {"<=", 'L'}};
    for (int i = 0; i < LQ_ARRAY_LEN(two); i++) {
        if (!looking_at(l, l->at, two[i].text)) continue;
        push(l, T_OP)->op = two[i].op;
        advance(l, l->at + 2);
        return;
    }
    const char c = l->s[l->at];
    if (!c || !strchr("+-/*%~[](){}><=.:|,;", c))
        lq_jthrow(l->m, LQ_EVALUE, "unexpected character '%.1s' in a tag", l->s + l->at);
    push(l, T_OP)->op = c;
    advance(l, l->at + 1);
}

static void lex_name(lexer *l) {
    int64_t end = l->at;
    while (is_word(l->s[end])) end++;
    push(l, T_NAME)->text = lq_jstr(l->m, l->s + l->at, end - l->at).u.str->s;
    advance(l, end);
}

/* The inside of {{ }} or {% %}: braces must balance before the closing delimiter counts. */
static void lex_tag(lexer *l, bool is_print) {
    const int line = l->m->line;
    push(l, is_print ? T_PRINT_BEGIN : T_BLOCK_BEGIN);
    const char sign = l->s[l->at + 2];
    advance(l, l->at + 2 + (sign == '-' || sign == '+'));
    for (int open = 0;;) {
        advance(l, skip_space(l, l->at));
        const int64_t end = open ? -1 : tag_end(l, l->at, is_print ? "}}" : "%}", is_print);
        if (end >= 0) {
            push(l, is_print ? T_PRINT_END : T_BLOCK_END);
            advance(l, end);
            return;
        }
        if (l->at >= l->n) {
            l->m->line = line;
            lq_jthrow(l->m, LQ_EVALUE, "a tag is not closed by '%s'", is_print ? "}}" : "%}");
        }
        const char c = l->s[l->at];
        open += (c == '(' || c == '[' || c == '{') - (c == ')' || c == ']' || c == '}');
        if (open < 0) lq_jthrow(l->m, LQ_EVALUE, "unexpected '%c'", c);
        if (c == '"' || c == '\'') lex_string(l);
        else if (lq_is_digit((unsigned char)c)) lex_number(l);
        else if (is_word(c)) lex_name(l);
        else lex_operator(l);
    }
}

static void normalize(lexer *l, const char *source) {
    const size_t n = strlen(source);
    char *s = lq_jalloc(l->m, n + 8); /* NULs at the end: lookahead needs no bounds */
    for (size_t i = 0; i < n; i++) {
        if (source[i] == '\r' && source[i + 1] == '\n') continue;
        s[l->n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (l->n && s[l->n - 1] == '\n') s[--l->n] = 0;
    l->s = s;
}

jtoken *lq_jinja_lex(jmem *m, const char *source) {
    lexer l = {.m = m};
    m->line = 1;
    if (!lq_utf8_valid(source, strlen(source)))
        lq_jthrow(m, LQ_EVALUE, "the template is not valid UTF-8");
    normalize(&l, source);
    while (l.at < l.n) {
        int64_t tag = l.at;
        while (tag < l.n && !(l.s[tag] == '{' && l.s[tag + 1] && strchr("%{#", l.s[tag + 1])))
            tag++;
        if (tag >= l.n) {
            push(&l, T_TEXT)->value = lq_jstr(m, l.s + l.at, l.n - l.at);
            break;
        }
        const char kind = l.s[tag + 1];
        push_text(&l, tag, l.s[tag + 2], kind != '{');
        const int64_t raw = kind == '%' ? raw_begin(&l) : -1;
        if (raw >= 0) lex_raw(&l, raw);
        else if (kind == '#') lex_comment(&l);
        else lex_tag(&l, kind == '{');
    }
    push(&l, T_END);
    return l.tokens;
}
