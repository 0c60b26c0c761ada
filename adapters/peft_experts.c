/* PEFT's adapters on experts, which GGUF has as one pair of 3-dimensional tensors for each of gate,
 * up and down: A (experts, rank, cols), B (experts, rows, rank).
 *
 * With transformers before 5 every expert is a module with an adapter of its own. Since then the
 * experts' weights are parameters, gate_up_proj (gate's rows first) and down_proj, and PEFT adapts
 * those that target_parameters names: A (experts * rank, cols), B (rows, rank * experts), the
 * expert changing fastest along B's rows. Of two parameters the first is wrapped innermost
 * (".base_layer"). */
#include "peft_parts.h"

#include <stdlib.h>
#include <string.h>

static const char module[] = ".experts", inner[] = ".base_layer";

static bool ends_with(const char *text, size_t n, const char *end) {
    const size_t k = strlen(end);
    return n >= k && strncmp(text + n - k, end, k) == 0;
}

static lq_status add_mistake(lq_peft_reader *r, const lq_st_tensor *in, const char *text) {
    char shape[96];
    lq_str_printf(&r->errors, "\n%s %s: %s", in->name, lq_st_shape(shape, in), text);
    return LQ_OK;
}

/* Has it this shape? */
static bool fits(lq_peft_reader *r, const lq_st_tensor *in, int64_t rows, int64_t cols) {
    char shape[96];
    if (in->ndim == 2 && in->dim[0] == rows && in->dim[1] == cols) return true;
    lq_str_printf(&r->errors, "\n%s is %s, wanted (%lld,%lld) by the model's sizes and the rank "
                  "of adapter_config.json", in->name, lq_st_shape(shape, in), (long long)rows,
                  (long long)cols);
    return false;
}

/* B of A, A of B; *out NULL: it is not in the file. */
static lq_status find_other(const lq_st_tensor **out, const lq_peft_reader *r,
                            const lq_st_tensor *in) {
    char *name = lq_strdup(in->name), *at = name ? strstr(name, ".lora_") : NULL;
    if (!name) return LQ_EMEM;
    at[6] = at[6] == 'A' ? 'B' : 'A';
    *out = lq_safetensors_find(r->out->file, name);
    lq_free(name);
    return LQ_OK;
}

/* A zeroed stack of matrices for a weight of experts. */
static lq_status add_stack(float **out, lq_peft_reader *r, const lq_weight *w, lq_peft_part part,
                           int64_t rank) {
    int64_t i;
    LQ_TRY(lq_peft_add(&i, r, w->name, part));
    lq_gguf_tensor *t = &r->out->tensor[i];
    const int64_t rows = w->rows / w->n_mats, n = rank * (part == LQ_PEFT_A ? w->cols : rows);
    *out = lq_alloc_array(w->n_mats, (size_t)n * sizeof **out);
    if (!*out) return LQ_EMEM;
    r->out->copy[i] = *out;
    *t = (lq_gguf_tensor){.name = t->name, .ggml_type = lq_f32.ggml_id, .ndim = 3, .data = *out,
                          .ne = {w->cols, rank, w->n_mats, 1},
                          .bytes = (uint64_t)(n * w->n_mats) * sizeof **out};
    if (part == LQ_PEFT_B) t->ne[0] = rank, t->ne[1] = rows;
    return LQ_OK;
}

/* ---- one expert ------------------------------------------------------------------------------ */

/* The stack that the expert's part belongs to; made when the first comes. NULL: other ranks. */
static lq_status find_stack(float **out, lq_peft_reader *r, const lq_weight *w, lq_peft_part part,
                            int64_t rank) {
    const size_t n = strlen(w->name);
    for (int64_t i = 0; i < r->out->n; i++) {
        const lq_gguf_tensor *t = &r->out->tensor[i];
        if (strncmp(t->name, w->name, n) != 0 || t->name[n] != '.') continue;
        if (t->name[n + 6] != (part == LQ_PEFT_A ? 'a' : 'b')) continue;
        *out = t->ne[part == LQ_PEFT_A ? 1 : 0] == rank ? r->out->copy[i] : NULL;
        return LQ_OK;
    }
    return add_stack(out, r, w, part, rank);
}

