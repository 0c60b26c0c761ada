/* Filters on sequences and mappings. Lazy ones (map, select, ...) return a generator that can be
 * walked once, as in Jinja, but are computed at once. */
#include "jinja.h"

#include <string.h>

static jvalue f_length(jx *x, const jcall *c) { return lq_jint(lq_jlength(&x->m, c->self)); }

static jvalue copy_seq(jx *x, jvalue v, jtype type) {
    const jseq *items = lq_jiterate(&x->m, v).u.seq;
    const jvalue out = lq_jseq(&x->m, type, items->n);
    for (int64_t i = 0; i < items->n; i++) lq_jpush(&x->m, out, items->v[i]);
    return out;
}

static jvalue f_list(jx *x, const jcall *c) { return copy_seq(x, c->self, J_LIST); }

static jvalue f_first(jx *x, const jcall *c) {
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    return items->n ? items->v[0] : lq_jundefined(&x->m, "No first item, sequence was empty.");
}

static jvalue f_last(jx *x, const jcall *c) {
    if (c->self.type == J_ITER)
        lq_jthrow(&x->m, LQ_EVALUE, "last: a generator has no last item; use |list first");
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    return items->n ? items->v[items->n - 1]
                    : lq_jundefined(&x->m, "No last item, sequence was empty.");
}

static jvalue f_join(jx *x, const jcall *c) {
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    jbuf b = {0};
    for (int64_t i = 0; i < items->n; i++) {
        lq_jstep(&x->m, 1);
        if (i && c->arg[0].type != J_MISSING) lq_jprint(&x->m, &b, c->arg[0]);
        lq_jprint(&x->m, &b,
                  lq_jgiven(c->arg[1]) ? lq_jget_path(x, items->v[i], c->arg[1], NULL)
                                       : items->v[i]);
    }
    return lq_jbuf_value(&x->m, &b);
}

static jvalue reversed(jx *x, jvalue v, jtype type) {
    const jseq *items = lq_jiterate(&x->m, v).u.seq;
    const jvalue out = lq_jseq(&x->m, type, items->n);
    for (int64_t i = items->n - 1; i >= 0; i--) lq_jpush(&x->m, out, items->v[i]);
    return out;
}

static jvalue f_reverse(jx *x, const jcall *c) {
    const jvalue none = lq_jnone();
    if (c->self.type == J_STR) return lq_jslice(&x->m, c->self, none, none, lq_jint(-1));
    return reversed(x, c->self, J_ITER);
}

static jvalue pairs_of(jx *x, const jdict *d, jtype type) {
    const jvalue out = lq_jseq(&x->m, type, d->n);
    for (int64_t i = 0; i < d->n; i++)
        lq_jpush(&x->m, out, lq_jpair(&x->m, d->v[i].key, d->v[i].value));
    return out;
}

static jvalue f_items(jx *x, const jcall *c) {
    if (c->self.type == J_UNDEFINED) return lq_jseq(&x->m, J_ITER, 0);
    if (c->self.type != J_DICT)
        lq_jthrow(&x->m, LQ_EVALUE, "items needs a mapping, not %s", lq_jtype_name(c->self));
    return pairs_of(x, c->self.u.dict, J_ITER);
}

/* ---- sorting ---- */
static jvalue fold(jx *x, jvalue v, bool case_sensitive) {
    return v.type == J_STR && !case_sensitive ? lq_jlower(&x->m, v.u.str) : v;
}

/* The sort key of an item: its attributes ("a,b.c"; not given: the item) as a tuple, or the one of
 * them. */
static jvalue sort_key(jx *x, jvalue item, jvalue attribute, bool case_sensitive) {
    if (!lq_jgiven(attribute)) return fold(x, item, case_sensitive);
    if (attribute.type != J_STR)
        return fold(x, lq_jget_path(x, item, attribute, NULL), case_sensitive);
    const jvalue key = lq_jseq(&x->m, J_TUPLE, 0);
    for (const char *s = attribute.u.str->s;; s++) {
        const size_t n = strcspn(s, ",");
        const jvalue part = lq_jget_path(x, item, lq_jstr(&x->m, s, (int64_t)n), NULL);
        lq_jpush(&x->m, key, fold(x, part, case_sensitive));
        s += n;
        if (!*s) return key;
    }
}

