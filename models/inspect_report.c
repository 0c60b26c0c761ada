/* Building the inspection report: an object of Jansson's that remembers when memory ran out. */
#include "inspect_parts.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_TEXT = 4096, MAX_LINE = 512 };

void lq_report_put(lq_report *r, json_t *object, const char *key, json_t *value) {
    char plain[LQ_STEM_BYTES];
    size_t n = 0;
    for (; key[n] && n + 1 < sizeof plain; n++)
        plain[n] = key[n] >= ' ' && key[n] <= '~' ? key[n] : '?';
    plain[n] = 0;
    if (json_object_set_new(object, plain, value) != 0) r->failed = true;
}

void lq_report_int(lq_report *r, json_t *object, const char *key, int64_t v) {
    lq_report_put(r, object, key, json_integer(v));
}

json_t *lq_text_json(const char *s, size_t n) {
    json_t *v = json_stringn(s, n > MAX_TEXT ? lq_utf8_complete(s, MAX_TEXT) : n);
    return v ? v : json_string("(not UTF-8)");
}

void lq_report_text(lq_report *r, json_t *object, const char *key, const char *s) {
    lq_report_put(r, object, key, lq_text_json(s, strlen(s)));
}

json_t *lq_report_object(lq_report *r, json_t *parent, const char *key) {
    json_t *object = json_object();
    lq_report_put(r, parent, key, object);
    return object;
}

void lq_report_count(lq_report *r, json_t *object, const char *key, int64_t add) {
    lq_report_int(r, object, key, json_integer_value(json_object_get(object, key)) + add);
}

void lq_report_warn(lq_report *r, const char *fmt, ...) {
    char line[MAX_LINE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (json_array_append_new(r->warnings, lq_text_json(line, strlen(line))) != 0) r->failed = true;
}

static json_t *number_json(const lq_gguf_kv *kv) {
    uint32_t u;
    int32_t s;
    float f;
    switch (kv->type) {
    case LQ_GGUF_U32: memcpy(&u, kv->data, sizeof u); return json_integer(u);
    case LQ_GGUF_I32: memcpy(&s, kv->data, sizeof s); return json_integer(s);
    case LQ_GGUF_F32:
        memcpy(&f, kv->data, sizeof f);
        return isfinite(f) ? json_real((double)f) : json_string("not finite");
    case LQ_GGUF_BOOL: return json_boolean(*(const uint8_t *)kv->data);
    default: return json_string("(another kind of number)");
    }
}

json_t *lq_value_json(const lq_gguf_kv *kv) {
    const lq_gguf_str *s = kv->data;
    if (kv->elem != LQ_GGUF_STRING)
        return kv->type == LQ_GGUF_ARRAY ? json_string("(a list)") : number_json(kv);
    if (kv->type == LQ_GGUF_STRING) return lq_text_json(s->s, s->n);
    json_t *list = json_array();
    for (uint64_t i = 0; list && i < kv->n; i++) {
        if (json_array_append_new(list, lq_text_json(s[i].s, s[i].n)) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

const char *lq_tensor_stem(char stem[LQ_STEM_BYTES], const char *name) {
    if (strncmp(name, "blk.", 4) == 0 && strchr(name + 4, '.')) name = strchr(name + 4, '.') + 1;
    size_t n = strcspn(name, ".");
    if (n >= LQ_STEM_BYTES) n = LQ_STEM_BYTES - 1;
    memcpy(stem, name, n);
    stem[n] = 0;
    return stem;
}
