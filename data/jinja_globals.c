/* Global functions of a template, and the methods of dicts, lists, loops and cyclers. */
#include "jinja_methods.h"

#include <string.h>
#include <time.h>

enum { MAX_RANGE = 100000 }; /* as Jinja's sandbox */

/* ---- globals ---- */
static jvalue g_range(jx *x, const jcall *c) {
    if (c->arg[0].type == J_MISSING) lq_jthrow(&x->m, LQ_EVALUE, "range needs a stop value");
    const bool one = c->arg[1].type == J_MISSING;
    const int64_t start = one ? 0 : lq_jarg_int(x, c, 0, 0),
                  stop = lq_jarg_int(x, c, one ? 0 : 1, 0);
    const int64_t step = lq_jarg_int(x, c, 2, 1);
    if (!step) lq_jthrow(&x->m, LQ_EVALUE, "range: the step cannot be 0");
    const double span = ((double)stop - (double)start) / (double)step;
    if (span > MAX_RANGE) lq_jthrow(&x->m, LQ_EVALUE, "range: more than %d items", MAX_RANGE);
    const jvalue out = lq_jseq(&x->m, J_RANGE, 0);
    int64_t i = start;
    for (bool ends = false; !ends && (step > 0 ? i < stop : i > stop);
         ends = __builtin_add_overflow(i, step, &i))
        lq_jpush(&x->m, out, lq_jint(i));
    jbuf b = {0};
    lq_jbuf_printf(&x->m, &b, "range(%lld, %lld", (long long)start, (long long)stop);
    if (step != 1) lq_jbuf_printf(&x->m, &b, ", %lld", (long long)step);
    lq_jbuf_puts(&x->m, &b, ")");
    out.u.seq->repr = b.s;
    return out;
}

/* dict(mapping or pairs, key=value, ...) */
static jvalue g_dict(jx *x, const jcall *c) {
    const jvalue out = lq_jdict(&x->m, 0);
    if (c->raw->n > 1)
        lq_jthrow(&x->m, LQ_EVALUE, "%s takes at most one positional argument", c->name);
    if (c->raw->n && c->raw->v[0].type == J_DICT) {
        const jdict *d = c->raw->v[0].u.dict;
        for (int64_t i = 0; i < d->n; i++)
            lq_jappend_pair(&x->m, out.u.dict, d->v[i].key, d->v[i].value);
    } else if (c->raw->n) {
        const jseq *pairs = lq_jiterate(&x->m, c->raw->v[0]).u.seq;
        for (int64_t i = 0; i < pairs->n; i++) {
            const jseq *pair = lq_jiterate(&x->m, pairs->v[i]).u.seq;
            if (pair->n != 2)
                lq_jthrow(&x->m, LQ_EVALUE, "%s: item %lld is no pair", c->name, (long long)i);
            lq_jput(&x->m, out.u.dict, pair->v[0], pair->v[1]);
        }
    }
    for (int64_t i = 0; c->raw->keywords && i < c->raw->keywords->n; i++)
        lq_jput(&x->m, out.u.dict, c->raw->keywords->v[i].key, c->raw->keywords->v[i].value);
    return out;
}

static jvalue g_namespace(jx *x, const jcall *c) {
    jvalue v = g_dict(x, c);
    for (int64_t i = 0; i < v.u.dict->n; i++)
        if (v.u.dict->v[i].key.type == J_STR && v.u.dict->v[i].key.u.str->s[0] == '_')
            lq_jthrow(&x->m, LQ_EVALUE, "a namespace attribute cannot begin with an underscore");
    v.type = J_NAMESPACE;
    return v;
}

static jvalue make_cycler(jx *x, jtype type, const jvalue *items, int64_t n) {
    jcycler *cycler = lq_jalloc(&x->m, sizeof *cycler);
    const jvalue list = lq_jseq(&x->m, J_LIST, n);
    for (int64_t i = 0; i < n; i++) lq_jpush(&x->m, list, items[i]);
    cycler->items = list.u.seq;
    return (jvalue){.type = type, .u.cycler = cycler};
}

