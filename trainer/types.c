/* See types.h. */
#include "types.h"

#include "atomic_file.h"

#include <ctype.h>
#include <string.h>

static lq_status named_type(int *out, const char *what, const char *name) {
    *out = lq_ggml_type_by_name(name);
    return *out >= 0 ? LQ_OK
                     : lq_fail(LQ_ECONFIG, "%s: found '%s', wanted a GGUF type such as q6_K", what,
                               name);
}

static lq_status type_or_rule(int *out, const char *what, const char *name) {
    *out = LQ_TYPE_BY_RULE;
    return name && *name ? named_type(out, what, name) : LQ_OK;
}

/* As llama-quantize reads it: patterns in lower case, as tensor names are. */
static lq_status parse_override(lq_type_override *out, const char *text) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return lq_fail(LQ_ECONFIG, "tensor type: found '%s', wanted PATTERN=TYPE", text);
    char *regex = lq_strndup(text, (size_t)(equals - text));
    if (!regex) return LQ_EMEM;
    for (char *c = regex; *c; c++) *c = (char)tolower((unsigned char)*c);
    out->regex = regex;
    return named_type(&out->type, text, equals + 1);
}

static lq_status set_mix(lq_types *out, const lq_types_text *text) {
    const int type = text->plain ? lq_ggml_type_by_name(text->type) : -1;
    const bool is_plain = type >= 0 && islower((unsigned char)*text->type);
    out->request.mixed = !is_plain;
    out->request.mix = is_plain ? lq_mix_of_type(type) : NULL;
    return out->request.mix ? LQ_OK : lq_mix_find(&out->request.mix, text->what, text->type);
}

lq_status lq_types_open(lq_types *out, const lq_types_text *text) {
    *out = (lq_types){0};
    LQ_TRY(set_mix(out, text));
    LQ_TRY(type_or_rule(&out->request.embedding, "token embedding type", text->embedding));
    LQ_TRY(type_or_rule(&out->request.output, "output tensor type", text->output));
    out->override = lq_alloc_array(text->n_tensor_type, sizeof *out->override);
    if (!out->override) return LQ_EMEM;
    out->request.override = out->override;
    for (int i = 0; i < text->n_tensor_type; i++) {
        out->request.n_overrides = i + 1;
        LQ_TRY(parse_override(&out->override[i], text->tensor_type[i]));
    }
    if (text->imatrix && *text->imatrix) LQ_TRY(lq_imatrix_read(&out->imatrix, text->imatrix));
    out->request.imatrix = out->imatrix;
    return LQ_OK;
}

void lq_types_clear(lq_types *t) {
    for (int i = 0; i < t->request.n_overrides; i++) lq_free((void *)t->override[i].regex);
    lq_free(t->override);
    lq_imatrix_free(t->imatrix);
    *t = (lq_types){0};
}

/* Exported files name the run's statistics without its folder. */
static lq_status run_imatrix(lq_imatrix **out, const char *run_dir) {
    char *path = lq_path_join(run_dir, LQ_RUN_IMATRIX);
    lq_status status = path ? lq_imatrix_read(out, path) : LQ_EMEM;
    lq_free(path);
    if (status != LQ_OK) return status;
    lq_free((*out)->path);
    (*out)->path = lq_strdup(LQ_RUN_IMATRIX);
    return (*out)->path ? LQ_OK : LQ_EMEM;
}

/* The statistics that a run has, or will have. */
static lq_status configured_imatrix(lq_types *out, const char *imatrix, const char *run_dir) {
    if (!imatrix || !*imatrix) return LQ_OK;
    lq_status status;
    if (run_dir) {
        status = run_imatrix(&out->imatrix, run_dir);
    } else if (strcmp(imatrix, "auto") == 0) {
        status = lq_imatrix_new(&out->imatrix, "", 0);
    } else {
        status = lq_imatrix_read(&out->imatrix, imatrix);
    }
    out->request.imatrix = out->imatrix;
    return status;
}

lq_status lq_types_from_config(lq_types *out, const lq_config *c, const char *run_dir) {
    const lq_types_text text = {
        .what = "qat.weight_dtype",
        .type = c->qat.weight_dtype,
        .plain = true,
        .embedding = c->qat.token_embedding_type,
        .output = c->qat.output_tensor_type,
        .tensor_type = (const char *const *)c->qat.tensor_type.s,
        .n_tensor_type = c->qat.tensor_type.n,
    };
    *out = (lq_types){0};
    if (!c->has_qat) return LQ_OK;
    LQ_TRY(lq_types_open(out, &text));
    return configured_imatrix(out, c->qat.imatrix, run_dir);
}
