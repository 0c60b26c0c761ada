/* Sets of safetensors files: the index names a file for each tensor, and each file must have just
 * the tensors that the index gives it. See safetensors.h. */
#include "atomic_file.h"
#include "safetensors_parts.h"
#include "str.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { MAX_SHARDS = 10000, MAX_LISTED = 20 };

bool lq_safetensors_in_dir(const char *dir, const char *stem) {
    char name[64];
    snprintf(name, sizeof name, "%s.safetensors", stem);
    if (lq_file_exists_in(dir, name)) return true;
    snprintf(name, sizeof name, "%s.safetensors.index.json", stem);
    return lq_file_exists_in(dir, name);
}

typedef struct shards {
    const char *dir, *index;         /* paths */
    json_t *map;                     /* tensor: file */
    const char *file[MAX_SHARDS];    /* borrowed from map */
    int64_t first[MAX_SHARDS + 1];   /* of the file's tensors */
    int n;
    lq_str mistakes;
    int n_mistakes;
} shards;

static void mistake(shards *x, const char *what, const char *name, const char *where) {
    if (x->n_mistakes++ < MAX_LISTED)
        lq_str_printf(&x->mistakes, "\n%s %s%s%s", name, what, *where ? " " : "", where);
}

static bool is_known(const shards *x, const char *file) {
    for (int i = 0; i < x->n; i++)
        if (strcmp(x->file[i], file) == 0) return true;
    return false;
}

/* The files in the order in which the index names them. */
static lq_status list_files(shards *x) {
    const char *tensor;
    json_t *file;
    json_object_foreach(x->map, tensor, file) {
        const char *name = json_string_value(file);
        if (!name || !*name || strchr(name, '/'))
            return lq_fail(LQ_EFORMAT, "%s: weight_map: tensor %s is in '%s', must be in a file "
                           "beside the index", x->index, tensor, name ? name : "?");
        if (is_known(x, name)) continue;
        if (x->n == MAX_SHARDS)
            return lq_fail(LQ_EFORMAT, "%s: more than %d shards", x->index, MAX_SHARDS);
        x->file[x->n++] = name;
    }
    return LQ_OK;
}

/* Every shard that is not there, in one message. */
static lq_status check_files(shards *x) {
    for (int i = 0; i < x->n; i++) {
        char *path = lq_path_join(x->dir, x->file[i]);
        if (!path) return LQ_EMEM;
        if (!lq_file_exists(path)) mistake(x, "is missing", x->file[i], "");
        lq_free(path);
    }
    return LQ_OK;
}

static lq_status open_files(shards *x, lq_safetensors *s) {
    for (int i = 0; i < x->n; i++) {
        char *path = lq_path_join(x->dir, x->file[i]);
        if (!path) return LQ_EMEM;
        x->first[i] = s->n;
        const lq_status status = lq_safetensors_add_file(s, path);
        lq_free(path);
        LQ_TRY(status);
    }
    x->first[x->n] = s->n;
    return LQ_OK;
}

/* What is in a shard must be in the index, there; what is in the index, in a shard. Takes entries
 * out of the map as they are found. */
static void compare(shards *x, const lq_safetensors *s) {
    const char *tensor;
    json_t *file;
    for (int i = 0; i < x->n; i++)
        for (int64_t j = x->first[i]; j < x->first[i + 1]; j++) {
            const char *name = s->tensor[j].name;
            const char *where = json_string_value(json_object_get(x->map, name));
            if (!where) mistake(x, "is not in the index, or twice in the shards: it is in", name,
                                x->file[i]);
            else if (strcmp(where, x->file[i]) != 0)
                mistake(x, "is not where the index says, but in", name, x->file[i]);
            else json_object_set(x->map, name, json_null());   /* seen; the file's name may go */
        }
    json_object_foreach(x->map, tensor, file)
        if (json_is_string(file)) mistake(x, "is in the index, but not in", tensor,
                                          json_string_value(file));
}

static lq_status report(const shards *x) {
    LQ_TRY(lq_str_status(&x->mistakes));
    if (!x->n_mistakes) return LQ_OK;
    const int more = x->n_mistakes - MAX_LISTED;
    char *rest = more > 0 ? lq_sprintf("\nand %d more", more) : lq_strdup("");
    if (!rest) return LQ_EMEM;
    const lq_status status = lq_fail(LQ_EFORMAT, "%s: the shards are not those of the index:%s%s",
                                     x->index, lq_str_text(&x->mistakes), rest);
    lq_free(rest);
    return status;
}

static lq_status open_shards(shards *x, lq_safetensors *s) {
    LQ_TRY(list_files(x));
    LQ_TRY(check_files(x));
    LQ_TRY(report(x));
    LQ_TRY(open_files(x, s));
    compare(x, s);
    return report(x);
}

static lq_status open_index(lq_safetensors *s, const char *dir, const char *path) {
    json_error_t error;
    json_t *index = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    if (!index) return lq_fail(LQ_EFORMAT, "%s:%d: %s", path, error.line, error.text);
    lq_status status = LQ_OK;
    json_t *map = json_object_get(index, "weight_map");
    shards *x = lq_alloc(sizeof *x);
    LQ_GOTO(status, x ? LQ_OK : LQ_EMEM);
    *x = (shards){.dir = dir, .index = path, .map = json_copy(map), .mistakes = LQ_STR_INIT};
    if (!json_is_object(map))
        LQ_GOTO(status, lq_fail(LQ_EFORMAT, "%s: has no object weight_map", path));
    LQ_GOTO(status, x->map ? LQ_OK : lq_fail(LQ_EMEM, "%s: out of memory", path));
    LQ_GOTO(status, open_shards(x, s));
    lq_safetensors_sort(s);
done:
    if (x) {
        json_decref(x->map);
        lq_str_clear(&x->mistakes);
    }
    lq_free(x);
    json_decref(index);
    return status;
}

lq_status lq_safetensors_open_dir(lq_safetensors **out, const char *dir, const char *stem) {
    lq_safetensors *s = NULL;
    lq_status status = LQ_OK;
    char *one = lq_sprintf("%s/%s.safetensors", dir, stem);
    char *index = lq_sprintf("%s/%s.safetensors.index.json", dir, stem);
    LQ_GOTO(status, one && index ? LQ_OK : LQ_EMEM);
    if (lq_file_exists(one)) {
        status = lq_safetensors_open(out, one);
        goto done;
    }
    s = lq_alloc(sizeof *s);
    LQ_GOTO(status, s ? LQ_OK : LQ_EMEM);
    if (!lq_file_exists(index))
        LQ_GOTO(status, lq_fail(LQ_EIO, "%s: has neither %s.safetensors nor its index", dir, stem));
    LQ_GOTO(status, open_index(s, dir, index));
    *out = s;
    s = NULL;
done:
    lq_safetensors_close(s);
    lq_free(one);
    lq_free(index);
    return status;
}
