/* Evaluation of expressions: names, operators, subscripts, filters and tests. Calls are in
 * jinja_call.c, attributes in jinja_attr.c, statements in jinja_exec.c. */
#include "jinja.h"

#include <string.h>

struct jvar {
    const char *name;
    jvalue value;
    jvar *next;
};

void lq_jdefine(jx *x, const char *name, jvalue value) {
    for (jvar *v = x->scope->vars; v; v = v->next) {
        if (strcmp(v->name, name)) continue;
        v->value = value;
        return;
    }
    jvar *v = lq_jalloc(&x->m, sizeof *v);
    *v = (jvar){name, value, x->scope->vars};
    x->scope->vars = v;
}

jvalue lq_jlookup(jx *x, const char *name) {
    for (const jscope *s = x->scope; s; s = s->parent)
        for (const jvar *v = s->vars; v; v = v->next)
            if (!strcmp(v->name, name)) return v->value;
    const jbuiltin *global = lq_jfind_global(name);
    if (!global) return lq_jundefined(&x->m, "'%s' is undefined", name);
    jfunction *f = lq_jalloc(&x->m, sizeof *f);
    f->builtin = global;
    return (jvalue){.type = J_FUNCTION, .u.function = f};
}

static jvalue eval_sequence(jx *x, const jnode *node) {
    const jvalue seq = lq_jseq(&x->m, node->type == N_TUPLE ? J_TUPLE : J_LIST, 0);
    for (const jnode *item = node->list; item; item = item->next)
        lq_jpush(&x->m, seq, lq_jeval(x, item));
    return seq;
}

static jvalue eval_dict(jx *x, const jnode *node) {
    const jvalue d = lq_jdict(&x->m, 0);
    for (const jnode *pair = node->list; pair; pair = pair->next) {
        const jvalue key = lq_jeval(x, pair->a);
        lq_jput(&x->m, d.u.dict, key, lq_jeval(x, pair->b));
    }
    return d;
}

static jvalue eval_slice(jx *x, const jnode *node) {
    static const jvalue missing = {.type = J_MISSING};
    const jvalue object = lq_jeval(x, node->a);
    const jvalue start = node->b ? lq_jeval(x, node->b) : missing;
    const jvalue stop = node->c ? lq_jeval(x, node->c) : missing;
    const jvalue step = node->list ? lq_jeval(x, node->list) : missing;
    x->m.line = node->line;
    return lq_jslice(&x->m, object, start, stop, step);
}

static jvalue eval_concat(jx *x, const jnode *node) {
    jbuf text = {0};
    for (const jnode *item = node->list; item; item = item->next)
        lq_jprint(&x->m, &text, lq_jeval(x, item->a));
    return lq_jbuf_value(&x->m, &text);
}

static bool compare(jx *x, int op, jvalue a, jvalue b) {
    switch (op) {
    case 'E': return lq_jequal(&x->m, a, b);
    case 'N': return !lq_jequal(&x->m, a, b);
    case 'i': return lq_jcontains(&x->m, a, b);
    case 'n': return !lq_jcontains(&x->m, a, b);
    case '<': return lq_jcompare(&x->m, a, b) < 0;
    case '>': return lq_jcompare(&x->m, a, b) > 0;
    case 'L': return lq_jcompare(&x->m, a, b) <= 0;
    default: return lq_jcompare(&x->m, a, b) >= 0;
    }
}

static jvalue eval_compare(jx *x, const jnode *node) {
    jvalue left = lq_jeval(x, node->a);
    for (const jnode *item = node->list; item; item = item->next) {
        const jvalue right = lq_jeval(x, item->a);
        x->m.line = node->line;
        if (!compare(x, item->op, left, right)) return lq_jbool(false);
        left = right;
    }
    return lq_jbool(true);
}

static jvalue eval_call(jx *x, const jnode *node) {
    const jvalue callee = lq_jeval(x, node->a);
    jargs args = {0};
    lq_jeval_args(x, node->list, &args);
    x->m.line = node->line;
    return lq_jcall(x, callee, &args);
}

/* Filters and tests: both are functions of the value on their left. */
static jvalue eval_applied(jx *x, const jnode *node) {
    const jvalue self = lq_jeval(x, node->a);
    jargs args = {0};
    lq_jeval_args(x, node->list, &args);
    x->m.line = node->line;
    return node->type == N_FILTER ? lq_japply_filter(x, node->name, self, &args)
                                  : lq_jbool(lq_japply_test(x, node->name, self, &args));
}

static jvalue eval_operator(jx *x, const jnode *node) {
    const jvalue a = lq_jeval(x, node->a);
    switch (node->type) {
    case N_NOT: return lq_jbool(!lq_jtruth(a));
    case N_NEGATE: return lq_jnegate(&x->m, a);
    case N_PLUS: return lq_jnegate(&x->m, lq_jnegate(&x->m, a));
    case N_AND: return lq_jtruth(a) ? lq_jeval(x, node->b) : a;
    case N_OR: return lq_jtruth(a) ? a : lq_jeval(x, node->b);
    case N_ITEM: {
        const jvalue key = lq_jeval(x, node->b);
        x->m.line = node->line;
        return lq_jget_item(x, a, key);
    }
    default: {
        const jvalue b = lq_jeval(x, node->b);
        x->m.line = node->line;
        return lq_jarith(&x->m, node->op, a, b);
    }
    }
}

static jvalue eval(jx *x, const jnode *node) {
    switch (node->type) {
    case N_CONST: return node->value;
    case N_NAME: return lq_jlookup(x, node->name);
    case N_LIST:
    case N_TUPLE: return eval_sequence(x, node);
    case N_DICT: return eval_dict(x, node);
    case N_ATTR: return lq_jget_attr(x, lq_jeval(x, node->a), node->name);
    case N_SLICE: return eval_slice(x, node);
    case N_CALL: return eval_call(x, node);
    case N_FILTER:
    case N_TEST: return eval_applied(x, node);
    case N_CONCAT: return eval_concat(x, node);
    case N_COMPARE: return eval_compare(x, node);
    case N_IF_ELSE:
        if (lq_jtruth(lq_jeval(x, node->a))) return lq_jeval(x, node->b);
        return node->c ? lq_jeval(x, node->c)
                       : lq_jundefined(&x->m, "the inline if has no else and was false");
    default: return eval_operator(x, node);
    }
}

jvalue lq_jeval(jx *x, const jnode *node) {
    lq_jenter(&x->m);
    x->m.line = node->line;
    const jvalue v = eval(x, node);
    lq_jleave(&x->m);
    return v;
}
