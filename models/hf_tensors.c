/* From safetensors to GGUF: names by the architecture's slots; rows of rotated heads, norms and
 * vectors as llama.cpp wants them. See hf_tensors.h. */
#include "hf_tensors.h"

#include "hf_experts.h"
#include "str.h"

#include <ctype.h>
#include <string.h>

enum { MAX_LISTED = 20 };

/* ---- names ----------------------------------------------------------------------------------- */

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static bool starts_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

/* Does name[0..n) match the pattern, '#' being the number of a layer? */
static bool matches(const char *pattern, const char *name, size_t n, int *layer) {
    const char *const end = name + n;
    *layer = -1;
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (name == end || *name++ != *pattern) return false;
            continue;
        }
        int number = 0, digits = 0;
        for (; name < end && isdigit((unsigned char)*name) && digits < 6; name++, digits++)
            number = 10 * number + (*name - '0');
        if (!digits) return false;
        *layer = number;
    }
    return name == end;
}

/* The GGUF name of `module` + suffix; *slot and *name stay NULL when no slot has it. */
static lq_status find_slot(const lq_slot **slot, char **name, const lq_arch *arch,
                           const char *module) {
    const char *dot = strrchr(module, '.');
    int layer;
    for (int i = 0; dot && i < arch->n_slots; i++) {
        const lq_slot *s = &arch->slot[i];
        if (strcmp(s->module, "model.rotary_emb") == 0) continue;   /* computed, never stored */
        if (!matches(s->module, module, (size_t)(dot - module), &layer)) continue;
        const char *hash = strchr(s->gguf, '#');
        *slot = s;
        *name = hash ? lq_sprintf("%.*s%d%s%s", (int)(hash - s->gguf), s->gguf, layer, hash + 1,
                                  dot)
                     : lq_sprintf("%s%s", s->gguf, dot);
        return *name ? LQ_OK : LQ_EMEM;
    }
    return LQ_OK;
}

/* How checkpoints spell the same module: inside a larger model, or without the outermost name. */
static const struct { const char *found, *meant; } spellings[] = {
    {"", ""}, {"model.language_model.", "model."}, {"language_model.model.", "model."},
    {"language_model.lm_head.", "lm_head."}, {"", "model."}, {"", "transformer."},
};

static lq_status map_name(const lq_slot **slot, char **name, const lq_arch *arch,
                          const char *found) {
    *slot = NULL;
    *name = NULL;
    for (int i = 0; !*slot && i < LQ_ARRAY_LEN(spellings); i++) {
        if (!starts_with(found, spellings[i].found)) continue;
        char *module =
            lq_sprintf("%s%s", spellings[i].meant, found + strlen(spellings[i].found));
        const lq_status status = module ? find_slot(slot, name, arch, module) : LQ_EMEM;
        lq_free(module);
        LQ_TRY(status);
    }
    if (!*name) *name = lq_strdup(found);   /* binding will list it */
    return *name ? LQ_OK : LQ_EMEM;
}

/* Buffers that old checkpoints carry, a tied head that is stored twice, towers for pictures. */
static bool is_left_out(const lq_hf_config *c, const lq_hf_family *f, const char *name) {
    static const char *const buffers[] = {".rotary_emb.inv_freq", ".attn.masked_bias",
                                          ".attention.masked_bias"};
    static const char *const towers[] = {"vision_tower.", "model.vision_tower.",
                                         "multi_modal_projector.", "model.multi_modal_projector."};
    for (int i = 0; i < LQ_ARRAY_LEN(buffers); i++)
        if (ends_with(name, buffers[i])) return true;
    for (int i = 0; c->multimodal && i < LQ_ARRAY_LEN(towers); i++)
        if (starts_with(name, towers[i])) return true;
    if (f->transposed && ends_with(name, ".attn.bias")) return true;   /* GPT-2's mask */
    return f->no_head && ends_with(name, "lm_head.weight");
}

