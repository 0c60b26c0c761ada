/* Lists of text, lists of whole numbers, maps from names to numbers, lists of data files. See
 * schema.h. As plain text ("a, b" or "q_proj=8, v_proj=4"), a list is split at commas; a data
 * file's path is not. */
#include "schema.h"

#include <math.h>
#include <string.h>

lq_status lq_text_split(lq_slot *s, const char *text, lq_status (*one)(lq_slot *, const char *)) {
    while (true) {
        text += strspn(text, " \t");
        const char *end = text + strcspn(text, ",");
        size_t n = (size_t)(end - text);
        while (n > 0 && strchr(" \t", text[n - 1])) n--;
        char *part = lq_strndup(text, n);
        if (!part) return LQ_EMEM;
        const lq_status status = n || *end ? one(s, part) : LQ_OK;
        lq_free(part);
        if (status != LQ_OK || !*end) return status;
        text = end + 1;
    }
}

/* Room for element n of an array that holds n; grown by one, for lists are short. */
static lq_status grow(void **array, int n, size_t elem_bytes) {
    void *grown = lq_resize(*array, (int64_t)n + 2, elem_bytes);
    if (!grown) return LQ_EMEM;
    memset((char *)grown + (size_t)n * elem_bytes, 0, 2 * elem_bytes);
    *array = grown;
    return LQ_OK;
}

/* ---- texts ----------------------------------------------------------------------------------- */

static lq_status texts_add(lq_slot *s, const char *text) {
    lq_strings *l = s->field;
    char *copy = NULL;
    if (!*text) {
        lq_slot_mistake(s, "found an empty name in the list");
        return LQ_OK;
    }
    if (s->key->choices) {
        LQ_TRY(lq_choose(&copy, s, s->key->choices, s->key->supported, text));
        if (!copy) return LQ_OK;
    } else if (!(copy = lq_strdup(text))) {
        return LQ_EMEM;
    }
    const lq_status status = grow((void **)&l->s, l->n, sizeof *l->s);
    if (status == LQ_OK) l->s[l->n++] = copy;
    else lq_free(copy);
    return status;
}

static lq_status texts_from_text(lq_slot *s, const char *text) {
    return lq_text_split(s, text, texts_add);
}

static void texts_write(const void *field, lq_str *out) {
    const lq_strings *l = field;
    lq_str_puts(out, " [");
    for (int i = 0; i < l->n; i++) {
        if (i) lq_str_puts(out, ", ");
        lq_write_text(out, l->s[i]);
    }
    lq_str_putc(out, ']');
}

static void texts_clear(void *field) {
    lq_strings *l = field;
    for (int i = 0; i < l->n; i++) lq_free(l->s[i]);
    lq_free(l->s);
    *l = (lq_strings){NULL, 0};
}

static bool texts_equal(const void *a, const void *b) {
    const lq_strings *x = a, *y = b;
    bool same = x->n == y->n;
    for (int i = 0; same && i < x->n; i++) same = strcmp(x->s[i], y->s[i]) == 0;
    return same;
}

/* ---- whole numbers --------------------------------------------------------------------------- */

static lq_status ints_add(lq_slot *s, const char *text) {
    lq_ints *l = s->field;
    double value;
    if (!lq_text_to_real(text, &value) || value != floor(value)) {
        lq_slot_mistake(s, "found '%.200s', wanted a whole number", text);
        return LQ_OK;
    }
    if (!lq_within_bounds(s, value, text)) return LQ_OK;
    LQ_TRY(grow((void **)&l->v, l->n, sizeof *l->v));
    l->v[l->n++] = (int64_t)value;
    return LQ_OK;
}

static lq_status ints_from_text(lq_slot *s, const char *text) {
    return lq_text_split(s, text, ints_add);
}

static void ints_write(const void *field, lq_str *out) {
    const lq_ints *l = field;
    lq_str_puts(out, " [");
    for (int i = 0; i < l->n; i++) lq_str_printf(out, "%s%lld", i ? ", " : "", (long long)l->v[i]);
    lq_str_putc(out, ']');
}

