/* Validation split. Examples that share a group or their content are tied together (union-find),
 * and what is tied goes to one side as a whole. See dataset.h. */
#include "dataset.h"

#include "random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct keyed { uint64_t key; int64_t i; } keyed;

static int compare_keyed(const void *a, const void *b) {
    const keyed *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : (x->i > y->i) - (x->i < y->i);
}

static int compare_u64(const void *a, const void *b) {
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int64_t find(int64_t *parent, int64_t i) {
    while (parent[i] != i) i = parent[i] = parent[parent[i]];
    return i;
}

/* The smaller index becomes the root, so the result does not depend on the order of the unions. */
static void unite(int64_t *parent, int64_t a, int64_t b) {
    a = find(parent, a);
    b = find(parent, b);
    if (a < b) parent[b] = a;
    else parent[a] = b;
}

/* Unites the examples whose keys (filled in by the caller) are equal. */
static void unite_equal(int64_t *parent, keyed *k, int64_t n) {
    qsort(k, (size_t)n, sizeof *k, compare_keyed);
    for (int64_t i = 1; i < n; i++)
        if (k[i].key == k[i - 1].key) unite(parent, k[i].i, k[i - 1].i);
}

static void tie(int64_t *parent, keyed *k, const lq_dataset *d) {
    for (int64_t i = 0; i < d->n; i++) {
        parent[i] = i;
        k[i] = (keyed){d->example[i].group, i};
    }
    unite_equal(parent, k, d->n);
    for (int64_t i = 0; i < d->n; i++) k[i] = (keyed){d->example[i].hash, i};
    unite_equal(parent, k, d->n);
}

static lq_status target_size(int64_t *out, double val_set_size, int64_t n) {
    if (!(val_set_size >= 0))
        return lq_fail(LQ_ECONFIG, "val_set_size: found %g, wanted 0 or more", val_set_size);
    if (val_set_size >= (double)n && val_set_size >= 1)
        return lq_fail(LQ_ECONFIG, "val_set_size: found %g, but there are only %lld examples",
                       val_set_size, (long long)n);
    const int64_t target = llround(val_set_size < 1 ? val_set_size * (double)n : val_set_size);
    *out = target < 1 ? 1 : target < n ? target : n - 1; /* something is left to train on */
    return LQ_OK;
}

/* The roots in random order, then every one that still fits; the smallest if none did. size: per
 * root. */
static int64_t choose(bool *in_val, keyed *root, int64_t n_roots, const int64_t *size,
                      int64_t target) {
    int64_t taken = 0, smallest = root[0].i;
    qsort(root, (size_t)n_roots, sizeof *root, compare_keyed);
    for (int64_t r = 0; r < n_roots; r++) {
        const int64_t i = root[r].i;
        if (size[i] < size[smallest]) smallest = i;
        if (taken + size[i] > target) continue;
        in_val[i] = true;
        taken += size[i];
    }
    if (taken > 0) return taken;
    in_val[smallest] = true;
    return size[smallest];
}

/* Marks in in_val the examples that go to the validation side; *n_val of them, 0 if all are tied
 * together. */
static lq_status mark_val(bool *in_val, int64_t *n_val, const lq_dataset *d, int64_t target,
                          uint64_t seed) {
    lq_status status = LQ_OK;
    const uint64_t key = lq_random_key(seed, 0x73706c6974);
    int64_t *parent = lq_alloc_array(d->n, sizeof *parent),
            *size = lq_alloc_array(d->n, sizeof *size);
    keyed *k = lq_alloc_array(d->n, sizeof *k);
    int64_t n_roots = 0;
    *n_val = 0;
    LQ_GOTO(status, parent && size && k ? LQ_OK : LQ_EMEM);
    tie(parent, k, d);
    for (int64_t i = 0; i < d->n; i++) size[find(parent, i)]++;
    for (int64_t i = 0; i < d->n; i++)
        if (size[i]) k[n_roots++] = (keyed){lq_random_u64(key, (uint64_t)i), i};
    if (n_roots < 2) goto done;
    *n_val = choose(in_val, k, n_roots, size, target);
    for (int64_t i = 0; i < d->n; i++) in_val[i] = in_val[find(parent, i)];
done:
    lq_free(parent);
    lq_free(size);
    lq_free(k);
    return status;
}

/* ---- taking a part --------------------------------------------------------------------------- */

static int64_t tokens_of(const lq_dataset *d) {
    int64_t n = 0;
    for (int64_t i = 0; i < d->n; i++) n += d->example[i].n;
    return n;
}

static void count_part(lq_dataset *part, const lq_data_counts *whole) {
    part->counts = *whole;
    part->counts.examples = part->n;
    part->counts.tokens = part->counts.trained_tokens = 0;
    for (int64_t i = 0; i < part->n; i++) {
        part->counts.tokens += part->example[i].n;
        part->counts.trained_tokens += part->example[i].n_trained;
    }
}

/* Copies the tokens that the part's examples use, once each however often an example is repeated.
 */
static lq_status copy_tokens(lq_dataset *part, const lq_dataset *whole) {
    keyed *k = lq_alloc_array(part->n, sizeof *k);
    const int64_t most = tokens_of(part);
    part->ids = lq_alloc_array(most, sizeof *part->ids);
    part->mask = lq_alloc_array(most, 1);
    if (!k || !part->ids || !part->mask) {
        lq_free(k);
        return LQ_EMEM;
    }
    for (int64_t i = 0; i < part->n; i++) k[i] = (keyed){(uint64_t)part->example[i].first, i};
    qsort(k, (size_t)part->n, sizeof *k, compare_keyed);
    for (int64_t j = 0; j < part->n; j++) {
        lq_example *e = &part->example[k[j].i];
        if (j > 0 && k[j].key == k[j - 1].key) {
            e->first = part->example[k[j - 1].i].first;
            continue;
        }
        memcpy(part->ids + part->n_tokens, whole->ids + k[j].key, (size_t)e->n * sizeof *part->ids);
        memcpy(part->mask + part->n_tokens, whole->mask + k[j].key, (size_t)e->n);
        e->first = part->n_tokens;
        part->n_tokens += e->n;
    }
    lq_free(k);
    return LQ_OK;
}

/* The examples of `whole` with in_val[i] == side, in order, with tokens of their own. */
static lq_status take(lq_dataset *part, const lq_dataset *whole, const bool *in_val, bool side,
                      int64_t n) {
    *part = (lq_dataset){0};
    part->example = lq_alloc_array(n, sizeof *part->example);
    if (!part->example) return LQ_EMEM;
    for (int64_t i = 0; i < whole->n; i++)
        if (in_val[i] == side) part->example[part->n++] = whole->example[i];
    LQ_TRY(copy_tokens(part, whole));
    count_part(part, &whole->counts);
    return LQ_OK;
}

lq_status lq_dataset_split(lq_dataset *d, lq_dataset *val, const lq_data_options *options) {
    lq_status status = LQ_OK;
    lq_dataset train = {0};
    int64_t target = 0, n_val = 0;
    bool *in_val = NULL;
    *val = (lq_dataset){0};
    if (options->val_set_size == 0) return LQ_OK;
    LQ_TRY(target_size(&target, options->val_set_size, d->n));
    in_val = lq_alloc_array(d->n, sizeof *in_val);
    LQ_GOTO(status, in_val ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, mark_val(in_val, &n_val, d, target, options->seed));
    if (n_val == 0) {
        lq_log(LQ_LOG_WARN,
               "no validation split: all %lld examples belong together (one group, or duplicates)",
               (long long)d->n);
        goto done;
    }
    LQ_GOTO(status, take(&train, d, in_val, false, d->n - n_val));
    LQ_GOTO(status, take(val, d, in_val, true, n_val));
    lq_dataset_clear(d);
    *d = train;
    train = (lq_dataset){0};
done:
    lq_free(in_val);
    lq_dataset_clear(&train);
    if (status != LQ_OK) lq_dataset_clear(val);
    return status;
}

/* If memory is short, the slow way gives the same number. */
static bool occurs(const lq_dataset *other, const uint64_t *sorted, uint64_t hash) {
    if (sorted) return bsearch(&hash, sorted, (size_t)other->n, sizeof hash, compare_u64) != NULL;
    for (int64_t i = 0; i < other->n; i++)
        if (other->example[i].hash == hash) return true;
    return false;
}

int64_t lq_dataset_overlap(const lq_dataset *d, const lq_dataset *other) {
    int64_t overlap = 0;
    uint64_t *sorted = lq_alloc_array(other->n, sizeof *sorted);
    for (int64_t i = 0; sorted && i < other->n; i++) sorted[i] = other->example[i].hash;
    if (sorted) qsort(sorted, (size_t)other->n, sizeof *sorted, compare_u64);
    for (int64_t i = 0; i < d->n; i++) overlap += occurs(other, sorted, d->example[i].hash);
    lq_free(sorted);
    return overlap;
}
