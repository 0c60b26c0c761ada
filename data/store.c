/* The token cache. See store.h. One column per field of lq_example; "key" says what the file was
 * made from. */
#include "store.h"

#include "atomic_file.h"
#include "h5.h"

#include <math.h>
#include <string.h>
#include <time.h>

enum { VERSION = 1, N_COUNTS = sizeof(lq_data_counts) / sizeof(int64_t) };

/* ---- the key --------------------------------------------------------------------------------- */

static lq_status key_of_sources(lq_str *s, const lq_data_source *sources, int n_sources,
                                uint64_t seed) {
    for (int i = 0; i < n_sources; i++) {
        char file[LQ_SHA256_HEX];
        uint64_t bytes;
        LQ_TRY(lq_sha256_file(file, sources[i].path, &bytes));
        lq_str_printf(s, "file %s %s %.17g\n", file, sources[i].type ? sources[i].type : "",
                      sources[i].weight);
        if (sources[i].weight != floor(sources[i].weight))
            lq_str_printf(s, "seed %llu\n", (unsigned long long)seed); /* draws which ones */
    }
    return LQ_OK;
}

/* A template that prints the date gives other tokens tomorrow. */
static void key_of_date(lq_str *s, const char *source, int64_t now) {
    if (!source || !strstr(source, "strftime_now")) return;
    const time_t when = now ? (time_t)now : time(NULL);
    struct tm day;
    if (localtime_r(&when, &day)) lq_str_printf(s, "day %d %d\n", day.tm_year, day.tm_yday);
}

static void key_of_options(lq_str *s, const lq_data_options *o) {
    lq_str_printf(s, "length %lld %d\ninputs %d\nroles", (long long)o->sequence_len, (int)o->excess,
                  o->train_on_inputs);
    for (const char *const *role = o->roles_to_train; role && *role; role++)
        lq_str_printf(s, " %zu:%s", strlen(*role), *role);
    lq_str_printf(s, "\ntemplate %d ", o->chat_template != NULL);
    if (o->chat_template && o->chat_template_source) lq_str_puts(s, o->chat_template_source);
    lq_str_putc(s, '\n');
    key_of_date(s, o->chat_template_source, o->now);
}

lq_status lq_store_key(char out[LQ_SHA256_HEX], const lq_data_source *sources, int n_sources,
                       const lq_tokenizer *tok, const lq_data_options *options) {
    lq_status status = LQ_OK;
    lq_str s = LQ_STR_INIT;
    lq_str_printf(&s, "loquat tokens %d\ntokenizer %s\n", VERSION, lq_tokenizer_fingerprint(tok));
    LQ_GOTO(status, key_of_sources(&s, sources, n_sources, options->seed));
    key_of_options(&s, options);
    LQ_GOTO(status, lq_str_status(&s));
    lq_sha256(out, s.s, s.n);
done:
    lq_str_clear(&s);
    return status;
}

/* ---- the columns ----------------------------------------------------------------------------- */

typedef struct columns {
    int64_t *first, *line;
    int32_t *n, *n_trained, *source;
    uint64_t *hash, *group;
} columns;

typedef struct column {
    const char *name;
    lq_h5_type type;
    size_t offset;     /* of the pointer in columns */
} column;

static const column table[] = {
    {"example_first", LQ_H5_I64, offsetof(columns, first)},
    {"example_line", LQ_H5_I64, offsetof(columns, line)},
    {"example_n", LQ_H5_I32, offsetof(columns, n)},
    {"example_n_trained", LQ_H5_I32, offsetof(columns, n_trained)},
    {"example_source", LQ_H5_I32, offsetof(columns, source)},
    {"example_hash", LQ_H5_U64, offsetof(columns, hash)},
    {"example_group", LQ_H5_U64, offsetof(columns, group)},
};

static void *get_column(const columns *c, int i) {
    void *p;
    memcpy(&p, (const char *)c + table[i].offset, sizeof p);
    return p;
}

static void set_column(columns *c, int i, void *p) {
    memcpy((char *)c + table[i].offset, &p, sizeof p);
}

static void columns_clear(columns *c) {
    for (int i = 0; i < LQ_ARRAY_LEN(table); i++) lq_free(get_column(c, i));
    *c = (columns){NULL};
}

static lq_status columns_of(columns *c, const lq_dataset *d) {
    *c = (columns){NULL};
    for (int i = 0; i < LQ_ARRAY_LEN(table); i++) {
        void *p = lq_alloc_array(d->n, table[i].type == LQ_H5_I32 ? 4 : 8);
        if (!p) return LQ_EMEM;
        set_column(c, i, p);
    }
    for (int64_t i = 0; i < d->n; i++) {
        const lq_example *e = &d->example[i];
        c->first[i] = e->first;
        c->line[i] = e->line;
        c->n[i] = e->n;
        c->n_trained[i] = e->n_trained;
        c->source[i] = e->source;
        c->hash[i] = e->hash;
        c->group[i] = e->group;
    }
    return LQ_OK;
}

static lq_status write_all(lq_h5 *h, const char *key, const lq_dataset *d, const columns *c) {
    const int64_t version = VERSION;
    int64_t counts[N_COUNTS];
    memcpy(counts, &d->counts, sizeof counts);
    LQ_TRY(lq_h5_write(h, "version", LQ_H5_I64, &version, 1));
    LQ_TRY(lq_h5_write_string(h, "key", key));
    LQ_TRY(lq_h5_write(h, "counts", LQ_H5_I64, counts, N_COUNTS));
    for (int i = 0; i < LQ_ARRAY_LEN(table); i++)
        LQ_TRY(lq_h5_write(h, table[i].name, table[i].type, get_column(c, i), d->n));
    LQ_TRY(lq_h5_write(h, "ids", LQ_H5_I32, d->ids, d->n_tokens));
    return lq_h5_write(h, "mask", LQ_H5_U8, d->mask, d->n_tokens);
}

