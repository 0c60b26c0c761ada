/* See generate.h. One tape serves prompt chunks and single tokens: only its row count changes. */
#include "generate.h"

#include "random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT_CHUNK = 64, ALIGN = 64 };

typedef struct candidate { float p; int32_t id; } candidate;

struct lq_generator {
    const lq_model *model;
    lq_dev *dev;
    lq_net net;
    float **k_cache, **v_cache;   /* n_layer pointers into `cache` */
    void *block;                  /* the device's memory that `cache` lies in */
    float *cache;                 /* 64-byte aligned */
    int64_t n_ctx, n_past;
    const float *logits;          /* (V) of the last token read; lq_tape_view's */
    candidate *candidates;        /* (V) scratch of sampling */
};

static lq_status alloc_caches(lq_generator *g) {
    const lq_hparams *hp = &g->model->hp;
    const int64_t layer = g->n_ctx * hp->n_head_kv * hp->head_dim;
    size_t bytes;
    LQ_TRY(lq_mul_size(&bytes, (size_t)layer * sizeof(float), 2 * (size_t)hp->n_layer));
    LQ_TRY(g->dev->row->alloc(g->dev, &g->block, bytes + ALIGN));
    g->cache = (float *)((char *)g->block + (ALIGN - (uintptr_t)g->block % ALIGN) % ALIGN);
    g->dev->row->fill(g->dev, g->cache, 0, bytes);
    g->k_cache = lq_alloc_array(hp->n_layer, sizeof *g->k_cache);
    g->v_cache = lq_alloc_array(hp->n_layer, sizeof *g->v_cache);
    if (!g->k_cache || !g->v_cache) return LQ_EMEM;
    for (int64_t l = 0; l < hp->n_layer; l++) {
        g->k_cache[l] = g->cache + 2 * l * layer;
        g->v_cache[l] = g->k_cache[l] + layer;
    }
    return LQ_OK;
}

lq_status lq_generator_new(lq_generator **out, lq_dev *dev, const lq_model *m,
                           const lq_patch *patch, int64_t n_ctx) {
    lq_status status = LQ_OK;
    *out = NULL;
    lq_generator *g = lq_alloc(sizeof *g);
    if (!g) return LQ_EMEM;
    g->model = m;
    g->dev = dev;
    g->n_ctx = n_ctx;
    LQ_GOTO(status, alloc_caches(g));
    g->candidates = lq_alloc_array(m->hp.n_vocab, sizeof *g->candidates);
    LQ_GOTO(status, g->candidates ? LQ_OK : LQ_EMEM);
    const lq_net_options options = {
        .build = {.patch = patch, .k_cache = g->k_cache, .v_cache = g->v_cache, .n_ctx = n_ctx},
        .capacity = n_ctx < PROMPT_CHUNK ? n_ctx : PROMPT_CHUNK,
        .dev = dev,
    };
    LQ_GOTO(status, lq_net_open(&g->net, m, &options));
    *out = g;
done:
    if (status != LQ_OK) lq_generator_free(g);
    return status;
}

void lq_generator_free(lq_generator *g) {
    if (!g) return;
    lq_net_close(&g->net);
    g->dev->row->free(g->dev, g->block);
    lq_free(g->k_cache);
    lq_free(g->v_cache);
    lq_free(g->candidates);
    lq_free(g);
}

int64_t lq_generator_n_ctx(const lq_generator *g) { return g->n_ctx; }

bool lq_generator_full(const lq_generator *g) { return g->n_past >= g->n_ctx; }

static lq_status read_tokens(lq_generator *g, const int32_t *ids, int64_t n) {
    for (int64_t done = 0; done < n;) {
        const int64_t rows = n - done < g->net.capacity ? n - done : g->net.capacity;
        lq_net_load_ids(&g->net, ids + done, rows, g->n_past);
        LQ_TRY(lq_tape_forward(g->net.tape, 0, g->n_past));
        LQ_TRY(lq_tape_view(g->net.tape, g->net.io.out, rows - 1, 1, &g->logits));
        g->n_past += rows;
        done += rows;
    }
    return LQ_OK;
}

lq_status lq_generator_prompt(lq_generator *g, const int32_t *ids, int64_t n) {
    if (n < 1) return lq_fail(LQ_EVALUE, "the prompt has no tokens");
    if (n >= g->n_ctx)
        return lq_fail(LQ_EVALUE, "the prompt has %lld tokens, the context holds %lld",
                       (long long)n, (long long)g->n_ctx);
    g->n_past = 0;
    return read_tokens(g, ids, n);
}

static int32_t argmax(const float *x, int64_t n) {
    int64_t best = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return (int32_t)best;
}

static int by_probability(const void *pa, const void *pb) {
    const candidate *a = pa, *b = pb;
    if (a->p != b->p) return a->p < b->p ? 1 : -1;
    return a->id < b->id ? -1 : a->id > b->id; /* the order of equals must not depend on qsort */
}

/* Softmax at a temperature, the smallest set with probability >= top_p, then one draw. */
static int32_t sample(lq_generator *g, const lq_sampling *s) {
    const int64_t V = g->model->hp.n_vocab;
    candidate *c = g->candidates;
    const float max = g->logits[argmax(g->logits, V)];
    double sum = 0;
    for (int64_t i = 0; i < V; i++) {
        c[i] = (candidate){(float)exp(((double)g->logits[i] - (double)max) / s->temperature),
                           (int32_t)i};
        sum += (double)c[i].p;
    }
    qsort(c, (size_t)V, sizeof *c, by_probability);
    int64_t n = V;
    double kept = sum;
    if (s->top_p > 0 && s->top_p < 1) {
        kept = 0;
        for (n = 0; n < V && kept < s->top_p * sum; n++) kept += (double)c[n].p;
    }
    const double u = (double)lq_random_uniform(s->seed, (uint64_t)g->n_past) * kept;
    double below = 0;
    for (int64_t i = 0; i < n; i++) {
        below += (double)c[i].p;
        if (u < below) return c[i].id;
    }
    return c[n - 1].id;
}

lq_status lq_generator_next(lq_generator *g, const lq_sampling *sampling, int32_t *out_id) {
    if (lq_generator_full(g))
        return lq_fail(LQ_EVALUE, "the context of %lld tokens is full", (long long)g->n_ctx);
    for (int64_t i = 0; i < g->model->hp.n_vocab; i++)
        if (!isfinite(g->logits[i]))
            return lq_fail(LQ_ENONFINITE, "logit of token %lld is not finite", (long long)i);
    *out_id =
        sampling->temperature > 0 ? sample(g, sampling) : argmax(g->logits, g->model->hp.n_vocab);
    return read_tokens(g, out_id, 1);
}