static jvalue g_cycler(jx *x, const jcall *c) {
    if (!c->raw->n || c->raw->keywords)
        lq_jthrow(&x->m, LQ_EVALUE, "cycler needs at least one item");
    return make_cycler(x, J_CYCLER, c->raw->v, c->raw->n);
}

static jvalue g_joiner(jx *x, const jcall *c) {
    const jvalue sep = c->arg[0].type == J_MISSING ? lq_jtext(&x->m, ", ") : c->arg[0];
    return make_cycler(x, J_JOINER, &sep, 1);
}

static jvalue g_raise_exception(jx *x, const jcall *c) {
    const jvalue why =
        c->arg[0].type == J_MISSING ? lq_jtext(&x->m, "") : lq_jto_str(&x->m, c->arg[0]);
    lq_jthrow(&x->m, LQ_EVALUE, "the template refuses the conversation: %s", why.u.str->s);
}

static jvalue g_strftime_now(jx *x, const jcall *c) {
    const jstr *format = lq_jarg_str(x, c, 0, NULL);
    const time_t now = (time_t)x->now;
    struct tm tm;
    char text[512];
    if (!format) lq_jthrow(&x->m, LQ_EVALUE, "strftime_now needs a format");
    if (!localtime_r(&now, &tm))
        lq_jthrow(&x->m, LQ_EVALUE, "strftime_now: the time %lld has no date", (long long)x->now);
    const size_t n = strftime(text, sizeof text, format->s, &tm);
    if (!n && format->n)
        lq_jthrow(&x->m, LQ_EVALUE, "strftime_now: the result of '%s' is empty or too long",
                  format->s);
    return lq_jstr(&x->m, text, (int64_t)n);
}

static const jbuiltin globals[] = {
    {"cycler", g_cycler, "*"}, {"dict", g_dict, "*"}, {"joiner", g_joiner, "sep"},
    {"namespace", g_namespace, "*"}, {"raise_exception", g_raise_exception, "message"},
    {"range", g_range, "start stop step"}, {"strftime_now", g_strftime_now, "format"},
    {NULL, NULL, NULL}};

/* ---- dict ---- */
static jvalue m_get(jx *x, const jcall *c) {
    if (c->arg[0].type == J_MISSING) lq_jthrow(&x->m, LQ_EVALUE, "dict.get needs a key");
    const jvalue *v = lq_jfind(&x->m, c->self.u.dict, c->arg[0]);
    return v ? *v : c->arg[1].type == J_MISSING ? lq_jnone() : c->arg[1];
}

static jvalue view(jx *x, const jcall *c, const char *name, bool keys, bool values) {
    const jdict *d = c->self.u.dict;
    const jvalue out = lq_jseq(&x->m, J_VIEW, d->n);
    for (int64_t i = 0; i < d->n; i++)
        lq_jpush(&x->m, out,
                 keys && values ? lq_jpair(&x->m, d->v[i].key, d->v[i].value)
                 : keys         ? d->v[i].key
                                : d->v[i].value);
    out.u.seq->repr = name;
    return out;
}

static jvalue m_items(jx *x, const jcall *c) { return view(x, c, "dict_items", true, true); }
static jvalue m_keys(jx *x, const jcall *c) { return view(x, c, "dict_keys", true, false); }
static jvalue m_values(jx *x, const jcall *c) { return view(x, c, "dict_values", false, true); }

static jvalue m_copy(jx *x, const jcall *c) {
    if (c->self.type == J_DICT)
        return g_dict(x,
                      &(jcall){.raw = &(jargs){.v = (jvalue *)&c->self, .n = 1}, .name = "copy"});
    return lq_japply_filter(x, "list", c->self, &(jargs){0});
}