/* Stable merge sort of items[lo, hi) by keys. */
static void merge_sort(jx *x, jvalue *keys, jvalue *items, jvalue *spare, int64_t lo, int64_t hi,
                       int sign) {
    if (hi - lo < 2) return;
    const int64_t mid = lo + (hi - lo) / 2;
    merge_sort(x, keys, items, spare, lo, mid, sign);
    merge_sort(x, keys, items, spare, mid, hi, sign);
    jvalue *out = spare;
    for (int64_t i = lo, k = mid; i < mid || k < hi;) {
        lq_jstep(&x->m, 1);
        const bool left = k >= hi || (i < mid && sign * lq_jcompare(&x->m, keys[k], keys[i]) >= 0);
        const int64_t from = left ? i++ : k++;
        *out++ = keys[from];
        *out++ = items[from];
    }
    for (int64_t i = lo; i < hi; i++) {
        keys[i] = spare[2 * (i - lo)];
        items[i] = spare[2 * (i - lo) + 1];
    }
}

static void sort_by(jx *x, jseq *items, jvalue *keys, bool reverse) {
    jvalue *spare = lq_jalloc_array(&x->m, 2 * items->n + 1, sizeof *spare);
    merge_sort(x, keys, items->v, spare, 0, items->n, reverse ? -1 : 1);
}

static jvalue sorted(jx *x, jvalue v, jvalue attribute, bool reverse, bool case_sensitive) {
    const jvalue out = copy_seq(x, v, J_LIST);
    jseq *const items = out.u.seq;
    jvalue *keys = lq_jalloc_array(&x->m, items->n + 1, sizeof *keys);
    for (int64_t i = 0; i < items->n; i++)
        keys[i] = sort_key(x, items->v[i], attribute, case_sensitive);
    sort_by(x, items, keys, reverse);
    return out;
}

static jvalue f_sort(jx *x, const jcall *c) {
    return sorted(x, c->self, c->arg[2], lq_jarg_bool(c, 0, false), lq_jarg_bool(c, 1, false));
}

static jvalue f_dictsort(jx *x, const jcall *c) {
    static const jstr by_key = {"key", 3, 3};
    const jstr *by = lq_jarg_str(x, c, 1, &by_key);
    const bool value = !strcmp(by->s, "value");
    if (!value && strcmp(by->s, "key"))
        lq_jthrow(&x->m, LQ_EVALUE, "dictsort: by must be 'key' or 'value'");
    lq_jneed_defined(&x->m, c->self);
    if (c->self.type != J_DICT)
        lq_jthrow(&x->m, LQ_EVALUE, "dictsort needs a mapping, not %s", lq_jtype_name(c->self));
    const jvalue out = pairs_of(x, c->self.u.dict, J_LIST);
    jvalue *keys = lq_jalloc_array(&x->m, out.u.seq->n + 1, sizeof *keys);
    for (int64_t i = 0; i < out.u.seq->n; i++)
        keys[i] = fold(x, out.u.seq->v[i].u.seq->v[value], lq_jarg_bool(c, 0, false));
    sort_by(x, out.u.seq, keys, lq_jarg_bool(c, 2, false));
    return out;
}

static jvalue extreme(jx *x, const jcall *c, int sign) {
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    if (!items->n) return lq_jundefined(&x->m, "No aggregated item, sequence was empty.");
    jvalue best = items->v[0], best_key = sort_key(x, best, c->arg[1], lq_jarg_bool(c, 0, false));
    for (int64_t i = 1; i < items->n; i++) {
        const jvalue key = sort_key(x, items->v[i], c->arg[1], lq_jarg_bool(c, 0, false));
        if (sign * lq_jcompare(&x->m, key, best_key) <= 0) continue;
        best = items->v[i];
        best_key = key;
    }
    return best;
}

