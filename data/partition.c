/* Cuts a text at the tokens that are written in it. User-defined tokens always count, control and
 * unknown ones only where asked for. Longer tokens are looked for first, each from the left in what
 * is still raw; that is the same as collecting every occurrence and taking them in that order where
 * they do not overlap. */
#include "tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

typedef struct found { int32_t order; int32_t id; int64_t start, end; } found;
typedef struct found_list { found *at; int64_t n, cap; } found_list;

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static size_t text_bytes(const lq_tokenizer *t, int32_t id) {
    size_t n;
    lq_intern_text(&t->strings, id, &n);
    return n;
}

typedef struct sized { size_t bytes; int32_t id; } sized;

static int longest_first(const void *a, const void *b) {
    const sized *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

static bool is_special(int type) {
    return type == LQ_TOKEN_CONTROL || type == LQ_TOKEN_USER || type == LQ_TOKEN_UNKNOWN;
}

lq_status lq_tokenizer_index_special(lq_tokenizer *t) {
    sized *order = lq_alloc_array(t->n_vocab, sizeof *order);
    if (!order) return LQ_EMEM;
    for (int32_t id = 0; id < t->n_vocab; id++)
        if (is_special(t->type[id])) order[t->n_special++] = (sized){text_bytes(t, id), id};
    qsort(order, (size_t)t->n_special, sizeof *order, longest_first);
    t->special = lq_alloc_array(t->n_special, sizeof *t->special);
    for (int i = 0; i < 256; i++) t->special_head[i] = -1;
    for (int32_t i = t->n_special - 1; t->special && i >= 0; i--) {
        int32_t *head = &t->special_head[(uint8_t)lq_token_text(t, order[i].id)[0]];
        t->special[i] = (lq_special){order[i].id, *head};
        *head = i;
    }
    lq_free(order);
    return t->special ? LQ_OK : LQ_EMEM;
}

static lq_status add_found(found_list *list, found f) {
    LQ_TRY(lq_reserve((void **)&list->at, &list->cap, list->n + 1, sizeof *list->at));
    list->at[list->n++] = f;
    return LQ_OK;
}

/* Every occurrence of every special token, overlapping ones too. */
static lq_status find_all(const lq_tokenizer *t, const char *text, size_t n, bool control,
                          found_list *out) {
    for (size_t at = 0; at < n; at++) {
        for (int32_t i = t->special_head[(uint8_t)text[at]]; i >= 0; i = t->special[i].next) {
            const int32_t id = t->special[i].id;
            size_t bytes;
            const char *token = lq_intern_text(&t->strings, id, &bytes);
            if (!control && t->type[id] != LQ_TOKEN_USER) continue;
            if (bytes > n - at || memcmp(token, text + at, bytes) != 0) continue;
            LQ_TRY(add_found(out, (found){i, id, (int64_t)at, (int64_t)(at + bytes)}));
        }
    }
    return LQ_OK;
}

static int by_order(const void *a, const void *b) {
    const found *x = a, *y = b;
    if (x->order != y->order) return x->order < y->order ? -1 : 1;
    return (x->start > y->start) - (x->start < y->start);
}

static int by_start(const void *a, const void *b) {
    const found *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* Keeps the occurrences that win, in the order of the text. */
static lq_status resolve(const lq_tokenizer *t, const char *text, size_t n, found_list *list) {
    char *taken = lq_alloc(n);
    if (!taken) return LQ_EMEM;
    qsort(list->at, (size_t)list->n, sizeof *list->at, by_order);
    int64_t kept = 0;
    for (int64_t i = 0; i < list->n; i++) {
        found f = list->at[i];
        if (memchr(taken + f.start, 1, (size_t)(f.end - f.start))) continue;
        if (t->strips_right[f.id])
            while (f.end < (int64_t)n && is_space(text[f.end]) && !taken[f.end]) f.end++;
        memset(taken + f.start, 1, (size_t)(f.end - f.start));
        list->at[kept++] = f;
    }
    list->n = kept;
    qsort(list->at, (size_t)kept, sizeof *list->at, by_start);
    lq_free(taken);
    return LQ_OK;
}

lq_status lq_partition(const lq_tokenizer *t, const char *text, size_t n, bool control,
                       lq_span **spans, int64_t *n_spans) {
    found_list list = {NULL, 0, 0};
    lq_status status;
    LQ_GOTO(status, find_all(t, text, n, control, &list));
    if (list.n) LQ_GOTO(status, resolve(t, text, n, &list));
    lq_span *out = lq_alloc_array(2 * list.n + 1, sizeof *out);
    status = out ? LQ_OK : LQ_EMEM;
    if (!out) goto done;
    int64_t count = 0, at = 0;
    for (int64_t i = 0; i < list.n; at = list.at[i++].end) {
        if (list.at[i].start > at) out[count++] = (lq_span){at, list.at[i].start, -1};
        out[count++] = (lq_span){list.at[i].start, list.at[i].end, list.at[i].id};
    }
    if (at < (int64_t)n) out[count++] = (lq_span){at, (int64_t)n, -1};
    *spans = out;
    *n_spans = count;
done:
    lq_free(list.at);
    return status;
}
