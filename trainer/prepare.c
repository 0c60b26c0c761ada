/* See prepare.h. */
#include "prepare.h"

#include "atomic_file.h"
#include "store.h"

#include <string.h>

enum { MAX_SOURCES = 64 };

typedef struct source_list {
    lq_data_source s[MAX_SOURCES];
    char *owned[MAX_SOURCES];
    int n;
} source_list;

static void sources_clear(source_list *l) {
    for (int i = 0; i < l->n; i++) lq_free(l->owned[i]);
    l->n = 0;
}

static lq_status sources_add(source_list *l, const char *path, const char *type, double weight) {
    if (l->n == MAX_SOURCES) return lq_fail(LQ_ECONFIG, "more than %d data files", MAX_SOURCES);
    char *copy = lq_strdup(path);
    if (!copy) return LQ_EMEM;
    l->owned[l->n] = copy;
    l->s[l->n++] = (lq_data_source){.path = copy, .type = type, .weight = weight};
    return LQ_OK;
}

static lq_status sources_from_entries(source_list *l, const lq_dataset_entries *entries) {
    for (int i = 0; i < entries->n; i++) {
        const lq_dataset_entry *e = &entries->e[i];
        LQ_TRY(sources_add(l, e->path, e->type, e->weight));
    }
    return LQ_OK;
}

/* mlx-lm's convention: a directory with train.jsonl, valid.jsonl (and test.jsonl, which training
 * never reads); anything else is one training file. */
static lq_status sources_from_data(source_list *train, source_list *val, const char *data) {
    lq_status status = LQ_OK;
    char *train_path = lq_path_join(data, "train.jsonl"),
         *val_path = lq_path_join(data, "valid.jsonl");
    LQ_GOTO(status, train_path && val_path ? LQ_OK : LQ_EMEM);
    if (lq_file_exists(train_path)) {
        LQ_GOTO(status, sources_add(train, train_path, NULL, 1));
        if (lq_file_exists(val_path)) LQ_GOTO(status, sources_add(val, val_path, NULL, 1));
    } else if (lq_is_directory(data)) {
        status = lq_fail(LQ_EIO, "%s: a directory without train.jsonl", data);
    } else {
        status = sources_add(train, data, NULL, 1);
    }
done:
    lq_free(train_path);
    lq_free(val_path);
    return status;
}

lq_status lq_choose_template(lq_template **out, char **source, const char *name, const char *jinja,
                             const lq_tokenizer *tok) {
    *out = NULL;
    *source = NULL;
    const char *text = NULL;
    if (jinja && *jinja) {
        size_t n;
        if (lq_file_exists(jinja)) LQ_TRY(lq_read_file(source, &n, jinja));
        else if (strstr(jinja, "{{") || strstr(jinja, "{%")) text = jinja;
        else
            return lq_fail(LQ_ECONFIG, "chat_template_jinja: '%s' is neither a file nor a template",
                           jinja);
    } else if (name && *name && strcmp(name, "tokenizer_default") != 0) {
        text = lq_template_builtin(name);
        if (!text) {
            lq_str known = LQ_STR_INIT;
            for (const char *const *n = lq_template_builtin_names(); *n; n++)
                lq_str_printf(&known, " %s", *n);
            const lq_status status = lq_fail(
                LQ_ECONFIG, "chat_template: found '%s', wanted tokenizer_default or one of:%s",
                name, lq_str_text(&known));
            lq_str_clear(&known);
            return status;
        }
    } else {
        text = lq_tokenizer_chat_template(tok);
    }
    if (text && !(*source = lq_strdup(text))) return LQ_EMEM;
    if (!*source) return LQ_OK;
    const lq_status status = lq_template_parse(out, *source);
    if (status == LQ_OK) return LQ_OK;
    lq_free(*source);
    *source = NULL;
    return status;
}

/* A model knows the format that it was tuned on, and one that was not tuned knows none. */
static void advise(const char *source, const lq_tokenizer *tok) {
    const char *own = lq_tokenizer_chat_template(tok);
    if (own && source && strcmp(own, source) != 0)
        lq_log(LQ_LOG_WARN, "the model has a chat template of its own (an instruction-tuned "
               "model?), but another is configured: it has to learn that format first");
    else if (!own && source)
        lq_log(LQ_LOG_WARN, "the model has no chat template (a pretrained model?): it learns the "
               "configured one from this data alone");
    else if (!own)
        lq_log(LQ_LOG_WARN, "the model has no chat template (a pretrained model?): conversations "
               "need chat_template (\"chatml\", ...); other records are joined as plain text");
}

static lq_excess excess_of(const char *name) {
    if (strcmp(name, "truncate") == 0) return LQ_EXCESS_TRUNCATE;
    return strcmp(name, "raise") == 0 ? LQ_EXCESS_RAISE : LQ_EXCESS_DROP;
}

