/* Tests ("x is NAME") and the lookup of filters and tests by name. */
#include "jinja.h"

#include <string.h>

/* The tests that are one type each. */
static jvalue t_type(jx *x, const jcall *c) {
    static const struct {
        const char *name;
        jtype type;
    } types[] = {{"boolean", J_BOOL},       {"float", J_FLOAT}, {"integer", J_INT},
                 {"mapping", J_DICT},       {"none", J_NONE},   {"string", J_STR},
                 {"undefined", J_UNDEFINED}};
    for (int i = 0; i < LQ_ARRAY_LEN(types); i++)
        if (!strcmp(types[i].name, c->name)) return lq_jbool(c->self.type == types[i].type);
    lq_jthrow(&x->m, LQ_EVALUE, "no type named '%s'", c->name);
}

static jvalue t_defined(jx *x, const jcall *c) {
    (void)x;
    return lq_jbool(c->self.type != J_UNDEFINED);
}

static jvalue t_true(jx *x, const jcall *c) {
    (void)x;
    return lq_jbool(c->self.type == J_BOOL && c->self.u.b);
}

static jvalue t_false(jx *x, const jcall *c) {
    (void)x;
    return lq_jbool(c->self.type == J_BOOL && !c->self.u.b);
}

static jvalue t_number(jx *x, const jcall *c) {
    (void)x;
    return lq_jbool(lq_jis_number(c->self));
}

static jvalue t_escaped(jx *x, const jcall *c) {
    (void)x;
    return lq_jbool(c->self.type == J_STR && c->self.markup);
}

static jvalue t_sequence(jx *x, const jcall *c) {
    (void)x;
    const jtype t = c->self.type;
    return lq_jbool(t == J_STR || t == J_LIST || t == J_TUPLE || t == J_RANGE || t == J_DICT ||
                    t == J_UNDEFINED);
}

static jvalue t_iterable(jx *x, const jcall *c) {
    (void)x;
    const jtype t = c->self.type;
    return lq_jbool(lq_jis_seq(c->self) || t == J_STR || t == J_DICT || t == J_UNDEFINED ||
                    t == J_LOOP);
}

static jvalue t_callable(jx *x, const jcall *c) {
    (void)x;
    const jtype t = c->self.type;
    return lq_jbool(t == J_FUNCTION || t == J_MACRO || t == J_JOINER || t == J_LOOP ||
                    t == J_UNDEFINED);
}

static jvalue arg(jx *x, const jcall *c) {
    if (c->arg[0].type == J_MISSING)
        lq_jthrow(&x->m, LQ_EVALUE, "the test '%s' needs an argument", c->name);
    return c->arg[0];
}

static bool is_multiple(jx *x, const jcall *c, jvalue of) {
    return lq_jnumber(lq_jarith(&x->m, '%', c->self, of)) == 0;
}

static jvalue t_even(jx *x, const jcall *c) { return lq_jbool(is_multiple(x, c, lq_jint(2))); }

static jvalue t_odd(jx *x, const jcall *c) {
    return lq_jbool(lq_jnumber(lq_jarith(&x->m, '%', c->self, lq_jint(2))) == 1);
}

static jvalue t_divisibleby(jx *x, const jcall *c) {
    return lq_jbool(is_multiple(x, c, arg(x, c)));
}
static jvalue t_eq(jx *x, const jcall *c) { return lq_jbool(lq_jequal(&x->m, c->self, arg(x, c))); }
static jvalue t_ne(jx *x, const jcall *c) {
    return lq_jbool(!lq_jequal(&x->m, c->self, arg(x, c)));
}
static jvalue t_gt(jx *x, const jcall *c) {
    return lq_jbool(lq_jcompare(&x->m, c->self, arg(x, c)) > 0);
}
static jvalue t_ge(jx *x, const jcall *c) {
    return lq_jbool(lq_jcompare(&x->m, c->self, arg(x, c)) >= 0);
}
static jvalue t_lt(jx *x, const jcall *c) {
    return lq_jbool(lq_jcompare(&x->m, c->self, arg(x, c)) < 0);
}
static jvalue t_le(jx *x, const jcall *c) {
    return lq_jbool(lq_jcompare(&x->m, c->self, arg(x, c)) <= 0);
}
static jvalue t_in(jx *x, const jcall *c) {
    return lq_jbool(lq_jcontains(&x->m, c->self, arg(x, c)));
}