static jvalue f_min(jx *x, const jcall *c) { return extreme(x, c, -1); }
static jvalue f_max(jx *x, const jcall *c) { return extreme(x, c, 1); }

static jvalue f_unique(jx *x, const jcall *c) {
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    const jvalue out = lq_jseq(&x->m, J_ITER, 0), seen = lq_jdict(&x->m, 0);
    for (int64_t i = 0; i < items->n; i++) {
        const jvalue key = sort_key(x, items->v[i], c->arg[1], lq_jarg_bool(c, 0, false));
        if (lq_jfind(&x->m, seen.u.dict, key)) continue;
        lq_jappend_pair(&x->m, seen.u.dict, key, lq_jnone());
        lq_jpush(&x->m, out, items->v[i]);
    }
    return out;
}

static jvalue f_groupby(jx *x, const jcall *c) {
    if (!lq_jgiven(c->arg[0])) lq_jthrow(&x->m, LQ_EVALUE, "groupby needs an attribute");
    const bool case_sensitive = lq_jarg_bool(c, 2, false);
    const jseq *items = sorted(x, c->self, c->arg[0], false, case_sensitive).u.seq;
    const jvalue out = lq_jseq(&x->m, J_LIST, 0);
    jvalue group = {.type = J_MISSING}, group_key = group;
    for (int64_t i = 0; i < items->n; i++) {
        const jvalue name =
            lq_jget_path(x, items->v[i], c->arg[0], lq_jgiven(c->arg[1]) ? &c->arg[1] : NULL);
        const jvalue key = fold(x, name, case_sensitive);
        if (group.type == J_MISSING || !lq_jequal(&x->m, key, group_key)) {
            group = lq_jseq(&x->m, J_LIST, 0);
            group_key = key;
            const jvalue pair = lq_jpair(&x->m, name, group);
            pair.u.seq->repr = "group"; /* has .grouper and .list */
            lq_jpush(&x->m, out, pair);
        }
        lq_jpush(&x->m, group, items->v[i]);
    }
    return out;
}

static jvalue f_sum(jx *x, const jcall *c) {
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    jvalue total = c->arg[1].type == J_MISSING ? lq_jint(0) : c->arg[1];
    for (int64_t i = 0; i < items->n; i++) {
        const jvalue v =
            lq_jgiven(c->arg[0]) ? lq_jget_path(x, items->v[i], c->arg[0], NULL) : items->v[i];
        total = lq_jarith(&x->m, '+', total, v);
    }
    return total;
}

static jvalue f_batch(jx *x, const jcall *c) {
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    const int64_t size = lq_jarg_int(x, c, 0, 0);
    const jvalue out = lq_jseq(&x->m, J_ITER, 0);
    if (size < 1 || size > 1000000)
        lq_jthrow(&x->m, LQ_EVALUE, "batch: the size must be 1 to 1000000");
    jvalue row = {.type = J_MISSING};
    for (int64_t i = 0; i < items->n; i++) {
        if (i % size == 0) {
            row = lq_jseq(&x->m, J_LIST, 0);
            lq_jpush(&x->m, out, row);
        }
        lq_jpush(&x->m, row, items->v[i]);
    }
    while (lq_jgiven(c->arg[1]) && items->n && row.u.seq->n < size) lq_jpush(&x->m, row, c->arg[1]);
    return out;
}

static jvalue f_slice(jx *x, const jcall *c) {
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    const int64_t n = lq_jarg_int(x, c, 0, 0);
    const jvalue out = lq_jseq(&x->m, J_ITER, 0);
    if (n < 1 || n > 1000000)
        lq_jthrow(&x->m, LQ_EVALUE, "slice: the number of slices must be 1 to 1000000");
    for (int64_t k = 0, at = 0; k < n; k++) {
        const jvalue row = lq_jseq(&x->m, J_LIST, 0);
        const int64_t stop = at + items->n / n + (k < items->n % n);
        while (at < stop) lq_jpush(&x->m, row, items->v[at++]);
        if (lq_jgiven(c->arg[1]) && k >= items->n % n) lq_jpush(&x->m, row, c->arg[1]);
        lq_jpush(&x->m, out, row);
    }
    return out;
}

