/* Matching of module names. See targets.h.
 *
 * A weight answers to two paths: Hugging Face's (model.layers.3.self_attn.q_proj) and GGUF's
 * without its ".weight" (blk.3.attn_q). A pattern matches a whole path or what follows one of its
 * dots. */
#include "targets.h"

#include "str.h"

#include <fnmatch.h>
#include <regex.h>
#include <stdio.h>
#include <string.h>

enum { PATH_BYTES = 128 };

/* The GGUF path of w: its name without ".weight". */
static const char *gguf_path(char path[PATH_BYTES], const lq_weight *w) {
    snprintf(path, PATH_BYTES, "%s", w->name);
    char *end = strrchr(path, '.');
    if (end && strcmp(end, ".weight") == 0) *end = 0;
    return path;
}

static bool matches_path(const char *pattern, const char *path) {
    for (const char *p = path; p; p = strchr(p, '.') ? strchr(p, '.') + 1 : NULL)
        if (fnmatch(pattern, p, 0) == 0) return true;
    return false;
}

static bool matches(const char *pattern, const lq_weight *w) {
    char path[PATH_BYTES];
    return matches_path(pattern, gguf_path(path, w)) || matches_path(pattern, w->module) ||
           strcmp(pattern, w->name) == 0;
}

static const char *leaf(const char *path) {
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}

/* The module name nearest to `pattern` among the linears: "q_proj" for "qproj". */
static void nearest(char best[PATH_BYTES], const lq_model *m, const char *pattern) {
    int best_distance = 1000;
    best[0] = 0;
    for (int i = 0; i < m->n_weights; i++) {
        if (!lq_weight_is_linear(&m->weight[i])) continue;
        char path[PATH_BYTES];
        const char *const names[] = {leaf(m->weight[i].module),
                                     leaf(gguf_path(path, &m->weight[i]))};
        for (int j = 0; j < LQ_ARRAY_LEN(names); j++) {
            const int distance = lq_edit_distance(leaf(pattern), names[j]);
            if (distance >= best_distance) continue;
            best_distance = distance;
            snprintf(best, PATH_BYTES, "%s", names[j]);
        }
    }
}

static bool is_head_name(const char *pattern) {
    return strcmp(pattern, "lm_head") == 0 || strcmp(pattern, "output") == 0;
}

/* Why `pattern`, which matches no linear, cannot be a target. */
static void explain(lq_str *errors, const lq_model *m, const char *option, const char *pattern) {
    char hint[PATH_BYTES];
    lq_str_printf(errors, "%s%s: '%s' ", errors->n ? "\n" : "", option, pattern);
    if (m->tied && is_head_name(pattern)) {
        lq_str_puts(errors,
                    "is the token embedding in this model (tied), which cannot carry an adapter");
        return;
    }
    for (int i = 0; i < m->n_weights; i++) {
        const lq_weight *w = &m->weight[i];
        if (!matches(pattern, w)) continue;
        if (w->role == LQ_ROLE_TOKEN_EMBD)
            lq_str_puts(errors, "is the token embedding, which is looked up, not multiplied; "
                                "`adapter: full` trains it");
        else
            lq_str_printf(errors, "is %s, no linear; `adapter: full` trains it", w->name);
        return;
    }
    nearest(hint, m, pattern);
    lq_str_puts(errors, "matches no linear of this model");
    if (hint[0]) lq_str_printf(errors, "; did you mean '%s'?", hint);
}

/* Sets on[i] = value for each linear that `pattern` matches; says so in errors if there is none. */
static void mark(bool *on, bool value, const lq_model *m, const char *option, const char *pattern,
                 lq_str *errors) {
    bool found = false;
    for (int i = 0; i < m->n_weights; i++) {
        if (!lq_weight_is_linear(&m->weight[i]) || !matches(pattern, &m->weight[i])) continue;
        on[i] = value;
        found = true;
    }
    if (!found) explain(errors, m, option, pattern);
}

static bool in_layers(const lq_adapter_options *o, int layer) {
    for (int i = 0; i < o->n_layers; i++)
        if (o->layers[i] == layer) return true;
    return o->n_layers == 0;
}

static void check_layers(const lq_model *m, const lq_adapter_options *o, lq_str *errors) {
    for (int i = 0; i < o->n_layers; i++)
        if (o->layers[i] < 0 || o->layers[i] >= m->hp.n_layer)
            lq_str_printf(errors, "%slora_layers_to_transform: layer %d, the model has 0 to %lld",
                          errors->n ? "\n" : "", o->layers[i], (long long)m->hp.n_layer - 1);
}

