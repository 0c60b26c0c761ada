/* Parser of Jinja statements; the entry point lq_jinja_parse. */
#include "jinja.h"

#include <stdio.h>
#include <string.h>

enum { PARSE_MEMORY = 64 << 20, PARSE_STEPS = 50 * 1000 * 1000 };

static jnode *parse_statement(jparser *p);

static void expect_block_end(jparser *p) {
    if (p->at->type != T_BLOCK_END) lq_jsyntax(p, "'%}'");
    p->at++;
}

static bool at_tag(const jparser *p, const char *name) {
    return p->at->type == T_BLOCK_BEGIN && p->at[1].type == T_NAME && !strcmp(p->at[1].text, name);
}

static bool skip_tag(jparser *p, const char *name) {
    const bool is = at_tag(p, name);
    if (is) p->at += 2;
    return is;
}

/* Statements up to a tag that closes or continues a block, which stays. */
static jnode *parse_statements(jparser *p) {
    static const char *const ends[] = {"endfor",  "endif",        "elif",    "else",
                                       "endset",  "endmacro",     "endcall", "endfilter",
                                       "endwith", "endgeneration"};
    jnode *first = NULL, **end = &first;
    lq_jenter(p->m);
    while (p->at->type != T_END) {
        bool closes = false;
        for (int i = 0; i < LQ_ARRAY_LEN(ends); i++) closes = closes || at_tag(p, ends[i]);
        if (closes) break;
        *end = parse_statement(p);
        end = &(*end)->next;
    }
    lq_jleave(p->m);
    return first;
}

static jnode *parse_body(jparser *p) {
    lq_jskip_op(p, ':');
    expect_block_end(p);
    return parse_statements(p);
}

static void expect_tag(jparser *p, const char *name, const jnode *opener) {
    if (skip_tag(p, name)) return;
    char what[80];
    snprintf(what, sizeof what, "'{%% %s %%}' for the block of line %d", name, opener->line);
    if (p->at->type == T_BLOCK_BEGIN) p->at++;
    lq_jsyntax(p, what);
}

/* "else", "endX" after a body: sets n->other and leaves p->at after the name of the end tag. */
static void parse_else(jparser *p, jnode *n, const char *end_tag) {
    if (skip_tag(p, "else")) n->other = parse_body(p);
    expect_tag(p, end_tag, n);
}

static jnode *parse_if(jparser *p) {
    lq_jenter(p->m);
    jnode *n = lq_jnode(p, N_IF);
    n->a = lq_jparse_tuple(p, false, NULL);
    n->body = parse_body(p);
    if (skip_tag(p, "elif")) {
        n->other = parse_if(p); /* the inner one takes the endif */
        n->other->op = J_ELIF;
    } else {
        parse_else(p, n, "endif");
    }
    lq_jleave(p->m);
    return n;
}

static jnode *parse_for(jparser *p) {
    jnode *n = lq_jnode(p, N_FOR);
    n->a = lq_jparse_target(p, "in", false);
    if (!lq_jskip_name(p, "in")) lq_jsyntax(p, "'in'");
    n->b = lq_jparse_tuple(p, false, "recursive");
    if (lq_jskip_name(p, "if")) n->c = lq_jparse_expression(p, true);
    if (lq_jis_name(p, "recursive"))
        lq_jthrow(p->m, LQ_EUNSUPPORTED, "recursive loops are not supported");
    p->loops++;
    n->body = parse_body(p);
    p->loops--;
    parse_else(p, n, "endfor");
    return n;
}

static jnode *parse_set(jparser *p) {
    jnode *n = lq_jnode(p, N_SET);
    n->a = lq_jparse_target(p, NULL, true);
    if (lq_jskip_op(p, '=')) {
        n->b = lq_jparse_tuple(p, true, NULL);
        return n;
    }
    n->type = N_SET_BLOCK;
    n->b = lq_jparse_filters(p, NULL, false);
    n->body = parse_body(p);
    expect_tag(p, "endset", n);
    return n;
}

/* "(a, b=1)" of a macro or call block. */
static jnode *parse_params(jparser *p) {
    jnode *first = NULL, **end = &first;
    bool with_default = false;
    lq_jexpect_op(p, '(');
    while (!lq_jis_op(p, ')')) {
        if (first) lq_jexpect_op(p, ',');
        *end = lq_jnode(p, N_ARG);
        (*end)->name = lq_jexpect_name(p);
        if (lq_jskip_op(p, '=')) (*end)->a = lq_jparse_expression(p, true);
        else if (with_default) lq_jsyntax(p, "a default value, as for the parameters before");
        with_default = (*end)->a != NULL;
        end = &(*end)->next;
    }
    lq_jexpect_op(p, ')');
    return first;
}

/* A body that is a function of its own: notes which of caller, varargs and kwargs it uses. */
static void parse_function_body(jparser *p, jnode *n, const char *end_tag) {
    const int uses = p->uses, loops = p->loops;
    p->uses = p->loops = 0;
    n->body = parse_body(p);
    expect_tag(p, end_tag, n);
    n->op = p->uses;
    p->uses = uses;
    p->loops = loops;
}

static jnode *parse_macro(jparser *p) {
    jnode *n = lq_jnode(p, N_MACRO);
    n->name = lq_jexpect_name(p);
    n->list = parse_params(p);
    parse_function_body(p, n, "endmacro");
    return n;
}

