/* See session.h. */
#include "session.h"

#include "atomic_file.h"
#include "hf.h"
#include "json_file.h"
#include "peft_file.h"
#include "trainer.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

enum { MAX_LORAS = 16 };

/* What to open: a GGUF and adapters; resolved from a run directory if the path is one. */
typedef struct target {
    char *model, *run_adapter;   /* owned; run_adapter: the run's own, also lora[0] */
    lq_lora_file lora[MAX_LORAS];
    int n;
} target;

char *lq_run_path(const char *run_dir, const char *recorded) {
    const char *slash = strrchr(recorded, '/');
    char *beside = lq_path_join(run_dir, slash ? slash + 1 : recorded);
    if (!beside || lq_file_exists(beside)) return beside;
    lq_free(beside);
    return lq_strdup(recorded);
}

static const char *artifact_path(const json_t *record, const char *kind) {
    return json_string_value(json_object_get(lq_record_artifact(record, kind), "path"));
}

/* As deployed: a merged file; else the quantized base (or the run's base model) and the adapter. */
static lq_status resolve_record(target *t, const json_t *record, const char *run_dir) {
    const char *merged = artifact_path(record, "merged");
    const char *adapter = artifact_path(record, "adapter");
    const char *base = artifact_path(record, "base");
    if (!base) base = json_string_value(json_object_get(json_object_get(record, "base"), "path"));
    if (!merged && (!base || !adapter))
        return lq_fail(LQ_EFORMAT,
                       "%s/run.json: lists neither a merged model nor a base and an adapter",
                       run_dir);
    t->model = lq_run_path(run_dir, merged ? merged : base);
    if (!t->model) return LQ_EMEM;
    if (merged) return LQ_OK;
    t->run_adapter = lq_run_path(run_dir, adapter);
    if (!t->run_adapter) return LQ_EMEM;
    t->lora[t->n++] = (lq_lora_file){t->run_adapter, 1};
    return LQ_OK;
}

static lq_status resolve(target *t, const char *path, const loquat_lora *loras, size_t n_loras) {
    json_t *record;
    lq_status status = LQ_OK;
    LQ_TRY(lq_json_read(&record, path, "run.json", false));
    if (record) {
        LQ_GOTO(status, resolve_record(t, record, path));
    } else if (lq_is_directory(path) && !lq_hf_is_dir(path)) {
        LQ_GOTO(status, lq_fail(LQ_EUNSUPPORTED, "%s: is a directory with neither run.json (a "
                                "finished run) nor config.json (a Hugging Face model)", path));
    } else {
        t->model = lq_strdup(path);
        LQ_GOTO(status, t->model ? LQ_OK : LQ_EMEM);
    }
    if (n_loras > (size_t)(MAX_LORAS - t->n))
        LQ_GOTO(status, lq_fail(LQ_EVALUE, "%zu adapters given, at most %d are supported", n_loras,
                                MAX_LORAS - t->n));
    for (size_t i = 0; i < n_loras; i++) {
        if (lq_is_directory(loras[i].path) && !lq_peft_is_dir(loras[i].path))
            LQ_GOTO(status, lq_fail(LQ_EVALUE, "%s: is a directory without adapter_config.json, "
                                    "wanted an adapter GGUF or a PEFT directory", loras[i].path));
        t->lora[t->n++] = (lq_lora_file){loras[i].path, loras[i].scale};
    }
done:
    json_decref(record);
    return status;
}

/* The template that an adapter was trained with, where it is not its base's; *out NULL: none. Of
 * several adapters the last one's. */
static lq_status adapter_template(char **out, const target *t) {
    lq_status status = LQ_OK;
    *out = NULL;
    for (int i = t->n - 1; i >= 0 && status == LQ_OK && !*out; i--) {
        lq_gguf *file = NULL;
        if (lq_is_directory(t->lora[i].path)) continue; /* of PEFT */
        status = lq_gguf_open(&file, t->lora[i].path);
        if (status == LQ_OK)
            status = lq_gguf_get_string(file, "tokenizer.chat_template", false, out);
        lq_gguf_close(file);
    }
    return status;
}

