/* Attributes and subscripts as Jinja's sandbox resolves them: object.name prefers the attribute,
 * object[key] the item; what would change a list or dict is refused. Also the attributes of `loop`
 * and cyclers. */
#include "jinja.h"

#include <stdlib.h>
#include <string.h>

static jvalue bind(jx *x, const jbuiltin *builtin, jvalue self) {
    jfunction *f = lq_jalloc(&x->m, sizeof *f);
    *f = (jfunction){builtin, self};
    return (jvalue){.type = J_FUNCTION, .u.function = f};
}

static jvalue loop_neighbor(jx *x, const jloop *l, int64_t i) {
    if (i < 0) return lq_jundefined(&x->m, "there is no previous item");
    return i < l->items->n ? l->items->v[i] : lq_jundefined(&x->m, "there is no next item");
}

/* J_MISSING if `loop` has no such attribute. */
static jvalue loop_attr(jx *x, const jloop *l, const char *name) {
    const int64_t i = l->index0, n = l->items->n;
    if (!strcmp(name, "index")) return lq_jint(i + 1);
    if (!strcmp(name, "index0")) return lq_jint(i);
    if (!strcmp(name, "first")) return lq_jbool(i == 0);
    if (!strcmp(name, "last")) return lq_jbool(i == n - 1);
    if (!strcmp(name, "length")) return lq_jint(n);
    if (!strcmp(name, "revindex")) return lq_jint(n - i);
    if (!strcmp(name, "revindex0")) return lq_jint(n - i - 1);
    if (!strcmp(name, "depth")) return lq_jint(1);
    if (!strcmp(name, "depth0")) return lq_jint(0);
    if (!strcmp(name, "previtem")) return loop_neighbor(x, l, i - 1);
    if (!strcmp(name, "nextitem")) return loop_neighbor(x, l, i + 1);
    return (jvalue){.type = J_MISSING};
}

/* J_MISSING if there is no attribute of that name. */
static jvalue attribute(jx *x, jvalue object, const char *name) {
    const jbuiltin *method = lq_jfind_method(object, name);
    if (method) return bind(x, method, object);
    if (lq_jmethod_changes(object, name))
        return lq_jundefined(&x->m, "%s.%s is not allowed: a template cannot change its data",
                             lq_jtype_name(object), name);
    if (object.type == J_LOOP) return loop_attr(x, object.u.loop, name);
    if (object.type == J_CYCLER && !strcmp(name, "current"))
        return object.u.cycler->items->v[object.u.cycler->at];
    if (object.type == J_MACRO && !strcmp(name, "name"))
        return lq_jtext(&x->m, object.u.macro->node->name);
    if (object.type == J_TUPLE && object.u.seq->repr) { /* a group of |groupby */
        if (!strcmp(name, "grouper")) return object.u.seq->v[0];
        if (!strcmp(name, "list")) return object.u.seq->v[1];
    }
    if (object.type == J_NAMESPACE) {
        const jvalue *found = lq_jfind_text(object.u.dict, name);
        if (found) return *found;
    }
    return (jvalue){.type = J_MISSING};
}

static jvalue no_attribute(jx *x, jvalue object, const char *name) {
    return lq_jundefined(&x->m, "'%s' object has no attribute '%s'", lq_jtype_name(object), name);
}

jvalue lq_jget_attr(jx *x, jvalue object, const char *name) {
    lq_jneed_defined(&x->m, object);
    const jvalue v = attribute(x, object, name);
    if (v.type != J_MISSING) return v;
    const jvalue *found = object.type == J_DICT ? lq_jfind_text(object.u.dict, name) : NULL;
    return found ? *found : no_attribute(x, object, name);
}

jvalue lq_jget_item(jx *x, jvalue object, jvalue key) {
    jvalue v = lq_jindex(&x->m, object, key);
    if (v.type != J_MISSING) return v;
    if (key.type != J_STR)
        return lq_jundefined(&x->m, "'%s' object has no such element", lq_jtype_name(object));
    v = attribute(x, object, key.u.str->s);
    return v.type != J_MISSING ? v : no_attribute(x, object, key.u.str->s);
}

jvalue lq_jget_path(jx *x, jvalue object, jvalue path, const jvalue *otherwise) {
    if (path.type != J_STR) {
        object = lq_jget_item(x, object, path);
        return otherwise && object.type == J_UNDEFINED ? *otherwise : object;
    }
    const char *s = path.u.str->s;
    for (;;) {
        const int64_t n = (int64_t)strcspn(s, ".");
        const bool is_index = n > 0 && (int64_t)strspn(s, "0123456789") == n;
        object = lq_jget_item(x, object,
                              is_index ? lq_jint(strtoll(s, NULL, 10)) : lq_jstr(&x->m, s, n));
        if (otherwise && object.type == J_UNDEFINED) object = *otherwise;
        if (!s[n]) return object;
        s += n + 1;
    }
}
