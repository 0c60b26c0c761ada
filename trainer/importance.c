/* See importance.h. A tape without labels runs over the tokens; an observer on it sees the linears'
 * inputs. Sums are double and each column is summed by one thread in the order of the rows, so the
 * result does not depend on the number of threads. */
#include "importance.h"

#include "atomic_file.h"
#include "net.h"
#include "ops.h"

#include <assert.h>
#include <string.h>

enum { CHUNK = 512, DATA_TOKENS = 128 * CHUNK };

typedef struct column_sums {
    const char *name;        /* of the weight; the model's */
    double *sum;             /* (n_mats,cols) */
    int64_t *rows;           /* (n_mats) summed so far */
    int64_t cols, n_mats;
} column_sums;

typedef struct collector {
    const lq_model *m;
    lq_net net;
    column_sums *weight; int n_weights;
    lq_status status;        /* of the observer */
} collector;

/* ---- summing --------------------------------------------------------------------------------- */

static void add_rows(column_sums *c, int64_t mat, const float *x, int64_t rows) {
    enum { TILE = 64 };
    double *const sum = c->sum + mat * c->cols;
#pragma omp parallel for schedule(static)
    for (int64_t first = 0; first < c->cols; first += TILE) {
        const int64_t end = first + TILE < c->cols ? first + TILE : c->cols;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = first; j < end; j++)
                sum[j] += (double)x[r * c->cols + j] * (double)x[r * c->cols + j];
    }
    c->rows[mat] += rows;
}

static column_sums *find(const collector *c, const char *name) {
    for (int i = 0; i < c->n_weights; i++)
        if (strcmp(c->weight[i].name, name) == 0) return &c->weight[i];
    return NULL;
}

static void observe_expert(void *ctx, const lq_tensor *w, int64_t expert, const float *x,
                           int64_t n) {
    column_sums *c = find(ctx, w->name);
    if (c) add_rows(c, expert, x, n);
}

/* A linear is a node whose second input is a matrix that the first input's rows are as long as. */
static void observe(void *ctx, const lq_node *node) {
    collector *all = ctx;
    const lq_tensor *x = node->in[0], *w = node->in[1];
    if (all->status == LQ_OK) all->status = lq_experts_inputs(node, observe_expert, all);
    if (!w || w->kind != LQ_WEIGHT || w->ndim != 2 || !w->name || x->fmt != &lq_f32) return;
    column_sums *c = find(all, w->name);
    if (!c) return;
    assert(lq_cols(x) == c->cols);
    add_rows(c, 0, lq_data_f32(x), lq_rows(x));
}

/* ---- what is summed -------------------------------------------------------------------------- */

static bool is_wanted(const lq_weight *w, bool process_output) {
    if (w->rows == 1) return false;
    return strncmp(w->name, "blk.", 4) == 0 ||
           (process_output && strcmp(w->name, "output.weight") == 0);
}

static lq_status open_collector(collector *c, const lq_model *m, int64_t capacity,
                                bool process_output) {
    const lq_net_options options = {.build = {.loss = true}, .capacity = capacity};
    *c = (collector){.m = m, .weight = lq_alloc_array(m->n_weights, sizeof *c->weight)};
    if (!c->weight) return LQ_EMEM;
    for (int i = 0; i < m->n_weights; i++) {
        if (!is_wanted(&m->weight[i], process_output)) continue;
        const lq_weight *w = &m->weight[i];
        column_sums *s = &c->weight[c->n_weights++];
        *s = (column_sums){.name = w->name, .cols = w->cols, .n_mats = w->n_mats};
        s->sum = lq_alloc_array(s->n_mats * s->cols, sizeof *s->sum);
        s->rows = lq_alloc_array(s->n_mats, sizeof *s->rows);
        if (!s->sum || !s->rows) return LQ_EMEM;
    }
    LQ_TRY(lq_net_open(&c->net, m, &options));
    lq_tape_observe(c->net.tape, observe, c);
    return LQ_OK;
}

static void close_collector(collector *c) {
    for (int i = 0; i < c->n_weights; i++) {
        lq_free(c->weight[i].sum);
        lq_free(c->weight[i].rows);
    }
    lq_free(c->weight);
    lq_net_close(&c->net);
}

/* No row has a label: the head's logits, which nobody needs, are never computed. */
static lq_status run(collector *c, int64_t n) {
    int32_t *const labels = c->net.io.labels->data; /* on the CPU */
    for (int64_t i = 0; i < n; i++) labels[i] = -1;
    LQ_TRY(lq_tape_forward(c->net.tape, 0, 0));
    return c->status;
}

