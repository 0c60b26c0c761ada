/* Execution of statements and the entry point lq_jinja_render. A scope is a list of variables with
 * a parent; loops, macros and captured blocks open one, `if` does not. */
#include "jinja.h"

#include <string.h>

typedef enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE } flow;

static flow exec(jx *x, const jnode *statements);

static jscope *open_scope(jx *x, jscope *parent) {
    jscope *s = lq_jalloc(&x->m, sizeof *s);
    s->parent = parent;
    return s;
}

jvalue lq_jcapture(jx *x, const jnode *statements, jscope *scope) {
    jbuf text = {0}, *const out = x->out;
    jscope *const outer = x->scope;
    x->out = &text;
    x->scope = scope;
    exec(x, statements);
    x->out = out;
    x->scope = outer;
    return lq_jbuf_value(&x->m, &text);
}

static void assign(jx *x, const jnode *target, jvalue v) {
    if (target->type == N_NAME) {
        lq_jdefine(x, target->name, v);
    } else if (target->type == N_NAMESPACE_ATTR) {
        const jvalue ns = lq_jlookup(x, target->name);
        if (ns.type != J_NAMESPACE)
            lq_jthrow(&x->m, LQ_EVALUE, "cannot set an attribute of '%s': it is no namespace",
                      target->name);
        if (target->value.u.str->s[0] == '_')
            lq_jthrow(&x->m, LQ_EVALUE, "a namespace attribute cannot begin with an underscore");
        lq_jput(&x->m, ns.u.dict, target->value, v);
    } else {
        const jseq *items = lq_jiterate(&x->m, v).u.seq;
        int64_t n = 0, i = 0;
        for (const jnode *t = target->list; t; t = t->next) n++;
        if (n != items->n)
            lq_jthrow(&x->m, LQ_EVALUE, "cannot unpack %lld values into %lld names",
                      (long long)items->n, (long long)n);
        for (const jnode *t = target->list; t; t = t->next) assign(x, t, items->v[i++]);
    }
}

/* The items for which the loop's own `if` holds. */
static const jseq *filter_items(jx *x, const jnode *node, const jseq *items) {
    const jvalue kept = lq_jseq(&x->m, J_LIST, 0);
    jscope *const outer = x->scope;
    for (int64_t i = 0; i < items->n; i++) {
        x->scope = open_scope(x, outer);
        assign(x, node->a, items->v[i]);
        if (lq_jtruth(lq_jeval(x, node->c))) lq_jpush(&x->m, kept, items->v[i]);
    }
    x->scope = outer;
    return kept.u.seq;
}

static void exec_for(jx *x, const jnode *node) {
    jscope *const outer = x->scope;
    const jseq *items = lq_jiterate(&x->m, lq_jeval(x, node->b)).u.seq;
    if (node->c) items = filter_items(x, node, items);
    jloop *loop = lq_jalloc(&x->m, sizeof *loop);
    *loop = (jloop){.items = items, .changed = {.type = J_MISSING}};
    for (; loop->index0 < items->n; loop->index0++) {
        lq_jstep(&x->m, 1);
        x->scope = open_scope(x, outer);
        lq_jdefine(x, "loop", (jvalue){.type = J_LOOP, .u.loop = loop});
        assign(x, node->a, items->v[loop->index0]);
        if (exec(x, node->body) == FLOW_BREAK) break;
    }
    if (!items->n && node->other) {
        x->scope = open_scope(x, outer);
        exec(x, node->other);
    }
    x->scope = outer;
}

/* A chain of filters whose innermost input is `v`. */
static jvalue filter_chain(jx *x, const jnode *filter, jvalue v) {
    if (!filter) return v;
    lq_jenter(&x->m);
    v = filter_chain(x, filter->a, v);
    jargs args = {0};
    lq_jeval_args(x, filter->list, &args);
    v = lq_japply_filter(x, filter->name, v, &args);
    lq_jleave(&x->m);
    return v;
}

static jvalue make_macro(jx *x, const jnode *node) {
    jmacro *macro = lq_jalloc(&x->m, sizeof *macro);
    *macro = (jmacro){node, x->scope};
    return (jvalue){.type = J_MACRO, .u.macro = macro};
}

