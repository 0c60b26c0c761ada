/* Names of experts. See hf_experts.h. */
#include "hf_experts.h"

#include "hf_parts.h"
#include "str.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const struct { const char *found, *meant; } spellings[] = {
    {".block_sparse_moe.", ".mlp."}, {".w1.", ".gate_proj."}, {".w2.", ".down_proj."},
    {".w3.", ".up_proj."},
};

/* Falcon's norm before the feed-forward, where attention has one of its own. */
static const char own_norm[] = ".ln_mlp.", shared_norm[] = ".input_layernorm.";

/* text with the first `found` replaced; text is freed. NULL: out of memory. */
static char *replace(char *text, const char *found, const char *meant) {
    char *at = text ? strstr(text, found) : NULL;
    if (!at) return text;
    char *out = lq_sprintf("%.*s%s%s", (int)(at - text), text, meant, at + strlen(found));
    lq_free(text);
    return out;
}

lq_status lq_hf_expert_name(char **out, int64_t *expert, const char *name) {
    static const char mark[] = ".experts.";
    const char *at = strstr(name, mark);
    const char *number = at ? at + sizeof mark - 1 : "";
    size_t digits = 0;
    *expert = -1;
    while (isdigit((unsigned char)number[digits]) && digits < 6) digits++;
    if (digits && number[digits] == '.') {
        *expert = atoi(number);
        *out = lq_sprintf("%.*s%s", (int)(number - name), name, number + digits + 1);
    } else {
        *out = lq_strdup(name);
    }
    const int n = strstr(name, "block_sparse_moe") ? LQ_ARRAY_LEN(spellings) : 0;
    for (int i = 0; i < n; i++) *out = replace(*out, spellings[i].found, spellings[i].meant);
    *out = replace(*out, own_norm, shared_norm);
    return *out ? LQ_OK : LQ_EMEM;
}

/* From Loquat's names to Mixtral's. */
static char *mixtral_name(char *name) {
    for (int i = 0; i < LQ_ARRAY_LEN(spellings); i++)
        name = replace(name, spellings[i].meant, spellings[i].found);
    return name;
}

char *lq_hf_tensor_name(const lq_model *m, const lq_weight *w, int64_t expert) {
    const char *end = w->is_bias ? ".bias" : ".weight";
    const char *last = strrchr(w->module, '.');
    const lq_hf_family *f = lq_hf_family_for(m);
    char *name = expert < 0 || !last
                     ? lq_sprintf("%s%s", w->module, end)
                     : lq_sprintf("%.*s.%lld%s%s", (int)(last - w->module), w->module,
                                  (long long)expert, last, end);
    if (f && f->grouped && lq_model_find(m, LQ_ROLE_ATTN_NORM_2, w->layer, false) >= 0)
        name = replace(name, shared_norm, own_norm);
    return f && f->mixture && strstr(w->module, ".mlp.") ? mixtral_name(name) : name;
}
