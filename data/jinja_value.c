/* Arena, failure and construction of the Jinja interpreter's values. See jinja_value.h. */
#include "jinja_value.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { CHUNK_BYTES = 64 * 1024, ALIGN = 16 };

struct jchunk {
    jchunk *older;
    size_t bytes;
};

_Noreturn void lq_jthrow(jmem *m, lq_status status, const char *fmt, ...) {
    char text[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    m->status = m->line > 0 ? lq_fail(status, "chat template, line %d: %s", m->line, text)
                            : lq_fail(status, "chat template: %s", text);
    longjmp(m->jump, 1);
}

static void add_chunk(jmem *m, size_t want) {
    const size_t bytes = sizeof(jchunk) + ALIGN + (want > CHUNK_BYTES ? want : CHUNK_BYTES);
    if (want > m->limit || m->total + bytes > m->limit)
        lq_jthrow(m, LQ_EVALUE, "needs more than %zu MiB of memory", m->limit >> 20);
    jchunk *c = lq_alloc(bytes);
    if (!c) {
        m->status = LQ_EMEM;
        longjmp(m->jump, 1);
    }
    *c = (jchunk){m->chunks, bytes};
    m->chunks = c;
    m->total += bytes;
    m->next = (char *)c + ((sizeof(jchunk) + ALIGN - 1) / ALIGN) * ALIGN;
    m->end = (char *)c + bytes;
}

void *lq_jalloc(jmem *m, size_t bytes) {
    if (bytes > m->limit)
        lq_jthrow(m, LQ_EVALUE, "needs more than %zu MiB of memory", m->limit >> 20);
    const size_t padded = (bytes + ALIGN - 1) / ALIGN * ALIGN;
    if ((size_t)(m->end - m->next) < padded) add_chunk(m, padded);
    void *p = m->next;
    m->next += padded;
    return p;
}

void *lq_jalloc_array(jmem *m, int64_t n, size_t elem_bytes) {
    if (n < 0 || (size_t)n > m->limit / elem_bytes)
        lq_jthrow(m, LQ_EVALUE, "needs more than %zu MiB of memory", m->limit >> 20);
    return lq_jalloc(m, (size_t)n * elem_bytes);
}

void lq_jmem_clear(jmem *m) {
    while (m->chunks) {
        jchunk *older = m->chunks->older;
        lq_free(m->chunks);
        m->chunks = older;
    }
    m->next = m->end = NULL;
    m->total = 0;
}

void lq_jstep(jmem *m, int64_t n) {
    m->steps -= n;
    if (m->steps < 0) lq_jthrow(m, LQ_EVALUE, "does not come to an end: too many steps");
}

void lq_jenter(jmem *m) {
    if (++m->depth > J_MAX_DEPTH)
        lq_jthrow(m, LQ_EVALUE, "nesting or recursion deeper than %d levels", J_MAX_DEPTH);
    lq_jstep(m, 1);
}

void lq_jleave(jmem *m) { m->depth--; }

void lq_jbuf_add(jmem *m, jbuf *b, const char *s, size_t n) {
    if (b->n + n + 1 > b->cap) {
        const size_t want = (b->n + n + 1) * 2;
        const size_t cap = want < 64 ? 64 : want;
        char *grown = lq_jalloc(m, cap);
        if (b->n) memcpy(grown, b->s, b->n);
        b->s = grown;
        b->cap = cap;
    }
    if (n) memcpy(b->s + b->n, s, n);
    b->n += n;
    b->s[b->n] = 0;
}

void lq_jbuf_puts(jmem *m, jbuf *b, const char *s) { lq_jbuf_add(m, b, s, strlen(s)); }

void lq_jbuf_printf(jmem *m, jbuf *b, const char *fmt, ...) {
    char text[512];
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (n < 0 || n >= (int)sizeof text) lq_jthrow(m, LQ_EVALUE, "a formatted number is too long");
    lq_jbuf_add(m, b, text, (size_t)n);
}

/* ---- constructors ---- */
jvalue lq_jundefined(jmem *m, const char *fmt, ...) {
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    const size_t n = strlen(text);
    char *why = lq_jalloc(m, n + 1);
    memcpy(why, text, n);
    return (jvalue){.type = J_UNDEFINED, .u.why = why};
}

jvalue lq_jnone(void) { return (jvalue){.type = J_NONE}; }
jvalue lq_jbool(bool b) { return (jvalue){.type = J_BOOL, .u.b = b}; }
jvalue lq_jint(int64_t i) { return (jvalue){.type = J_INT, .u.i = i}; }
jvalue lq_jfloat(double f) { return (jvalue){.type = J_FLOAT, .u.f = f}; }

static jvalue wrap(jmem *m, const char *s, int64_t n) {
    jstr *str = lq_jalloc(m, sizeof *str);
    int64_t chars = 0;
    for (int64_t i = 0; i < n; i++) chars += ((unsigned char)s[i] & 0xC0) != 0x80;
    *str = (jstr){s, n, chars};
    lq_jstep(m, n / 64);
    return (jvalue){.type = J_STR, .u.str = str};
}

jvalue lq_jstr(jmem *m, const char *s, int64_t n) {
    char *copy = lq_jalloc(m, (size_t)n + 1);
    if (n) memcpy(copy, s, (size_t)n);
    return wrap(m, copy, n);
}

jvalue lq_jtext(jmem *m, const char *s) { return lq_jstr(m, s, (int64_t)strlen(s)); }

jvalue lq_jbuf_value(jmem *m, jbuf *b) {
    const jvalue v = wrap(m, b->s ? b->s : "", (int64_t)b->n);
    *b = (jbuf){0};
    return v;
}

jvalue lq_jseq(jmem *m, jtype type, int64_t capacity) {
    jseq *seq = lq_jalloc(m, sizeof *seq);
    if (capacity > 0) seq->v = lq_jalloc_array(m, capacity, sizeof *seq->v);
    seq->cap = capacity > 0 ? capacity : 0;
    return (jvalue){.type = type, .u.seq = seq};
}

void lq_jpush(jmem *m, jvalue seq, jvalue item) {
    jseq *s = seq.u.seq;
    if (s->n == s->cap) {
        const int64_t cap = s->cap ? s->cap * 2 : 8;
        jvalue *grown = lq_jalloc_array(m, cap, sizeof *grown);
        if (s->n) memcpy(grown, s->v, (size_t)s->n * sizeof *grown);
        s->v = grown;
        s->cap = cap;
    }
    lq_jstep(m, 1);
    s->v[s->n++] = item;
}

jvalue lq_jpair(jmem *m, jvalue a, jvalue b) {
    const jvalue pair = lq_jseq(m, J_TUPLE, 2);
    lq_jpush(m, pair, a);
    lq_jpush(m, pair, b);
    return pair;
}

jvalue lq_jdict(jmem *m, int64_t capacity) {
    jdict *d = lq_jalloc(m, sizeof *d);
    if (capacity > 0) d->v = lq_jalloc_array(m, capacity, sizeof *d->v);
    d->cap = capacity > 0 ? capacity : 0;
    return (jvalue){.type = J_DICT, .u.dict = d};
}

void lq_jappend_pair(jmem *m, jdict *d, jvalue key, jvalue value) {
    if (d->n == d->cap) {
        const int64_t cap = d->cap ? d->cap * 2 : 8;
        jpair *grown = lq_jalloc_array(m, cap, sizeof *grown);
        if (d->n) memcpy(grown, d->v, (size_t)d->n * sizeof *grown);
        d->v = grown;
        d->cap = cap;
    }
    lq_jstep(m, 1);
    d->v[d->n++] = (jpair){key, value};
}

static bool hashable(jvalue v) {
    if (v.type == J_LIST || v.type == J_DICT || v.type == J_VIEW) return false;
    if (v.type != J_TUPLE) return true;
    for (int64_t i = 0; i < v.u.seq->n; i++)
        if (!hashable(v.u.seq->v[i])) return false;
    return true;
}

const jvalue *lq_jfind(jmem *m, const jdict *d, jvalue key) {
    if (!hashable(key)) lq_jthrow(m, LQ_EVALUE, "unhashable type: '%s'", lq_jtype_name(key));
    lq_jstep(m, d->n / 4);
    for (int64_t i = 0; i < d->n; i++)
        if (lq_jequal(m, d->v[i].key, key)) return &d->v[i].value;
    return NULL;
}

const jvalue *lq_jfind_text(const jdict *d, const char *key) {
    for (int64_t i = 0; i < d->n; i++)
        if (lq_jis_text(d->v[i].key, key)) return &d->v[i].value;
    return NULL;
}

void lq_jput(jmem *m, jdict *d, jvalue key, jvalue value) {
    jvalue *old = (jvalue *)lq_jfind(m, d, key);
    if (old) *old = value;
    else lq_jappend_pair(m, d, key, value);
}

/* ---- questions ---- */
bool lq_jis_text(jvalue v, const char *text) {
    return v.type == J_STR && (size_t)v.u.str->n == strlen(text) &&
           !memcmp(v.u.str->s, text, (size_t)v.u.str->n);
}

bool lq_jis_seq(jvalue v) { return v.type >= J_LIST && v.type <= J_ITER; }

bool lq_jis_number(jvalue v) { return v.type == J_BOOL || v.type == J_INT || v.type == J_FLOAT; }

double lq_jnumber(jvalue v) {
    return v.type == J_FLOAT ? v.u.f : v.type == J_INT ? (double)v.u.i : (double)v.u.b;
}

const char *lq_jtype_name(jvalue v) {
    static const char *const names[] = {
        [J_UNDEFINED] = "Undefined", [J_NONE] = "NoneType",
        [J_BOOL] = "bool",           [J_INT] = "int",
        [J_FLOAT] = "float",         [J_STR] = "str",
        [J_LIST] = "list",           [J_TUPLE] = "tuple",
        [J_RANGE] = "range",         [J_VIEW] = "dict view",
        [J_ITER] = "generator",      [J_DICT] = "dict",
        [J_NAMESPACE] = "namespace", [J_FUNCTION] = "function",
        [J_MACRO] = "macro",         [J_LOOP] = "loop",
        [J_CYCLER] = "cycler",       [J_JOINER] = "joiner",
        [J_MISSING] = "missing",
    };
    return names[v.type];
}

void lq_jneed_defined(jmem *m, jvalue v) {
    if (v.type == J_UNDEFINED) lq_jthrow(m, LQ_EVALUE, "%s", v.u.why);
}
