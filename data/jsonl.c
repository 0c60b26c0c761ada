/* JSON lines and JSON arrays, read with Jansson. See jsonl.h. The file is read whole: its records
 * are needed for tokenizing anyway, and its lines are parsed one at a time. */
#include "jsonl.h"

#include "atomic_file.h"

#include <stdio.h>
#include <string.h>

struct lq_jsonl {
    char *path, *text, *where;
    size_t where_bytes;
    const char *next, *end;   /* lines: what is still to be read */
    int64_t record;
    json_t *array;            /* NULL: lines */
    json_t *line;             /* the current line's value */
};

/* Jansson's complaint as a status; place is already "FILE:LINE". */
static lq_status broken(const char *place, const json_error_t *e) {
    if (json_error_code(e) == json_error_out_of_memory)
        return lq_fail(LQ_EMEM, "%s: out of memory", place);
    if (json_error_code(e) == json_error_invalid_utf8)
        return lq_fail(LQ_EFORMAT, "%s: not UTF-8: %s", place, e->text);
    return lq_fail(LQ_EFORMAT, "%s: broken JSON: %s (column %d)", place, e->text, e->column);
}

static lq_status load_array(lq_jsonl *r) {
    json_error_t e;
    r->array = json_loadb(r->next, (size_t)(r->end - r->next), 0, &e);
    if (r->array) return LQ_OK;
    snprintf(r->where, r->where_bytes, "%s:%d", r->path, e.line);
    return broken(r->where, &e);
}

lq_status lq_jsonl_open(lq_jsonl **out, const char *path) {
    static const char bom[] = "\xef\xbb\xbf";
    lq_status status = LQ_OK;
    size_t n = 0;
    *out = NULL;
    lq_jsonl *r = lq_alloc(sizeof *r);
    if (!r) return LQ_EMEM;
    LQ_GOTO(status, lq_read_file(&r->text, &n, path));
    r->where_bytes = strlen(path) + 32;
    r->path = lq_strdup(path);
    r->where = lq_alloc(r->where_bytes);
    LQ_GOTO(status, r->path && r->where ? LQ_OK : LQ_EMEM);
    r->next = r->text;
    r->end = r->text + n;
    if (n >= 3 && memcmp(r->text, bom, 3) == 0) r->next += 3;
    if (r->next[strspn(r->next, " \t\r\n")] == '[') LQ_GOTO(status, load_array(r));
    *out = r;
done:
    if (status != LQ_OK) lq_jsonl_close(r);
    return status;
}

void lq_jsonl_close(lq_jsonl *r) {
    if (!r) return;
    json_decref(r->array);
    json_decref(r->line);
    lq_free(r->path);
    lq_free(r->text);
    lq_free(r->where);
    lq_free(r);
}

int64_t lq_jsonl_record(const lq_jsonl *r) { return r->record; }

const char *lq_jsonl_where(lq_jsonl *r) {
    snprintf(r->where, r->where_bytes, r->array ? "%s: record %lld" : "%s:%lld", r->path,
             (long long)r->record);
    return r->where;
}

const char *lq_json_type_name(const json_t *value) {
    static const char *const name[] = {
        [JSON_OBJECT] = "an object", [JSON_ARRAY] = "an array", [JSON_STRING] = "a string",
        [JSON_INTEGER] = "an integer", [JSON_REAL] = "a number", [JSON_TRUE] = "true",
        [JSON_FALSE] = "false", [JSON_NULL] = "null",
    };
    return value ? name[json_typeof(value)] : "nothing";
}

static bool blank(const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strchr(" \t\r", s[i]) || !s[i]) return false;
    return true;
}

/* *out NULL at the end. */
static lq_status next_line(lq_jsonl *r, json_t **out) {
    json_error_t e;
    json_decref(r->line);
    *out = r->line = NULL;
    while (r->next < r->end) {
        const char *start = r->next, *newline = memchr(start, '\n', (size_t)(r->end - start));
        const size_t n = (size_t)((newline ? newline : r->end) - start);
        r->next = newline ? newline + 1 : r->end;
        r->record++;
        if (blank(start, n)) continue;
        *out = r->line = json_loadb(start, n, JSON_DECODE_ANY, &e);
        return r->line ? LQ_OK : broken(lq_jsonl_where(r), &e);
    }
    return LQ_OK;
}

lq_status lq_jsonl_next(lq_jsonl *r, json_t **out) {
    if (r->array) *out = json_array_get(r->array, (size_t)r->record++);
    else LQ_TRY(next_line(r, out));
    if (!*out || json_is_object(*out)) return LQ_OK;
    const char *found = lq_json_type_name(*out);
    *out = NULL;
    return lq_fail(LQ_EFORMAT, "%s: found %s, wanted an object", lq_jsonl_where(r), found);
}