lq_status lq_store_write(const char *path, const char *key, const lq_dataset *d) {
    lq_status status = LQ_OK;
    lq_h5 *h = NULL;
    columns c;
    LQ_GOTO(status, columns_of(&c, d));
    status = lq_h5_create(&h, path);
    if (status == LQ_EBUSY) { /* its content is the same: the name is the key */
        lq_log(LQ_LOG_INFO, "token cache not written: %s", lq_error());
        status = LQ_OK;
        goto done;
    }
    LQ_GOTO(status, status);
    LQ_GOTO(status, write_all(h, key, d, &c));
    status = lq_h5_commit(h);
    h = NULL;
done:
    lq_h5_close(h);
    columns_clear(&c);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------- */

static lq_status read_n(lq_h5 *h, const char *path, const char *name, lq_h5_type type, void **out,
                        int64_t n) {
    int64_t found;
    LQ_TRY(lq_h5_read(h, name, type, out, &found));
    if (found == n) return LQ_OK;
    return lq_fail(LQ_EFORMAT, "%s: %s: found %lld elements, wanted %lld", path, name,
                   (long long)found, (long long)n);
}

static lq_status same_key(lq_h5 *h, const char *path, const char *key) {
    void *version = NULL;
    char *found = NULL;
    lq_status status = LQ_OK;
    LQ_GOTO(status, read_n(h, path, "version", LQ_H5_I64, &version, 1));
    if (*(const int64_t *)version != VERSION)
        LQ_GOTO(status, lq_fail(LQ_EFORMAT, "%s: found version %lld, wanted %d", path,
                                (long long)*(const int64_t *)version, VERSION));
    LQ_GOTO(status, lq_h5_read_string(h, "key", &found));
    if (strcmp(found, key) != 0)
        status = lq_fail(LQ_EFORMAT, "%s: made from other data or options", path);
done:
    lq_free(version);
    lq_free(found);
    return status;
}

static lq_status fill_examples(lq_dataset *d, const columns *c, const char *path) {
    d->example = lq_alloc_array(d->n, sizeof *d->example);
    if (!d->example) return LQ_EMEM;
    for (int64_t i = 0; i < d->n; i++) {
        const bool inside = c->n[i] > 0 && c->first[i] >= 0 &&
                            c->first[i] <= d->n_tokens - c->n[i] && c->n_trained[i] > 0 &&
                            c->n_trained[i] <= c->n[i];
        if (!inside)
            return lq_fail(LQ_EFORMAT, "%s: example %lld does not fit the tokens", path,
                           (long long)i);
        d->example[i] = (lq_example){.first = c->first[i],
                                     .n = c->n[i],
                                     .n_trained = c->n_trained[i],
                                     .source = c->source[i],
                                     .line = c->line[i],
                                     .hash = c->hash[i],
                                     .group = c->group[i]};
    }
    return LQ_OK;
}

static lq_status read_columns(lq_h5 *h, const char *path, columns *c, int64_t *n) {
    void *p = NULL;
    LQ_TRY(lq_h5_read(h, table[0].name, table[0].type, &p, n));
    set_column(c, 0, p);
    for (int i = 1; i < LQ_ARRAY_LEN(table); i++) {
        const lq_status status = read_n(h, path, table[i].name, table[i].type, &p, *n);
        set_column(c, i, p);
        LQ_TRY(status);
    }
    return LQ_OK;
}

static lq_status read_all(lq_h5 *h, const char *path, const char *key, lq_dataset *d) {
    lq_status status = LQ_OK;
    columns c = {NULL};
    void *counts = NULL, *ids = NULL, *mask = NULL;
    LQ_GOTO(status, same_key(h, path, key));
    LQ_GOTO(status, read_n(h, path, "counts", LQ_H5_I64, &counts, N_COUNTS));
    memcpy(&d->counts, counts, sizeof d->counts);
    LQ_GOTO(status, lq_h5_read(h, "ids", LQ_H5_I32, &ids, &d->n_tokens));
    d->ids = ids;
    status = read_n(h, path, "mask", LQ_H5_U8, &mask, d->n_tokens);
    d->mask = mask;
    LQ_GOTO(status, status);
    LQ_GOTO(status, read_columns(h, path, &c, &d->n));
    LQ_GOTO(status, fill_examples(d, &c, path));
done:
    lq_free(counts);
    columns_clear(&c);
    return status;
}

lq_status lq_store_read(bool *found, lq_dataset *out, const char *path, const char *key) {
    lq_h5 *h = NULL;
    *found = false;
    *out = (lq_dataset){0};
    if (!lq_file_exists(path)) return LQ_OK;
    lq_status status = lq_h5_open(&h, path);
    if (status == LQ_OK) status = read_all(h, path, key, out);
    lq_h5_close(h);
    *found = status == LQ_OK;
    if (*found) return LQ_OK;
    lq_dataset_clear(out);
    if (status == LQ_EMEM) return status;
    lq_log(LQ_LOG_WARN, "token cache not used: %s", lq_error());
    return LQ_OK;
}