/* ---- list and tuple ---- */
static jvalue m_index(jx *x, const jcall *c) {
    const jseq *s = c->self.u.seq;
    for (int64_t i = 0; i < s->n; i++)
        if (lq_jequal(&x->m, s->v[i], c->arg[0])) return lq_jint(i);
    lq_jthrow(&x->m, LQ_EVALUE, "list.index: the value is not in the list");
}

static jvalue m_count(jx *x, const jcall *c) {
    const jseq *s = c->self.u.seq;
    int64_t n = 0;
    for (int64_t i = 0; i < s->n; i++) n += lq_jequal(&x->m, s->v[i], c->arg[0]);
    return lq_jint(n);
}

/* ---- loop and cycler ---- */
static jvalue m_cycle(jx *x, const jcall *c) {
    if (!c->raw->n) lq_jthrow(&x->m, LQ_EVALUE, "loop.cycle needs items");
    return c->raw->v[c->self.u.loop->index0 % c->raw->n];
}

static jvalue m_changed(jx *x, const jcall *c) {
    const jvalue now = lq_jseq(&x->m, J_TUPLE, c->raw->n);
    jloop *const loop = c->self.u.loop;
    for (int64_t i = 0; i < c->raw->n; i++) lq_jpush(&x->m, now, c->raw->v[i]);
    const bool changed = loop->changed.type == J_MISSING || !lq_jequal(&x->m, loop->changed, now);
    loop->changed = now;
    return lq_jbool(changed);
}

static jvalue m_next(jx *x, const jcall *c) {
    (void)x;
    jcycler *const cycler = c->self.u.cycler;
    const jvalue v = cycler->items->v[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->items->n;
    return v;
}

static jvalue m_reset(jx *x, const jcall *c) {
    (void)x;
    c->self.u.cycler->at = 0;
    return lq_jnone();
}

static const jbuiltin dict_methods[] = {
    {"copy", m_copy, ""}, {"get", m_get, "key default"}, {"items", m_items, ""},
    {"keys", m_keys, ""}, {"values", m_values, ""}, {NULL, NULL, NULL}};
static const jbuiltin list_methods[] = {
    {"count", m_count, "value"}, {"index", m_index, "value"}, {"copy", m_copy, ""},
    {NULL, NULL, NULL}};
static const jbuiltin loop_methods[] = {
    {"cycle", m_cycle, "*"}, {"changed", m_changed, "*"}, {NULL, NULL, NULL}};
static const jbuiltin cycler_methods[] = {
    {"next", m_next, ""}, {"reset", m_reset, ""}, {NULL, NULL, NULL}};

static const jbuiltin *find(const jbuiltin *table, const char *name) {
    while (table->name && strcmp(table->name, name)) table++;
    return table->name ? table : NULL;
}

const jbuiltin *lq_jfind_global(const char *name) { return find(globals, name); }

const jbuiltin *lq_jfind_method(jvalue object, const char *name) {
    switch (object.type) {
    case J_STR: return find(lq_jstr_methods, name);
    case J_DICT: return find(dict_methods, name);
    case J_LIST:
    case J_TUPLE:
    case J_RANGE: {
        const jbuiltin *b = find(list_methods, name);
        return b && (object.type == J_LIST || b->fn != m_copy) ? b : NULL;
    }
    case J_LOOP: return find(loop_methods, name);
    case J_CYCLER: return find(cycler_methods, name);
    default: return NULL;
    }
}

bool lq_jmethod_changes(jvalue object, const char *name) {
    static const char *const of_list[] = {"append", "clear",   "extend", "insert", "pop",
                                          "remove", "reverse", "sort",   NULL};
    static const char *const of_dict[] = {"clear", "pop", "popitem", "setdefault", "update", NULL};
    const char *const *names = object.type == J_LIST   ? of_list
                               : object.type == J_DICT ? of_dict
                                                       : NULL;
    for (; names && *names; names++)
        if (!strcmp(*names, name)) return true;
    return false;
}
