/* Keys of a phase with values of their own, {key: value}: a value stays text until the phase's
 * configuration is made (config_phase.c), where it is read as any other. See schema.h. */
#include "schema.h"

#include <string.h>

/* Not a phase's business: what it starts from, where it writes, what is exported. */
static bool is_fixed(const lq_key *k) {
    static const char *const fixed[] = {"output_dir", "overwrite_output_dir",
                                        "resume_from_checkpoint", "run_name", "qat.mode"};
    static const char *const own[] = {"lora_dropout", "loraplus_lr_ratio"};
    for (int i = 0; i < LQ_ARRAY_LEN(fixed); i++)
        if (strcmp(k->name, fixed[i]) == 0) return true;
    for (int i = 0; i < LQ_ARRAY_LEN(own); i++)
        if (strcmp(k->name, own[i]) == 0) return false;
    return strcmp(k->group, "model") == 0 || strcmp(k->group, "adapter") == 0 ||
           strcmp(k->group, "recipe") == 0 || strcmp(k->group, "export") == 0;
}

static bool is_accepted(lq_slot *s, const char *name) {
    bool inverted;
    const int key = lq_key_find(name, &inverted);
    if (key < 0) lq_slot_mistake(s, "%.100s: unknown key", name);
    else if (is_fixed(&lq_keys[key]))
        lq_slot_mistake(s, "%.100s: is the same in all phases", name);
    else return true;
    return false;
}

static lq_status settings_pair(lq_slot *s, const char *name, const char *text) {
    lq_settings *l = s->field;
    if (!is_accepted(s, name)) return LQ_OK;
    for (int i = 0; i < l->n; i++)
        if (strcmp(l->e[i].key, name) == 0) lq_slot_mistake(s, "%.100s: given twice", name);
    lq_setting_entry *grown = lq_resize(l->e, (int64_t)l->n + 1, sizeof *l->e);
    if (!grown) return LQ_EMEM;
    l->e = grown;
    const lq_setting_entry e = {lq_strdup(name), lq_strdup(text)};
    l->e[l->n++] = e; /* settings_clear frees what there is of it */
    return e.key && e.value ? LQ_OK : LQ_EMEM;
}

static lq_status settings_add(lq_slot *s, const char *text) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        lq_slot_mistake(s, "found '%.200s', wanted %s", text, s->key->kind->wanted);
        return LQ_OK;
    }
    char *name = lq_strndup(text, (size_t)(equals - text));
    if (!name) return LQ_EMEM;
    const lq_status status = settings_pair(s, name, equals + 1);
    lq_free(name);
    return status;
}

static lq_status settings_from_text(lq_slot *s, const char *text) {
    return lq_text_split(s, text, settings_add);
}

static void settings_write(const void *field, lq_str *out) {
    const lq_settings *l = field;
    lq_str_puts(out, " {");
    for (int i = 0; i < l->n; i++) {
        if (i) lq_str_puts(out, ", ");
        lq_write_text(out, l->e[i].key);
        lq_str_puts(out, ": ");
        lq_write_text(out, l->e[i].value);
    }
    lq_str_putc(out, '}');
}

static void settings_clear(void *field) {
    lq_settings *l = field;
    for (int i = 0; i < l->n; i++) {
        lq_free(l->e[i].key);
        lq_free(l->e[i].value);
    }
    lq_free(l->e);
    *l = (lq_settings){NULL, 0};
}

static bool settings_equal(const void *a, const void *b) {
    const lq_settings *x = a, *y = b;
    bool same = x->n == y->n;
    for (int i = 0; same && i < x->n; i++)
        same = strcmp(x->e[i].key, y->e[i].key) == 0 && strcmp(x->e[i].value, y->e[i].value) == 0;
    return same;
}

const lq_kind lq_kind_settings = {.wanted = "keys and values, {key: value}",
                                  .placeholder = "KEY=X,...",
                                  .from_text = settings_from_text,
                                  .add = settings_add,
                                  .pair = settings_pair,
                                  .write = settings_write,
                                  .clear = settings_clear,
                                  .equal = settings_equal};
