/* Which examples make up micro-batch p of a run, as a pure function of p. See batch.h.
 * A unit is what is never taken apart: one example, or with packing one bin of examples. Per epoch
 * the units are permuted by random numbers keyed with (seed, epoch) and cut into micro-batches. */
#include "batch.h"

#include "random.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* Bucketed: units are sorted by length and permuted within windows of this many micro-batches. */
enum { WINDOW_BATCHES = 16 };

struct lq_loader {
    const lq_dataset *data;
    lq_loader_options options;
    int64_t n_units, per_epoch, max_tokens;
    int64_t *item;          /* (n) examples, unit after unit */
    int64_t *unit_first;    /* (n_units + 1) index of a unit's first item */
    int64_t *unit_tokens;   /* (n_units) */
    int64_t *base;          /* (n_units) the order before permuting */
    int64_t *order;         /* (n_units) this epoch's */
    int64_t *batch_order;   /* (per_epoch) this epoch's; the last one may be short and stays last */
    int64_t *listed;        /* (n) examples of the batch being filled */
    int64_t position, epoch;   /* epoch: of `order`; -1: none yet */
};

typedef struct sized { int64_t tokens, i; } sized;

/* Longest first; the index makes the order total. */
static int compare_sized(const void *a, const void *b) {
    const sized *x = a, *y = b;
    return x->tokens != y->tokens ? (x->tokens < y->tokens) - (x->tokens > y->tokens)
                                  : (x->i > y->i) - (x->i < y->i);
}

/* ---- units
 * -------------------------------------------------------------------------------------------------
 */

static void one_example_per_unit(lq_loader *l) {
    l->n_units = l->data->n;
    for (int64_t i = 0; i < l->n_units; i++) {
        l->item[i] = i;
        l->unit_first[i] = i;
        l->unit_tokens[i] = l->data->example[i].n;
    }
    l->unit_first[l->n_units] = l->n_units;
}

/* A tree of maxima over the bins' free room; leaf b is at [leaves + b]. Returns the first bin with
 * room for n. */
static int64_t first_fit(int64_t *room, int64_t leaves, int64_t n) {
    int64_t node = 1;
    while (node < leaves) node = room[2 * node] >= n ? 2 * node : 2 * node + 1;
    room[node] -= n;
    for (int64_t up = node / 2; up >= 1; up /= 2)
        room[up] = room[2 * up] > room[2 * up + 1] ? room[2 * up] : room[2 * up + 1];
    return node - leaves;
}

/* bin[i]: the bin of example i; longest examples choose first. */
static lq_status choose_bins(int64_t *bin, const lq_loader *l) {
    lq_status status = LQ_OK;
    const lq_dataset *d = l->data;
    int64_t leaves = 1;
    while (leaves < d->n) leaves *= 2;
    int64_t *room = lq_alloc_array(2 * leaves, sizeof *room);
    sized *s = lq_alloc_array(d->n, sizeof *s);
    LQ_GOTO(status, room && s ? LQ_OK : LQ_EMEM);
    for (int64_t i = 0; i < 2 * leaves; i++) room[i] = l->options.sequence_len;
    for (int64_t i = 0; i < d->n; i++) {
        s[i] = (sized){d->example[i].n, i};
        if (d->example[i].n > l->options.sequence_len)
            LQ_GOTO(
                status,
                lq_fail(LQ_EVALUE,
                        "example %lld has %d tokens, more than the %lld that are packed together",
                        (long long)i, (int)d->example[i].n, (long long)l->options.sequence_len));
    }
    qsort(s, (size_t)d->n, sizeof *s, compare_sized);
    for (int64_t i = 0; i < d->n; i++) bin[s[i].i] = first_fit(room, leaves, s[i].tokens);
done:
    lq_free(room);
    lq_free(s);
    return status;
}

/* Collects the examples bin by bin (a counting sort); first fit leaves no bin before the last one
 * empty. */
