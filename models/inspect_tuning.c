/* Pretrained, instruction-tuned, quantization-aware: by evidence. A chat template and a token that
 * ends turns are claims; that the rows of the special tokens in the embedding have moved away from
 * those of tokens that no training ever saw is a trace. Weights on a quantizer's lattice are what
 * quantization-aware training leaves behind. */
#include "inspect_parts.h"

#include "tokenizer_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Quantizers of larger blocks search, and do not find their own result again. */
enum { SEARCH_FREE_BLOCK = 32 };
enum { LATTICE_BLOCKS = 4096, MAX_SAMPLES = 2000, MIN_UNUSED = 3 };

typedef struct norms {
    double *v;
    int64_t n;
} norms;

/* The length of row `id` of an embedding; row: room for its numbers. */
static double row_norm(const lq_gguf_tensor *t, int64_t id, float *row) {
    const size_t bytes = lq_format_bytes(t->fmt, t->ne[0]);
    double sum = 0;
    t->fmt->dequant((const char *)t->data + (size_t)id * bytes, row, t->ne[0]);
    for (int64_t i = 0; i < t->ne[0]; i++) sum += (double)row[i] * (double)row[i];
    return sqrt(sum);
}

/* Filled in because the vocabulary had to be of some size: no text ever has them. */
static bool is_never_trained(const lq_tokenizer *t, int32_t id) {
    static const char *const fronts[] = {"[PAD", "<unused", "<|reserved_special_token_",
                                         "<SPECIAL_", "<|dummy_", "<extra_id_", "<|placeholder"};
    const char *s = lq_token_text(t, id);
    if (lq_token_type(t, id) == LQ_TOKEN_UNUSED) return true;
    for (int i = 0; i < LQ_ARRAY_LEN(fronts); i++)
        if (strncmp(s, fronts[i], strlen(fronts[i])) == 0) return true;
    return false;
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(norms *s) {
    qsort(s->v, (size_t)s->n, sizeof *s->v, ascending);
    return s->v[s->n / 2];
}

/* Up to MAX_SAMPLES tokens of one kind, evenly spread. */
static void sample(norms *s, const lq_tokenizer *t, const lq_gguf_tensor *embd, float *row,
                   bool never_trained) {
    const int32_t n = lq_tokenizer_n_vocab(t), step = never_trained ? 1 : n / MAX_SAMPLES + 1;
    s->n = 0;
    for (int32_t id = 0; id < n && s->n < MAX_SAMPLES; id += step) {
        const bool normal = lq_token_type(t, id) == LQ_TOKEN_NORMAL && !is_never_trained(t, id);
        if (never_trained ? is_never_trained(t, id) : normal)
            s->v[s->n++] = row_norm(embd, id, row);
    }
}

typedef struct traces { double turn, unused, normal; bool known, trained; } traces;

/* How far the end-of-turn token's row is from never-trained ones, in terms of normal ones. */
static void report_norms(lq_report *r, json_t *out, traces *found, norms *s, float *row) {
    const lq_tokenizer *t = r->tokenizer;
    const lq_gguf_tensor *embd = lq_gguf_find_tensor(r->file, "token_embd.weight");
    json_t *object = lq_report_object(r, out, "embedding norms");
    found->turn = row_norm(embd, lq_tokenizer_eot(t), row);
    lq_report_put(r, object, "end-of-turn token", json_real(found->turn));
    sample(s, t, embd, row, false);
    if (s->n) {
        found->normal = median(s);
        lq_report_put(r, object, "median of normal tokens", json_real(found->normal));
    }
    sample(s, t, embd, row, true);
    lq_report_int(r, object, "never-trained tokens", s->n);
    if (s->n < MIN_UNUSED || !(found->normal > 0)) return;
    found->unused = median(s);
    lq_report_put(r, object, "median of never-trained tokens", json_real(found->unused));
    found->known = true;
    found->trained = fabs(found->turn - found->unused) > 0.05 * found->normal;
    lq_report_put(r, object, "end-of-turn token is trained", json_boolean(found->trained));
}

static void look_at_norms(lq_report *r, json_t *out, traces *found) {
    const lq_tokenizer *t = r->tokenizer;
    const lq_gguf_tensor *embd = lq_gguf_find_tensor(r->file, "token_embd.weight");
    if (!t || lq_tokenizer_eot(t) < 0 || !embd || !embd->fmt || embd->ndim != 2) return;
    if (embd->ne[1] < lq_tokenizer_n_vocab(t)) return;
    float *row = lq_alloc_array(embd->ne[0], sizeof *row);
    norms s = {lq_alloc_array(MAX_SAMPLES, sizeof *s.v), 0};
    if (row && s.v) report_norms(r, out, found, &s, row);
    else
        r->failed = true;
    lq_free(row);
    lq_free(s.v);
}

/* ---- lattices ---- */

static double lattice_share(const lq_report *r, const lq_format *fmt, int64_t *blocks) {
    lq_lattice all = {0, 0};
    for (int64_t i = 0; i < lq_gguf_n_tensors(r->file); i++) {
        const lq_gguf_tensor *t = lq_gguf_tensor_at(r->file, i);
        if (strncmp(t->name, "blk.", 4) != 0) continue;
        const lq_lattice one = lq_lattice_of(t, fmt, LATTICE_BLOCKS);
        all.blocks += one.blocks;
        all.unchanged += one.unchanged;
    }
    *blocks = all.blocks;
    return all.blocks ? (double)all.unchanged / (double)all.blocks : 0;
}

/* The format on whose lattice most of the blocks' weights are; NULL: on none. */
static const lq_format *report_lattices(lq_report *r, json_t *out) {
    const lq_format *on = NULL;
    json_t *object = NULL;
    double most = 0.5;
    for (int i = 0; lq_formats[i]; i++) {
        int64_t blocks;
        if (lq_formats[i]->block != SEARCH_FREE_BLOCK || lq_formats[i]->name[0] != 'q') continue;
        if (!lq_formats[i]->quant) continue;
        const double share = lattice_share(r, lq_formats[i], &blocks);
        if (!blocks) continue;
        if (!object) object = lq_report_object(r, out, "share of blocks on a lattice");
        lq_report_put(r, object, lq_formats[i]->label, json_real(share));
        if (share > most) on = lq_formats[i];
        if (share > most) most = share;
    }
    return on;
}

/* ---- the reading ---- */

/* A token ends turns: also where it ends texts, too, unless it was made for these. */
static bool ends_turns(const lq_tokenizer *t) {
    static const char *const of_texts[] = {"<|endoftext|>", "<|end_of_text|>",
                                           "<｜end▁of▁sentence｜>"};
    const int32_t id = lq_tokenizer_eot(t);
    if (id < 0) return false;
    for (int i = 0; i < LQ_ARRAY_LEN(of_texts); i++)
        if (strcmp(lq_token_text(t, id), of_texts[i]) == 0) return id != lq_tokenizer_eos(t);
    return true;
}

void lq_report_tuning(lq_report *r, json_t *out) {
    const lq_tokenizer *t = r->tokenizer;
    json_t *object = lq_report_object(r, out, "tuning");
    const bool template = lq_gguf_find(r->file, "tokenizer.chat_template") != NULL;
    const bool turns = t && ends_turns(t);
    traces found = {0};
    lq_report_put(r, object, "chat template", json_boolean(template));
    lq_report_put(r, object, "end-of-turn token", json_boolean(turns));
    look_at_norms(r, object, &found);
    const lq_format *on = report_lattices(r, object);
    const bool tuned = found.known && turns ? found.trained : template;
    const char *kind = tuned ? "it" : "pt";
    char *reading = on ? lq_sprintf("%s-qat (weights on the lattice of %s)", kind, on->label)
                       : lq_sprintf("%s (%s)", kind, tuned ? "instruction-tuned" : "pretrained");
    if (reading) lq_report_text(r, object, "reading", reading);
    else
        r->failed = true;
    lq_free(reading);
    if (found.known && turns && template && !found.trained)
        lq_report_warn(r, "there is a chat template, but the end-of-turn token looks never "
                       "trained: a pretrained model with a template put in");
}
