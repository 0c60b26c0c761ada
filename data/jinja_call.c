/* Calls: arguments, macros, and built-in functions with named parameters. */
#include "jinja.h"

#include <string.h>

static void add_arg(jx *x, jargs *args, jvalue v) {
    if (args->n == args->cap) {
        const int64_t cap = args->cap ? args->cap * 2 : 4;
        jvalue *grown = lq_jalloc_array(&x->m, cap, sizeof *grown);
        if (args->n) memcpy(grown, args->v, (size_t)args->n * sizeof *grown);
        args->v = grown;
        args->cap = cap;
    }
    args->v[args->n++] = v;
}

static void add_keyword(jx *x, jargs *args, jvalue name, jvalue v) {
    if (name.type != J_STR) lq_jthrow(&x->m, LQ_EVALUE, "keyword names must be strings");
    if (!args->keywords) args->keywords = lq_jdict(&x->m, 0).u.dict;
    if (lq_jfind(&x->m, args->keywords, name))
        lq_jthrow(&x->m, LQ_EVALUE, "the argument '%s' is given twice", name.u.str->s);
    lq_jappend_pair(&x->m, args->keywords, name, v);
}

void lq_jeval_args(jx *x, const jnode *list, jargs *args) {
    for (const jnode *arg = list; arg; arg = arg->next) {
        const jvalue v = lq_jeval(x, arg->a);
        if (arg->type == N_KEYWORD) {
            add_keyword(x, args, lq_jtext(&x->m, arg->name), v);
        } else if (arg->type == N_SPREAD) {
            const jseq *items = lq_jiterate(&x->m, v).u.seq;
            for (int64_t i = 0; i < items->n; i++) add_arg(x, args, items->v[i]);
        } else if (arg->type == N_SPREAD_DICT) {
            if (v.type != J_DICT)
                lq_jthrow(&x->m, LQ_EVALUE, "** needs a dict, not %s", lq_jtype_name(v));
            for (int64_t i = 0; i < v.u.dict->n; i++)
                add_keyword(x, args, v.u.dict->v[i].key, v.u.dict->v[i].value);
        } else {
            add_arg(x, args, v);
        }
    }
}

/* ---- macros ---- */
static jvalue take_keyword(jdict *keywords, const char *name) {
    for (int64_t i = 0; keywords && i < keywords->n; i++) {
        if (!lq_jis_text(keywords->v[i].key, name)) continue;
        const jvalue v = keywords->v[i].value;
        memmove(&keywords->v[i], &keywords->v[i + 1],
                (size_t)(keywords->n - i - 1) * sizeof *keywords->v);
        keywords->n--;
        return v;
    }
    return (jvalue){.type = J_MISSING};
}

static void bind_param(jx *x, const jmacro *macro, const jnode *param, jvalue given) {
    if (given.type == J_MISSING)
        given = param->a ? lq_jeval(x, param->a)
                         : lq_jundefined(&x->m, "parameter '%s' of '%s' was not provided",
                                         param->name, macro->node->name);
    lq_jdefine(x, param->name, given);
}

/* What is left over goes to the names caller, varargs and kwargs if the body uses them. */
static void bind_rest(jx *x, const jmacro *macro, const jargs *args, int64_t used, jdict *keywords,
                      bool own_caller) {
    const int uses = macro->node->op;
    const char *const name = macro->node->name;
    if ((uses & J_USES_CALLER) && !own_caller) { /* not when it is an ordinary parameter */
        const jvalue caller = take_keyword(keywords, "caller");
        lq_jdefine(x, "caller",
                   caller.type != J_MISSING ? caller : lq_jundefined(&x->m, "No caller defined"));
    }
    if (uses & J_USES_KWARGS) lq_jdefine(x, "kwargs", (jvalue){.type = J_DICT, .u.dict = keywords});
    else if (keywords->n)
        lq_jthrow(&x->m, LQ_EVALUE, "macro '%s' takes no argument '%s'", name,
                  keywords->v[0].key.u.str->s);
    if (uses & J_USES_VARARGS) {
        const jvalue rest = lq_jseq(&x->m, J_TUPLE, 0);
        for (int64_t i = used; i < args->n; i++) lq_jpush(&x->m, rest, args->v[i]);
        lq_jdefine(x, "varargs", rest);
    } else if (used < args->n) {
        lq_jthrow(&x->m, LQ_EVALUE, "macro '%s' takes %lld arguments, not %lld", name,
                  (long long)used, (long long)args->n);
    }
}