static jnode *parse_call_block(jparser *p) {
    jnode *n = lq_jnode(p, N_CALL_BLOCK);
    n->name = "caller";
    if (lq_jis_op(p, '(')) n->list = parse_params(p);
    n->a = lq_jparse_expression(p, true);
    if (n->a->type != N_CALL) lq_jsyntax(p, "a call of a macro");
    parse_function_body(p, n, "endcall");
    return n;
}

static jnode *parse_filter_block(jparser *p) {
    jnode *n = lq_jnode(p, N_FILTER_BLOCK);
    n->b = lq_jparse_filters(p, NULL, true);
    n->body = parse_body(p);
    expect_tag(p, "endfilter", n);
    return n;
}

static jnode *parse_with(jparser *p) {
    jnode *n = lq_jnode(p, N_WITH), **end = &n->list;
    while (p->at->type != T_BLOCK_END) {
        if (n->list) lq_jexpect_op(p, ',');
        *end = lq_jnode(p, N_PAIR);
        (*end)->a = lq_jnode(p, N_NAME);
        (*end)->a->name = lq_jexpect_name(p);
        lq_jexpect_op(p, '=');
        (*end)->b = lq_jparse_expression(p, true);
        end = &(*end)->next;
    }
    n->body = parse_body(p);
    expect_tag(p, "endwith", n);
    return n;
}

static jnode *parse_generation(jparser *p) {
    jnode *n = lq_jnode(p, N_GENERATION);
    const int loops = p->loops;
    p->loops = 0;
    n->body = parse_body(p);
    expect_tag(p, "endgeneration", n);
    p->loops = loops;
    return n;
}

static jnode *parse_print_tag(jparser *p) {
    jnode *n = lq_jnode(p, N_PRINT);
    n->a = lq_jparse_tuple(p, true, NULL);
    return n;
}

static jnode *parse_jump(jparser *p, jnode_type type) {
    if (!p->loops) lq_jthrow(p->m, LQ_EVALUE, "break and continue work only in a for loop");
    return lq_jnode(p, type);
}

static jnode *parse_break(jparser *p) { return parse_jump(p, N_BREAK); }
static jnode *parse_continue(jparser *p) { return parse_jump(p, N_CONTINUE); }

/* A tag; p->at is after "{%". */
static jnode *parse_tag(jparser *p) {
    static const struct {
        const char *name;
        jnode *(*parse)(jparser *);
    } tags[] = {{"if", parse_if},
                {"for", parse_for},
                {"set", parse_set},
                {"macro", parse_macro},
                {"call", parse_call_block},
                {"filter", parse_filter_block},
                {"with", parse_with},
                {"generation", parse_generation},
                {"print", parse_print_tag},
                {"break", parse_break},
                {"continue", parse_continue}};
    static const char *const refused[] = {"block",      "extends", "include", "import", "from",
                                          "autoescape", "do",      "trans",   "debug"};
    p->m->line = p->at->line;
    if (p->at->type != T_NAME) lq_jsyntax(p, "the name of a tag");
    for (int i = 0; i < LQ_ARRAY_LEN(refused); i++)
        if (lq_jis_name(p, refused[i]))
            lq_jthrow(p->m, LQ_EUNSUPPORTED, "the tag '%s' is not supported in chat templates",
                      refused[i]);
    for (int i = 0; i < LQ_ARRAY_LEN(tags); i++) {
        if (!lq_jskip_name(p, tags[i].name)) continue;
        jnode *n = tags[i].parse(p);
        expect_block_end(p);
        return n;
    }
    lq_jthrow(p->m, LQ_EVALUE, "unknown tag '%s'", p->at->text);
}

static jnode *parse_statement(jparser *p) {
    jnode *n;
    p->m->line = p->at->line;
    switch (p->at->type) {
    case T_TEXT:
        n = lq_jnode(p, N_TEXT);
        n->value = (p->at++)->value;
        return n;
    case T_PRINT_BEGIN:
        p->at++;
        n = lq_jnode(p, N_PRINT);
        n->a = lq_jparse_tuple(p, true, NULL);
        if (p->at->type != T_PRINT_END) lq_jsyntax(p, "'}}'");
        p->at++;
        return n;
    default: p->at++; return parse_tag(p);
    }
}

static void parse_all(jtemplate *t, const char *source) {
    jparser p = {.m = &t->m};
    const jtoken *const tokens = lq_jinja_lex(&t->m, source);
    p.at = tokens;
    t->body = parse_statements(&p);
    if (p.at->type == T_BLOCK_BEGIN) p.at++;
    t->m.line = p.at->line;
    if (p.at->type != T_END) lq_jthrow(&t->m, LQ_EVALUE, "the tag '%s' closes nothing", p.at->text);
    for (const jtoken *k = tokens; k->type != T_END; k++)
        if (k->type == T_BLOCK_BEGIN && k[1].type == T_NAME && !strcmp(k[1].text, "generation"))
            t->has_generation = true;
}

lq_status lq_jinja_parse(jtemplate *t, const char *source) {
    t->m.limit = PARSE_MEMORY;
    t->m.steps = PARSE_STEPS;
    if (setjmp(t->m.jump)) return t->m.status;
    parse_all(t, source);
    return LQ_OK;
}
