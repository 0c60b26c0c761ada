/* See teacher_top.h. */
#include "teacher_top.h"

#include "atomic_file.h"
#include "h5.h"
#include "wtile.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* ---- tables ---------------------------------------------------------------------------------- */

/* The token after t is a label. */
static bool has_label(const lq_dataset *d, const lq_example *e, int32_t t) {
    return t + 1 < e->n && d->mask[e->first + t + 1];
}

static int64_t count_labels(const lq_dataset *d) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n; i++)
        for (int32_t t = 0; t < d->example[i].n; t++) n += has_label(d, &d->example[i], t);
    return n;
}

lq_status lq_top_init(lq_top_table *out, const lq_dataset *d, int64_t K) {
    *out = (lq_top_table){.data = d, .n = 0};
    const int64_t labels = count_labels(d);
    out->row = lq_alloc_array(d->n_tokens, sizeof *out->row);
    out->ids = lq_alloc_array(labels * K, sizeof *out->ids);
    out->log_p = lq_alloc_array(labels * (K + 1), sizeof *out->log_p);
    if (!out->row || !out->ids || !out->log_p) return LQ_EMEM;
    for (int64_t i = 0; i < d->n_tokens; i++) out->row[i] = -1;
    for (int64_t i = 0; i < d->n; i++)
        for (int32_t t = 0; t < d->example[i].n; t++)
            if (has_label(d, &d->example[i], t)) out->row[d->example[i].first + t] = out->n++;
    return LQ_OK;
}

void lq_top_clear(lq_top_table *t) {
    lq_free(t->row);
    lq_free(t->ids);
    lq_free(t->log_p);
    *t = (lq_top_table){.data = NULL};
}

size_t lq_top_bytes(const lq_dataset *d, int64_t K) {
    const size_t per_label = (size_t)K * (sizeof(int32_t) + sizeof(float)) + sizeof(float);
    return (size_t)d->n_tokens * sizeof(int64_t) + (size_t)count_labels(d) * per_label;
}

/* Rows without a label are not read: they stay as the buffer is. */
lq_status lq_top_load(const lq_top_table *t, const lq_batch *b, lq_net *student, int64_t K) {
    const size_t id_bytes = (size_t)K * sizeof *t->ids;
    const size_t log_p_bytes = (size_t)(K + 1) * sizeof *t->log_p;
    void *buffer;
    assert(b->data == t->data);
    LQ_TRY(lq_net_buffer(student, (size_t)student->capacity * (id_bytes + log_p_bytes), &buffer));
    char *const ids = buffer, *const log_p = ids + (size_t)student->capacity * id_bytes;
    for (int64_t i = 0; i < b->n_tokens; i++) {
        const int64_t row = t->row[b->token[i]];
        if (row < 0) continue;
        memcpy(ids + (size_t)i * id_bytes, t->ids + row * K, id_bytes);
        memcpy(log_p + (size_t)i * log_p_bytes, t->log_p + row * (K + 1), log_p_bytes);
    }
    lq_tape_write(student->tape, student->io.teacher, ids);
    lq_tape_write(student->tape, student->io.teacher_log_p, log_p);
    lq_net_buffer_sent(student);
    return LQ_OK;
}

/* ---- the most likely tokens of a row of logits ----------------------------------------------- */

/* The K highest, highest first; of equal ones the lower id. */
static void select_top(int32_t *id, const float *logits, int64_t K, int64_t V) {
    int64_t n = 0;
    for (int32_t v = 0; v < V; v++) {
        if (n == K && !(logits[v] > logits[id[K - 1]])) continue;
        int64_t at = n < K ? n++ : K - 1;
        for (; at > 0 && logits[v] > logits[id[at - 1]]; at--) id[at] = id[at - 1];
        id[at] = v;
    }
}

