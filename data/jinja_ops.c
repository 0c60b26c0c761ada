/* Python's operators on template values: truth, equality, order, membership, arithmetic, slices. */
#include "jinja_text.h"

#include <math.h>
#include <string.h>

bool lq_jtruth(jvalue v) {
    switch (v.type) {
    case J_UNDEFINED:
    case J_NONE:
    case J_MISSING: return false;
    case J_BOOL: return v.u.b;
    case J_INT: return v.u.i != 0;
    case J_FLOAT: return v.u.f != 0;
    case J_STR: return v.u.str->n != 0;
    case J_LIST:
    case J_TUPLE:
    case J_RANGE:
    case J_VIEW: return v.u.seq->n != 0;
    case J_DICT: return v.u.dict->n != 0;
    default: return true;
    }
}

static bool is_integer(jvalue v) { return v.type == J_INT || v.type == J_BOOL; }

static int64_t integer(jvalue v) { return v.type == J_BOOL ? v.u.b : v.u.i; }

static bool equal_seq(jmem *m, const jseq *a, const jseq *b) {
    if (a->n != b->n) return false;
    for (int64_t i = 0; i < a->n; i++)
        if (!lq_jequal(m, a->v[i], b->v[i])) return false;
    return true;
}

static bool equal_dict(jmem *m, const jdict *a, const jdict *b) {
    if (a->n != b->n) return false;
    for (int64_t i = 0; i < a->n; i++) {
        const jvalue *other = lq_jfind(m, b, a->v[i].key);
        if (!other || !lq_jequal(m, a->v[i].value, *other)) return false;
    }
    return true;
}

bool lq_jequal(jmem *m, jvalue a, jvalue b) {
    if (lq_jis_number(a) && lq_jis_number(b))
        return is_integer(a) && is_integer(b) ? integer(a) == integer(b)
                                              : lq_jnumber(a) == lq_jnumber(b);
    if (a.type != b.type) return false;
    if (a.type == J_STR)
        return a.u.str->n == b.u.str->n && !memcmp(a.u.str->s, b.u.str->s, (size_t)a.u.str->n);
    lq_jenter(m);
    bool same = true; /* none, undefined */
    if (a.type == J_LIST || a.type == J_TUPLE || a.type == J_RANGE || a.type == J_VIEW)
        same = equal_seq(m, a.u.seq, b.u.seq);
    else if (a.type == J_DICT) same = equal_dict(m, a.u.dict, b.u.dict);
    else if (a.type != J_NONE && a.type != J_UNDEFINED) same = a.u.seq == b.u.seq; /* identity */
    lq_jleave(m);
    return same;
}

static int compare_text(const jstr *a, const jstr *b) {
    const int64_t n = a->n < b->n ? a->n : b->n;
    const int order = memcmp(a->s, b->s, (size_t)n);
    return order ? order : (a->n > b->n) - (a->n < b->n);
}

int lq_jcompare(jmem *m, jvalue a, jvalue b) {
    lq_jneed_defined(m, a);
    lq_jneed_defined(m, b);
    if (lq_jis_number(a) && lq_jis_number(b)) {
        if (is_integer(a) && is_integer(b))
            return (integer(a) > integer(b)) - (integer(a) < integer(b));
        return (lq_jnumber(a) > lq_jnumber(b)) - (lq_jnumber(a) < lq_jnumber(b));
    }
    if (a.type == J_STR && b.type == J_STR) return compare_text(a.u.str, b.u.str);
    if (a.type != b.type || (a.type != J_LIST && a.type != J_TUPLE))
        lq_jthrow(m, LQ_EVALUE, "cannot order '%s' and '%s'", lq_jtype_name(a), lq_jtype_name(b));
    lq_jenter(m);
    const jseq *const x = a.u.seq, *const y = b.u.seq;
    int order = (x->n > y->n) - (x->n < y->n);
    for (int64_t i = 0; i < x->n && i < y->n; i++) {
        if (lq_jequal(m, x->v[i], y->v[i])) continue;
        order = lq_jcompare(m, x->v[i], y->v[i]);
        break;
    }
    lq_jleave(m);
    return order;
}