lq_status lq_peft_add_expert(lq_peft_reader *r, const lq_st_tensor *in, const char *path,
                             int weight, int64_t expert, lq_peft_part part) {
    const lq_weight *w = &r->m->weight[weight];
    const int64_t rows = w->rows / w->n_mats;
    const lq_st_tensor *other;
    double rank, scale;
    float *stack;
    if (part == LQ_PEFT_M) return add_mistake(r, in, "DoRA on experts cannot be read");
    if (expert >= w->n_mats) return add_mistake(r, in, "the model has fewer experts");
    LQ_TRY(find_other(&other, r, in));
    if (!other) return add_mistake(r, in, "its other half is missing");
    LQ_TRY(lq_peft_scale(&rank, &scale, r, path));
    const int64_t k = (int64_t)rank;
    const int64_t want[2] = {part == LQ_PEFT_A ? k : rows, part == LQ_PEFT_A ? w->cols : k};
    if (!fits(r, in, want[0], want[1])) return LQ_OK;   /* listed */
    LQ_TRY(find_stack(&stack, r, w, part, k));
    if (!stack) return add_mistake(r, in, "other experts have another rank");
    const int64_t n = want[0] * want[1];
    float *const x = stack + expert * n;
    in->fmt->dequant(in->data, x, n);
    for (int64_t i = 0; part == LQ_PEFT_B && i < n; i++) x[i] *= lq_peft_factor(r, scale, k);
    return LQ_OK;
}

/* ---- all experts together -------------------------------------------------------------------- */

typedef struct fused {
    const lq_weight *w[2];     /* gate and up, or down */
    int n;
    char *path;                /* of the parameter, owned */
} fused;

/* An adapter on a parameter, as F32. */
typedef struct factors {
    float *a, *b;              /* (experts, rank, cols), (rows, rank * experts); owned */
    int64_t rows, cols, rank, experts;
} factors;

bool lq_peft_is_fused(const char *path) {
    const size_t n = strlen(path);
    return ends_with(path, n, module) ||
           (ends_with(path, n, inner) && ends_with(path, n - (sizeof inner - 1), module));
}

/* Which parameter the wrapper of this path adapts; out->path NULL: none that target_parameters
 * names; out->n 0: one that the model does not have. */
static lq_status find_parameter(fused *out, const lq_peft_reader *r, const char *path) {
    static const char *const parts[2][3] = {{".gate_up_proj", ".gate_proj", ".up_proj"},
                                            {".down_proj", ".down_proj", NULL}};
    const size_t n_path = strlen(path);
    const bool is_inner = ends_with(path, n_path, inner);
    const int n = (int)(n_path - (is_inner ? sizeof inner - 1 : 0));
    bool named[2];
    *out = (fused){.n = 0};
    for (int i = 0; i < 2; i++) {
        char *parameter = lq_sprintf("%.*s%s", n, path, parts[i][0]);
        if (!parameter) return LQ_EMEM;
        named[i] = lq_peft_is_parameter(r->config, parameter);
        lq_free(parameter);
    }
    if (is_inner ? !(named[0] && named[1]) : !(named[0] || named[1])) return LQ_OK;
    const char *const *chosen = parts[is_inner ? 0 : named[1]];
    out->path = lq_sprintf("%.*s%s", n, path, chosen[0]);
    if (!out->path) return LQ_EMEM;
    for (int i = 1; i < 3 && chosen[i]; i++) {
        char *name = lq_sprintf("%.*s%s", n, path, chosen[i]);
        if (!name) return LQ_EMEM;
        const int weight = lq_peft_find_module(r->m, name, strlen(name));
        lq_free(name);
        if (weight >= 0) out->w[out->n++] = &r->m->weight[weight];
    }
    return LQ_OK;
}

static lq_status read_factors(factors *f, const lq_st_tensor *a, const lq_st_tensor *b) {
    f->a = lq_alloc_array(a->dim[0] * a->dim[1], sizeof *f->a);
    f->b = lq_alloc_array(b->dim[0] * b->dim[1], sizeof *f->b);
    if (!f->a || !f->b) return LQ_EMEM;
    a->fmt->dequant(a->data, f->a, a->dim[0] * a->dim[1]);
    b->fmt->dequant(b->data, f->b, b->dim[0] * b->dim[1]);
    return LQ_OK;
}