/* log of the sum of exp(logit / temperature). */
static double log_sum(const float *logits, double temperature, int64_t V) {
    double sum = 0;
    float max = -INFINITY;
    for (int64_t v = 0; v < V; v++) max = logits[v] > max ? logits[v] : max;
    for (int64_t v = 0; v < V; v++) sum += exp(((double)logits[v] - (double)max) / temperature);
    return log(sum) + (double)max / temperature;
}

/* Spoils the logits. */
static void summarize(int32_t *id, float *log_p, float *logits, const lq_top_options *o,
                      int64_t V) {
    const double all = log_sum(logits, o->temperature, V);
    select_top(id, logits, o->K, V);
    for (int64_t k = 0; k < o->K; k++) {
        log_p[k] = (float)((double)logits[id[k]] / o->temperature - all);
        logits[id[k]] = -INFINITY;
    }
    log_p[o->K] = (float)(log_sum(logits, o->temperature, V) - all);
}

/* ---- all rows -------------------------------------------------------------------------------- */

enum { CHUNK_ROWS = 64 };

typedef struct head {
    lq_tensor w;
    float softcap;
    void *tile;
    float *h, *logits;        /* (CHUNK_ROWS,D), (CHUNK_ROWS,V) */
    int64_t row[CHUNK_ROWS];  /* of the table */
    int64_t n;
} head;

static lq_status head_open(head *c, const lq_model *m) {
    const lq_weight *w = &m->weight[lq_model_head(m)];
    *c = (head){.softcap = m->hp.final_softcap};
    c->w = (lq_tensor){.fmt = w->fmt, .kind = LQ_WEIGHT, .ndim = 2, .dim = {w->rows, w->cols},
                       .data = (void *)w->data, .name = w->name};
    c->tile = lq_alloc_aligned(lq_wtile_scratch(&c->w) + 64);
    c->h = lq_alloc_array(CHUNK_ROWS * w->cols, sizeof *c->h);
    c->logits = lq_alloc_array(CHUNK_ROWS * w->rows, sizeof *c->logits);
    return c->tile && c->h && c->logits ? LQ_OK : LQ_EMEM;
}

static void head_close(head *c) {
    lq_free(c->tile);
    lq_free(c->h);
    lq_free(c->logits);
}

static void finish_chunk(head *c, lq_top_table *t, const lq_top_options *o) {
    const int64_t V = lq_rows(&c->w);
    lq_wtile_forward(&c->w, c->h, c->logits, c->n, c->tile);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < c->n; i++) {
        float *const logits = c->logits + i * V;
        for (int64_t v = 0; c->softcap > 0 && v < V; v++)
            logits[v] = c->softcap * tanhf(logits[v] / c->softcap);
        summarize(t->ids + c->row[i] * o->K, t->log_p + c->row[i] * (o->K + 1), logits, o, V);
    }
    c->n = 0;
}

static void finish_batch(head *c, lq_top_table *t, const lq_batch *b, const float *hidden,
                         const lq_top_options *o) {
    const int64_t D = lq_cols(&c->w);
    for (int64_t i = 0; i < b->n_tokens; i++) {
        if (b->labels[i] < 0) continue;
        memcpy(c->h + c->n * D, hidden + i * D, (size_t)D * sizeof(float));
        c->row[c->n++] = t->row[b->token[i]];
        if (c->n == CHUNK_ROWS) finish_chunk(c, t, o);
    }
    if (c->n) finish_chunk(c, t, o);
}

static lq_status check_finite(const lq_top_table *t, int64_t K) {
    for (int64_t i = 0; i < t->n * (K + 1); i++)
        if (!isfinite(t->log_p[i]))
            return lq_fail(LQ_ENONFINITE, "kd.teacher: a log-probability is %g",
                           (double)t->log_p[i]);
    return LQ_OK;
}

