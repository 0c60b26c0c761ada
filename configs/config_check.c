/* What must hold between keys. Only values that differ from their defaults clash, so that the dump
 * of a valid configuration, which states every key, is valid too. */
#include "schema.h"

#include <assert.h>
#include <string.h>

static int key_index(const char *name) {
    bool inverted;
    const int key = lq_key_find(name, &inverted);
    assert(key >= 0);
    return key;
}

static bool is_set(const lq_reader *r, int key) {
    const lq_key *k = &lq_keys[key];
    return !k->kind->equal(lq_key_value(k, r->config), lq_key_value(k, r->defaults));
}

/* Reports at the place where the key was given. */
static void refuse(lq_reader *r, int key, const char *why) {
    lq_slot s = {.reader = r, .key = &lq_keys[key], .line = r->line[key]};
    if (!r->bad[key]) lq_slot_mistake(&s, "%s", why);
}

static void refuse_if_set(lq_reader *r, const char *name, const char *why) {
    const int key = key_index(name);
    if (is_set(r, key)) refuse(r, key, why);
}

static void check_pairs(lq_reader *r) {
    static const struct { const char *key, *other, *why; } pairs[] = {
        {"warmup_steps", "warmup_ratio", "cannot be given together with warmup_ratio"},
        {"eval_steps", "evals_per_epoch", "cannot be given together with evals_per_epoch"},
        {"save_steps", "saves_per_epoch", "cannot be given together with saves_per_epoch"},
        {"data", "datasets", "cannot be given together with datasets"},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(pairs); i++)
        if (is_set(r, key_index(pairs[i].other))) refuse_if_set(r, pairs[i].key, pairs[i].why);
}

static void check_device(lq_reader *r) {
    const char *const name = r->config->device;
    const bool numbered = strncmp(name, "cuda:", 5) == 0 && name[5] &&
                          strspn(name + 5, "0123456789") == strlen(name + 5);
    if (strcmp(name, "auto") != 0 && strcmp(name, "cpu") != 0 && strcmp(name, "cuda") != 0 &&
        !numbered)
        refuse(r, key_index("device"), "wanted auto, cpu, cuda or cuda:N");
}

static void check_required(lq_reader *r) {
    const lq_config *c = r->config;
    if (!c->base_model) refuse(r, key_index("base_model"), "wanted: the model to start from");
    if (!c->datasets.n && !c->data)
        refuse(r, key_index("datasets"), "wanted: the files to train on");
}

static void check_full(lq_reader *r) {
    const lq_config *c = r->config;
    if (strcmp(c->adapter, "full") != 0) return;
    for (int i = 0; i < lq_n_keys; i++)
        if (strcmp(lq_keys[i].group, "adapter") == 0 && is_set(r, i))
            refuse(r, i, "has no meaning with adapter: full");
    refuse_if_set(r, "lora_model_dir",
                  "has no meaning with adapter: full; give that model as base_model");
    refuse_if_set(r, "export.lora", "adapter: full has no adapter to export");
    refuse_if_set(r, "export.outtype", "adapter: full has no adapter to export");
    refuse_if_set(r, "export.peft", "adapter: full has no adapter to export");
    refuse_if_set(r, "base_quant", "adapter: full trains the weights themselves");
    if (c->has_qat)
        lq_mistake(r, r->section_line[lq_section_find("qat")],
                   "qat: not possible with adapter: full; it trains a LoRA adapter");
}

static void check_scales(lq_reader *r) {
    static const char *const fine[] = {"lora_target_modules", "lora_exclude_modules",
                                       "lora_layers_to_transform"};
    static const char *const one_file = "adapter: scales exports one model, in the base's types";
    const lq_config *c = r->config;
    if (strcmp(c->adapter, "scales") != 0) return;
    for (int i = 0; i < lq_n_keys; i++) {
        bool ok = strcmp(lq_keys[i].group, "adapter") != 0 || !is_set(r, i);
        for (int k = 0; k < LQ_ARRAY_LEN(fine); k++) ok |= strcmp(lq_keys[i].name, fine[k]) == 0;
        if (!ok) refuse(r, i, "has no meaning with adapter: scales");
    }
    refuse_if_set(r, "lora_model_dir", "has no meaning with adapter: scales");
    refuse_if_set(r, "export.quantize", one_file);
    refuse_if_set(r, "export.lora", one_file);
    refuse_if_set(r, "export.outtype", one_file);
    refuse_if_set(r, "export.peft", one_file);
    if (c->has_qat)
        lq_mistake(r, r->section_line[lq_section_find("qat")],
                   "qat: not possible with adapter: scales; the base's codes stay as they are");
}

static void check_qat(lq_reader *r) {
    const lq_config *c = r->config;
    if (!c->has_qat) return;
    refuse_if_set(r, "export.quantize",
                  "a run with qat exports what it validated, in qat.weight_dtype; leave this out");
    if (strcmp(c->qat.mode, "merged") != 0) {
        refuse_if_set(r, "qat.requantize_every",
                      "has no meaning with qat.mode separate: the base is quantized once");
        refuse_if_set(r, "qat.ste",
                      "has no meaning with qat.mode separate: no gradient passes the rounding");
        refuse_if_set(r, "export.merged_safetensors",
                      "qat.mode separate exports base and adapter; merging would undo it");
        return;
    }
    refuse_if_set(r, "export.peft",
                  "qat.mode merged exports one model; its adapter alone is not what was validated");
    if (!c->recipe.n) /* its first phase may */
        refuse_if_set(r, "lora_dropout",
                      "not possible with qat.mode merged: the adapter is part of the weight");
    refuse_if_set(r, "export.lora",
                  "qat.mode merged exports one model; its adapter alone is not what was validated");
    refuse_if_set(r, "export.outtype", "qat.mode merged exports no adapter");
}

