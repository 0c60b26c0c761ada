/* See teacher.h. */
#include "teacher.h"

#include "adapter.h"
#include "atomic_file.h"
#include "teacher_top.h"

#include <string.h>

enum { TRAIN, VAL, N_TABLES };

struct lq_teacher {
    lq_dev *dev;               /* where its tapes run */
    const lq_model *model;
    lq_model *own;             /* NULL: self, the student's model */
    lq_base_hash own_hash;
    lq_adapter *adapter;       /* of self; NULL: none */
    lq_distil distil;
    lq_net net;                /* ends in hidden states; closed once there are tables */
    lq_top_table table[N_TABLES];
    char key[LQ_SHA256_HEX];
};

/* ---- the model ------------------------------------------------------------------------------- */

static lq_status check_vocabulary(const lq_model *teacher, const lq_model *student,
                                  const char *path) {
    const int64_t found = teacher->hp.n_vocab, wanted = student->hp.n_vocab;
    if (found != wanted)
        return lq_fail(LQ_ECONFIG, "kd.teacher: %s has %lld tokens, the base_model %lld", path,
                       (long long)found, (long long)wanted);
    if (!teacher->tokenizer)
        return lq_fail(LQ_ECONFIG, "kd.teacher: %s has no tokenizer to compare", path);
    for (int32_t id = 0; id < wanted; id++) {
        const char *a = lq_token_text(teacher->tokenizer, id);
        const char *b = lq_token_text(student->tokenizer, id);
        if (strcmp(a, b) != 0)
            return lq_fail(LQ_ECONFIG,
                           "kd.teacher: %s has '%.60s' for token %d, the base_model '%.60s'", path,
                           a, id, b);
    }
    return LQ_OK;
}

static lq_status open_other(lq_teacher *t, const char *path, const lq_model *student) {
    LQ_TRY(lq_model_open(&t->own, path, true));
    t->model = t->own;
    t->own->n_ctx = student->n_ctx;
    LQ_TRY(check_vocabulary(t->own, student, path));
    lq_base_hash_open(&t->own_hash, t->own);
    lq_base_hash_begin(&t->own_hash);
    return LQ_OK;
}

static lq_status open_self(lq_teacher *t, const lq_config *c, const lq_model *student) {
    t->model = student;
    if (!c->lora_model_dir || !*c->lora_model_dir) return LQ_OK;
    const lq_lora_file file = {c->lora_model_dir, 1};
    LQ_TRY(lq_adapter_load(&t->adapter, student, &file, 1));
    LQ_TRY(lq_adapter_on(t->adapter, t->dev));
    if (t->adapter->patch[lq_model_head(student)].rank)
        return lq_fail(LQ_EUNSUPPORTED,
                       "kd.teacher: the adapter %s is also on the output head, which a teacher "
                       "cannot have yet",
                       c->lora_model_dir);
    return LQ_OK;
}

lq_status lq_teacher_open(lq_teacher **out, lq_dev *dev, const lq_config *c,
                          const lq_model *student) {
    const bool self = strcmp(c->kd.teacher, "self") == 0;
    *out = NULL;
    if (c->kd.top_k >= student->hp.n_vocab)
        return lq_fail(LQ_ECONFIG, "kd.top_k: found %lld, wanted less than the %lld tokens there "
                       "are, or 0 for all", (long long)c->kd.top_k, (long long)student->hp.n_vocab);
    lq_teacher *t = lq_alloc(sizeof *t);
    if (!t) return LQ_EMEM;
    t->dev = dev;
    const lq_status status =
        self ? open_self(t, c, student) : open_other(t, c->kd.teacher, student);
    if (status != LQ_OK) {
        lq_teacher_free(t);
        return status;
    }
    t->distil = (lq_distil){.teacher = c->kd.top_k ? NULL : t->model,
                            .top_k = c->kd.top_k,
                            .alpha = (float)c->kd.alpha,
                            .temperature = (float)c->kd.temperature,
                            .reverse = strcmp(c->kd.divergence, "reverse_kl") == 0};
    *out = t;
    return LQ_OK;
}

void lq_teacher_free(lq_teacher *t) {
    if (!t) return;
    lq_net_close(&t->net);
    for (int i = 0; i < N_TABLES; i++) lq_top_clear(&t->table[i]);
    lq_adapter_free(t->adapter);
    lq_base_hash_stop(&t->own_hash);
    lq_model_close(t->own);
    lq_free(t);
}

const lq_distil *lq_teacher_distil(const lq_teacher *t) { return t ? &t->distil : NULL; }

const char *lq_teacher_key(lq_teacher *t) {
    const lq_adapter *a = t->adapter;
    if (t->own) return lq_base_hash_hex(&t->own_hash);
    if (!a) return "self";
    lq_sha256(t->key, a->param, (size_t)a->n_params * sizeof(float));
    return t->key;
}