/* ---- layout ---------------------------------------------------------------------------------- */

static lq_hf_layout layout_of(const lq_hf_family *f, lq_role role, int64_t n_head,
                              int64_t n_head_kv) {
    static const bool norm[LQ_N_ROLES] = {
        [LQ_ROLE_OUTPUT_NORM] = true,    [LQ_ROLE_ATTN_NORM] = true, [LQ_ROLE_ATTN_Q_NORM] = true,
        [LQ_ROLE_ATTN_K_NORM] = true,    [LQ_ROLE_FFN_NORM] = true,
        [LQ_ROLE_ATTN_POST_NORM] = true, [LQ_ROLE_FFN_POST_NORM] = true};
    static const bool linear[LQ_N_ROLES] = {
        [LQ_ROLE_ATTN_QKV] = true, [LQ_ROLE_ATTN_OUTPUT] = true, [LQ_ROLE_FFN_UP] = true,
        [LQ_ROLE_FFN_DOWN] = true};
    lq_hf_layout layout = {0, 0, f->plus_one && norm[role], f->transposed && linear[role]};
    if (f->grouped && role == LQ_ROLE_ATTN_QKV)
        return (lq_hf_layout){.heads = n_head, .groups = n_head_kv};
    if (f->permuted && role == LQ_ROLE_ATTN_Q) layout.heads = n_head;
    if (f->permuted && role == LQ_ROLE_ATTN_K) layout.heads = n_head_kv;
    return layout;
}

lq_hf_layout lq_hf_layout_of(const lq_model *m, const lq_weight *w) {
    const lq_hf_family *f = lq_hf_family_of(m->arch->name);
    const lq_hf_layout none = {.heads = 0};
    return f ? layout_of(f, w->role, m->hp.n_head, m->hp.n_head_kv) : none;
}

/* Of all queries, all keys, all values to the groups of Falcon's. */
static int64_t grouped_row(const lq_hf_layout *layout, int64_t rows, int64_t r) {
    const int64_t queries = layout->heads / layout->groups;   /* of a group */
    const int64_t d = rows / (layout->heads + 2 * layout->groups), head = r / d;
    const int64_t other = head - layout->heads;   /* keys, then values */
    const int64_t group = other < 0 ? head / queries : other % layout->groups;
    const int64_t place = other < 0 ? head % queries : queries + other / layout->groups;
    return (group * (queries + 2) + place) * d + r % d;
}

int64_t lq_hf_row(const lq_hf_layout *layout, int64_t rows, int64_t r) {
    if (!layout->heads) return r;
    if (layout->groups) return grouped_row(layout, rows, r);
    const int64_t d = rows / layout->heads, in_head = r % d;
    return r - in_head + in_head % 2 * (d / 2) + in_head / 2;
}

static lq_status own(lq_hf_tensors *t, void *copy) {
    const lq_status status = copy ? lq_reserve((void **)&t->copy, &t->cap_copies, t->n_copies + 1,
                                               sizeof *t->copy) : LQ_EMEM;
    if (status == LQ_OK) t->copy[t->n_copies++] = copy;
    else lq_free(copy);
    return status;
}

/* A vector is F32 in GGUF. */
static lq_status copy_vector(lq_hf_tensors *t, lq_gguf_tensor *out, const lq_st_tensor *in,
                             const lq_hf_layout *layout) {
    const int64_t n = in->dim[0];
    float *plain = lq_alloc_array(n, sizeof *plain), *x = NULL;
    lq_status status = LQ_OK;
    LQ_GOTO(status, plain ? LQ_OK : LQ_EMEM);
    in->fmt->dequant(in->data, plain, n);
    x = lq_alloc_array(n, sizeof *x);
    LQ_GOTO(status, own(t, x));
    for (int64_t i = 0; i < n; i++)
        x[i] = plain[lq_hf_row(layout, n, i)] + (layout->plus_one ? 1.0f : 0.0f);
    out->data = x;
    out->ggml_type = lq_f32.ggml_id;
    out->bytes = (uint64_t)n * sizeof *x;
done:
    lq_free(plain);
    return status;
}

