/* Reading adapter_config.json. PEFT has dozens of options; those that change what the tensors mean
 * are rows of a table here and refused unless they have their harmless value. */
#include "peft_config.h"

#include "json_file.h"
#include "jsonl.h"
#include "str.h"

#include <string.h>

/* Refused when present and neither null, false, empty nor `fine`. */
static const struct { const char *key, *fine, *why; } refused[] = {
    {"peft_type", "LORA", "only LoRA adapters can be read"},
    {"modules_to_save", NULL, "whole modules beside the adapter cannot be read"},
    {"bias", "none", "trained biases cannot be read"},
    {"lora_bias", NULL, "biases in the adapter cannot be read"},
    {"use_qalora", NULL, "QALoRA cannot be read"},
    {"trainable_token_indices", NULL, "trained tokens cannot be read"},
    {"alora_invocation_tokens", NULL, "activated LoRA cannot be read"},
    {"layer_replication", NULL, "replicated layers cannot be read"},
    {"megatron_config", NULL, "Megatron layers cannot be read"},
    {"use_bdlora", NULL, "block-diagonal LoRA cannot be read"},
};

/* These replace the base's weights by a remainder; what is saved fits only that. */
static const char *const changing_inits[] = {"pissa", "olora", "corda", "loftq", "lora_ga"};

static bool is_off(const json_t *value, const char *fine) {
    if (!value || json_is_null(value) || json_is_false(value)) return true;
    if (json_is_array(value)) return json_array_size(value) == 0;
    if (json_is_object(value)) return json_object_size(value) == 0;
    return fine && json_is_string(value) && strcmp(json_string_value(value), fine) == 0;
}

/* "KEY", and what it is: a text, or the texts of a list. */
static void list_value(lq_str *errors, const char *key, const json_t *value) {
    size_t i;
    json_t *member;
    lq_str_printf(errors, "\n%s", key);
    if (json_is_string(value)) lq_str_printf(errors, " %s", json_string_value(value));
    json_array_foreach(value, i, member) {
        if (json_is_string(member))
            lq_str_printf(errors, "%s%s", i ? ", " : " ", json_string_value(member));
    }
}

static void list_refused(lq_str *errors, const json_t *root) {
    const char *init = json_string_value(json_object_get(root, "init_lora_weights"));
    for (int i = 0; i < LQ_ARRAY_LEN(refused); i++) {
        const json_t *value = json_object_get(root, refused[i].key);
        if (is_off(value, refused[i].fine)) continue;
        list_value(errors, refused[i].key, value);
        lq_str_printf(errors, ": %s", refused[i].why);
    }
    for (int i = 0; init && i < LQ_ARRAY_LEN(changing_inits); i++)
        if (strncmp(init, changing_inits[i], strlen(changing_inits[i])) == 0)
            lq_str_printf(errors, "\ninit_lora_weights %s: the adapter fits a changed base; "
                          "convert it to a plain one with PEFT first", init);
}

/* A module's weight is as good as the module; other parameters than experts' have no place here. */
static void list_parameters(lq_str *errors, const json_t *root) {
    const json_t *entry;
    size_t i;
    json_array_foreach(json_object_get(root, "target_parameters"), i, entry) {
        const char *name = json_string_value(entry), *dot = name ? strrchr(name, '.') : NULL;
        const char *leaf = dot ? dot + 1 : name;
        if (leaf && (strcmp(leaf, "gate_up_proj") == 0 || strcmp(leaf, "down_proj") == 0 ||
                     strcmp(leaf, "weight") == 0))
            continue;
        lq_str_printf(errors, "\ntarget_parameters %s: only the weights of modules and experts' "
                      "gate_up_proj and down_proj can be read", name ? name : "(no text)");
    }
}

static lq_status read_pattern(lq_pattern **out, int *n, const json_t *root, const char *key) {
    const char *name;
    json_t *value, *object = json_object_get(root, key);
    *out = lq_alloc_array((int64_t)json_object_size(object), sizeof **out);
    if (!*out) return LQ_EMEM;
    json_object_foreach(object, name, value) {
        if (!json_is_number(value) || json_number_value(value) <= 0)
            return lq_fail(LQ_EFORMAT, "%s: '%s' is %s, must be a positive number", key, name,
                           lq_json_type_name(value));
        (*out)[(*n)++] = (lq_pattern){name, json_number_value(value)};
    }
    return LQ_OK;
}

static lq_status interpret(lq_peft_config *c) {
    const json_t *type = json_object_get(c->root, "peft_type");
    lq_str errors = LQ_STR_INIT;
    if (!json_is_string(type))
        return lq_fail(LQ_EFORMAT, "peft_type is %s, must be a text", lq_json_type_name(type));
    list_refused(&errors, c->root);
    list_parameters(&errors, c->root);
    lq_status status = lq_str_status(&errors);
    if (status == LQ_OK && errors.n)
        status = lq_fail(LQ_EUNSUPPORTED, "not an adapter that can be read:%s",
                         lq_str_text(&errors));
    lq_str_clear(&errors);
    LQ_TRY(status);
    const json_t *alpha = json_object_get(c->root, "lora_alpha");
    const json_t *r = json_object_get(c->root, "r");
    if (!(json_number_value(alpha) > 0) || !json_is_integer(r) || json_integer_value(r) < 1)
        return lq_fail(LQ_EFORMAT,
                       "r must be a whole number from 1 on, lora_alpha a positive number");
    c->alpha = json_number_value(alpha);
    c->r = json_integer_value(r);
    c->use_rslora = json_is_true(json_object_get(c->root, "use_rslora"));
    c->use_dora = json_is_true(json_object_get(c->root, "use_dora"));
    LQ_TRY(read_pattern(&c->rank, &c->n_rank, c->root, "rank_pattern"));
    return read_pattern(&c->alphas, &c->n_alphas, c->root, "alpha_pattern");
}

lq_status lq_peft_config_read(lq_peft_config *out, const char *dir) {
    *out = (lq_peft_config){.root = NULL};
    LQ_TRY(lq_json_read(&out->root, dir, "adapter_config.json", true));
    const lq_status status = interpret(out);
    if (status == LQ_OK) return LQ_OK;
    lq_peft_config_clear(out);
    return lq_fail_context(status, "%s/adapter_config.json: ", dir);
}

void lq_peft_config_clear(lq_peft_config *c) {
    json_decref(c->root);
    lq_free(c->rank);
    lq_free(c->alphas);
    *c = (lq_peft_config){.root = NULL};
}
