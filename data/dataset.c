/* From files to examples: reads records, encodes them (records.h), cuts or drops what is too long,
 * repeats by weight, counts. See dataset.h. The split is split.c's. */
#include "dataset.h"

#include "hash.h"
#include "jsonl.h"
#include "random.h"
#include "records.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ERRORS = 20 };

typedef struct load {
    lq_dataset d;
    int64_t example_cap, ids_cap, mask_cap;
    const lq_tokenizer *tok;
    const lq_data_options *options;
    lq_encoding encoding;
    lq_str errors;         /* one line per broken record, at most MAX_ERRORS */
    int64_t n_errors;
    int64_t longest;       /* tokens of the longest record that was dropped */
} load;

void lq_dataset_clear(lq_dataset *d) {
    lq_free(d->example);
    lq_free(d->ids);
    lq_free(d->mask);
    *d = (lq_dataset){0};
}

static void load_clear(load *l) {
    lq_dataset_clear(&l->d);
    lq_encoding_clear(&l->encoding);
    lq_str_clear(&l->errors);
}

/* ---- one record ------------------------------------------------------------------------------ */

static int32_t count_trained(const uint8_t *mask, int64_t n) {
    int32_t trained = 0;
    for (int64_t i = 0; i < n; i++) trained += mask[i];
    return trained;
}

/* How many of the record's tokens are kept: all, the first sequence_len, or none. */
static lq_status fit(load *l, int64_t n, int64_t *kept) {
    const int64_t limit = l->options->sequence_len;
    *kept = n;
    if (n <= limit) return LQ_OK;
    if (l->options->excess == LQ_EXCESS_RAISE)
        return lq_fail(LQ_EFORMAT,
                       "%lld tokens, but sequence_len is %lld (excess_length_strategy: raise)",
                       (long long)n, (long long)limit);
    if (l->options->excess == LQ_EXCESS_TRUNCATE) {
        l->d.counts.truncated++;
        *kept = limit;
        return LQ_OK;
    }
    l->d.counts.too_long_dropped++;
    if (n > l->longest) l->longest = n;
    *kept = 0;
    return LQ_OK;
}

static lq_status reserve(load *l, int64_t more_tokens) {
    lq_dataset *d = &l->d;
    void *example = d->example, *ids = d->ids, *mask = d->mask;
    const lq_status s1 = lq_reserve(&example, &l->example_cap, d->n + 1, sizeof *d->example);
    const lq_status s2 = lq_reserve(&ids, &l->ids_cap, d->n_tokens + more_tokens, sizeof *d->ids);
    const lq_status s3 = lq_reserve(&mask, &l->mask_cap, d->n_tokens + more_tokens, 1);
    d->example = example;
    d->ids = ids;
    d->mask = mask;
    return s1 != LQ_OK ? s1 : s2 != LQ_OK ? s2 : s3;
}

/* Content is what the model is shown: all ids, before cutting, whatever the record looked like. */
static lq_status append(load *l, lq_example example, int64_t kept) {
    const lq_encoding *e = &l->encoding;
    lq_dataset *d = &l->d;
    LQ_TRY(reserve(l, kept));
    memcpy(d->ids + d->n_tokens, e->tokens.id, (size_t)kept * sizeof *d->ids);
    memcpy(d->mask + d->n_tokens, e->mask, (size_t)kept);
    example.first = d->n_tokens;
    example.n = (int32_t)kept;
    example.n_trained = count_trained(e->mask, kept);
    example.hash = lq_fnv1a(LQ_FNV_INIT, e->tokens.id, (size_t)e->tokens.n * sizeof *e->tokens.id);
    d->example[d->n++] = example;
    d->n_tokens += kept;
    return LQ_OK;
}

/* Records without "group" are groups of their own. */
static lq_status group_of(uint64_t *out, const json_t *record, int32_t source, int64_t line) {
    const json_t *group = json_object_get(record, "group");
    const int64_t place[2] = {source, line};
    if (!group || json_is_null(group)) {
        *out = lq_fnv1a(lq_fnv1a(LQ_FNV_INIT, "own", 4), place, sizeof place);
    } else if (json_is_string(group)) {
        *out = lq_fnv1a(lq_fnv1a(LQ_FNV_INIT, "name", 5), json_string_value(group),
                        json_string_length(group));
    } else if (json_is_integer(group)) {
        const json_int_t number = json_integer_value(group);
        *out = lq_fnv1a(lq_fnv1a(LQ_FNV_INIT, "number", 7), &number, sizeof number);
    } else {
        return lq_fail(LQ_EFORMAT, "field 'group': found %s, wanted a string or an integer",
                       lq_json_type_name(group));
    }
    return LQ_OK;
}