/* Routers are F32, whatever the rest is. */
static lq_status copy_router(lq_hf_tensors *t, lq_gguf_tensor *out, const lq_st_tensor *in) {
    const int64_t n = in->dim[0] * in->dim[1];
    float *x = lq_alloc_array(n, sizeof *x);
    LQ_TRY(own(t, x));
    in->fmt->dequant(in->data, x, n);
    out->data = x;
    out->ggml_type = lq_f32.ggml_id;
    out->bytes = (uint64_t)n * sizeof *x;
    return LQ_OK;
}

static lq_status copy_rows(lq_hf_tensors *t, lq_gguf_tensor *out, const lq_st_tensor *in,
                           const lq_hf_layout *layout) {
    const int64_t rows = in->dim[0];
    const size_t row_bytes = rows ? in->bytes / (size_t)rows : 0;
    char *copy = lq_alloc(in->bytes);
    LQ_TRY(own(t, copy));
    for (int64_t r = 0; r < rows; r++)
        memcpy(copy + (size_t)r * row_bytes,
               (const char *)in->data + (size_t)lq_hf_row(layout, rows, r) * row_bytes, row_bytes);
    out->data = copy;
    return LQ_OK;
}

static lq_status copy_transposed(lq_hf_tensors *t, lq_gguf_tensor *out, const lq_st_tensor *in) {
    const int64_t rows = in->dim[1], cols = in->dim[0];   /* in GGUF */
    const size_t size = (size_t)in->fmt->bytes;
    char *copy = lq_alloc(in->bytes);
    LQ_TRY(own(t, copy));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            memcpy(copy + (size_t)(r * cols + c) * size,
                   (const char *)in->data + (size_t)(c * rows + r) * size, size);
    out->data = copy;
    out->ne[0] = cols;
    out->ne[1] = rows;
    return LQ_OK;
}

/* A permutation needs rows that come in pairs within each head, or whole groups; what does not fit
 * is left for binding to complain about. */
static bool fits(const lq_hf_layout *layout, const lq_st_tensor *in) {
    if (layout->groups)
        return layout->heads % layout->groups == 0 &&
               in->dim[0] % (layout->heads + 2 * layout->groups) == 0;
    return !layout->heads || in->dim[0] % (2 * layout->heads) == 0;
}

static bool is_router(const lq_slot *slot) {
    return slot && (slot->role == LQ_ROLE_ROUTER || slot->role == LQ_ROLE_SHARED_ROUTER);
}