bool lq_jcontains(jmem *m, jvalue item, jvalue in) {
    if (in.type == J_UNDEFINED) return false;
    if (in.type == J_STR) {
        if (item.type != J_STR)
            lq_jthrow(m, LQ_EVALUE, "'in <string>' requires a string on the left, not %s",
                      lq_jtype_name(item));
        return lq_jfind_bytes(in.u.str, item.u.str, 0, in.u.str->n) >= 0;
    }
    if (in.type == J_DICT) return lq_jfind(m, in.u.dict, item) != NULL;
    if (!lq_jis_seq(in))
        lq_jthrow(m, LQ_EVALUE, "'in' needs a container, not %s", lq_jtype_name(in));
    for (int64_t i = 0; i < in.u.seq->n; i++) {
        lq_jstep(m, 1);
        if (lq_jequal(m, in.u.seq->v[i], item)) return true;
    }
    return false;
}

/* ---- arithmetic ---- */
static _Noreturn void bad_operands(jmem *m, int op, jvalue a, jvalue b) {
    const char *const name = op == 'D' ? "//" : op == 'P' ? "**" : (const char[]){(char)op, 0};
    lq_jneed_defined(m, a);
    lq_jneed_defined(m, b);
    lq_jthrow(m, LQ_EVALUE, "operator %s does not work on '%s' and '%s'", name, lq_jtype_name(a),
              lq_jtype_name(b));
}

static void check_overflow(jmem *m, bool overflow) {
    if (overflow) lq_jthrow(m, LQ_EVALUE, "an integer does not fit in 64 bits");
}

static int64_t power(jmem *m, int64_t base, int64_t exponent) {
    int64_t result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1) check_overflow(m, __builtin_mul_overflow(result, base, &result));
        if (exponent > 1) check_overflow(m, __builtin_mul_overflow(base, base, &base));
    }
    return result;
}

static jvalue float_arith(jmem *m, int op, double x, double y) {
    if (y == 0 && (op == '/' || op == 'D' || op == '%'))
        lq_jthrow(m, LQ_EVALUE, "division by zero");
    switch (op) {
    case '+': return lq_jfloat(x + y);
    case '-': return lq_jfloat(x - y);
    case '*': return lq_jfloat(x * y);
    case '/': return lq_jfloat(x / y);
    case 'D': return lq_jfloat(floor(x / y));
    case 'P': return lq_jfloat(pow(x, y));
    default: {
        const double r = fmod(x, y);
        return lq_jfloat(r != 0 && (r < 0) != (y < 0) ? r + y : r);
    }
    }
}

static jvalue int_arith(jmem *m, int op, int64_t x, int64_t y) {
    int64_t r = 0;
    if (op == '/' || (op == 'P' && y < 0)) return float_arith(m, op, (double)x, (double)y);
    if (op == 'P') return lq_jint(power(m, x, y));
    if (op == '+' || op == '-' || op == '*') {
        check_overflow(m, op == '+'   ? __builtin_add_overflow(x, y, &r)
                          : op == '-' ? __builtin_sub_overflow(x, y, &r)
                                      : __builtin_mul_overflow(x, y, &r));
        return lq_jint(r);
    }
    if (!y) lq_jthrow(m, LQ_EVALUE, "division by zero");
    check_overflow(m, x == INT64_MIN && y == -1);
    const int64_t rest = x % y, wrong_sign = rest != 0 && (rest < 0) != (y < 0);
    return lq_jint(op == 'D' ? x / y - wrong_sign : rest + (wrong_sign ? y : 0));
}