/* `source` is taken over; NULL: the model's own. */
static lq_status open_template(loquat_model *s, char *source) {
    const char *own = s->model->tokenizer ? lq_tokenizer_chat_template(s->model->tokenizer) : NULL;
    s->template_source = source;
    if (!source && !own) return LQ_OK;
    if (!source && !(s->template_source = lq_strdup(own))) return LQ_EMEM;
    const lq_status status = lq_template_parse(&s->chat_template, s->template_source);
    if (status == LQ_OK || status == LQ_EMEM) return status;
    lq_log(LQ_LOG_WARN, "the model's chat template cannot be used: %s", lq_error());
    return LQ_OK;
}

static char device_name[32] = "cpu";

lq_status lq_set_session_device(const char *name) {
    lq_dev *dev;
    LQ_TRY(lq_dev_open(&dev, name, false));
    if (strcmp(name, "auto") == 0) snprintf(device_name, sizeof device_name, "auto");
    else snprintf(device_name, sizeof device_name, "%s:%d", dev->row->name, dev->index);
    lq_dev_close(dev);
    return LQ_OK;
}

/* In F32: what is measured is the model, not the device's rounding. */
static lq_status open_device(loquat_model *s) {
    LQ_TRY(lq_dev_open(&s->dev, device_name, false));
    lq_dev_say(s->dev);
    return LQ_OK;
}

loquat_status loquat_model_open(loquat_model **out, const char *path, const loquat_lora *loras,
                                size_t n_loras) {
    target t = {0};
    char *source;
    lq_status status = LQ_OK;
    *out = NULL;
    loquat_model *s = lq_alloc(sizeof *s);
    if (!s) return LOQUAT_EMEM;
    LQ_GOTO(status, resolve(&t, path, loras, n_loras));
    LQ_GOTO(status, lq_model_open(&s->model, t.model, false));
    LQ_GOTO(status, open_device(s));
    if (t.n > 0) LQ_GOTO(status, lq_adapter_load(&s->lora, s->model, t.lora, t.n));
    if (s->lora) LQ_GOTO(status, lq_adapter_on(s->lora, s->dev));
    LQ_GOTO(status, adapter_template(&source, &t));
    LQ_GOTO(status, open_template(s, source));
    *out = s;
done:
    lq_free(t.model);
    lq_free(t.run_adapter);
    if (status != LQ_OK) loquat_model_close(s);
    return (loquat_status)status;
}

lq_status lq_session_of(loquat_model **out, lq_model *model, lq_adapter *lora,
                        const char *template_source) {
    loquat_model *s = lq_alloc(sizeof *s);
    char *source = template_source ? lq_strdup(template_source) : NULL;
    *out = NULL;
    if (!s || (template_source && !source)) {
        lq_free(s);
        lq_free(source);
        lq_adapter_free(lora);
        lq_model_close(model);
        return LQ_EMEM;
    }
    s->model = model;
    s->lora = lora;
    lq_status status = open_template(s, source);
    if (status == LQ_OK) status = open_device(s);
    if (status == LQ_OK && lora) status = lq_adapter_on(lora, s->dev);
    if (status == LQ_OK) *out = s;
    else loquat_model_close(s);
    return status;
}

void loquat_model_close(loquat_model *s) {
    if (!s) return;
    lq_generator_free(s->generator);
    lq_net_close(&s->logits);
    lq_template_free(s->chat_template);
    lq_free(s->template_source);
    lq_adapter_free(s->lora);
    lq_dev_close(s->dev);
    lq_model_close(s->model);
    lq_free(s);
}

const lq_patch *lq_session_patch(const loquat_model *s) {
    return s->lora ? lq_adapter_patch(s->lora) : NULL;
}

void lq_session_set_runtime(loquat_model *s, const lq_runtime *runtime) {
    lq_generator_free(s->generator);
    s->generator = NULL;
    lq_net_close(&s->logits);
    s->model->runtime = *runtime;
}

