/* From types to formats and importance weights. See type_plan.h. */
#include "type_plan.h"

#include "ggml_types.h"
#include "imatrix.h"
#include "str.h"

#include <string.h>

/* Embeddings are looked up, not multiplied: no statistics speak of them, and llama.cpp overlooks
 * those that do not fit. */
static bool is_embedding(const char *name) { return strstr(name, "token_embd.weight") != NULL; }

static lq_status cannot_write(const char *tensor, int type, const lq_mix_request *request) {
    const lq_mix *mix;
    LQ_TRY(lq_mix_find(&mix, tensor, lq_ggml_type_name(type))); /* names the nearest */
    return lq_fail(LQ_EUNSUPPORTED, "%s: becomes %s in a %s file, which Loquat cannot write",
                   tensor, lq_ggml_type_name(type), lq_mix_label(request));
}

static lq_status plan_tensor(lq_planned *p, lq_mix_type got, const lq_mix_request *request,
                             const lq_gguf_tensor *t) {
    const int type = got.type;
    const lq_format *fmt = lq_format_by_ggml_id(type);
    *p = (lq_planned){.fmt = type == t->ggml_type ? NULL : fmt, .fell_back = got.fell_back};
    if (type != t->ggml_type && (!fmt || !fmt->quant))
        return cannot_write(t->name, type, request);
    if (!fmt || fmt->block == 1) return LQ_OK;
    const lq_status status =
        lq_imatrix_weights(&p->importance, request->imatrix, t->name, t->ne[0] * t->ne[2]);
    return status == LQ_ESHAPE && is_embedding(t->name) ? LQ_OK : status;
}

/* An imatrix of another model has none of these tensors; one of a text that reached few experts
 * lacks some. */
static lq_status check_importance(const lq_planned *plan, const lq_mix_request *request,
                                  const lq_gguf *g) {
    const char *first = NULL;
    int64_t wanted = 0, lacking = 0;
    if (!request->imatrix || request->imatrix->n == 0) return LQ_OK;
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const char *name = lq_gguf_tensor_at(g, i)->name;
        if (!plan[i].fmt || plan[i].fmt->block == 1 || strncmp(name, "blk.", 4) != 0) continue;
        wanted++;
        if (plan[i].importance) continue;
        if (!first) first = name;
        lacking++;
        if (strcmp(request->mix->name, "Q2_K_S") == 0 && plan[i].fmt->ggml_id == LQ_TYPE_Q2_K)
            return lq_fail(LQ_EVALUE, "%s: the importance matrix has no entry for it, which Q2_K_S "
                           "needs", name);
    }
    if (lacking == 0) return LQ_OK;
    if (lacking == wanted)
        return lq_fail(LQ_ESHAPE,
                       "the importance matrix has no entry for %s, nor for any other tensor that "
                       "is quantized (its first: %s): it was made for another model",
                       first, request->imatrix->entry[0].name);
    lq_log(LQ_LOG_WARN,
           "the importance matrix lacks %lld of %lld tensors, which are quantized without: %s%s",
           (long long)lacking, (long long)wanted, first, lacking > 1 ? ", ..." : "");
    return LQ_OK;
}

lq_status lq_type_plan_file(lq_planned **out, const lq_mix_request *request, const lq_gguf *g) {
    const int64_t n = lq_gguf_n_tensors(g);
    lq_status status = LQ_OK;
    lq_mix_type *type = lq_alloc_array(n, sizeof *type);
    lq_planned *plan = lq_alloc_array(n, sizeof *plan);
    LQ_GOTO(status, type && plan ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_mix_assign(type, request, g));
    for (int64_t i = 0; i < n; i++)
        LQ_GOTO(status, plan_tensor(&plan[i], type[i], request, lq_gguf_tensor_at(g, i)));
    LQ_GOTO(status, check_importance(plan, request, g));
    *out = plan;
    plan = NULL;
done:
    lq_free(type);
    lq_free(plan);
    return status;
}

lq_status lq_type_plan_model(lq_planned **out, const lq_mix_request *request, const lq_model *m) {
    lq_planned *by_tensor = NULL;
    *out = lq_alloc_array(m->n_weights, sizeof **out);
    if (!*out) return LQ_EMEM;
    const lq_status status = lq_type_plan_file(&by_tensor, request, m->file);
    for (int i = 0; status == LQ_OK && i < m->n_weights; i++) {
        const lq_gguf_tensor *t = lq_gguf_find_tensor(m->file, m->weight[i].name);
        if (t) (*out)[i] = by_tensor[t - lq_gguf_tensor_at(m->file, 0)];
    }
    lq_free(by_tensor);
    if (status == LQ_OK) return LQ_OK;
    lq_free(*out);
    *out = NULL;
    return status;
}

lq_status lq_type_plan_log(const lq_planned *plan, int64_t n, const char *what) {
    lq_str line = LQ_STR_INIT;
    for (int f = 0; lq_formats[f]; f++) {
        int64_t count = 0, odd = 0;
        for (int64_t i = 0; i < n; i++) {
            if (plan[i].fmt != lq_formats[f]) continue;
            count++;
            odd += plan[i].fell_back;
        }
        if (count == 0) continue;
        lq_str_printf(&line, "%s%lld %s %s", line.n ? ", " : "", (long long)count,
                      count == 1 ? "matrix" : "matrices", lq_formats[f]->label);
        if (odd)
            lq_str_printf(&line, " (%lld of them: no block divides their rows)", (long long)odd);
    }
    if (line.n)
        lq_log(LQ_LOG_INFO, "%s: %s; everything else as in the base file", what,
               lq_str_text(&line));
    const lq_status status = lq_str_status(&line);
    lq_str_clear(&line);
    return status;
}