static void exec_call_block(jx *x, const jnode *node) {
    const jvalue callee = lq_jeval(x, node->a->a);
    jargs args = {0};
    lq_jeval_args(x, node->a->list, &args);
    if (!args.keywords) args.keywords = lq_jdict(&x->m, 1).u.dict;
    lq_jput(&x->m, args.keywords, lq_jtext(&x->m, "caller"), make_macro(x, node));
    lq_jprint(&x->m, x->out, lq_jcall(x, callee, &args));
}

static flow exec_with(jx *x, const jnode *node) {
    jscope *const outer = x->scope, *const inner = open_scope(x, outer);
    for (const jnode *pair = node->list; pair; pair = pair->next) {
        x->scope = outer; /* the values see the names outside only */
        const jvalue v = lq_jeval(x, pair->b);
        x->scope = inner;
        lq_jdefine(x, pair->a->name, v);
    }
    x->scope = inner;
    const flow result = exec(x, node->body);
    x->scope = outer;
    return result;
}

static void add_span(jx *x, int64_t start, int64_t end) {
    lq_spans *s = &x->generation;
    if (s->n == s->cap) {
        const int64_t cap = s->cap ? s->cap * 2 : 16;
        lq_span *grown = lq_jalloc_array(&x->m, cap, sizeof *grown);
        if (s->n) memcpy(grown, s->span, (size_t)s->n * sizeof *grown);
        s->span = grown;
        s->cap = cap;
    }
    s->span[s->n++] = (lq_span){start, end};
}

static void exec_generation(jx *x, const jnode *node) {
    if (x->out != &x->text)
        lq_jthrow(&x->m, LQ_EUNSUPPORTED,
                  "a generation block inside a macro or captured block has no position");
    const jvalue text = lq_jcapture(x, node->body, open_scope(x, x->scope));
    const int64_t start = (int64_t)x->text.n;
    lq_jprint(&x->m, x->out, text);
    add_span(x, start, (int64_t)x->text.n);
}

static flow exec_if(jx *x, const jnode *node) {
    for (;;) {
        if (lq_jtruth(lq_jeval(x, node->a))) return exec(x, node->body);
        if (!node->other) return FLOW_NEXT;
        if (node->other->op != J_ELIF) return exec(x, node->other);
        node = node->other;
    }
}

static flow exec_one(jx *x, const jnode *node) {
    switch (node->type) {
    case N_TEXT:
    case N_PRINT: {
        const jvalue v = node->type == N_TEXT ? node->value : lq_jeval(x, node->a);
        lq_jprint(&x->m, x->out, v);
        break;
    }
    case N_IF: return exec_if(x, node);
    case N_FOR: exec_for(x, node); break;
    case N_SET: assign(x, node->a, lq_jeval(x, node->b)); break;
    case N_SET_BLOCK:
        assign(x, node->a,
               filter_chain(x, node->b, lq_jcapture(x, node->body, open_scope(x, x->scope))));
        break;
    case N_MACRO: lq_jdefine(x, node->name, make_macro(x, node)); break;
    case N_CALL_BLOCK: exec_call_block(x, node); break;
    case N_FILTER_BLOCK:
        lq_jprint(&x->m, x->out,
                  filter_chain(x, node->b, lq_jcapture(x, node->body, open_scope(x, x->scope))));
        break;
    case N_WITH: return exec_with(x, node);
    case N_GENERATION: exec_generation(x, node); break;
    case N_BREAK: return FLOW_BREAK;
    default: return FLOW_CONTINUE;
    }
    return FLOW_NEXT;
}

static flow exec(jx *x, const jnode *statements) {
    flow result = FLOW_NEXT;
    lq_jenter(&x->m);
    for (const jnode *s = statements; s && result == FLOW_NEXT; s = s->next) {
        x->m.line = s->line;
        lq_jstep(&x->m, 1);
        result = exec_one(x, s);
    }
    lq_jleave(&x->m);
    return result;
}

void lq_jexec(jx *x, const jnode *statements) { exec(x, statements); }