static lq_status add_record(load *l, json_t *record, const lq_record_type *type, int32_t source,
                            int64_t line) {
    const lq_encoding *e = &l->encoding;
    lq_example example = {.source = source, .line = line};
    int64_t kept;
    LQ_TRY(group_of(&example.group, record, source, line));
    LQ_TRY(lq_record_encode(&l->encoding, record, type, l->tok, l->options, false));
    LQ_TRY(fit(l, e->tokens.n, &kept));
    if (kept == 0 && e->tokens.n > 0) return LQ_OK;
    if (count_trained(e->mask, kept) == 0) {
        l->d.counts.nothing_trained++;
        return LQ_OK;
    }
    return append(l, example, kept);
}

/* ---- one file -------------------------------------------------------------------------------- */

/* Remembers the recorded message and goes on, unless nothing further can work. `where` NULL: it is
 * in the message. */
static lq_status gather(load *l, lq_status status, const char *where) {
    if (status == LQ_OK || status == LQ_EMEM) return status;
    if (status == LQ_ECONFIG) return where ? lq_fail_context(status, "%s: ", where) : status;
    if (l->n_errors++ < MAX_ERRORS)
        lq_str_printf(&l->errors, "%s%s%s%.350s", l->errors.n ? "\n" : "", where ? where : "",
                      where ? ": " : "", lq_error()); /* twenty fit into one message */
    return lq_str_status(&l->errors);
}

/* One record, good or broken, or *end. `type` is NULL until a record shows it: if the first one
 * does not, none of them is read. */
static lq_status read_record(load *l, lq_jsonl *reader, const lq_data_source *source, int32_t index,
                             const lq_record_type **type, bool *end) {
    json_t *record = NULL;
    lq_status status = lq_jsonl_next(reader, &record);
    *end = status == LQ_OK && !record;
    if (*end) return LQ_OK;
    l->d.counts.records++;
    if (!record) return gather(l, status, NULL);
    if (!*type) status = lq_record_type_of(type, source->type, record);
    *end = !*type;
    if (*type) status = add_record(l, record, *type, index, lq_jsonl_record(reader));
    return gather(l, status, lq_jsonl_where(reader));
}

static lq_status read_records(load *l, lq_jsonl *reader, const lq_data_source *source,
                              int32_t index) {
    const lq_record_type *type = NULL;
    const int64_t before = l->d.counts.records;
    for (bool end = false; !end;) LQ_TRY(read_record(l, reader, source, index, &type, &end));
    if (l->d.counts.records > before) return LQ_OK;
    return gather(l, lq_fail(LQ_EFORMAT, "%s: the file holds no records", source->path), NULL);
}

static bool chosen(uint64_t key, int64_t i, int64_t wanted, int64_t left) {
    return (int64_t)lq_random_below(key, (uint64_t)i, (uint64_t)left) < wanted;
}

/* Appends the examples [first, last) again (sharing their tokens): all of them, or exactly `wanted`
 * drawn ones. */
static lq_status repeat(load *l, int64_t first, int64_t last, int64_t wanted, uint64_t key) {
    for (int64_t i = first; i < last; i++) {
        if (!chosen(key, i - first, wanted, last - i)) continue;
        LQ_TRY(reserve(l, 0));
        l->d.example[l->d.n++] = l->d.example[i];
        wanted--;
    }
    return LQ_OK;
}

/* A weight below 1: keeps exactly `wanted` of the examples from `first` on, in order. */
static void thin(load *l, int64_t first, int64_t wanted, uint64_t key) {
    const int64_t last = l->d.n;
    int64_t kept = first;
    for (int64_t i = first; i < last; i++) {
        if (!chosen(key, i - first, wanted - (kept - first), last - i)) continue;
        l->d.example[kept++] = l->d.example[i];
    }
    l->d.n = kept;
}

static lq_status apply_weight(load *l, double weight, int64_t first, int32_t source) {
    const int64_t last = l->d.n, n = last - first;
    const double whole = floor(weight);
    const int64_t rest = llround((weight - whole) * (double)n);
    const uint64_t key =
        lq_random_key(lq_random_key(l->options->seed, 0x776569676874), (uint64_t)source);
    if (whole == 0) {
        thin(l, first, rest, key);
        return LQ_OK;
    }
    for (double pass = 1; pass < whole; pass++) LQ_TRY(repeat(l, first, last, n, key));
    return repeat(l, first, last, rest, key);
}

static lq_status load_source(load *l, const lq_data_source *source, int32_t index) {
    lq_jsonl *reader = NULL;
    const int64_t first = l->d.n;
    if (!(source->weight > 0 && source->weight <= 1e6))
        return lq_fail(LQ_ECONFIG, "%s: weight: found %g, wanted a number above 0", source->path,
                       source->weight);
    lq_status status = lq_jsonl_open(&reader, source->path);
    if (status != LQ_OK) return status == LQ_EFORMAT ? gather(l, status, NULL) : status;
    status = read_records(l, reader, source, index);
    lq_jsonl_close(reader);
    LQ_TRY(status);
    return apply_weight(l, source->weight, first, index);
}

/* ---- all of them ----------------------------------------------------------------------------- */