/* Is B zero for these rows, and ranks of every expert? */
static bool is_zero(const factors *f, int64_t row, int64_t n_rows, int64_t k, int64_t n_ranks) {
    const int64_t width = f->rank * f->experts;
    for (int64_t o = row; o < row + n_rows; o++)
        for (int64_t i = k * f->experts; i < (k + n_ranks) * f->experts; i++)
            if (f->b[o * width + i] != 0) return false;
    return true;
}

/* Is it one adapter on gate, of k ranks, and one on up, of the others? */
static bool is_split_at(const factors *f, int64_t k) {
    const int64_t rows = f->rows / 2;
    return is_zero(f, rows, rows, 0, k) && is_zero(f, 0, rows, k, f->rank - k);
}

/* Gate's ranks where two adapters became one, as writing them for PEFT does; -1: it is one. */
static int64_t find_split(const factors *f) {
    int64_t k = 0;
    if (is_zero(f, 0, f->rows, 0, f->rank)) return -1;
    if (f->rank % 2 == 0 && is_split_at(f, f->rank / 2)) return f->rank / 2;
    while (k < f->rank && is_zero(f, f->rows / 2, f->rows / 2, k, 1)) k++;
    return is_split_at(f, k) ? k : -1;
}

/* Ranks [k, k + n) of the parameter's adapter, at the rows that are w's, as w's own adapter. */
static lq_status add_pair(lq_peft_reader *r, const lq_weight *w, const factors *f, int64_t row,
                          int64_t k, int64_t n, double scale) {
    const int64_t rows = w->rows / w->n_mats, width = f->rank * f->experts;
    const float factor = lq_peft_factor(r, scale, n);
    float *a, *b;
    LQ_TRY(add_stack(&a, r, w, LQ_PEFT_A, n));
    LQ_TRY(add_stack(&b, r, w, LQ_PEFT_B, n));
    for (int64_t e = 0; e < f->experts; e++) {
        memcpy(a + e * n * f->cols, f->a + (e * f->rank + k) * f->cols,
               (size_t)(n * f->cols) * sizeof *a);
        for (int64_t o = 0; o < rows; o++)
            for (int64_t i = 0; i < n; i++)
                b[(e * rows + o) * n + i] =
                    factor * f->b[(row + o) * width + (k + i) * f->experts + e];
    }
    return LQ_OK;
}

static lq_status add_pairs(lq_peft_reader *r, const fused *p, const lq_st_tensor *a,
                           const lq_st_tensor *b) {
    factors f = {.cols = p->w[0]->cols, .experts = p->w[0]->n_mats};
    double rank, scale;
    for (int i = 0; i < p->n; i++) f.rows += p->w[i]->rows / f.experts;
    LQ_TRY(lq_peft_scale(&rank, &scale, r, p->path));
    f.rank = (int64_t)rank;
    const bool a_fits = fits(r, a, f.rank * f.experts, f.cols);
    if (!fits(r, b, f.rows, f.rank * f.experts) || !a_fits) return LQ_OK;   /* listed */
    lq_status status = read_factors(&f, a, b);
    const int64_t split = status == LQ_OK && p->n == 2 ? find_split(&f) : -1;
    for (int64_t i = 0, row = 0; status == LQ_OK && i < p->n; i++) {
        const int64_t from = split < 0 || i == 0 ? 0 : split;
        const int64_t to = split < 0 || i == 1 ? f.rank : split;
        if (from < to) status = add_pair(r, p->w[i], &f, row, from, to - from, scale);
        row += p->w[i]->rows / f.experts;
    }
    lq_free(f.a);
    lq_free(f.b);
    return status;
}

lq_status lq_peft_add_fused(lq_peft_reader *r, const lq_st_tensor *in, const char *path,
                            lq_peft_part part) {
    const lq_st_tensor *other;
    fused p;
    if (part == LQ_PEFT_M) return add_mistake(r, in, "DoRA on experts cannot be read");
    LQ_TRY(find_other(&other, r, in));
    if (!other) return add_mistake(r, in, "its other half is missing");
    if (part == LQ_PEFT_B || !other->fmt) return LQ_OK;   /* both come with A */
    lq_status status = find_parameter(&p, r, path);
    if (status == LQ_OK && !p.path)
        status = add_mistake(r, in, "target_parameters names no parameter for it");
    else if (status == LQ_OK && !p.n)
        status = add_mistake(r, in, "the base model has no such experts");
    else if (status == LQ_OK) status = add_pairs(r, &p, in, other);
    lq_free(p.path);
    return status;
}
