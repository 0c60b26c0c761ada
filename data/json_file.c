/* Reading a JSON file with Jansson. See json_file.h. */
#include "json_file.h"

#include "atomic_file.h"
#include "str.h"

#include <stdlib.h>

static lq_status parse(json_t **out, const char *path) {
    char *text = NULL;
    size_t n = 0;
    json_error_t e;
    LQ_TRY(lq_read_file(&text, &n, path));
    *out = json_loadb(text, n, JSON_ALLOW_NUL, &e);
    lq_free(text);
    if (*out) return LQ_OK;
    if (json_error_code(&e) == json_error_out_of_memory)
        return lq_fail(LQ_EMEM, "%s: out of memory", path);
    return lq_fail(LQ_EFORMAT, "%s:%d: broken JSON: %s (column %d)", path, e.line, e.text,
                   e.column);
}

lq_status lq_json_read(json_t **out, const char *dir, const char *name, bool required) {
    *out = NULL;
    char *path = lq_path_join(dir, name);
    if (!path) return LQ_EMEM;
    const lq_status status = required || lq_file_exists(path) ? parse(out, path) : LQ_OK;
    lq_free(path);
    return status;
}

lq_status lq_json_write(const char *path, json_t *value) {
    char *text = value ? json_dumps(value, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    lq_str file = LQ_STR_INIT;
    json_decref(value);
    if (text) lq_str_puts(&file, text);
    else file.failed = true;
    free(text);
    lq_str_putc(&file, '\n');
    lq_status status = lq_str_status(&file);
    if (status != LQ_OK) status = lq_fail(LQ_EMEM, "%s: out of memory", path);
    else status = lq_write_file(path, file.s, file.n);
    lq_str_clear(&file);
    return status;
}