static void check_dora(lq_reader *r) {
    const lq_config *c = r->config;
    if (!c->use_dora) return;
    refuse_if_set(r, "lora_dropout", "not possible with use_dora: base and adapter are scaled "
                                     "together and read the same input");
    refuse_if_set(r, "export.lora", "llama.cpp's adapters have no magnitudes: a run with use_dora "
                                    "exports merged models, and PEFT directories");
    refuse_if_set(r, "qat.ste", "clipped is not possible with use_dora");
    if (c->recipe.n)
        refuse(r, key_index("use_dora"), "not possible with a recipe: its phases hand over an "
                                         "adapter GGUF, which has no magnitudes");
    if (c->has_qat && strcmp(c->qat.mode, "separate") == 0)
        refuse(r, key_index("use_dora"), "not possible with qat.mode separate: the runtime adds "
                                         "the adapter's products and knows no magnitudes");
}

static void check_init(lq_reader *r) {
    const lq_config *c = r->config;
    const int init = key_index("init_lora_weights");
    const bool pissa = strcmp(c->init_lora_weights, "pissa") == 0;
    const bool qera = strcmp(c->init_lora_weights, "qera") == 0;
    const bool corrects = qera || strcmp(c->init_lora_weights, "loftq") == 0;
    const bool separate = c->has_qat && strcmp(c->qat.mode, "separate") == 0;
    if (corrects && !separate)
        refuse(r, init, "corrects a quantized base: it needs qat.mode separate");
    else if (qera && !(c->qat.imatrix && *c->qat.imatrix))
        refuse(r, init, "qera weighs columns by their activations: it needs qat.imatrix");
    if (pissa && c->use_dora)
        refuse(r, init, "pissa is not possible with use_dora: what it takes from W would have to "
                        "be scaled with the rows");
    if (pissa && separate)
        refuse_if_set(r, "export.peft", "not possible with init_lora_weights: pissa and qat.mode "
                                        "separate: the adapter fits only the exported base");
}

static void check_recipe(lq_reader *r) {
    const lq_config *c = r->config;
    if (!c->recipe.n) {
        refuse_if_set(r, "lora", "has no meaning without recipe: [lora, qad]");
        refuse_if_set(r, "qad", "has no meaning without recipe: [lora, qad]");
        return;
    }
    if (c->recipe.n != 2 || strcmp(c->recipe.s[0], "lora") != 0 ||
        strcmp(c->recipe.s[1], "qad") != 0)
        refuse(r, key_index("recipe"), "wanted [lora, qad]");
    if (!c->has_qat)
        refuse(r, key_index("recipe"), "its second phase quantizes: a qat section is wanted");
    if (strcmp(c->init_lora_weights, "default") != 0 &&
        strcmp(c->init_lora_weights, "gaussian") != 0)
        refuse(r, key_index("init_lora_weights"),
               "not possible with a recipe: its second phase starts from the first one's adapter");
    if (strcmp(c->adapter, "lora") != 0)
        refuse(r, key_index("recipe"), "possible only with adapter: lora");
    for (int i = 0; i < c->lora.n; i++)
        if (strchr(c->lora.e[i].key, '.'))
            refuse(r, key_index("lora"), "its keys are those of training and data; the first phase "
                                         "neither quantizes nor has a teacher");
}

static void check_start(lq_reader *r) {
    const lq_config *c = r->config;
    if (c->lora_model_dir && *c->lora_model_dir)
        refuse_if_set(r, "init_lora_weights",
                      "has no meaning with lora_model_dir: that adapter is the start");
}

static void check_optimizer(lq_reader *r) {
    const lq_config *c = r->config;
    if (strcmp(c->optimizer, "sgd") == 0) {
        refuse_if_set(r, "adam_beta2", "has no meaning with optimizer: sgd");
        refuse_if_set(r, "adam_epsilon", "has no meaning with optimizer: sgd");
    }
    if (strcmp(c->lr_scheduler, "cosine") != 0)
        refuse_if_set(r, "cosine_min_lr_ratio", "has no meaning without lr_scheduler: cosine");
}

/* chat_template: jinja stands for the text in chat_template_jinja, as in Axolotl. */
static void check_template(lq_reader *r) {
    const lq_config *c = r->config;
    const bool jinja = c->chat_template && strcmp(c->chat_template, "jinja") == 0;
    if (jinja && !c->chat_template_jinja)
        refuse_if_set(r, "chat_template", "found jinja, but chat_template_jinja is not given");
    if (c->chat_template_jinja && !jinja)
        refuse_if_set(r, "chat_template", "cannot be given together with chat_template_jinja");
}

static void check_validation(lq_reader *r) {
    const lq_config *c = r->config;
    if (strcmp(c->metric_for_best_model, "eval_kl") == 0 && !c->has_kd && !c->recipe.n)
        refuse(r, key_index("metric_for_best_model"),
               "eval_kl is the divergence from a teacher: a kd section is wanted");
    if (c->test_datasets.n && c->val_set_size > 0)
        refuse_if_set(r, "val_set_size", "cannot be given together with test_datasets");
}

void lq_config_check(lq_reader *r) {
    check_required(r);
    check_device(r);
    check_pairs(r);
    check_full(r);
    check_scales(r);
    check_qat(r);
    check_dora(r);
    check_recipe(r);
    check_init(r);
    check_start(r);
    check_optimizer(r);
    check_template(r);
    check_validation(r);
}
