/* From PEFT's tensors to those of an adapter GGUF. See peft_file.h. */
#include "peft_file.h"

#include "atomic_file.h"
#include "hf.h"
#include "peft_config.h"
#include "safetensors.h"
#include "str.h"
#include "targets.h"

#include <math.h>
#include <string.h>

static const char weights_stem[] = "adapter_model", prefix[] = "base_model.model.";

typedef struct peft {
    lq_safetensors *file;
    lq_gguf_tensor *tensor;    /* with owned names */
    void **copy;               /* per tensor; NULL: the file's own bytes */
    int64_t n;
} peft;

/* Everything that one adapter's tensors depend on. */
typedef struct reader {
    const lq_model *m;
    const lq_peft_config *config;
    double *rank, *alpha;      /* per weight, as the config has them */
    peft *out;
    int64_t n_b, n_m;          /* tensors so far */
    lq_str errors;
} reader;

bool lq_peft_is_dir(const char *path) {
    return lq_file_exists_in(path, "adapter_config.json");
}

static void release(void *owner) {
    peft *p = owner;
    for (int64_t i = 0; i < p->n; i++) {
        lq_free(p->tensor[i].name);
        lq_free(p->copy[i]);
    }
    lq_free(p->tensor);
    lq_free(p->copy);
    lq_safetensors_close(p->file);
    lq_free(p);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The parts of an adapter, and how PEFT and GGUF (of magnitudes only we) spell them. */
typedef enum part { A, B, M } part;
static const char *const gguf_suffix[] = {
    [A] = ".lora_a", [B] = ".lora_b", [M] = ".lora_magnitude"};
static const struct { const char *suffix; part part; } spellings[] = {
    {".lora_A.weight", A}, {".lora_B.weight", B}, {".lora_magnitude_vector", M},
    {".lora_A.default.weight", A}, {".lora_B.default.weight", B},
    {".lora_magnitude_vector.default.weight", M},
};

static bool cut_end(const char *name, size_t *n, const char *end) {
    const size_t k = strlen(end);
    if (*n < k || strncmp(name + *n - k, end, k) != 0) return false;
    *n -= k;
    return true;
}

/* The model's weight with this path; modules of a larger model are also known without its part. */
static int find_module(const lq_model *m, const char *path, size_t n) {
    static const struct { const char *found, *meant; } parts[] = {
        {"", ""}, {"model.language_model.", "model."}, {"language_model.model.", "model."},
        {"language_model.", ""}};
    for (int p = 0; p < LQ_ARRAY_LEN(parts); p++) {
        const size_t skip = strlen(parts[p].found), add = strlen(parts[p].meant);
        if (n < skip || strncmp(path, parts[p].found, skip) != 0) continue;
        for (int i = 0; i < m->n_weights; i++) {
            const char *module = m->weight[i].module;
            if (m->weight[i].is_bias || strlen(module) != n - skip + add) continue;
            if (strncmp(module, parts[p].meant, add) == 0 &&
                strncmp(module + add, path + skip, n - skip) == 0)
                return i;
        }
    }
    return -1;
}

/* ---- one tensor ------------------------------------------------------------------------------ */

/* What B is to be multiplied by: the reader of adapter GGUFs scales by alpha / rank. */
static double factor_of(const reader *r, int weight, int64_t rank) {
    const double alpha = r->alpha[weight];
    const double scale = r->config->use_rslora ? alpha / sqrt((double)rank) : alpha / (double)rank;
    return scale / (r->config->alpha / (double)rank);
}

/* B or m as F32 in GGUF's order of rows, B scaled. */
static lq_status copy_rows(const reader *r, int weight, const lq_st_tensor *in, int64_t i) {
    const int64_t rows = in->dim[0], rank = in->ndim == 2 ? in->dim[1] : 1;
    const lq_hf_layout layout = lq_hf_layout_of(r->m, &r->m->weight[weight]);
    const float factor = in->ndim == 2 ? (float)factor_of(r, weight, rank) : 1;
    float *all = lq_alloc_array(rows * rank, sizeof *all);
    float *out = lq_alloc_array(rows * rank, sizeof *out);
    lq_status status = all && out ? LQ_OK : LQ_EMEM;
    if (status == LQ_OK) in->fmt->dequant(in->data, all, rows * rank);
    for (int64_t row = 0; status == LQ_OK && row < rows; row++) {
        const float *from = all + lq_hf_row(&layout, rows, row) * rank;
        for (int64_t k = 0; k < rank; k++) out[row * rank + k] = factor * from[k];
    }
    lq_free(all);
    if (status != LQ_OK) {
        lq_free(out);
        return status;
    }
    r->out->copy[i] = out;
    r->out->tensor[i].data = out;
    r->out->tensor[i].ggml_type = lq_f32.ggml_id;
    r->out->tensor[i].bytes = (uint64_t)(rows * rank) * sizeof *out;
    return LQ_OK;
}

/* The rank that the config gives a module must be the tensor's. */
static void check_rank(reader *r, int weight, const lq_st_tensor *in, part which) {
    const int64_t rank = in->dim[which == B ? 1 : 0];
    if (which == M || (in->ndim == 2 && (double)rank == r->rank[weight])) return;
    char shape[96];
    lq_str_printf(&r->errors, "\n%s is %s, adapter_config.json gives it rank %g", in->name,
                  lq_st_shape(shape, in), r->rank[weight]);
}

static lq_status add_part(reader *r, const lq_st_tensor *in, const char *path, size_t n_path,
                          part which) {
    const char *const suffix = gguf_suffix[which];
    peft *p = r->out;
    const int weight = find_module(r->m, path, n_path);
    lq_gguf_tensor *t = &p->tensor[p->n];
    *t = (lq_gguf_tensor){.ggml_type = in->fmt->ggml_id, .ndim = in->ndim, .ne = {1, 1, 1, 1},
                          .bytes = in->bytes, .data = in->data};
    t->name = weight < 0 ? lq_sprintf("%.*s%s", (int)n_path, path, suffix)
                         : lq_sprintf("%s%s", r->m->weight[weight].name, suffix);
    if (!t->name) return LQ_EMEM;
    const int64_t i = p->n++;
    for (int d = 0; d < in->ndim && d < 4; d++) t->ne[d] = in->dim[in->ndim - 1 - d];
    if (weight < 0) return LQ_OK;   /* listed by lq_lora_open */
    check_rank(r, weight, in, which);
    r->n_b += which == B;
    r->n_m += which == M;
    const bool fits = in->ndim == (which == M ? 1 : 2) && in->dim[0] == r->m->weight[weight].rows;
    return which != A && fits ? copy_rows(r, weight, in, i) : LQ_OK;
}

static lq_status add_tensor(reader *r, const lq_st_tensor *in) {
    const char *path = in->name;
    if (strncmp(path, prefix, sizeof prefix - 1) == 0) path += sizeof prefix - 1;
    for (int i = 0; i < LQ_ARRAY_LEN(spellings); i++) {
        size_t n = strlen(path);
        if (!cut_end(path, &n, spellings[i].suffix)) continue;
        if (spellings[i].part == M && !r->config->use_dora) break;
        if (in->fmt) return add_part(r, in, path, n, spellings[i].part);
        lq_str_printf(&r->errors, "\n%s is %s, wanted F32, F16 or BF16", in->name, in->dtype);
        return LQ_OK;
    }
    lq_str_printf(&r->errors, "\n%s: wanted only ...lora_A.weight and ...lora_B.weight", in->name);
    return LQ_OK;
}

/* ---- all of them ----------------------------------------------------------------------------- */

/* Ranks and alphas of every weight by the config's patterns. */
static lq_status read_patterns(reader *r) {
    const lq_peft_config *c = r->config;
    bool *all = lq_alloc_array(r->m->n_weights, sizeof *all);
    r->rank = lq_alloc_array(r->m->n_weights, sizeof *r->rank);
    r->alpha = lq_alloc_array(r->m->n_weights, sizeof *r->alpha);
    lq_status status = all && r->rank && r->alpha ? LQ_OK : LQ_EMEM;
    for (int i = 0; status == LQ_OK && i < r->m->n_weights; i++)
        all[i] = lq_weight_is_linear(&r->m->weight[i]);
    if (status == LQ_OK)
        status = lq_targets_pattern(r->rank, r->m, all, NULL, c->rank, c->n_rank, (double)c->r);
    if (status == LQ_OK)
        status = lq_targets_pattern(r->alpha, r->m, all, NULL, c->alphas, c->n_alphas, c->alpha);
    lq_free(all);
    return status;
}

static lq_status read_tensors(reader *r) {
    peft *p = r->out;
    const int64_t n = lq_safetensors_n(p->file);
    p->tensor = lq_alloc_array(n, sizeof *p->tensor);
    p->copy = lq_alloc_array(n, sizeof *p->copy);
    if (!p->tensor || !p->copy) return LQ_EMEM;
    LQ_TRY(read_patterns(r));
    for (int64_t i = 0; i < n; i++) LQ_TRY(add_tensor(r, lq_safetensors_at(p->file, i)));
    if (r->config->use_dora && r->n_m != r->n_b)
        lq_str_printf(&r->errors, "\nuse_dora: %lld tensors ...lora_magnitude_vector for %lld "
                      "...lora_B.weight", (long long)r->n_m, (long long)r->n_b);
    LQ_TRY(lq_str_status(&r->errors));
    return r->errors.n ? lq_fail(LQ_ESHAPE, "not what adapter_config.json describes:%s",
                                 lq_str_text(&r->errors))
                       : LQ_OK;
}

static lq_status write_keys(lq_gguf_writer *w, const lq_model *m, const lq_peft_config *c) {
    char *arch = NULL;
    LQ_TRY(lq_gguf_get_string(m->file, "general.architecture", true, &arch));
    lq_status status = lq_gguf_writer_set_string(w, "general.architecture", arch);
    lq_free(arch);
    LQ_TRY(status);
    LQ_TRY(lq_gguf_writer_set_string(w, "general.type", "adapter"));
    LQ_TRY(lq_gguf_writer_set_string(w, "adapter.type", "lora"));
    return lq_gguf_writer_set_f32(w, "adapter.lora.alpha", (float)c->alpha);
}

static lq_status assemble(lq_gguf **out, const lq_gguf_writer *w, peft *p, const char *dir) {
    lq_bytes region;
    region.p = lq_safetensors_file(p->file, 0, &region.n);
    const lq_gguf_assembly a = {.path = dir, .keys = w, .tensor = p->tensor, .n_tensors = p->n,
                                .region = &region, .n_regions = 1, .hash_keys = true, .owner = p,
                                .release = release};
    return lq_gguf_assemble(out, &a);
}

lq_status lq_peft_open(lq_gguf **out, const lq_model *m, const char *dir) {
    lq_peft_config config = {.root = NULL};
    lq_gguf_writer *w = NULL;
    lq_status status = LQ_OK;
    peft *p = lq_alloc(sizeof *p);
    reader r = {.m = m, .config = &config, .out = p, .errors = LQ_STR_INIT};
    LQ_GOTO(status, p ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_peft_config_read(&config, dir));
    LQ_GOTO(status, lq_safetensors_open_dir(&p->file, dir, weights_stem));
    status = read_tensors(&r);
    if (status != LQ_OK) LQ_GOTO(status, lq_fail_context(status, "%s: ", dir));
    LQ_GOTO(status, lq_gguf_writer_new(&w));
    LQ_GOTO(status, write_keys(w, m, &config));
    LQ_GOTO(status, assemble(out, w, p, dir));
    p = NULL;   /* the file's */
done:
    if (p) release(p);
    lq_gguf_writer_free(w);
    lq_free(r.rank);
    lq_free(r.alpha);
    lq_str_clear(&r.errors);
    lq_peft_config_clear(&config);
    return status;
}