static jvalue concat(jmem *m, jvalue a, jvalue b) {
    if (a.type == J_STR) {
        if (a.markup && !b.markup) b = lq_jescape(m, b.u.str);
        if (b.markup && !a.markup) a = lq_jescape(m, a.u.str);
        jbuf out = {0};
        out.s = lq_jalloc(m, (size_t)(a.u.str->n + b.u.str->n) + 1);
        out.cap = (size_t)(a.u.str->n + b.u.str->n) + 1;
        lq_jbuf_add(m, &out, a.u.str->s, (size_t)a.u.str->n);
        lq_jbuf_add(m, &out, b.u.str->s, (size_t)b.u.str->n);
        jvalue v = lq_jbuf_value(m, &out);
        v.markup = a.markup;
        return v;
    }
    const jvalue seq = lq_jseq(m, a.type, a.u.seq->n + b.u.seq->n);
    for (int64_t i = 0; i < a.u.seq->n; i++) lq_jpush(m, seq, a.u.seq->v[i]);
    for (int64_t i = 0; i < b.u.seq->n; i++) lq_jpush(m, seq, b.u.seq->v[i]);
    return seq;
}

static jvalue repeat(jmem *m, jvalue v, int64_t times) {
    if (v.type == J_STR) {
        jbuf b = {0};
        for (int64_t i = 0; i < times && v.u.str->n; i++) {
            lq_jstep(m, 1);
            lq_jbuf_add(m, &b, v.u.str->s, (size_t)v.u.str->n);
        }
        return lq_jbuf_value(m, &b);
    }
    const jvalue seq = lq_jseq(m, v.type, 0);
    for (int64_t i = 0; i < times && v.u.seq->n; i++)
        for (int64_t k = 0; k < v.u.seq->n; k++) lq_jpush(m, seq, v.u.seq->v[k]);
    return seq;
}

static bool repeatable(jvalue v) {
    return v.type == J_STR || v.type == J_LIST || v.type == J_TUPLE;
}

jvalue lq_jarith(jmem *m, int op, jvalue a, jvalue b) {
    if (op == '%' && a.type == J_STR) return lq_jpercent(m, a.u.str, b);
    if (lq_jis_number(a) && lq_jis_number(b))
        return is_integer(a) && is_integer(b) ? int_arith(m, op, integer(a), integer(b))
                                              : float_arith(m, op, lq_jnumber(a), lq_jnumber(b));
    if (op == '+' && a.type == b.type && repeatable(a)) return concat(m, a, b);
    if (op == '*' && repeatable(a) && is_integer(b)) return repeat(m, a, integer(b));
    if (op == '*' && repeatable(b) && is_integer(a)) return repeat(m, b, integer(a));
    bad_operands(m, op, a, b);
}

jvalue lq_jnegate(jmem *m, jvalue v) {
    if (v.type == J_FLOAT) return lq_jfloat(-v.u.f);
    if (is_integer(v)) return int_arith(m, '-', 0, integer(v));
    lq_jneed_defined(m, v);
    lq_jthrow(m, LQ_EVALUE, "unary - does not work on '%s'", lq_jtype_name(v));
}

/* ---- containers ---- */
int64_t lq_jlength(jmem *m, jvalue v) {
    if (v.type == J_UNDEFINED) return 0;
    if (v.type == J_STR) return v.u.str->chars;
    if (v.type == J_DICT) return v.u.dict->n;
    if (!lq_jis_seq(v) || v.type == J_ITER)
        lq_jthrow(m, LQ_EVALUE, "'%s' has no length", lq_jtype_name(v));
    return v.u.seq->n;
}

jvalue lq_jiterate(jmem *m, jvalue v) {
    if (v.type == J_ITER) { /* consumed by being walked */
        jseq *const rest = lq_jalloc(m, sizeof *rest);
        *rest = *v.u.seq;
        v.u.seq->n = 0;
        return (jvalue){.type = J_LIST, .u.seq = rest};
    }
    if (lq_jis_seq(v)) return v;
    const jvalue seq = lq_jseq(m, J_LIST, 0);
    if (v.type == J_UNDEFINED) return seq;
    if (v.type == J_STR) {
        for (int64_t at = 0, n; at < v.u.str->n; at += n) {
            uint32_t code;
            n = lq_utf8_decode(v.u.str->s + at, v.u.str->n - at, &code);
            lq_jpush(m, seq, lq_jstr(m, v.u.str->s + at, n));
        }
    } else if (v.type == J_DICT) {
        for (int64_t i = 0; i < v.u.dict->n; i++) lq_jpush(m, seq, v.u.dict->v[i].key);
    } else {
        lq_jthrow(m, LQ_EVALUE, "'%s' cannot be iterated over", lq_jtype_name(v));
    }
    return seq;
}