/* name: taken over. slot: NULL for a tensor that the architecture does not know. */
static lq_status add_tensor(lq_hf_tensors *t, const lq_st_tensor *in, const lq_slot *slot,
                            lq_hf_layout layout, char *name) {
    lq_status status =
        lq_reserve((void **)&t->tensor, &t->cap, t->n + 1, sizeof *t->tensor);
    if (status != LQ_OK) {
        lq_free(name);
        return status;
    }
    lq_gguf_tensor *out = &t->tensor[t->n++];
    *out = (lq_gguf_tensor){.name = name, .ggml_type = in->fmt->ggml_id, .ndim = in->ndim,
                            .ne = {1, 1, 1, 1}, .bytes = in->bytes, .data = in->data};
    for (int i = 0; i < in->ndim; i++) out->ne[i] = in->dim[in->ndim - 1 - i];
    if (in->ndim == 0 || !fits(&layout, in)) return LQ_OK;
    if (in->ndim == 1) return copy_vector(t, out, in, &layout);
    if (is_router(slot) && in->ndim == 2) return copy_router(t, out, in);
    if (layout.transposed && in->ndim == 2) return copy_transposed(t, out, in);
    if (layout.heads || (uintptr_t)in->data % sizeof(float))
        return copy_rows(t, out, in, &layout);
    return LQ_OK;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Every tensor that cannot be computed with, in one message. */
static lq_status check_types(const lq_safetensors *files, const char *config) {
    lq_str list = LQ_STR_INIT;
    int n = 0;
    for (int64_t i = 0; i < lq_safetensors_n(files); i++) {
        const lq_st_tensor *t = lq_safetensors_at(files, i);
        if (t->fmt && t->ndim <= 4) continue;
        if (n++ < MAX_LISTED)
            lq_str_printf(&list, "\n%s is %s in %d dimensions", t->name, t->dtype, t->ndim);
    }
    lq_status status = lq_str_status(&list);
    if (status == LQ_OK && n)
        status = lq_fail(LQ_EUNSUPPORTED, "%s: %d of the tensors beside it cannot be computed with,"
                         " wanted F32, F16 or BF16 in up to 4 dimensions:%s%s", config, n,
                         lq_str_text(&list), n > MAX_LISTED ? "\n..." : "");
    lq_str_clear(&list);
    return status;
}

/* Takes the factors over; NULL: there are none. */
static lq_status add_table(lq_hf_tensors *t, const char *name, float *factors, int64_t n) {
    if (!factors) return LQ_OK;
    LQ_TRY(own(t, factors));
    LQ_TRY(lq_reserve((void **)&t->tensor, &t->cap, t->n + 1, sizeof *t->tensor));
    char *copy = lq_strdup(name);
    if (!copy) return LQ_EMEM;
    t->tensor[t->n++] = (lq_gguf_tensor){.name = copy, .ggml_type = lq_f32.ggml_id, .ndim = 1,
                                         .ne = {n, 1, 1, 1}, .data = factors,
                                         .bytes = (uint64_t)n * sizeof *factors};
    return LQ_OK;
}

/* Tables that GGUF has as tensors and Hugging Face as numbers in config.json. */
static lq_status add_rope_tables(lq_hf_tensors *t, const lq_hf_config *c, const lq_arch *arch) {
    float *factors;
    int64_t n;
    for (int i = 0; i < arch->n_slots; i++) {
        const lq_slot *s = &arch->slot[i];
        if (strcmp(s->gguf, "rope_freqs") == 0) {
            LQ_TRY(lq_hf_rope_factors(&factors, &n, c));
            LQ_TRY(add_table(t, "rope_freqs.weight", factors, n));
        } else if (strcmp(s->gguf, "rope_factors_long") == 0) {
            LQ_TRY(lq_hf_rope_list(&factors, &n, c, "long_factor"));
            LQ_TRY(add_table(t, "rope_factors_long.weight", factors, n));
        } else if (strcmp(s->gguf, "rope_factors_short") == 0) {
            LQ_TRY(lq_hf_rope_list(&factors, &n, c, "short_factor"));
            LQ_TRY(add_table(t, "rope_factors_short.weight", factors, n));
        }
    }
    return LQ_OK;
}

/* The tensor of all experts that `in` is one of; made when the first comes. name: taken over. */
static lq_status find_stack(lq_gguf_tensor **out, lq_hf_tensors *t, const lq_st_tensor *in,
                            int64_t n_experts, char *name) {
    for (int64_t i = 0; i < t->n; i++) {
        if (strcmp(t->tensor[i].name, name) != 0) continue;
        *out = &t->tensor[i];
        lq_free(name);
        return LQ_OK;
    }
    size_t bytes;
    lq_status status = lq_mul_size(&bytes, in->bytes, (size_t)n_experts);
    if (status == LQ_OK)
        status = lq_reserve((void **)&t->tensor, &t->cap, t->n + 1, sizeof *t->tensor);
    void *all = status == LQ_OK ? lq_alloc(bytes) : NULL;
    if (status == LQ_OK) status = own(t, all);
    if (status != LQ_OK) {
        lq_free(name);
        return status;
    }
    *out = &t->tensor[t->n++];
    **out = (lq_gguf_tensor){.name = name, .ggml_type = in->fmt->ggml_id, .ndim = 3, .data = all,
                             .ne = {in->dim[1], in->dim[0], n_experts, 1}, .bytes = bytes};
    return LQ_OK;
}

static lq_status add_expert(lq_hf_tensors *t, const lq_hf_config *c, const lq_st_tensor *in,
                            int64_t expert, char *name) {
    const int64_t n_experts = lq_hf_config_int(c, "num_local_experts num_experts");
    lq_gguf_tensor *all;
    char shape[96];
    if (in->ndim != 2 || expert >= n_experts) {
        lq_free(name);
        return lq_fail(LQ_ESHAPE, "%s is %s, must be a matrix of one of the %lld experts", in->name,
                       lq_st_shape(shape, in), (long long)n_experts);
    }
    LQ_TRY(find_stack(&all, t, in, n_experts, name));
    if (all->ne[0] != in->dim[1] || all->ne[1] != in->dim[0] || all->ggml_type != in->fmt->ggml_id)
        return lq_fail(LQ_ESHAPE, "%s is %s %s, other experts are %s (%lld,%lld)", in->name,
                       in->dtype, lq_st_shape(shape, in),
                       lq_format_by_ggml_id(all->ggml_type)->label, (long long)all->ne[1],
                       (long long)all->ne[0]);
    memcpy((char *)all->data + (uint64_t)expert * in->bytes, in->data, in->bytes);
    t->n_expert_parts++;
    return LQ_OK;
}

static lq_status check_experts(const lq_hf_tensors *t) {
    int64_t want = 0;
    for (int64_t i = 0; i < t->n; i++)
        if (t->tensor[i].ndim == 3) want += t->tensor[i].ne[2];
    if (!t->n_expert_parts || t->n_expert_parts == want) return LQ_OK;
    return lq_fail(LQ_ESHAPE, "%lld tensors of experts, must be %lld: each projection of each "
                   "expert", (long long)t->n_expert_parts, (long long)want);
}

static lq_status add_one(lq_hf_tensors *t, const lq_hf_config *c, const lq_hf_family *f,
                         const lq_arch *arch, const lq_st_tensor *in) {
    const lq_hf_layout none = {.heads = 0};
    const int64_t groups = f->grouped ? lq_hf_falcon_groups(c) : c->n_head_kv;
    const lq_slot *slot;
    int64_t expert;
    char *common, *name;
    LQ_TRY(lq_hf_expert_name(&common, &expert, in->name));
    const lq_status status = map_name(&slot, &name, arch, common);
    lq_free(common);
    LQ_TRY(status);
    if (slot && expert >= 0) return add_expert(t, c, in, expert, name);
    return add_tensor(t, in, slot,
                      slot ? layout_of(f, slot->role, c->n_head, groups) : none, name);
}

lq_status lq_hf_tensors_make(lq_hf_tensors *t, const lq_hf_config *c, const lq_hf_family *f,
                             const lq_arch *arch) {
    LQ_TRY(check_types(t->files, c->path));
    LQ_TRY(add_rope_tables(t, c, arch));
    for (int64_t i = 0; i < lq_safetensors_n(t->files); i++) {
        const lq_st_tensor *in = lq_safetensors_at(t->files, i);
        if (!is_left_out(c, f, in->name)) LQ_TRY(add_one(t, c, f, arch, in));
    }
    return check_experts(t);
}

void lq_hf_tensors_clear(lq_hf_tensors *t) {
    for (int64_t i = 0; i < t->n; i++) lq_free(t->tensor[i].name);
    for (int64_t i = 0; i < t->n_copies; i++) lq_free(t->copy[i]);
    lq_free(t->tensor);
    lq_free(t->copy);
    lq_safetensors_close(t->files);
    *t = (lq_hf_tensors){.files = NULL};
}
