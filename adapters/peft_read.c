/* From PEFT's tensors to those of an adapter GGUF. See peft_file.h. */
#include "peft_file.h"

#include "atomic_file.h"
#include "hf.h"
#include "hf_experts.h"
#include "peft_parts.h"
#include "targets.h"

#include <math.h>
#include <string.h>

static const char weights_stem[] = "adapter_model", prefix[] = "base_model.model.";

bool lq_peft_is_dir(const char *path) {
    return lq_file_exists_in(path, "adapter_config.json");
}

static void release(void *owner) {
    lq_peft_tensors *p = owner;
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

/* How PEFT spells the parts of an adapter, and GGUF (of magnitudes only we). */
static const char *const gguf_suffix[] = {
    [LQ_PEFT_A] = ".lora_a", [LQ_PEFT_B] = ".lora_b", [LQ_PEFT_M] = ".lora_magnitude"};
static const struct { const char *suffix; lq_peft_part part; } spellings[] = {
    {".lora_A.weight", LQ_PEFT_A}, {".lora_B.weight", LQ_PEFT_B},
    {".lora_magnitude_vector", LQ_PEFT_M},
    {".lora_A.default.weight", LQ_PEFT_A}, {".lora_B.default.weight", LQ_PEFT_B},
    {".lora_magnitude_vector.default.weight", LQ_PEFT_M},
};

static bool cut_end(const char *name, size_t *n, const char *end) {
    const size_t k = strlen(end);
    if (*n < k || strncmp(name + *n - k, end, k) != 0) return false;
    *n -= k;
    return true;
}

/* Modules of a larger model are also known without its part. */
int lq_peft_find_module(const lq_model *m, const char *path, size_t n) {
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

/* By PEFT's rule: the whole path, or what follows one of its dots. */
bool lq_peft_is_parameter(const lq_peft_config *c, const char *path) {
    const json_t *entry;
    size_t i;
    json_array_foreach(json_object_get(c->root, "target_parameters"), i, entry) {
        const char *name = json_string_value(entry);
        size_t n = strlen(path);
        if (cut_end(path, &n, name) && (n == 0 || path[n - 1] == '.')) return true;
    }
    return false;
}

/* ---- one tensor ------------------------------------------------------------------------------ */

lq_status lq_peft_scale(double *rank, double *scale, const lq_peft_reader *r, const char *path) {
    const lq_peft_config *c = r->config;
    double alpha;
    LQ_TRY(lq_targets_value(rank, path, c->rank, c->n_rank, (double)c->r));
    LQ_TRY(lq_targets_value(&alpha, path, c->alphas, c->n_alphas, c->alpha));
    if (!(*rank >= 1 && *rank <= 1 << 20 && *rank == floor(*rank)))
        return lq_fail(LQ_EFORMAT, "adapter_config.json gives %s rank %g, must be a whole number "
                       "from 1 on", path, *rank);
    *scale = c->use_rslora ? alpha / sqrt(*rank) : alpha / *rank;
    return LQ_OK;
}

float lq_peft_factor(const lq_peft_reader *r, double scale, int64_t rank) {
    return (float)(scale / (r->config->alpha / (double)rank));
}

lq_status lq_peft_add(int64_t *index, lq_peft_reader *r, const char *weight, lq_peft_part part) {
    lq_peft_tensors *p = r->out;
    LQ_TRY(lq_reserve((void **)&p->tensor, &p->cap, p->n + 1, sizeof *p->tensor));
    LQ_TRY(lq_reserve((void **)&p->copy, &p->cap_copies, p->n + 1, sizeof *p->copy));
    char *name = lq_sprintf("%s%s", weight, gguf_suffix[part]);
    if (!name) return LQ_EMEM;
    r->n_b += part == LQ_PEFT_B;
    r->n_m += part == LQ_PEFT_M;
    *index = p->n++;
    p->tensor[*index] = (lq_gguf_tensor){.name = name};
    p->copy[*index] = NULL;
    return LQ_OK;
}

/* B or m as F32 in GGUF's order of rows, times `factor`. */
static lq_status copy_rows(const lq_peft_reader *r, int weight, const lq_st_tensor *in, int64_t i,
                           float factor) {
    const int64_t rows = in->dim[0], rank = in->ndim == 2 ? in->dim[1] : 1;
    const lq_hf_layout layout = lq_hf_layout_of(r->m, &r->m->weight[weight]);
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
static void check_rank(lq_peft_reader *r, const lq_st_tensor *in, lq_peft_part part, double rank) {
    const int64_t found = in->dim[part == LQ_PEFT_B ? 1 : 0];
    if (part == LQ_PEFT_M || (in->ndim == 2 && (double)found == rank)) return;
    char shape[96];
    lq_str_printf(&r->errors, "\n%s is %s, adapter_config.json gives it rank %g", in->name,
                  lq_st_shape(shape, in), rank);
}

/* Patterns see a weight that is adapted as a parameter under the parameter's name. */
static lq_status scale_of_module(double *rank, double *scale, const lq_peft_reader *r,
                                 const char *path) {
    char *parameter = lq_sprintf("%s.weight", path);
    if (!parameter) return LQ_EMEM;
    const bool is_parameter = lq_peft_is_parameter(r->config, parameter);
    const lq_status status = lq_peft_scale(rank, scale, r, is_parameter ? parameter : path);
    lq_free(parameter);
    return status;
}

/* weight: -1 leaves the tensor its own path, which lq_lora_open will list. */
static lq_status add_part(lq_peft_reader *r, const lq_st_tensor *in, const char *path, int weight,
                          lq_peft_part part) {
    double rank, scale;
    int64_t i;
    LQ_TRY(lq_peft_add(&i, r, weight < 0 ? path : r->m->weight[weight].name, part));
    lq_gguf_tensor *t = &r->out->tensor[i];
    *t = (lq_gguf_tensor){.name = t->name, .ggml_type = in->fmt->ggml_id, .ndim = in->ndim,
                          .ne = {1, 1, 1, 1}, .bytes = in->bytes, .data = in->data};
    for (int d = 0; d < in->ndim && d < 4; d++) t->ne[d] = in->dim[in->ndim - 1 - d];
    if (weight < 0) return LQ_OK;
    LQ_TRY(scale_of_module(&rank, &scale, r, path));
    check_rank(r, in, part, rank);
    const bool vector = part == LQ_PEFT_M;
    const bool fits = in->ndim == (vector ? 1 : 2) && in->dim[0] == r->m->weight[weight].rows;
    const float factor = vector || !fits ? 1 : lq_peft_factor(r, scale, in->dim[1]);
    return part != LQ_PEFT_A && fits ? copy_rows(r, weight, in, i, factor) : LQ_OK;
}

/* path: the module's, as PEFT names it. */
static lq_status add_module(lq_peft_reader *r, const lq_st_tensor *in, const char *path,
                            lq_peft_part part) {
    char *common, *dotted = lq_sprintf("%s.", path);
    int64_t expert;
    lq_status status = dotted ? lq_hf_expert_name(&common, &expert, dotted) : LQ_EMEM;
    lq_free(dotted);
    LQ_TRY(status);
    const int weight = lq_peft_find_module(r->m, common, strlen(common) - 1);
    lq_free(common);
    if (lq_peft_is_fused(path)) return lq_peft_add_fused(r, in, path, part);
    if (weight >= 0 && expert >= 0) return lq_peft_add_expert(r, in, path, weight, expert, part);
    return add_part(r, in, path, weight, part);
}

static lq_status add_tensor(lq_peft_reader *r, const lq_st_tensor *in) {
    const char *path = in->name;
    if (strncmp(path, prefix, sizeof prefix - 1) == 0) path += sizeof prefix - 1;
    for (int i = 0; i < LQ_ARRAY_LEN(spellings); i++) {
        size_t n = strlen(path);
        if (!cut_end(path, &n, spellings[i].suffix)) continue;
        if (spellings[i].part == LQ_PEFT_M && !r->config->use_dora) break;
        if (!in->fmt) {
            lq_str_printf(&r->errors, "\n%s is %s, wanted F32, F16 or BF16", in->name, in->dtype);
            return LQ_OK;
        }
        char *module = lq_sprintf("%.*s", (int)n, path);
        const lq_status status = module ? add_module(r, in, module, spellings[i].part) : LQ_EMEM;
        lq_free(module);
        return status;
    }
    lq_str_printf(&r->errors, "\n%s: wanted only ...lora_A.weight and ...lora_B.weight", in->name);
    return LQ_OK;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static lq_status read_tensors(lq_peft_reader *r) {
    const lq_safetensors *file = r->out->file;
    for (int64_t i = 0; i < lq_safetensors_n(file); i++)
        LQ_TRY(add_tensor(r, lq_safetensors_at(file, i)));
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

static lq_status assemble(lq_gguf **out, const lq_gguf_writer *w, lq_peft_tensors *p,
                          const char *dir) {
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
    lq_peft_tensors *p = lq_alloc(sizeof *p);
    lq_peft_reader r = {.m = m, .config = &config, .out = p, .errors = LQ_STR_INIT};
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
    lq_str_clear(&r.errors);
    lq_peft_config_clear(&config);
    return status;
}
