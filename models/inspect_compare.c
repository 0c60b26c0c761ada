/* Two files side by side: tensors by name, their numbers whatever type each is stored in, and the
 * keys of the metadata. */
#include "inspect.h"

#include "gguf_parts.h"
#include "hf.h"
#include "inspect_parts.h"
#include "model_parts.h"

#include <math.h>
#include <string.h>

typedef struct sides { const lq_gguf *a, *b; } sides;

typedef struct distance { double squares, reference, most; } distance;

/* Row by row; x, y: room for a row. */
static distance measure(const lq_gguf_tensor *a, const lq_gguf_tensor *b, float *x, float *y) {
    distance d = {0, 0, 0};
    const int64_t n = a->ne[0], rows = a->ne[1] * a->ne[2] * a->ne[3];
    const size_t bytes_a = lq_format_bytes(a->fmt, n), bytes_b = lq_format_bytes(b->fmt, n);
    for (int64_t r = 0; r < rows; r++) {
        a->fmt->dequant((const char *)a->data + (size_t)r * bytes_a, x, n);
        b->fmt->dequant((const char *)b->data + (size_t)r * bytes_b, y, n);
        for (int64_t i = 0; i < n; i++) {
            const double e = (double)y[i] - (double)x[i];
            d.squares += e * e;
            d.reference += (double)x[i] * (double)x[i];
            if (!(fabs(e) <= d.most)) d.most = fabs(e);
        }
    }
    return d;
}

static bool same_shape(const lq_gguf_tensor *a, const lq_gguf_tensor *b) {
    return memcmp(a->ne, b->ne, sizeof a->ne) == 0;
}

static bool same_bytes(const lq_gguf_tensor *a, const lq_gguf_tensor *b) {
    return a->ggml_type == b->ggml_type && a->bytes == b->bytes &&
           memcmp(a->data, b->data, a->bytes) == 0;
}

static void put_distance(lq_report *r, json_t *one, const lq_gguf_tensor *a,
                         const lq_gguf_tensor *b) {
    float *x = lq_alloc_array(a->ne[0], sizeof *x), *y = lq_alloc_array(a->ne[0], sizeof *y);
    if (x && y) {
        const distance d = measure(a, b, x, y);
        const double relative = d.reference > 0 ? sqrt(d.squares / d.reference) : INFINITY;
        lq_report_put(r, one, "relative difference",
                      isfinite(relative) ? json_real(relative) : json_string("not finite"));
        lq_report_put(r, one, "largest difference",
                      isfinite(d.most) ? json_real(d.most) : json_string("not finite"));
    } else {
        r->failed = true;
    }
    lq_free(x);
    lq_free(y);
}

static void put_difference(lq_report *r, json_t *out, const lq_gguf_tensor *a,
                           const lq_gguf_tensor *b) {
    char label[LQ_TYPE_LABEL];
    json_t *one = lq_report_object(r, out, a->name);
    lq_report_text(r, one, "type in a", lq_type_label(label, a->ggml_type));
    lq_report_text(r, one, "type in b", lq_type_label(label, b->ggml_type));
    if (!same_shape(a, b)) lq_report_text(r, one, "problem", "the shapes differ");
    else if (!a->fmt || !b->fmt || !a->fmt->dequant || !b->fmt->dequant)
        lq_report_text(r, one, "problem", "a type that Loquat does not read");
    else
        put_distance(r, one, a, b);
}

/* The names that are in `from` and not in `to`. */
static int64_t put_missing(lq_report *r, json_t *out, const char *key, const lq_gguf *from,
                           const lq_gguf *to) {
    json_t *list = json_array();
    for (int64_t i = 0; i < lq_gguf_n_tensors(from); i++) {
        const char *name = lq_gguf_tensor_at(from, i)->name;
        if (lq_gguf_find_tensor(to, name)) continue;
        if (json_array_append_new(list, lq_text_json(name, strlen(name))) != 0) r->failed = true;
    }
    const int64_t n = (int64_t)json_array_size(list);
    lq_report_put(r, out, key, list);
    return n;
}

