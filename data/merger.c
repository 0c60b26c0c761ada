/* See merger.h. */
#include "merger.h"

typedef struct lq_join {
    double key;
    int32_t left, right; /* pieces */
    int32_t bytes;       /* of both when it was proposed */
    int32_t id;          /* of the joined piece */
} lq_join;

void lq_merger_clear(lq_merger *m) {
    lq_free(m->piece);
    lq_free(m->heap);
    *m = (lq_merger)LQ_MERGER_INIT;
}

void lq_merger_reset(lq_merger *m) { m->n = m->n_heap = 0; }

lq_status lq_merger_add(lq_merger *m, int32_t id, int32_t start, int32_t bytes) {
    LQ_TRY(lq_reserve((void **)&m->piece, &m->cap, m->n + 1, sizeof *m->piece));
    const int32_t last = (int32_t)m->n - 1;
    m->piece[m->n++] = (lq_piece){id, last, -1, start, bytes};
    if (last >= 0) m->piece[last].next = last + 1;
    return LQ_OK;
}

static bool before(const lq_join *a, const lq_join *b) {
    return a->key < b->key || (a->key == b->key && a->left < b->left);
}

static lq_status push(lq_merger *m, lq_join join) {
    LQ_TRY(lq_reserve((void **)&m->heap, &m->cap_heap, m->n_heap + 1, sizeof *m->heap));
    int64_t i = m->n_heap++;
    for (; i > 0 && before(&join, &m->heap[(i - 1) / 2]); i = (i - 1) / 2)
        m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = join;
    return LQ_OK;
}

static lq_join pop(lq_merger *m) {
    const lq_join top = m->heap[0], last = m->heap[--m->n_heap];
    int64_t i = 0;
    for (int64_t child = 1; child < m->n_heap; child = 2 * i + 1) {
        if (child + 1 < m->n_heap && before(&m->heap[child + 1], &m->heap[child])) child++;
        if (!before(&m->heap[child], &last)) break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return top;
}

static lq_status propose(lq_merger *m, int32_t left, int32_t right, lq_join_rule rule,
                         const void *ctx) {
    if (left < 0 || right < 0) return LQ_OK;
    const lq_piece *l = &m->piece[left], *r = &m->piece[right];
    lq_join join = {0, left, right, l->bytes + r->bytes, -1};
    return rule(ctx, l, r, &join.key, &join.id) ? push(m, join) : LQ_OK;
}

static bool stale(const lq_merger *m, const lq_join *join) {
    const lq_piece *l = &m->piece[join->left], *r = &m->piece[join->right];
    return !l->bytes || !r->bytes || l->bytes + r->bytes != join->bytes;
}

lq_status lq_merger_run(lq_merger *m, lq_join_rule rule, const void *ctx) {
    for (int32_t i = 1; i < m->n; i++) LQ_TRY(propose(m, i - 1, i, rule, ctx));
    while (m->n_heap > 0) {
        const lq_join join = pop(m);
        if (stale(m, &join)) continue;
        lq_piece *left = &m->piece[join.left], *right = &m->piece[join.right];
        left->id = join.id;
        left->bytes += right->bytes;
        left->next = right->next;
        right->bytes = 0;
        if (right->next >= 0) m->piece[right->next].prev = join.left;
        LQ_TRY(propose(m, left->prev, join.left, rule, ctx));
        LQ_TRY(propose(m, join.left, left->next, rule, ctx));
    }
    return LQ_OK;
}