static lq_status report(lq_str *errors) {
    lq_status status = lq_str_status(errors);
    if (status == LQ_OK && errors->n) status = lq_fail(LQ_ECONFIG, "%s", lq_str_text(errors));
    lq_str_clear(errors);
    return status;
}

/* all-linear leaves experts and their routers out: adapters on them have to be asked for. */
static bool is_plain_linear(const lq_weight *w) {
    return lq_weight_is_linear(w) && !lq_weight_is_experts(w) && !lq_weight_is_router(w);
}

lq_status lq_targets_choose(bool *chosen, const lq_model *m, const lq_adapter_options *o) {
    static const char *const all_linear[] = {"all-linear", NULL};
    const char *const *targets = o->targets ? o->targets : all_linear;
    lq_str errors = LQ_STR_INIT;
    int n = 0;
    for (int i = 0; i < m->n_weights; i++) chosen[i] = false;
    for (; *targets; targets++) {
        if (strcmp(*targets, "all-linear") != 0) {
            mark(chosen, true, m, "lora_target_modules", *targets, &errors);
            continue;
        }
        for (int i = 0; i < m->n_weights; i++)
            chosen[i] |= is_plain_linear(&m->weight[i]) && m->weight[i].layer >= 0;
    }
    for (const char *const *e = o->exclude; e && *e; e++)
        mark(chosen, false, m, "lora_exclude_modules", *e, &errors);
    check_layers(m, o, &errors);
    for (int i = 0; i < m->n_weights; i++) {
        chosen[i] = chosen[i] && in_layers(o, m->weight[i].layer);
        n += chosen[i];
    }
    if (!errors.n && n == 0) lq_str_puts(&errors, "no weight is left to carry an adapter");
    return report(&errors);
}

/* ---- patterns -------------------------------------------------------------------------------- */

/* PEFT's key as a POSIX expression on the whole path: (^|.*\.)key$, with \d spelled out. */
static lq_status compile(regex_t *regex, const char *option, const char *key) {
    lq_str text = LQ_STR_INIT;
    lq_str_puts(&text, "(^|.*\\.)(");
    for (const char *p = key; *p; p++) {
        if (p[0] == '\\' && p[1] == 'd') {
            lq_str_puts(&text, "[0-9]");
            p++;
        } else {
            lq_str_putc(&text, *p);
        }
    }
    lq_str_puts(&text, ")$");
    lq_status status = lq_str_status(&text);
    const int error = status == LQ_OK ? regcomp(regex, text.s, REG_EXTENDED | REG_NOSUB) : 0;
    if (error == REG_ESPACE) status = lq_fail(LQ_EMEM, "%s: out of memory", key);
    else if (error)
        status = lq_fail(LQ_ECONFIG, "%s: '%s' is neither a name nor a valid regular expression",
                         option, key);
    lq_str_clear(&text);
    return status;
}

static bool matches_key(const lq_weight *w, const char *key, const regex_t *regex) {
    char path[PATH_BYTES];
    return matches(key, w) || regexec(regex, w->module, 0, NULL, 0) == 0 ||
           regexec(regex, gguf_path(path, w), 0, NULL, 0) == 0;
}

lq_status lq_targets_pattern(double *value, const lq_model *m, const bool *chosen,
                             const char *option, const lq_pattern *pattern, int n,
                             double fallback) {
    lq_str errors = LQ_STR_INIT;
    for (int i = 0; i < m->n_weights; i++) value[i] = fallback;
    for (int p = n - 1; p >= 0; p--) { /* backwards: the first match has the last word */
        regex_t regex;
        bool found = false;
        const lq_status status = compile(&regex, option, pattern[p].key);
        if (status != LQ_OK) {
            lq_str_clear(&errors);
            return status;
        }
        for (int i = 0; i < m->n_weights; i++) {
            if (!chosen[i] || !matches_key(&m->weight[i], pattern[p].key, &regex)) continue;
            value[i] = pattern[p].value;
            found = true;
        }
        regfree(&regex);
        if (!found) explain(&errors, m, option, pattern[p].key);
    }
    return report(&errors);
}

lq_status lq_targets_value(double *value, const char *path, const lq_pattern *pattern, int n,
                           double fallback) {
    bool found = false;
    *value = fallback;
    for (int p = 0; p < n && !found; p++) {
        regex_t regex;
        LQ_TRY(compile(&regex, "a pattern", pattern[p].key));
        found = regexec(&regex, path, 0, NULL, 0) == 0;
        if (found) *value = pattern[p].value;
        regfree(&regex);
    }
    return LQ_OK;
}