static int compare_u64(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Repeats share their first token with the record they repeat, and come after it: they are no
 * duplicates. */
static lq_status count_duplicates(lq_dataset *d) {
    int64_t n = 0, next = 0;
    uint64_t *hash = lq_alloc_array(d->n, sizeof *hash);
    if (!hash) return LQ_EMEM;
    for (int64_t i = 0; i < d->n; i++) {
        if (d->example[i].first < next) continue;
        next = d->example[i].first + d->example[i].n;
        hash[n++] = d->example[i].hash;
    }
    qsort(hash, (size_t)n, sizeof *hash, compare_u64);
    for (int64_t i = 1; i < n; i++) d->counts.duplicates += hash[i] == hash[i - 1];
    lq_free(hash);
    return LQ_OK;
}

static void count_examples(lq_dataset *d) {
    d->counts.examples = d->n;
    for (int64_t i = 0; i < d->n; i++) {
        d->counts.tokens += d->example[i].n;
        d->counts.trained_tokens += d->example[i].n_trained;
    }
}

static lq_status broken_records(const load *l) {
    if (l->n_errors > MAX_ERRORS)
        return lq_fail(LQ_EFORMAT, "%s\n... and %lld more broken records", lq_str_text(&l->errors),
                       (long long)(l->n_errors - MAX_ERRORS));
    return lq_fail(LQ_EFORMAT, "%s", lq_str_text(&l->errors));
}

static lq_status nothing_left(const load *l) {
    const lq_data_counts *n = &l->d.counts;
    lq_str why = LQ_STR_INIT;
    lq_str_printf(&why,
                  "none of the %lld records leaves anything to train:", (long long)n->records);
    if (n->too_long_dropped)
        lq_str_printf(&why,
                      " %lld are longer than sequence_len %lld (the longest has %lld tokens) and "
                      "were dropped;",
                      (long long)n->too_long_dropped, (long long)l->options->sequence_len,
                      (long long)l->longest);
    if (n->nothing_trained) {
        lq_str_printf(&why, " in %lld all labels are masked: no message is from a role to train (",
                      (long long)n->nothing_trained);
        const char *const assistant[] = {"assistant", NULL};
        const char *const *role =
            l->options->roles_to_train ? l->options->roles_to_train : assistant;
        for (int i = 0; role[i]; i++) lq_str_printf(&why, "%s%s", i ? ", " : "", role[i]);
        lq_str_printf(&why, "), or what is to be trained lies beyond sequence_len %lld;",
                      (long long)l->options->sequence_len);
    }
    if (n->records > n->too_long_dropped + n->nothing_trained)
        lq_str_puts(&why, " the weights leave out the others;");
    if (why.n && !why.failed) why.s[why.n - 1] = 0; /* the last semicolon */
    const lq_status status =
        lq_str_status(&why) != LQ_OK ? LQ_EMEM : lq_fail(LQ_EFORMAT, "%s", lq_str_text(&why));
    lq_str_clear(&why);
    return status;
}

lq_status lq_dataset_load(lq_dataset *out, const lq_data_source *sources, int n_sources,
                          const lq_tokenizer *tok, const lq_data_options *options) {
    lq_status status = LQ_OK;
    load l = {.tok = tok, .options = options, .encoding = LQ_ENCODING_INIT, .errors = LQ_STR_INIT};
    *out = (lq_dataset){0};
    if (options->sequence_len < 2)
        return lq_fail(LQ_ECONFIG, "sequence_len: found %lld, wanted at least 2",
                       (long long)options->sequence_len);
    if (n_sources < 1) return lq_fail(LQ_ECONFIG, "datasets: found none, wanted at least one file");
    for (int i = 0; i < n_sources; i++) LQ_GOTO(status, load_source(&l, &sources[i], i));
    if (l.n_errors > 0) LQ_GOTO(status, broken_records(&l));
    if (l.d.n == 0) LQ_GOTO(status, nothing_left(&l));
    LQ_GOTO(status, count_duplicates(&l.d));
    count_examples(&l.d);
    *out = l.d;
    l.d = (lq_dataset){0};
done:
    load_clear(&l);
    return status;
}

/* ---- for people ------------------------------------------------------------------------------ */

lq_status lq_dataset_show(const lq_dataset *d, int64_t i, const lq_tokenizer *tok, bool color,
                          lq_str *out) {
    static const char *const bracket[2][2] = {{"]]", "[["}, {"\033[0m", "\033[32m"}};
    const lq_example *e = &d->example[i];
    uint8_t shown = 0;
    for (int32_t t = 0; t < e->n; t++) {
        const uint8_t trained = d->mask[e->first + t];
        if (trained != shown) lq_str_puts(out, bracket[color][trained]);
        shown = trained;
        LQ_TRY(lq_token_piece(tok, d->ids[e->first + t], true, out));
    }
    if (shown) lq_str_puts(out, bracket[color][0]);
    return lq_str_status(out);
}