static lq_status fill(lq_imatrix *im, const column_sums *s) {
    lq_imatrix_entry *e;
    int64_t used = 0;
    LQ_TRY(lq_imatrix_add(&e, im, s->name, s->n_mats * s->cols, s->n_mats));
    for (int64_t j = 0; j < s->n_mats * s->cols; j++) e->sum[j] = (float)s->sum[j];
    for (int64_t i = 0; i < s->n_mats; i++) {
        const int64_t chunks = s->rows[i] / im->chunk_size;
        e->count[i] = (float)s->rows[i];
        used += s->rows[i] > 0;
        if (chunks > im->n_chunks) im->n_chunks = (uint32_t)chunks;
    }
    if (used < s->n_mats)
        lq_log(LQ_LOG_WARN, "%s: %lld of its %lld experts got no token, and get no importance",
               s->name, (long long)(s->n_mats - used), (long long)s->n_mats);
    return LQ_OK;
}

static lq_status fill_all(lq_imatrix *im, const collector *c) {
    for (int i = 0; i < c->n_weights; i++) LQ_TRY(fill(im, &c->weight[i]));
    return lq_imatrix_finish(im);
}

static lq_status make_imatrix(lq_imatrix **out, const collector *c, const char *dataset,
                              int64_t chunk_size) {
    LQ_TRY(lq_imatrix_new(out, dataset, (uint32_t)chunk_size));
    const lq_status status = fill_all(*out, c);
    if (status == LQ_OK) return LQ_OK;
    lq_imatrix_free(*out);
    *out = NULL;
    return status;
}

/* ---- a text ---------------------------------------------------------------------------------- */

/* Without one trailing newline, as llama-imatrix reads it. */
static lq_status read_tokens(const lq_model *m, const lq_importance_text *text, lq_tokens *out) {
    char *bytes = NULL;
    size_t n;
    if (!m->tokenizer)
        return lq_fail(LQ_EUNSUPPORTED, "%s: has no tokenizer", lq_gguf_path(m->file));
    LQ_TRY(lq_read_file(&bytes, &n, text->path));
    if (n > 0 && bytes[n - 1] == '\n') n--;
    const lq_status status = lq_tokenize(m->tokenizer, bytes, n, LQ_TOK_BOS | LQ_TOK_EOS, out);
    lq_free(bytes);
    LQ_TRY(status);
    if (out->n / 2 >= text->n_ctx) return LQ_OK;
    return lq_fail(LQ_EVALUE, "%s: has %lld tokens; chunks of %lld need twice as many", text->path,
                   (long long)out->n, (long long)text->n_ctx);
}

static lq_status read_chunks(collector *c, const lq_importance_text *text, const lq_tokens *t) {
    int64_t chunks = t->n / text->n_ctx;
    if (text->chunks > 0 && text->chunks < chunks) chunks = text->chunks;
    for (int64_t i = 0; i < chunks; i++) {
        lq_net_load_ids(&c->net, t->id + i * text->n_ctx, text->n_ctx, 0);
        if (lq_tokenizer_adds_bos(c->m->tokenizer))
            *(int32_t *)c->net.io.ids->data = lq_tokenizer_bos(c->m->tokenizer);
        LQ_TRY(run(c, text->n_ctx));
    }
    return LQ_OK;
}

lq_status lq_importance_of_text(lq_imatrix **out, const lq_model *m,
                                const lq_importance_text *text) {
    collector c = {0};
    lq_tokens tokens = LQ_TOKENS_INIT;
    lq_status status = LQ_OK;
    *out = NULL;
    LQ_GOTO(status, read_tokens(m, text, &tokens));
    LQ_GOTO(status, open_collector(&c, m, text->n_ctx, text->process_output));
    LQ_GOTO(status, read_chunks(&c, text, &tokens));
    status = make_imatrix(out, &c, text->path, text->n_ctx);
done:
    close_collector(&c);
    lq_tokens_clear(&tokens);
    return status;
}

/* ---- training data --------------------------------------------------------------------------- */

/* Every so manieth example; one at a time, so that no batch is larger than an example. */
static lq_status read_examples(collector *c, const lq_dataset *d, int64_t every) {
    lq_batch batch = {0};
    lq_status status = LQ_OK;
    LQ_GOTO(status, lq_batch_init(&batch, c->net.capacity));
    for (int64_t i = 0; i < d->n; i += every) {
        if (d->example[i].n == 0) continue;
        lq_batch_fill(&batch, d, &i, 1);
        lq_net_load(&c->net, &batch);
        LQ_GOTO(status, run(c, batch.n_tokens));
    }
done:
    lq_batch_clear(&batch);
    return status;
}

lq_status lq_importance_of_data(lq_imatrix **out, const lq_model *m, const lq_dataset *d,
                                const char *name) {
    collector c = {0};
    int64_t tokens = 0, longest = 1;
    *out = NULL;
    for (int64_t i = 0; i < d->n; i++) {
        tokens += d->example[i].n;
        if (d->example[i].n > longest) longest = d->example[i].n;
    }
    lq_status status = open_collector(&c, m, longest, false);
    if (status == LQ_OK) status = read_examples(&c, d, (tokens + DATA_TOKENS - 1) / DATA_TOKENS);
    if (status == LQ_OK) status = make_imatrix(out, &c, name, CHUNK);
    close_collector(&c);
    return status;
}