/* The same object: for plain values, the same type and value. */
static jvalue t_sameas(jx *x, const jcall *c) {
    const jvalue a = c->self, b = arg(x, c);
    if (a.type != b.type) return lq_jbool(false);
    return lq_jbool(lq_jis_seq(a) || a.type >= J_DICT ? a.u.seq == b.u.seq
                                                      : lq_jequal(&x->m, a, b));
}

/* Python's islower and isupper: some letter has case, and none the other one. */
static bool all_cased(const jstr *s, bool upper) {
    bool any = false;
    for (int64_t at = 0; at < s->n;) {
        uint32_t code;
        at += lq_utf8_decode(s->s + at, s->n - at, &code);
        const bool is_upper = lq_to_lower(code) != code, is_lower = lq_to_upper(code) != code;
        if (upper ? is_lower : is_upper) return false;
        any = any || is_upper || is_lower;
    }
    return any;
}

static jvalue t_lower(jx *x, const jcall *c) {
    return lq_jbool(all_cased(lq_jself_str(x, c), false));
}
static jvalue t_upper(jx *x, const jcall *c) {
    return lq_jbool(all_cased(lq_jself_str(x, c), true));
}

static const jbuiltin *find(const jbuiltin *table, const char *name) {
    while (table->name && strcmp(table->name, name)) table++;
    return table->name ? table : NULL;
}

static const jbuiltin *find_filter(const char *name) {
    const jbuiltin *b = find(lq_jseq_filters, name);
    return b ? b : find(lq_jtext_filters, name);
}

static const jbuiltin *find_test(const char *name);

static jvalue t_filter(jx *x, const jcall *c) {
    return lq_jbool(find_filter(lq_jself_str(x, c)->s) != NULL);
}
static jvalue t_test(jx *x, const jcall *c) {
    return lq_jbool(find_test(lq_jself_str(x, c)->s) != NULL);
}

static const jbuiltin tests[] = {
    {"!=", t_ne, "other"}, {"<", t_lt, "other"}, {"<=", t_le, "other"}, {"==", t_eq, "other"},
    {">", t_gt, "other"}, {">=", t_ge, "other"}, {"boolean", t_type, ""},
    {"callable", t_callable, ""}, {"defined", t_defined, ""}, {"divisibleby", t_divisibleby, "num"},
    {"eq", t_eq, "other"}, {"equalto", t_eq, "other"}, {"escaped", t_escaped, ""},
    {"even", t_even, ""}, {"false", t_false, ""}, {"filter", t_filter, ""}, {"float", t_type, ""},
    {"ge", t_ge, "other"}, {"greaterthan", t_gt, "other"}, {"gt", t_gt, "other"},
    {"in", t_in, "seq"}, {"integer", t_type, ""}, {"iterable", t_iterable, ""},
    {"le", t_le, "other"}, {"lessthan", t_lt, "other"}, {"lower", t_lower, ""},
    {"lt", t_lt, "other"}, {"mapping", t_type, ""}, {"ne", t_ne, "other"}, {"none", t_type, ""},
    {"number", t_number, ""}, {"odd", t_odd, ""}, {"sameas", t_sameas, "other"},
    {"sequence", t_sequence, ""}, {"string", t_type, ""}, {"test", t_test, ""},
    {"true", t_true, ""}, {"undefined", t_type, ""}, {"upper", t_upper, ""}, {NULL, NULL, NULL}};

static const jbuiltin *find_test(const char *name) { return find(tests, name); }

jvalue lq_japply_filter(jx *x, const char *name, jvalue self, const jargs *args) {
    const jbuiltin *b = find_filter(name);
    if (!b) lq_jthrow(&x->m, LQ_EVALUE, "there is no filter named '%s'", name);
    return lq_jcall_builtin(x, b, self, args);
}

bool lq_japply_test(jx *x, const char *name, jvalue self, const jargs *args) {
    const jbuiltin *b = find_test(name);
    if (!b) lq_jthrow(&x->m, LQ_EVALUE, "there is no test named '%s'", name);
    return lq_jtruth(lq_jcall_builtin(x, b, self, args));
}