static jvalue call_macro(jx *x, const jmacro *macro, const jargs *args) {
    jscope *const outer = x->scope, *const scope = lq_jalloc(&x->m, sizeof *scope);
    const jvalue keywords = lq_jdict(&x->m, 0);
    for (int64_t i = 0; args->keywords && i < args->keywords->n; i++)
        lq_jappend_pair(&x->m, keywords.u.dict, args->keywords->v[i].key,
                        args->keywords->v[i].value);
    lq_jenter(&x->m);
    scope->parent = macro->scope;
    x->scope = scope;
    int64_t used = 0;
    bool own_caller = false;
    for (const jnode *p = macro->node->list; p; p = p->next) {
        const jvalue named =
            used < args->n ? (jvalue){.type = J_MISSING} : take_keyword(keywords.u.dict, p->name);
        bind_param(x, macro, p, used < args->n ? args->v[used] : named);
        used += used < args->n;
        own_caller = own_caller || !strcmp(p->name, "caller");
    }
    bind_rest(x, macro, args, used, keywords.u.dict, own_caller);
    const jvalue text = lq_jcapture(x, macro->node->body, scope);
    x->scope = outer;
    lq_jleave(&x->m);
    return text;
}

/* ---- built-ins ---- */
/* Index of the parameter called `name` (n bytes) in "a b c", or -1. */
static int param_index(const char *params, const char *name, int64_t n) {
    int index = 0;
    for (const char *p = params; *p; index++) {
        const size_t len = strcspn(p, " ");
        if ((int64_t)len == n && !memcmp(p, name, len)) return index;
        p += len;
        p += *p == ' ';
    }
    return -1;
}

static int param_count(const char *params) {
    int n = *params != 0;
    for (const char *p = params; *p; p++) n += *p == ' ';
    return n;
}

jvalue lq_jcall_builtin(jx *x, const jbuiltin *b, jvalue self, const jargs *args) {
    jcall c = {.self = self, .raw = args, .name = b->name};
    for (int i = 0; i < J_MAX_PARAMS; i++) c.arg[i].type = J_MISSING;
    if (strcmp(b->params, "*")) {
        const int n = param_count(b->params);
        if (args->n > n)
            lq_jthrow(&x->m, LQ_EVALUE, "%s takes at most %d arguments, not %lld", b->name, n,
                      (long long)args->n);
        for (int64_t i = 0; i < args->n; i++) c.arg[i] = args->v[i];
        for (int64_t i = 0; args->keywords && i < args->keywords->n; i++) {
            const jstr *name = args->keywords->v[i].key.u.str;
            const int index = param_index(b->params, name->s, name->n);
            if (index < 0)
                lq_jthrow(&x->m, LQ_EVALUE, "%s takes no argument '%s'", b->name, name->s);
            if (index < args->n)
                lq_jthrow(&x->m, LQ_EVALUE, "%s: '%s' is given twice", b->name, name->s);
            c.arg[index] = args->keywords->v[i].value;
        }
    }
    lq_jenter(&x->m);
    const jvalue v = b->fn(x, &c);
    lq_jleave(&x->m);
    return v;
}

jvalue lq_jcall(jx *x, jvalue callee, const jargs *args) {
    lq_jneed_defined(&x->m, callee);
    if (callee.type == J_FUNCTION)
        return lq_jcall_builtin(x, callee.u.function->builtin, callee.u.function->self, args);
    if (callee.type == J_MACRO) return call_macro(x, callee.u.macro, args);
    if (callee.type == J_JOINER) {
        jcycler *const joiner = callee.u.cycler;
        return joiner->at++ ? joiner->items->v[0] : lq_jtext(&x->m, "");
    }
    if (callee.type == J_LOOP)
        lq_jthrow(&x->m, LQ_EUNSUPPORTED, "recursive loops are not supported");
    lq_jthrow(&x->m, LQ_EVALUE, "a value of type '%s' cannot be called", lq_jtype_name(callee));
}

bool lq_jgiven(jvalue v) { return v.type != J_MISSING && v.type != J_NONE; }

int64_t lq_jarg_int(jx *x, const jcall *c, int i, int64_t otherwise) {
    if (c->arg[i].type == J_MISSING) return otherwise;
    if (c->arg[i].type == J_BOOL) return c->arg[i].u.b;
    if (c->arg[i].type != J_INT)
        lq_jthrow(&x->m, LQ_EVALUE, "%s: argument %d must be an integer, not %s", c->name, i + 1,
                  lq_jtype_name(c->arg[i]));
    return c->arg[i].u.i;
}

bool lq_jarg_bool(const jcall *c, int i, bool otherwise) {
    return c->arg[i].type == J_MISSING ? otherwise : lq_jtruth(c->arg[i]);
}

const jstr *lq_jarg_str(jx *x, const jcall *c, int i, const jstr *otherwise) {
    if (c->arg[i].type == J_MISSING) return otherwise;
    if (c->arg[i].type != J_STR)
        lq_jthrow(&x->m, LQ_EVALUE, "%s: argument %d must be a string, not %s", c->name, i + 1,
                  lq_jtype_name(c->arg[i]));
    return c->arg[i].u.str;
}

const jstr *lq_jself_str(jx *x, const jcall *c) { return lq_jto_str(&x->m, c->self).u.str; }