static void collect_bins(lq_loader *l, const int64_t *bin) {
    const lq_dataset *d = l->data;
    l->n_units = 0;
    for (int64_t i = 0; i < d->n; i++) {
        if (bin[i] >= l->n_units) l->n_units = bin[i] + 1;
        l->unit_first[bin[i] + 1]++;
        l->unit_tokens[bin[i]] += d->example[i].n;
    }
    for (int64_t b = 0; b < l->n_units; b++) l->unit_first[b + 1] += l->unit_first[b];
    for (int64_t i = d->n - 1; i >= 0; i--) l->item[--l->unit_first[bin[i] + 1]] = i;
    for (int64_t b = 0; b < l->n_units; b++) l->unit_first[b] = l->unit_first[b + 1];
    l->unit_first[l->n_units] = d->n;
}

static lq_status pack(lq_loader *l) {
    int64_t *bin = lq_alloc_array(l->data->n, sizeof *bin);
    if (!bin) return LQ_EMEM;
    const lq_status status = choose_bins(bin, l);
    if (status == LQ_OK) collect_bins(l, bin);
    lq_free(bin);
    return status;
}

/* ---- order ----------------------------------------------------------------------------------- */

static lq_status base_order(lq_loader *l) {
    sized *s = lq_alloc_array(l->n_units, sizeof *s);
    if (!s) return LQ_EMEM;
    for (int64_t u = 0; u < l->n_units; u++) s[u] = (sized){l->unit_tokens[u], u};
    if (l->options.order == LQ_ORDER_BUCKETED)
        qsort(s, (size_t)l->n_units, sizeof *s, compare_sized);
    for (int64_t u = 0; u < l->n_units; u++) l->base[u] = s[u].i;
    lq_free(s);
    return LQ_OK;
}

static int64_t min(int64_t a, int64_t b) { return a < b ? a : b; }

/* Units that are permuted together, from a multiple of it on. */
static int64_t window(const lq_loader *l) {
    if (l->options.order == LQ_ORDER_SEQUENTIAL) return 1;
    if (l->options.order == LQ_ORDER_SHUFFLE) return l->n_units;
    return min(l->n_units, WINDOW_BATCHES * l->options.micro_batch_size);
}

/* The most tokens of any micro_batch_size units of base[first, last) that may meet. */
static int64_t heaviest(const lq_loader *l, sized *s, int64_t first, int64_t last) {
    int64_t tokens = 0;
    for (int64_t u = first; u < last; u++) s[u - first] = (sized){l->unit_tokens[l->base[u]], u};
    qsort(s, (size_t)(last - first), sizeof *s, compare_sized);
    for (int64_t u = 0; u < min(last - first, l->options.micro_batch_size); u++)
        tokens += s[u].tokens;
    return tokens;
}

static lq_status measure(lq_loader *l) {
    const int64_t step = window(l) > 1 ? window(l) : l->options.micro_batch_size;
    sized *s = lq_alloc_array(min(step, l->n_units), sizeof *s);
    if (!s) return LQ_EMEM;
    for (int64_t first = 0; first < l->n_units; first += step) {
        const int64_t tokens = heaviest(l, s, first, min(first + step, l->n_units));
        if (tokens > l->max_tokens) l->max_tokens = tokens;
    }
    lq_free(s);
    return LQ_OK;
}

/* Fisher-Yates with numbers key(i). */
static void shuffle(int64_t *x, int64_t n, uint64_t key) {
    for (int64_t i = n - 1; i > 0; i--) {
        const int64_t j = (int64_t)lq_random_below(key, (uint64_t)i, (uint64_t)i + 1);
        const int64_t kept = x[i];
        x[i] = x[j];
        x[j] = kept;
    }
}

