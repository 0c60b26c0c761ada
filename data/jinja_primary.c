/* Parser of the smallest parts of Jinja expressions: names, literals, lists, dicts, arguments,
 * filters. */
#include "jinja.h"

#include <string.h>

/* ---- calls ---- */
static jnode *parse_arg(jparser *p) {
    jnode *arg = lq_jnode(p, N_ARG);
    if (lq_jskip_op(p, '*')) arg->type = N_SPREAD;
    else if (lq_jskip_op(p, 'P')) arg->type = N_SPREAD_DICT;
    else if (p->at->type == T_NAME && p->at[1].type == T_OP && p->at[1].op == '=') {
        arg->type = N_KEYWORD;
        arg->name = p->at->text;
        p->at += 2;
    }
    arg->a = lq_jparse_expression(p, true);
    return arg;
}

/* "(a, *b, c=d)" with the parenthesis at p->at. */
jnode *lq_jparse_args(jparser *p) {
    jnode *first = NULL, **end = &first;
    bool only_keywords = false;
    lq_jexpect_op(p, '(');
    while (!lq_jis_op(p, ')')) {
        if (first) {
            lq_jexpect_op(p, ',');
            if (lq_jis_op(p, ')')) break;
        }
        *end = parse_arg(p);
        if ((*end)->type == N_ARG && only_keywords) lq_jsyntax(p, "a keyword argument");
        only_keywords = only_keywords || (*end)->type != N_ARG;
        end = &(*end)->next;
    }
    lq_jexpect_op(p, ')');
    return first;
}

const char *lq_jdotted_name(jparser *p) {
    const char *name = lq_jexpect_name(p);
    while (lq_jskip_op(p, '.')) {
        jbuf b = {0};
        lq_jbuf_puts(p->m, &b, name);
        lq_jbuf_puts(p->m, &b, ".");
        lq_jbuf_puts(p->m, &b, lq_jexpect_name(p));
        name = b.s;
    }
    return name;
}

jnode *lq_jparse_filters(jparser *p, jnode *node, bool first_without_pipe) {
    while (first_without_pipe || lq_jskip_op(p, '|')) {
        first_without_pipe = false;
        jnode *n = lq_jnode(p, N_FILTER);
        n->name = lq_jdotted_name(p);
        n->a = node;
        if (lq_jis_op(p, '(')) n->list = lq_jparse_args(p);
        node = n;
    }
    return node;
}

/* ---- primaries ---- */
static jnode *parse_list(jparser *p) {
    jnode *n = lq_jnode(p, N_LIST), **end = &n->list;
    lq_jexpect_op(p, '[');
    while (!lq_jis_op(p, ']')) {
        if (n->list) {
            lq_jexpect_op(p, ',');
            if (lq_jis_op(p, ']')) break;
        }
        *end = lq_jparse_expression(p, true);
        end = &(*end)->next;
    }
    lq_jexpect_op(p, ']');
    return n;
}

static jnode *parse_dict(jparser *p) {
    jnode *n = lq_jnode(p, N_DICT), **end = &n->list;
    lq_jexpect_op(p, '{');
    while (!lq_jis_op(p, '}')) {
        if (n->list) {
            lq_jexpect_op(p, ',');
            if (lq_jis_op(p, '}')) break;
        }
        jnode *key = lq_jparse_expression(p, true);
        lq_jexpect_op(p, ':');
        *end = lq_jbinary(p, N_PAIR, 0, key, lq_jparse_expression(p, true));
        end = &(*end)->next;
    }
    lq_jexpect_op(p, '}');
    return n;
}

static jnode *parse_name(jparser *p, bool namespaces) {
    jnode *n = lq_jnode(p, N_CONST);
    const char *const name = lq_jexpect_name(p);
    if (!strcmp(name, "true") || !strcmp(name, "True")) n->value = lq_jbool(true);
    else if (!strcmp(name, "false") || !strcmp(name, "False")) n->value = lq_jbool(false);
    else if (!strcmp(name, "none") || !strcmp(name, "None")) n->value = lq_jnone();
    else {
        n->type = N_NAME;
        n->name = name;
        if (!strcmp(name, "caller")) p->uses |= J_USES_CALLER;
        if (!strcmp(name, "varargs")) p->uses |= J_USES_VARARGS;
        if (!strcmp(name, "kwargs")) p->uses |= J_USES_KWARGS;
        if (namespaces && lq_jskip_op(p, '.')) {
            n->type = N_NAMESPACE_ATTR;
            n->value = lq_jtext(p->m, lq_jexpect_name(p));
        }
    }
    return n;
}

static jnode *parse_strings(jparser *p) {
    jnode *n = lq_jnode(p, N_CONST);
    n->value = (p->at++)->value;
    while (p->at->type == T_STRING) n->value = lq_jarith(p->m, '+', n->value, (p->at++)->value);
    return n;
}

jnode *lq_jparse_primary(jparser *p, bool namespaces) {
    const jtoken *t = p->at;
    if (t->type == T_NAME) return parse_name(p, namespaces);
    if (t->type == T_STRING) return parse_strings(p);
    if (t->type == T_INT || t->type == T_FLOAT) {
        jnode *n = lq_jnode(p, N_CONST);
        n->value = t->value;
        p->at++;
        return n;
    }
    if (lq_jis_op(p, '[')) return parse_list(p);
    if (lq_jis_op(p, '{')) return parse_dict(p);
    if (!lq_jskip_op(p, '(')) lq_jsyntax(p, "an expression");
    jnode *n;
    if (lq_jis_op(p, ')')) n = lq_jnode(p, N_TUPLE);
    else n = lq_jparse_tuple(p, true, NULL);
    lq_jexpect_op(p, ')');
    return n;
}
