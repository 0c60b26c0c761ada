/* Parser of Jinja expressions, by recursive descent. Loosest first:
 *   if-else, or, and, not, comparison, + -, ~, * / // %, **, unary, postfix (. [] ()), filters and
 * tests. Names, literals and arguments are in jinja_primary.c. */
#include "jinja.h"

#include <string.h>

jnode *lq_jnode(jparser *p, jnode_type type) {
    jnode *n = lq_jalloc(p->m, sizeof *n);
    n->type = type;
    n->line = p->at->line;
    return n;
}

_Noreturn void lq_jsyntax(jparser *p, const char *what) {
    static const char *const kinds[] = {
        [T_TEXT] = "text",        [T_BLOCK_BEGIN] = "'{%'", [T_BLOCK_END] = "'%}'",
        [T_PRINT_BEGIN] = "'{{'", [T_PRINT_END] = "'}}'",   [T_STRING] = "a string",
        [T_INT] = "a number",     [T_FLOAT] = "a number",   [T_END] = "the end of the template"};
    const jtoken *t = p->at;
    static const struct {
        int op;
        const char *text;
    } two[] = {{'P', "**"}, {'D', "//"}, {'E', "=="}, {'N', "!="}, {'G', ">="}, {'L', "<="}};
    const char op[2] = {(char)t->op, 0};
    const char *found = t->type == T_NAME ? t->text : t->type == T_OP ? op : kinds[t->type];
    for (int i = 0; t->type == T_OP && i < LQ_ARRAY_LEN(two); i++)
        if (two[i].op == t->op) found = two[i].text;
    p->m->line = t->line;
    lq_jthrow(p->m, LQ_EVALUE, "expected %s, found %s", what, found);
}

bool lq_jis_op(const jparser *p, int op) { return p->at->type == T_OP && p->at->op == op; }

bool lq_jis_name(const jparser *p, const char *name) {
    return p->at->type == T_NAME && !strcmp(p->at->text, name);
}

bool lq_jskip_op(jparser *p, int op) {
    const bool is = lq_jis_op(p, op);
    p->at += is;
    return is;
}

bool lq_jskip_name(jparser *p, const char *name) {
    const bool is = lq_jis_name(p, name);
    p->at += is;
    return is;
}

void lq_jexpect_op(jparser *p, int op) {
    if (!lq_jskip_op(p, op)) lq_jsyntax(p, (const char[]){'\'', (char)op, '\'', 0});
}

const char *lq_jexpect_name(jparser *p) {
    if (p->at->type != T_NAME) lq_jsyntax(p, "a name");
    return (p->at++)->text;
}

jnode *lq_jbinary(jparser *p, jnode_type type, int op, jnode *a, jnode *b) {
    jnode *n = lq_jnode(p, type);
    n->line = a->line;
    n->op = op;
    n->a = a;
    n->b = b;
    return n;
}

/* ---- postfix ---- */
static jnode *parse_bound(jparser *p) {
    return lq_jis_op(p, ':') || lq_jis_op(p, ']') || lq_jis_op(p, ',')
               ? NULL
               : lq_jparse_expression(p, true);
}

static jnode *parse_subscript(jparser *p, jnode *object) {
    jnode *first = parse_bound(p);
    if (!lq_jskip_op(p, ':')) {
        if (!first) lq_jsyntax(p, "an index");
        return lq_jbinary(p, N_ITEM, 0, object, first);
    }
    jnode *n = lq_jbinary(p, N_SLICE, 0, object, first);
    n->c = parse_bound(p);
    if (lq_jskip_op(p, ':')) n->list = parse_bound(p);
    return n;
}

static jnode *parse_postfix(jparser *p, jnode *n) {
    for (;;) {
        if (lq_jskip_op(p, '.')) {
            const bool is_index = p->at->type == T_INT;
            jnode *attr = lq_jbinary(p, is_index ? N_ITEM : N_ATTR, 0, n, NULL);
            if (is_index) {
                attr->b = lq_jnode(p, N_CONST);
                attr->b->value = (p->at++)->value;
            } else {
                attr->name = lq_jexpect_name(p);
            }
            n = attr;
        } else if (lq_jskip_op(p, '[')) {
            n = parse_subscript(p, n);
            lq_jexpect_op(p, ']');
        } else if (lq_jis_op(p, '(')) {
            jnode *call = lq_jbinary(p, N_CALL, 0, n, NULL);
            call->list = lq_jparse_args(p);
            n = call;
        } else {
            return n;
        }
    }
}

/* After "is". */
static jnode *parse_test(jparser *p, jnode *value) {
    const bool negated = lq_jskip_name(p, "not");
    jnode *n = lq_jnode(p, N_TEST);
    n->a = value;
    n->name = lq_jdotted_name(p);
    const jtoken_type next = p->at->type;
    if (lq_jis_op(p, '(')) {
        n->list = lq_jparse_args(p);
    } else if (next == T_STRING || next == T_INT || next == T_FLOAT || lq_jis_op(p, '[') ||
               lq_jis_op(p, '{') ||
               (next == T_NAME && !lq_jis_name(p, "else") && !lq_jis_name(p, "or") &&
                !lq_jis_name(p, "and"))) {
        if (lq_jis_name(p, "is")) lq_jsyntax(p, "the end of the test (tests cannot be chained)");
        n->list = lq_jnode(p, N_ARG);
        n->list->a = parse_postfix(p, lq_jparse_primary(p, false));
    }
    return negated ? lq_jbinary(p, N_NOT, 0, n, NULL) : n;
}