static void compare_tensors(lq_report *r, json_t *out, sides s) {
    int64_t equal = 0, different = 0;
    json_t *list = json_object();
    for (int64_t i = 0; i < lq_gguf_n_tensors(s.a); i++) {
        const lq_gguf_tensor *a = lq_gguf_tensor_at(s.a, i);
        const lq_gguf_tensor *b = lq_gguf_find_tensor(s.b, a->name);
        if (!b) continue;
        if (same_shape(a, b) && same_bytes(a, b)) {
            equal++;
            continue;
        }
        different++;
        put_difference(r, list, a, b);
    }
    lq_report_int(r, out, "equal tensors", equal);
    lq_report_int(r, out, "different tensors", different);
    put_missing(r, out, "only in a", s.a, s.b);
    put_missing(r, out, "only in b", s.b, s.a);
    lq_report_put(r, out, "differences", list);
}

static bool same_value(const lq_gguf_kv *a, const lq_gguf_kv *b) {
    if (a->type != b->type || a->elem != b->elem || a->n != b->n) return false;
    if (a->elem != LQ_GGUF_STRING)
        return memcmp(a->data, b->data, a->n * lq_gguf_type_bytes(a->elem)) == 0;
    const lq_gguf_str *x = a->data, *y = b->data;
    for (uint64_t i = 0; i < a->n; i++)
        if (x[i].n != y[i].n || memcmp(x[i].s, y[i].s, x[i].n) != 0) return false;
    return true;
}

static json_t *shown(const lq_gguf_kv *kv) {
    if (!kv) return json_string("(absent)");
    return kv->type == LQ_GGUF_ARRAY ? json_string("(a list)") : lq_value_json(kv);
}

static void put_key(lq_report *r, json_t *out, const char *key, const lq_gguf_kv *a,
                    const lq_gguf_kv *b) {
    json_t *one = lq_report_object(r, out, key);
    lq_report_put(r, one, "a", shown(a));
    lq_report_put(r, one, "b", shown(b));
}

static void compare_keys(lq_report *r, json_t *out, sides s) {
    json_t *list = lq_report_object(r, out, "different keys");
    for (int64_t i = 0; i < lq_gguf_n_kv(s.a); i++) {
        const lq_gguf_kv *a = lq_gguf_kv_at(s.a, i), *b = lq_gguf_find(s.b, a->key);
        if (!b || !same_value(a, b)) put_key(r, list, a->key, a, b);
    }
    for (int64_t i = 0; i < lq_gguf_n_kv(s.b); i++) {
        const lq_gguf_kv *b = lq_gguf_kv_at(s.b, i);
        if (!lq_gguf_find(s.a, b->key)) put_key(r, list, b->key, NULL, b);
    }
}

static lq_status open_file(lq_gguf **out, const char *path) {
    return lq_hf_is_dir(path) ? lq_hf_open(out, path) : lq_gguf_open(out, path);
}

lq_status lq_inspect_compare(json_t **out, const char *path_a, const char *path_b) {
    lq_report r = {.path = path_a};
    lq_gguf *a = NULL, *b = NULL;
    json_t *object = NULL;
    lq_status status;
    *out = NULL;
    LQ_GOTO(status, open_file(&a, path_a));
    LQ_GOTO(status, open_file(&b, path_b));
    object = json_object();
    lq_report_text(&r, object, "kind", "comparison");
    lq_report_text(&r, object, "a", path_a);
    lq_report_text(&r, object, "b", path_b);
    compare_tensors(&r, object, (sides){a, b});
    compare_keys(&r, object, (sides){a, b});
    if (r.failed) status = lq_fail(LQ_EMEM, "%s: out of memory while comparing", path_a);
    if (status != LQ_OK) goto done;
    *out = object;
    object = NULL;
done:
    json_decref(object);
    lq_gguf_close(a);
    lq_gguf_close(b);
    return status;
}