static void arrange(lq_loader *l, int64_t epoch) {
    const uint64_t key = lq_random_key(l->options.seed, (uint64_t)epoch);
    const int64_t step = window(l), full = l->n_units / l->options.micro_batch_size;
    memcpy(l->order, l->base, (size_t)l->n_units * sizeof *l->order);
    for (int64_t first = 0; step > 1 && first < l->n_units; first += step)
        shuffle(l->order + first, min(step, l->n_units - first),
                lq_random_key(key, (uint64_t)first));
    for (int64_t b = 0; b < l->per_epoch; b++) l->batch_order[b] = b;
    if (l->options.order == LQ_ORDER_BUCKETED) shuffle(l->batch_order, full, ~key);
    l->epoch = epoch;
}

/* ---- interface
 * ------------------------------------------------------------------------------------------------
 */

static lq_status alloc_items(lq_loader *l) {
    const int64_t n = l->data->n;
    l->item = lq_alloc_array(n, sizeof *l->item);
    l->unit_first = lq_alloc_array(n + 1, sizeof *l->unit_first);
    l->unit_tokens = lq_alloc_array(n, sizeof *l->unit_tokens);
    l->listed = lq_alloc_array(n, sizeof *l->listed);
    return l->item && l->unit_first && l->unit_tokens && l->listed ? LQ_OK : LQ_EMEM;
}

static lq_status alloc_orders(lq_loader *l) {
    l->base = lq_alloc_array(l->n_units, sizeof *l->base);
    l->order = lq_alloc_array(l->n_units, sizeof *l->order);
    l->batch_order = lq_alloc_array(l->per_epoch, sizeof *l->batch_order);
    return l->base && l->order && l->batch_order ? LQ_OK : LQ_EMEM;
}

lq_status lq_loader_new(lq_loader **out, const lq_dataset *d, const lq_loader_options *options) {
    lq_status status = LQ_OK;
    *out = NULL;
    if (d->n < 1) return lq_fail(LQ_EVALUE, "there are no examples to make batches of");
    if (options->micro_batch_size < 1)
        return lq_fail(LQ_EVALUE, "micro_batch_size: found %lld, wanted at least 1",
                       (long long)options->micro_batch_size);
    lq_loader *l = lq_alloc(sizeof *l);
    if (!l) return LQ_EMEM;
    l->data = d;
    l->options = *options;
    l->options.micro_batch_size = min(options->micro_batch_size, d->n);
    l->epoch = -1;
    LQ_GOTO(status, alloc_items(l));
    if (options->packing) LQ_GOTO(status, pack(l));
    else one_example_per_unit(l);
    l->per_epoch = (l->n_units + l->options.micro_batch_size - 1) / l->options.micro_batch_size;
    LQ_GOTO(status, alloc_orders(l));
    LQ_GOTO(status, base_order(l));
    LQ_GOTO(status, measure(l));
    *out = l;
done:
    if (status != LQ_OK) lq_loader_free(l);
    return status;
}

void lq_loader_free(lq_loader *l) {
    if (!l) return;
    lq_free(l->item);
    lq_free(l->unit_first);
    lq_free(l->unit_tokens);
    lq_free(l->base);
    lq_free(l->order);
    lq_free(l->batch_order);
    lq_free(l->listed);
    lq_free(l);
}

int64_t lq_loader_batches_per_epoch(const lq_loader *l) { return l->per_epoch; }
int64_t lq_loader_max_tokens(const lq_loader *l) { return l->max_tokens; }
int64_t lq_loader_position(const lq_loader *l) { return l->position; }

void lq_loader_seek(lq_loader *l, int64_t position) {
    assert(position >= 0);
    l->position = position;
}

lq_status lq_loader_next(lq_loader *l, lq_batch *b) {
    const int64_t epoch = l->position / l->per_epoch, size = l->options.micro_batch_size;
    if (epoch != l->epoch) arrange(l, epoch);
    const int64_t first = l->batch_order[l->position % l->per_epoch] * size;
    int64_t n = 0;
    for (int64_t u = first; u < min(first + size, l->n_units); u++)
        for (int64_t i = l->unit_first[l->order[u]]; i < l->unit_first[l->order[u] + 1]; i++)
            l->listed[n++] = l->item[i];
    lq_batch_fill(b, l->data, l->listed, n);
    l->position++;
    return LQ_OK;
}