static jnode *parse_unary(jparser *p, bool with_filters) {
    lq_jenter(p->m);
    jnode *n;
    if (lq_jis_op(p, '-') || lq_jis_op(p, '+')) {
        n = lq_jnode(p, lq_jis_op(p, '-') ? N_NEGATE : N_PLUS);
        p->at++;
        n->a = parse_unary(p, false);
    } else {
        n = lq_jparse_primary(p, false);
    }
    n = parse_postfix(p, n);
    while (with_filters) {
        if (lq_jis_op(p, '|')) n = lq_jparse_filters(p, n, false);
        else if (lq_jskip_name(p, "is")) n = parse_test(p, n);
        else if (lq_jis_op(p, '(')) n = parse_postfix(p, n);
        else break;
    }
    lq_jleave(p->m);
    return n;
}

/* ---- binary operators ---- */
static jnode *parse_power(jparser *p) {
    jnode *n = parse_unary(p, true);
    while (lq_jskip_op(p, 'P')) n = lq_jbinary(p, N_ARITH, 'P', n, parse_unary(p, true));
    return n;
}

static jnode *parse_product(jparser *p) {
    jnode *n = parse_power(p);
    while (p->at->type == T_OP && strchr("*/D%", p->at->op)) {
        const int op = (p->at++)->op;
        n = lq_jbinary(p, N_ARITH, op, n, parse_power(p));
    }
    return n;
}

static jnode *parse_concat(jparser *p) {
    jnode *first = parse_product(p);
    if (!lq_jis_op(p, '~')) return first;
    jnode *n = lq_jnode(p, N_CONCAT), **end = &n->list;
    n->line = first->line;
    for (jnode *item = first;; item = parse_product(p)) {
        *end = lq_jnode(p, N_ARG);
        (*end)->a = item;
        end = &(*end)->next;
        if (!lq_jskip_op(p, '~')) return n;
    }
}

static jnode *parse_sum(jparser *p) {
    jnode *n = parse_concat(p);
    while (lq_jis_op(p, '+') || lq_jis_op(p, '-')) {
        const int op = (p->at++)->op;
        n = lq_jbinary(p, N_ARITH, op, n, parse_concat(p));
    }
    return n;
}

/* The comparison operator at p->at, skipped; 'i' in, 'n' not in, 0 none. */
static int comparison(jparser *p) {
    if (p->at->type == T_OP && strchr("ENGL<>", p->at->op)) return (p->at++)->op;
    if (lq_jskip_name(p, "in")) return 'i';
    if (!lq_jis_name(p, "not") || p->at[1].type != T_NAME || strcmp(p->at[1].text, "in")) return 0;
    p->at += 2;
    return 'n';
}

static jnode *parse_comparison(jparser *p) {
    jnode *first = parse_sum(p), *n = NULL, **end = NULL;
    for (int op; (op = comparison(p)) != 0; end = &(*end)->next) {
        if (!n) {
            n = lq_jbinary(p, N_COMPARE, 0, first, NULL);
            end = &n->list;
        }
        *end = lq_jnode(p, N_OPERAND);
        (*end)->op = op;
        (*end)->a = parse_sum(p);
    }
    return n ? n : first;
}

static jnode *parse_not(jparser *p) {
    if (!lq_jis_name(p, "not")) return parse_comparison(p);
    lq_jenter(p->m);
    jnode *n = lq_jnode(p, N_NOT);
    p->at++;
    n->a = parse_not(p);
    lq_jleave(p->m);
    return n;
}

static jnode *parse_and(jparser *p) {
    jnode *n = parse_not(p);
    while (lq_jskip_name(p, "and")) n = lq_jbinary(p, N_AND, 0, n, parse_not(p));
    return n;
}

static jnode *parse_or(jparser *p) {
    jnode *n = parse_and(p);
    while (lq_jskip_name(p, "or")) n = lq_jbinary(p, N_OR, 0, n, parse_and(p));
    return n;
}

jnode *lq_jparse_expression(jparser *p, bool with_if_else) {
    lq_jenter(p->m);
    jnode *n = parse_or(p);
    while (with_if_else && lq_jskip_name(p, "if")) {
        jnode *condition = parse_or(p);
        n = lq_jbinary(p, N_IF_ELSE, 0, condition, n);
        if (lq_jskip_name(p, "else")) n->c = lq_jparse_expression(p, true);
    }
    lq_jleave(p->m);
    return n;
}

static bool at_tuple_end(const jparser *p, const char *end_name) {
    return p->at->type == T_PRINT_END || p->at->type == T_BLOCK_END || lq_jis_op(p, ')') ||
           (end_name && lq_jis_name(p, end_name));
}

typedef jnode *(*item_parser)(jparser *p, bool flag);

static jnode *parse_items(jparser *p, item_parser item, bool flag, const char *end_name) {
    jnode *const first = item(p, flag);
    if (!lq_jis_op(p, ',')) return first;
    jnode *n = lq_jnode(p, N_TUPLE), **end = &first->next;
    n->list = first;
    while (lq_jskip_op(p, ',') && !at_tuple_end(p, end_name)) {
        *end = item(p, flag);
        end = &(*end)->next;
    }
    return n;
}

jnode *lq_jparse_tuple(jparser *p, bool with_if_else, const char *end_name) {
    return parse_items(p, lq_jparse_expression, with_if_else, end_name);
}

jnode *lq_jparse_target(jparser *p, const char *end_name, bool namespaces) {
    jnode *target = parse_items(p, lq_jparse_primary, namespaces, end_name);
    const jnode *n = target->type == N_TUPLE || target->type == N_LIST ? target->list : target;
    for (; n; n = target->type == N_TUPLE ? n->next : NULL)
        if (n->type != N_NAME && n->type != N_NAMESPACE_ATTR && n->type != N_TUPLE)
            lq_jsyntax(p, "a name to assign to");
    if (target->type == N_LIST) lq_jsyntax(p, "a name to assign to");
    return target;
}