lq_status lq_top_compute(lq_top_table *t, const lq_model *m, lq_net *net,
                         const lq_top_options *options) {
    head c = {.n = 0};
    lq_batch b = {0};
    lq_status status = LQ_OK;
    LQ_GOTO(status, head_open(&c, m));
    LQ_GOTO(status, lq_batch_init(&b, net->capacity));
    for (int64_t next = 0; next < t->data->n;) {
        next = lq_batch_fill_from(&b, t->data, next);
        if (b.n_labels == 0) continue;
        lq_net_load(net, &b);
        const float *hidden;
        LQ_GOTO(status, lq_tape_forward(net->tape, 0, 0));
        LQ_GOTO(status, lq_tape_view(net->tape, net->io.out, 0, b.n_tokens, &hidden));
        finish_batch(&c, t, &b, hidden, options);
    }
    status = check_finite(t, options->K);
done:
    lq_batch_clear(&b);
    head_close(&c);
    return status;
}

/* ---- the file -------------------------------------------------------------------------------- */

static const char *const ids_name[] = {"train_ids", "validation_ids"};
static const char *const log_p_name[] = {"train_log_p", "validation_log_p"};

lq_status lq_top_write(const lq_top_table *t, int n, const char *path,
                       const lq_top_options *options) {
    lq_h5 *h = NULL;
    lq_status status = LQ_OK;
    assert(n <= LQ_ARRAY_LEN(ids_name));
    status = lq_h5_create(&h, path);
    if (status == LQ_EBUSY) { /* its content is the same: the name is the key */
        lq_log(LQ_LOG_INFO, "the teacher's tokens are not written: %s", lq_error());
        return LQ_OK;
    }
    LQ_GOTO(status, status);
    LQ_GOTO(status, lq_h5_write_string(h, "key", options->key));
    for (int i = 0; i < n; i++) {
        const int64_t K = options->K;
        LQ_GOTO(status, lq_h5_write(h, ids_name[i], LQ_H5_I32, t[i].ids, t[i].n * K));
        LQ_GOTO(status, lq_h5_write(h, log_p_name[i], LQ_H5_F32, t[i].log_p, t[i].n * (K + 1)));
    }
    status = lq_h5_commit(h);
    h = NULL;
done:
    lq_h5_close(h);
    return status;
}

static lq_status read_array(lq_h5 *h, const char *name, lq_h5_type type, void *out, int64_t n,
                            size_t bytes) {
    void *data = NULL;
    int64_t found;
    LQ_TRY(lq_h5_read(h, name, type, &data, &found));
    if (found == n) memcpy(out, data, (size_t)n * bytes);
    lq_free(data);
    return found == n ? LQ_OK
                      : lq_fail(LQ_EFORMAT, "'%s' has %lld numbers, wanted %lld", name,
                                (long long)found, (long long)n);
}

static lq_status read_tables(lq_h5 *h, lq_top_table *t, int n, const lq_top_options *options) {
    char *key = NULL;
    LQ_TRY(lq_h5_read_string(h, "key", &key));
    const bool same = strcmp(key, options->key) == 0;
    lq_free(key);
    if (!same) return lq_fail(LQ_EFORMAT, "belongs to another teacher or other data");
    for (int i = 0; i < n; i++) {
        const int64_t K = options->K;
        LQ_TRY(read_array(h, ids_name[i], LQ_H5_I32, t[i].ids, t[i].n * K, sizeof *t->ids));
        LQ_TRY(read_array(h, log_p_name[i], LQ_H5_F32, t[i].log_p, t[i].n * (K + 1),
                          sizeof *t->log_p));
    }
    return LQ_OK;
}

lq_status lq_top_read(bool *found, lq_top_table *t, int n, const char *path,
                      const lq_top_options *options) {
    lq_h5 *h = NULL;
    *found = false;
    if (!lq_file_exists(path)) return LQ_OK;
    lq_status status = lq_h5_open(&h, path);
    if (status == LQ_OK) status = read_tables(h, t, n, options);
    lq_h5_close(h);
    *found = status == LQ_OK;
    if (status != LQ_EFORMAT && status != LQ_EIO) return status;
    lq_log(LQ_LOG_WARN, "%s: %s; the teacher is asked again", path, lq_error());
    return LQ_OK;
}