static void ints_clear(void *field) {
    lq_ints *l = field;
    lq_free(l->v);
    *l = (lq_ints){NULL, 0};
}

static bool ints_equal(const void *a, const void *b) {
    const lq_ints *x = a, *y = b;
    return x->n == y->n && (x->n == 0 || memcmp(x->v, y->v, (size_t)x->n * sizeof *x->v) == 0);
}

/* ---- names to numbers ------------------------------------------------------------------------ */

static lq_status map_pair(lq_slot *s, const char *name, const char *text) {
    lq_map *m = s->field;
    double value;
    if (!lq_text_to_real(text, &value)) {
        lq_slot_mistake(s, "%.100s: found '%.200s', wanted a number", name, text);
        return LQ_OK;
    }
    if (!lq_within_bounds(s, value, text)) return LQ_OK;
    for (int i = 0; i < m->n; i++)
        if (strcmp(m->e[i].key, name) == 0) lq_slot_mistake(s, "%.100s: given twice", name);
    LQ_TRY(grow((void **)&m->e, m->n, sizeof *m->e));
    char *copy = lq_strdup(name);
    if (!copy) return LQ_EMEM;
    m->e[m->n++] = (lq_map_entry){copy, value};
    return LQ_OK;
}

static lq_status map_add(lq_slot *s, const char *text) {
    const char *equals = strrchr(text, '=');
    if (!equals || equals == text) {
        lq_slot_mistake(s, "found '%.200s', wanted %s", text, s->key->kind->wanted);
        return LQ_OK;
    }
    char *name = lq_strndup(text, (size_t)(equals - text));
    if (!name) return LQ_EMEM;
    const lq_status status = map_pair(s, name, equals + 1);
    lq_free(name);
    return status;
}

static lq_status map_from_text(lq_slot *s, const char *text) {
    return lq_text_split(s, text, map_add);
}

static void map_write(const void *field, lq_str *out) {
    const lq_map *m = field;
    lq_str_puts(out, " {");
    for (int i = 0; i < m->n; i++) {
        if (i) lq_str_puts(out, ", ");
        lq_write_text(out, m->e[i].key);
        lq_str_puts(out, ": ");
        lq_write_real(out, m->e[i].value);
    }
    lq_str_putc(out, '}');
}

static void map_clear(void *field) {
    lq_map *m = field;
    for (int i = 0; i < m->n; i++) lq_free(m->e[i].key);
    lq_free(m->e);
    *m = (lq_map){NULL, 0};
}

static bool map_equal(const void *a, const void *b) {
    const lq_map *x = a, *y = b;
    bool same = x->n == y->n;
    for (int i = 0; same && i < x->n; i++)
        same = strcmp(x->e[i].key, y->e[i].key) == 0 && x->e[i].value == y->e[i].value;
    return same;
}

/* ---- data files ------------------------------------------------------------------------------ */

#define RECORD_TYPES "messages=chat_template sharegpt alpaca completion text"

static lq_status set_text(char **out, const char *text) {
    char *copy = lq_strdup(text);
    if (!copy) return LQ_EMEM;
    lq_free(*out);
    *out = copy;
    return LQ_OK;
}

static lq_status datasets_begin(lq_slot *s) {
    lq_dataset_entries *l = s->field;
    LQ_TRY(grow((void **)&l->e, l->n, sizeof *l->e));
    l->e[l->n++].weight = 1;
    return LQ_OK;
}

static lq_status set_chosen(char **out, lq_slot *s, const char *choices, const char *text) {
    char *chosen;
    LQ_TRY(lq_choose(&chosen, s, choices, NULL, text));
    if (!chosen) return LQ_OK;
    lq_free(*out);
    *out = chosen;
    return LQ_OK;
}