lq_status lq_session_forward(loquat_model *s, const int32_t *ids, int64_t n, const float **out) {
    const int64_t V = s->model->hp.n_vocab;
    if (n < 1) return lq_fail(LQ_EVALUE, "no token ids given");
    for (int64_t t = 0; t < n; t++)
        if (ids[t] < 0 || ids[t] >= V)
            return lq_fail(LQ_EVALUE, "token id %d at position %lld: the vocabulary has %lld",
                           ids[t], (long long)t, (long long)V);
    if (!s->logits.tape || s->logits.capacity < n) {
        const lq_net_options options = {.build = {.patch = lq_session_patch(s), .n_ctx = n},
                                        .capacity = n,
                                        .dev = s->dev};
        lq_net_close(&s->logits);
        LQ_TRY(lq_net_open(&s->logits, s->model, &options));
    }
    lq_net_load_ids(&s->logits, ids, n, 0);
    LQ_TRY(lq_tape_forward(s->logits.tape, 0, 0));
    return lq_tape_view(s->logits.tape, s->logits.io.out, 0, n, out);
}

lq_status lq_session_logits(loquat_model *s, const int32_t *ids, int64_t n, float *out) {
    const float *logits;
    LQ_TRY(lq_session_forward(s, ids, n, &logits));
    memcpy(out, logits, (size_t)(n * s->model->hp.n_vocab) * sizeof *out);
    return LQ_OK;
}

lq_status lq_session_same_vocabulary(const loquat_model *a, const loquat_model *b) {
    const lq_tokenizer *ta = a->model->tokenizer, *tb = b->model->tokenizer;
    const char *pa = lq_gguf_path(a->model->file), *pb = lq_gguf_path(b->model->file);
    const int64_t V = a->model->hp.n_vocab;
    if (V != b->model->hp.n_vocab)
        return lq_fail(LQ_ESHAPE, "%s: has a vocabulary of %lld, %s of %lld", pb,
                       (long long)b->model->hp.n_vocab, pa, (long long)V);
    for (int32_t i = 0; ta && tb && i < V; i++)
        if (strcmp(lq_token_text(ta, i), lq_token_text(tb, i)) != 0)
            return lq_fail(LQ_EVALUE, "%s: token %d is '%s', in %s it is '%s'", pb, i,
                           lq_token_text(tb, i), pa, lq_token_text(ta, i));
    return LQ_OK;
}

/* The session's generator, with room for n_ctx tokens. */
static lq_status open_generator(loquat_model *s, int64_t n_ctx, lq_generator **out) {
    if (s->generator && lq_generator_n_ctx(s->generator) < n_ctx) {
        lq_generator_free(s->generator);
        s->generator = NULL;
    }
    if (!s->generator)
        LQ_TRY(lq_generator_new(&s->generator, s->dev, s->model, lq_session_patch(s), n_ctx));
    *out = s->generator;
    return LQ_OK;
}

/* Hands whole UTF-8 characters of out[*sent..] to the caller. False: the caller wants to stop. */
static bool stream(const loquat_generate_options *o, const lq_str *out, size_t *sent, bool last) {
    if (!o->piece) return true;
    const char *rest = lq_str_text(out) + *sent;
    const size_t n = last ? out->n - *sent : lq_utf8_complete(rest, out->n - *sent);
    *sent += n;
    return n == 0 || o->piece(o->ctx, rest, n);
}

lq_status lq_session_continue(loquat_model *s, const int32_t *ids, int64_t n,
                              const loquat_generate_options *options, lq_str *out) {
    const lq_sampling sampling = {options->temperature, options->top_p, options->seed};
    const int64_t max_new = options->max_new_tokens > 0 ? options->max_new_tokens : 128;
    const int64_t room = s->model->hp.n_ctx_train;
    size_t sent = out->n;
    lq_generator *g;
    LQ_TRY(open_generator(s, max_new < room - n ? n + max_new : room, &g));
    LQ_TRY(lq_generator_prompt(g, ids, n));
    bool going = true;
    for (int64_t i = 0; i < max_new && going && !lq_generator_full(g); i++) {
        int32_t id;
        LQ_TRY(lq_generator_next(g, &sampling, &id));
        if (lq_token_is_eog(s->model->tokenizer, id)) break;
        LQ_TRY(lq_token_piece(s->model->tokenizer, id, false, out));
        going = stream(options, out, &sent, false);
    }
    stream(options, out, &sent, true);
    return lq_str_status(out);
}