static void log_counts(const char *what, const lq_dataset *d) {
    const lq_data_counts *n = &d->counts;
    lq_log(LQ_LOG_INFO, "%s: %lld records, %lld examples, %lld tokens (%lld trained)", what,
           (long long)n->records, (long long)n->examples, (long long)n->tokens,
           (long long)n->trained_tokens);
    if (n->too_long_dropped)
        lq_log(LQ_LOG_WARN, "%s: %lld examples longer than sequence_len were dropped", what,
               (long long)n->too_long_dropped);
    if (n->truncated)
        lq_log(LQ_LOG_WARN, "%s: %lld examples were cut to sequence_len", what,
               (long long)n->truncated);
    if (n->nothing_trained)
        lq_log(LQ_LOG_WARN, "%s: %lld examples have nothing to train and were dropped", what,
               (long long)n->nothing_trained);
    if (n->duplicates)
        lq_log(LQ_LOG_INFO, "%s: %lld records are exact duplicates", what,
               (long long)n->duplicates);
}

/* One list of files through the cache. `key` receives the list's key. */
static lq_status load_list(lq_dataset *out, char key[LQ_SHA256_HEX],
                           const source_list *l, const char *cache_dir, const lq_tokenizer *tok,
                           const lq_data_options *options) {
    lq_status status = LQ_OK;
    char *path = NULL;
    bool cached = false;
    LQ_GOTO(status, lq_store_key(key, l->s, l->n, tok, options));
    if (cache_dir && *cache_dir) {
        LQ_GOTO(status, lq_make_dirs(cache_dir));
        path = lq_sprintf("%s/%.32s.h5", cache_dir, key);
        LQ_GOTO(status, path ? LQ_OK : LQ_EMEM);
        LQ_GOTO(status, lq_store_read(&cached, out, path, key));
    }
    if (!cached) {
        LQ_GOTO(status, lq_dataset_load(out, l->s, l->n, tok, options));
        if (path) LQ_GOTO(status, lq_store_write(path, key, out));
    }
done:
    lq_free(path);
    return status;
}

static lq_status prepare_sources(lq_prepared *out, const lq_config *c, const source_list *train,
                                 const source_list *val, const lq_tokenizer *tok,
                                 const lq_data_options *options) {
    char val_key[LQ_SHA256_HEX] = "";
    LQ_TRY(load_list(&out->train, out->key, train, c->dataset_prepared_path, tok, options));
    log_counts("training data", &out->train);
    if (val->n > 0) {
        LQ_TRY(load_list(&out->val, val_key, val, c->dataset_prepared_path, tok, options));
        log_counts("validation data", &out->val);
        const int64_t leaks = lq_dataset_overlap(&out->train, &out->val);
        if (leaks > 0)
            lq_log(LQ_LOG_WARN, "%lld training examples also occur in the validation data",
                   (long long)leaks);
    } else {
        LQ_TRY(lq_dataset_split(&out->train, &out->val, options));
        if (out->val.n > 0)
            lq_log(LQ_LOG_INFO, "validation split: %lld of %lld examples", (long long)out->val.n,
                   (long long)(out->val.n + out->train.n));
    }
    char *both =
        lq_sprintf("%s %s %.17g %lld", out->key, val_key, c->val_set_size, (long long)c->seed);
    if (!both) return LQ_EMEM;
    lq_sha256(out->key, both, strlen(both));
    lq_free(both);
    return LQ_OK;
}

lq_status lq_prepare(lq_prepared *out, const lq_config *c, const lq_tokenizer *tok, int64_t now) {
    lq_status status = LQ_OK;
    source_list train = {.n = 0}, val = {.n = 0};
    *out = (lq_prepared){0};
    LQ_GOTO(status, lq_choose_template(&out->chat_template, &out->template_source,
                                       c->chat_template, c->chat_template_jinja, tok));
    advise(out->template_source, tok);
    LQ_GOTO(status, sources_from_entries(&train, &c->datasets));
    if (c->data && *c->data) LQ_GOTO(status, sources_from_data(&train, &val, c->data));
    LQ_GOTO(status, sources_from_entries(&val, &c->test_datasets));
    const lq_data_options options = {
        .sequence_len = c->sequence_len,
        .excess = excess_of(c->excess_length_strategy),
        .train_on_inputs = c->train_on_inputs,
        .roles_to_train = c->roles_to_train.n ? (const char *const *)c->roles_to_train.s : NULL,
        .chat_template = out->chat_template,
        .chat_template_source = out->template_source,
        .val_set_size = c->val_set_size,
        .seed = (uint64_t)c->seed,
        .now = now,
    };
    LQ_GOTO(status, prepare_sources(out, c, &train, &val, tok, &options));
done:
    sources_clear(&train);
    sources_clear(&val);
    if (status != LQ_OK) lq_prepared_clear(out);
    return status;
}

void lq_prepared_clear(lq_prepared *p) {
    lq_template_free(p->chat_template);
    lq_free(p->template_source);
    lq_dataset_clear(&p->train);
    lq_dataset_clear(&p->val);
    p->chat_template = NULL;
    p->template_source = NULL;
}