static lq_status datasets_pair(lq_slot *s, const char *name, const char *text) {
    lq_dataset_entries *l = s->field;
    lq_dataset_entry *e = &l->e[l->n - 1];
    if (lq_text_is_null(text) && strcmp(name, "path") != 0) return LQ_OK;
    if (strcmp(name, "path") == 0) return set_text(&e->path, text);
    if (strcmp(name, "type") == 0) return set_chosen(&e->type, s, RECORD_TYPES, text);
    if (strcmp(name, "split") == 0) return set_chosen(&e->split, s, s->key->choices, text);
    if (strcmp(name, "weight") != 0) {
        lq_slot_mistake(s, "unknown field '%.100s', wanted path, type, split, weight", name);
        return LQ_OK;
    }
    double value;
    if (!lq_text_to_real(text, &value) || value <= 0 || value > 1e6)
        lq_slot_mistake(
            s, "weight: found '%.200s', wanted a number more than 0 and at most 1000000", text);
    else e->weight = value;
    return LQ_OK;
}

static lq_status datasets_end(lq_slot *s) {
    const lq_dataset_entries *l = s->field;
    const char *path = l->e[l->n - 1].path;
    if (!path || !*path) lq_slot_mistake(s, "entry %d has no path", l->n);
    return LQ_OK;
}

static lq_status datasets_add(lq_slot *s, const char *text) {
    LQ_TRY(datasets_begin(s));
    LQ_TRY(datasets_pair(s, "path", text));
    return datasets_end(s);
}

static void write_field(lq_str *out, const char *name, const char *text) {
    if (!text) return;
    lq_str_printf(out, "    %s: ", name);
    lq_write_text(out, text);
    lq_str_putc(out, '\n');
}

static void datasets_write(const void *field, lq_str *out) {
    const lq_dataset_entries *l = field;
    if (l->n == 0) lq_str_puts(out, " []");
    for (int i = 0; i < l->n; i++) {
        lq_str_puts(out, "\n  - path: ");
        lq_write_text(out, l->e[i].path ? l->e[i].path : "");
        lq_str_putc(out, '\n');
        write_field(out, "type", l->e[i].type);
        write_field(out, "split", l->e[i].split);
        lq_str_puts(out, "    weight: ");
        lq_write_real(out, l->e[i].weight);
    }
}

static void datasets_clear(void *field) {
    lq_dataset_entries *l = field;
    for (int i = 0; i < l->n; i++) {
        lq_free(l->e[i].path);
        lq_free(l->e[i].type);
        lq_free(l->e[i].split);
    }
    lq_free(l->e);
    *l = (lq_dataset_entries){NULL, 0};
}

static bool same_text(const char *a, const char *b) { return a && b ? strcmp(a, b) == 0 : a == b; }

static bool datasets_equal(const void *a, const void *b) {
    const lq_dataset_entries *x = a, *y = b;
    bool same = x->n == y->n;
    for (int i = 0; same && i < x->n; i++) {
        const lq_dataset_entry *p = &x->e[i], *q = &y->e[i];
        same = same_text(p->path, q->path) && same_text(p->type, q->type) &&
               same_text(p->split, q->split) && p->weight == q->weight;
    }
    return same;
}

const lq_kind lq_kind_texts = {.wanted = "a list of names",
                               .placeholder = "A,B...",
                               .from_text = texts_from_text,
                               .add = texts_add,
                               .write = texts_write,
                               .clear = texts_clear,
                               .equal = texts_equal};
const lq_kind lq_kind_ints = {.wanted = "a list of whole numbers",
                              .placeholder = "N,N...",
                              .from_text = ints_from_text,
                              .add = ints_add,
                              .write = ints_write,
                              .clear = ints_clear,
                              .equal = ints_equal};
const lq_kind lq_kind_map = {.wanted = "names and numbers, {name: number}",
                             .placeholder = "NAME=X,...",
                             .from_text = map_from_text,
                             .add = map_add,
                             .pair = map_pair,
                             .write = map_write,
                             .clear = map_clear,
                             .equal = map_equal};
const lq_kind lq_kind_datasets = {.wanted = "a list of data files, [{path, type, weight}]",
                                  .placeholder = "FILE",
                                  .from_text = datasets_add,
                                  .add = datasets_add,
                                  .begin = datasets_begin,
                                  .pair = datasets_pair,
                                  .end = datasets_end,
                                  .write = datasets_write,
                                  .clear = datasets_clear,
                                  .equal = datasets_equal};