/* ---- getting ready --------------------------------------------------------------------------- */

static lq_status open_net(const lq_teacher *t, lq_net *net, int64_t capacity, bool plan_only) {
    const lq_net_options options = {
        .build = {.patch = t->adapter ? lq_adapter_patch(t->adapter) : NULL, .hidden = true,
                  .exact = true},
        .capacity = capacity,
        .dev = t->dev,
        .plan_only = plan_only,
    };
    return lq_net_open(net, t->model, &options);
}

/* Tables are all that training needs of it. */
static void leave_device(const lq_teacher *t) {
    for (int i = 0; t->own && i < t->own->n_weights; i++)
        lq_dev_forget(t->dev, t->own->weight[i].data);
}

/* From the file, or by running the teacher and writing it. */
static lq_status fill_tables(lq_teacher *t, int n, const char *path, const lq_top_options *options,
                             int64_t capacity) {
    bool found;
    LQ_TRY(lq_top_read(&found, t->table, n, path, options));
    if (found) return LQ_OK;
    LQ_TRY(open_net(t, &t->net, capacity, false));
    for (int i = 0; i < n; i++)
        LQ_TRY(lq_top_compute(&t->table[i], t->model, &t->net, options));
    lq_net_close(&t->net);
    leave_device(t);
    LQ_TRY(lq_top_write(t->table, n, path, options));
    lq_log(LQ_LOG_INFO, "wrote %s: the teacher's %lld most likely tokens for %lld labels", path,
           (long long)options->K, (long long)(t->table[TRAIN].n + t->table[VAL].n));
    return LQ_OK;
}

static lq_status prepare_tables(lq_teacher *t, lq_base_hash *base, const lq_prepared *data,
                                const char *dir, int64_t capacity) {
    const lq_dataset *const sets[N_TABLES] = {&data->train, &data->val};
    const int n = data->val.n > 0 ? N_TABLES : 1;
    lq_status status = LQ_OK;
    char key[LQ_SHA256_HEX], *path = NULL;
    char *text = lq_sprintf("%s %s %s %lld %.9g", lq_base_hash_hex(base), lq_teacher_key(t),
                            data->key, (long long)t->distil.top_k, (double)t->distil.temperature);
    LQ_GOTO(status, text ? LQ_OK : LQ_EMEM);
    lq_sha256(key, text, strlen(text));
    for (int i = 0; i < n; i++)
        LQ_GOTO(status, lq_top_init(&t->table[i], sets[i], t->distil.top_k));
    LQ_GOTO(status, lq_make_dirs(dir));
    path = lq_sprintf("%s/teacher-%.32s.h5", dir, key);
    LQ_GOTO(status, path ? LQ_OK : LQ_EMEM);
    const lq_top_options options = {t->distil.top_k, (double)t->distil.temperature, key};
    status = fill_tables(t, n, path, &options, capacity);
done:
    lq_free(text);
    lq_free(path);
    return status;
}

lq_status lq_teacher_prepare(lq_teacher *t, lq_base_hash *base, const lq_prepared *data,
                             const char *dir, int64_t capacity) {
    return t->distil.top_k ? prepare_tables(t, base, data, dir, capacity)
                           : open_net(t, &t->net, capacity, false);
}

lq_status lq_teacher_plan(const lq_teacher *t, const lq_prepared *data, int64_t capacity,
                          size_t *out_bytes) {
    lq_net net;
    *out_bytes = t->adapter ? (size_t)t->adapter->n_params * sizeof(float) : 0;
    if (t->distil.top_k) {
        *out_bytes += lq_top_bytes(&data->train, t->distil.top_k);
        *out_bytes += lq_top_bytes(&data->val, t->distil.top_k);
        return LQ_OK;
    }
    LQ_TRY(open_net(t, &net, capacity, true));
    *out_bytes += lq_tape_arena_bytes(net.tape);
    lq_net_close(&net);
    return LQ_OK;
}

/* ---- a batch --------------------------------------------------------------------------------- */

lq_status lq_teacher_load(lq_teacher *t, const lq_batch *b, lq_net *student) {
    if (b->n_labels == 0) return LQ_OK; /* nothing of it is read */
    if (t->distil.top_k)
        return lq_top_load(&t->table[b->data == t->table[TRAIN].data ? TRAIN : VAL], b, student,
                           t->distil.top_k);
    lq_net_load(&t->net, b);
    LQ_TRY(lq_tape_forward(t->net.tape, 0, 0));
    t->dev->row->copy(t->dev, student->io.teacher->data, t->net.io.out->data,
                      lq_format_bytes(t->net.io.out->fmt, b->n_tokens * t->model->hp.n_embd));
    return LQ_OK;
}