static int64_t slice_bound(jmem *m, jvalue v, int64_t n, int64_t step, int64_t absent) {
    if (v.type == J_NONE || v.type == J_MISSING) return absent;
    if (!is_integer(v)) {
        lq_jneed_defined(m, v);
        lq_jthrow(m, LQ_EVALUE, "a slice index must be an integer, not %s", lq_jtype_name(v));
    }
    int64_t i = integer(v);
    if (i < 0) i = i < -n ? -1 : i + n;
    if (i < 0) return step < 0 ? -1 : 0;
    return i >= n ? (step < 0 ? n - 1 : n) : i;
}

static jvalue slice_text(jmem *m, const jstr *s, int64_t at, int64_t stop, int64_t step) {
    if (step == 1) {
        const int64_t from = lq_utf8_offset(s, at), to = lq_utf8_offset(s, stop);
        return lq_jstr(m, s->s + from, to > from ? to - from : 0);
    }
    const jvalue chars = lq_jiterate(m, (jvalue){.type = J_STR, .u.str = s});
    jbuf b = {0};
    for (; step > 0 ? at < stop : at > stop; at += step)
        lq_jbuf_add(m, &b, chars.u.seq->v[at].u.str->s, (size_t)chars.u.seq->v[at].u.str->n);
    return lq_jbuf_value(m, &b);
}

jvalue lq_jslice(jmem *m, jvalue v, jvalue start, jvalue stop, jvalue step_value) {
    lq_jneed_defined(m, v);
    const bool is_text = v.type == J_STR;
    if (!is_text && v.type != J_LIST && v.type != J_TUPLE && v.type != J_RANGE)
        return lq_jundefined(m, "'%s' cannot be sliced", lq_jtype_name(v));
    const int64_t n = is_text ? v.u.str->chars : v.u.seq->n;
    int64_t step = 1;
    if (is_integer(step_value)) step = integer(step_value);
    else if (step_value.type != J_NONE && step_value.type != J_MISSING)
        lq_jthrow(m, LQ_EVALUE, "a slice's step must be an integer, not %s",
                  lq_jtype_name(step_value));
    if (step == 0) lq_jthrow(m, LQ_EVALUE, "a slice's step cannot be 0");
    if (step > n + 1) step = n + 1;
    if (step < -n - 1) step = -n - 1;
    int64_t at = slice_bound(m, start, n, step, step < 0 ? n - 1 : 0);
    const int64_t end = slice_bound(m, stop, n, step, step < 0 ? -1 : n);
    if (is_text) return slice_text(m, v.u.str, at, end, step);
    const jvalue out = lq_jseq(m, v.type == J_TUPLE ? J_TUPLE : J_LIST, 0);
    for (; step > 0 ? at < end : at > end; at += step) lq_jpush(m, out, v.u.seq->v[at]);
    return out;
}

jvalue lq_jindex(jmem *m, jvalue v, jvalue key) {
    static const jvalue missing = {.type = J_MISSING};
    lq_jneed_defined(m, v);
    if (v.type == J_DICT) {
        if (key.type == J_LIST || key.type == J_DICT) return missing;
        const jvalue *found = lq_jfind(m, v.u.dict, key);
        return found ? *found : missing;
    }
    const bool is_text = v.type == J_STR;
    if (!is_integer(key) ||
        (!is_text && v.type != J_LIST && v.type != J_TUPLE && v.type != J_RANGE))
        return missing;
    const int64_t n = is_text ? v.u.str->chars : v.u.seq->n;
    int64_t i = integer(key);
    if (i < 0) i += n;
    if (i < 0 || i >= n) return missing;
    if (!is_text) return v.u.seq->v[i];
    const int64_t at = lq_utf8_offset(v.u.str, i);
    uint32_t code;
    return lq_jstr(m, v.u.str->s + at, lq_utf8_decode(v.u.str->s + at, v.u.str->n - at, &code));
}