/* ---- map, select and relatives ---- */
static jvalue f_map(jx *x, const jcall *c) {
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    const jvalue out = lq_jseq(&x->m, J_ITER, 0);
    const jdict *named = c->raw->keywords;
    const jvalue *attribute = !c->raw->n && named ? lq_jfind_text(named, "attribute") : NULL;
    const jvalue *otherwise = attribute ? lq_jfind_text(named, "default") : NULL;
    const int64_t n_known = 1 + (otherwise != NULL);
    if (!attribute && (!c->raw->n || c->raw->v[0].type != J_STR))
        lq_jthrow(&x->m, LQ_EVALUE, "map needs attribute=NAME or the name of a filter");
    if (attribute && named->n > n_known)
        lq_jthrow(&x->m, LQ_EVALUE, "map takes only attribute and default by name");
    if (otherwise && otherwise->type == J_NONE) otherwise = NULL;
    const jargs rest = {attribute ? NULL : c->raw->v + 1, c->raw->n - 1, 0, c->raw->keywords};
    for (int64_t i = 0; i < items->n; i++) {
        lq_jpush(&x->m, out,
                 attribute ? lq_jget_path(x, items->v[i], *attribute, otherwise)
                           : lq_japply_filter(x, c->raw->v[0].u.str->s, items->v[i], &rest));
    }
    return out;
}

static jvalue filtered(jx *x, const jcall *c, bool wanted, bool by_attribute) {
    const jvalue out = lq_jseq(&x->m, J_ITER, 0);
    if (!lq_jtruth(c->self)) return out;
    const jseq *items = lq_jiterate(&x->m, c->self).u.seq;
    const int64_t at = by_attribute, n = c->raw->n;
    if (n < at) lq_jthrow(&x->m, LQ_EVALUE, "%s needs an attribute", c->name);
    if (n > at && c->raw->v[at].type != J_STR)
        lq_jthrow(&x->m, LQ_EVALUE, "%s: the test must be a name", c->name);
    const jargs rest = {n > at ? c->raw->v + at + 1 : NULL, n > at ? n - at - 1 : 0, 0,
                        c->raw->keywords};
    for (int64_t i = 0; i < items->n; i++) {
        const jvalue v =
            by_attribute ? lq_jget_path(x, items->v[i], c->raw->v[0], NULL) : items->v[i];
        const bool holds =
            n > at ? lq_japply_test(x, c->raw->v[at].u.str->s, v, &rest) : lq_jtruth(v);
        if (holds == wanted) lq_jpush(&x->m, out, items->v[i]);
    }
    return out;
}

static jvalue f_select(jx *x, const jcall *c) { return filtered(x, c, true, false); }
static jvalue f_reject(jx *x, const jcall *c) { return filtered(x, c, false, false); }
static jvalue f_selectattr(jx *x, const jcall *c) { return filtered(x, c, true, true); }
static jvalue f_rejectattr(jx *x, const jcall *c) { return filtered(x, c, false, true); }

const jbuiltin lq_jseq_filters[] = {
    {"batch", f_batch, "linecount fill_with"}, {"count", f_length, ""},
    {"dictsort", f_dictsort, "case_sensitive by reverse"}, {"first", f_first, ""},
    {"groupby", f_groupby, "attribute default case_sensitive"}, {"items", f_items, ""},
    {"join", f_join, "d attribute"}, {"last", f_last, ""}, {"length", f_length, ""},
    {"list", f_list, ""}, {"map", f_map, "*"}, {"max", f_max, "case_sensitive attribute"},
    {"min", f_min, "case_sensitive attribute"}, {"reject", f_reject, "*"},
    {"rejectattr", f_rejectattr, "*"}, {"reverse", f_reverse, ""}, {"select", f_select, "*"},
    {"selectattr", f_selectattr, "*"}, {"slice", f_slice, "slices fill_with"},
    {"sort", f_sort, "reverse case_sensitive attribute"}, {"sum", f_sum, "attribute start"},
    {"unique", f_unique, "case_sensitive attribute"}, {NULL, NULL, NULL}};
