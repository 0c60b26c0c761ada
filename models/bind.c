/* Tensors to weights: the architecture's slots are looked up by name in the file and checked by
 * shape and type. */
#include "model_parts.h"

#include "str.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MAX_MISTAKES = 40, NAME_BYTES = 96, SHAPE_BYTES = 64 };

typedef struct binder {
    lq_model *m;
    int64_t size[LQ_N_DIMS];
    bool *used;         /* per tensor of the file */
    lq_str mistakes;    /* one line each, at most MAX_MISTAKES */
    bool unreadable;    /* a type is among them */
    int n_mistakes;
} binder;

static void mistake(binder *b, const char *fmt, ...) LQ_PRINTF(2, 3);
static void mistake(binder *b, const char *fmt, ...) {
    char line[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    if (b->n_mistakes++ < MAX_MISTAKES) lq_str_printf(&b->mistakes, "\n%s", line);
}

static void list_formats(lq_str *out) {
    lq_str_puts(out, "; types that can be read: ");
    for (int i = 0; lq_formats[i]; i++)
        lq_str_printf(out, "%s%s", i ? ", " : "", lq_formats[i]->label);
}

const char *lq_type_label(char text[LQ_TYPE_LABEL], int ggml_type) {
    const char *name = lq_ggml_type_name(ggml_type);
    snprintf(text, LQ_TYPE_LABEL, "%s", name ? name : "type without a name");
    for (char *c = text; name && *c; c++) *c = (char)toupper((unsigned char)*c);
    return text;
}

static char *expand(const char *pattern, int layer, const char *suffix) {
    const char *hash = strchr(pattern, '#');
    if (!hash) return lq_sprintf("%s%s", pattern, suffix);
    return lq_sprintf("%.*s%d%s%s", (int)(hash - pattern), pattern, layer, hash + 1, suffix);
}

static const char *shape_text(char text[SHAPE_BYTES], const lq_gguf_tensor *t) {
    int n = snprintf(text, SHAPE_BYTES, "%lld", (long long)t->ne[0]);
    for (int i = 1; i < t->ndim && n < SHAPE_BYTES - 24; i++)
        n += snprintf(text + n, (size_t)(SHAPE_BYTES - n), ",%lld", (long long)t->ne[i]);
    return text;
}

static void check_shape(binder *b, const lq_gguf_tensor *t, int64_t rows, int64_t cols,
                        int64_t n_mats) {
    char text[SHAPE_BYTES];
    if (t->ne[0] == cols && t->ne[1] * n_mats == rows && t->ne[2] == n_mats && t->ne[3] == 1)
        return;
    if (n_mats > 1)
        mistake(b, "%s is (%s), must be (%lld,%lld,%lld)", t->name, shape_text(text, t),
                (long long)cols, (long long)(rows / n_mats), (long long)n_mats);
    else mistake(b, rows == 1 ? "%s is (%s), must be (%lld)" : "%s is (%s), must be (%lld,%lld)",
            t->name, shape_text(text, t), (long long)cols, (long long)rows);
}

static void check_type(binder *b, const lq_gguf_tensor *t, bool vector) {
    char label[LQ_TYPE_LABEL];
    lq_type_label(label, t->ggml_type);
    if (vector && t->fmt != &lq_f32)
        mistake(b, "%s is %s, must be F32 as norms and biases are", t->name, label);
    else if (!t->fmt) {
        mistake(b, "%s is %s, which Loquat cannot read yet", t->name, label);
        b->unreadable = true;
    } else if ((uintptr_t)t->data % sizeof(float))
        mistake(b, "%s is not aligned to %zu bytes (general.alignment)", t->name, sizeof(float));
}

/* Adds the weight or bias of a slot if the file has it. */
static lq_status bind_one(binder *b, const lq_slot *slot, int layer, bool is_bias) {
    lq_model *m = b->m;
    char *name = expand(slot->gguf, layer, is_bias ? ".bias" : ".weight");
    if (!name) return LQ_EMEM;
    const lq_gguf_tensor *t = lq_gguf_find_tensor(m->file, name);
    if (!t) {
        if (!is_bias && !slot->optional) {
            char *module = expand(slot->module, layer, ".weight");
            if (module) mistake(b, "%s (%s) is missing", name, module);
            lq_free(module);
        }
        lq_free(name);
        return LQ_OK;
    }
    const int64_t n_mats = slot->stacked ? m->hp.n_expert : 1;
    lq_weight *w = &m->weight[m->n_weights++];
    *w = (lq_weight){
        .role = slot->role, .layer = layer, .is_bias = is_bias, .name = name,
        .rows = is_bias ? 1 : b->size[slot->rows] * n_mats,
        .cols = b->size[is_bias && slot->rows != LQ_DIM_ONE ? slot->rows : slot->cols],
        .n_mats = n_mats,
        .fmt = t->fmt, .data = t->data};
    w->module = expand(slot->module, layer, "");
    if (!w->module) return LQ_EMEM;
    b->used[t - lq_gguf_tensor_at(m->file, 0)] = true;
    check_shape(b, t, w->rows, w->cols, n_mats);
    check_type(b, t, w->rows == 1);
    return LQ_OK;
}

static bool has_slot(const lq_model *m, const lq_slot *slot) {
    if (slot->when == LQ_ALWAYS) return true;
    return (slot->when == LQ_IF_EXPERTS) == (m->hp.n_expert > 0);
}

static lq_status bind_slots(binder *b, bool in_block, int layer) {
    const lq_arch *arch = b->m->arch;
    for (int i = 0; i < arch->n_slots; i++) {
        const lq_slot *slot = &arch->slot[i];
        if ((strchr(slot->gguf, '#') != NULL) != in_block || !has_slot(b->m, slot)) continue;
        LQ_TRY(bind_one(b, slot, layer, false));
        if (slot->bias) LQ_TRY(bind_one(b, slot, layer, true));
    }
    return LQ_OK;
}

static lq_status bind_all(binder *b) {
    lq_model *m = b->m;
    LQ_TRY(bind_slots(b, false, -1));
    for (int layer = 0; layer < m->hp.n_layer; layer++) LQ_TRY(bind_slots(b, true, layer));
    for (int64_t i = 0; i < lq_gguf_n_tensors(m->file); i++)
        if (!b->used[i])
            mistake(b, "%s is not a tensor of architecture %s", lq_gguf_tensor_at(m->file, i)->name,
                    m->arch->name);
    return LQ_OK;
}

static lq_status report(binder *b) {
    if (!b->n_mistakes) return LQ_OK;
    if (b->n_mistakes > MAX_MISTAKES)
        lq_str_printf(&b->mistakes, "\nand %d more", b->n_mistakes - MAX_MISTAKES);
    lq_str formats = LQ_STR_INIT;
    if (b->unreadable) list_formats(&formats);
    lq_status status = b->mistakes.failed ? lq_str_status(&b->mistakes) : lq_str_status(&formats);
    if (status == LQ_OK)
        status = lq_fail(
            LQ_ESHAPE,
            "its tensors are not those of architecture %s with %lld layers (shapes: row length "
            "first%s):%s",
            b->m->arch->name, (long long)b->m->hp.n_layer, lq_str_text(&formats),
            lq_str_text(&b->mistakes));
    lq_str_clear(&formats);
    return status;
}

lq_status lq_weights_bind(lq_model *m) {
    const lq_hparams *hp = &m->hp;
    binder b = {.m = m, .mistakes = LQ_STR_INIT, .size = {
        [LQ_DIM_ONE] = 1,
        [LQ_DIM_EMBD] = hp->n_embd,
        [LQ_DIM_VOCAB] = hp->n_vocab,
        [LQ_DIM_FF] = hp->n_ff,
        [LQ_DIM_Q] = hp->n_head * hp->head_dim,
        [LQ_DIM_KV] = hp->n_head_kv * hp->head_dim,
        [LQ_DIM_CTX] = hp->n_ctx_train,
        [LQ_DIM_GATE_UP] = 2 * hp->n_ff,
        [LQ_DIM_QKV] = (hp->n_head + 2 * hp->n_head_kv) * hp->head_dim,
        [LQ_DIM_EXPERTS] = hp->n_expert,
        [LQ_DIM_FF_EXPERT] = hp->n_ff_expert,
        [LQ_DIM_FF_SHARED] = hp->n_ff_shared,
        [LQ_DIM_HEAD] = hp->head_dim,
        [LQ_DIM_HALF_ROT] = hp->n_rot / 2}};
    lq_status status = LQ_EMEM;
    m->weight = lq_alloc_array(2 * m->arch->n_slots * (1 + hp->n_layer), sizeof *m->weight);
    b.used = lq_alloc_array(lq_gguf_n_tensors(m->file), sizeof *b.used);
    if (m->weight && b.used) status = bind_all(&b);
    if (status == LQ_OK) status = report(&b);
    lq_free(b.used);
    lq_str_clear(&b.mistakes);
    return status;
}
