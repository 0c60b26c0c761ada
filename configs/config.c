/* Loads a configuration: defaults, the file, the command line, then the checks between keys; all
 * mistakes at once. See config.h. */
#include "schema.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { MAX_FILE_BYTES = 1 << 20 };

void lq_config_free(lq_config *c) {
    if (!c) return;
    for (int i = 0; i < lq_n_keys; i++) lq_keys[i].kind->clear(lq_key_field(&lq_keys[i], c));
    lq_free(c);
}

/* ---- defaults -------------------------------------------------------------------------------- */

static lq_status set_defaults(lq_reader *r) {
    for (int i = 0; i < lq_n_keys; i++) {
        lq_slot s = lq_slot_open(r, i, false, LQ_LINE_NONE);
        LQ_TRY(lq_slot_default(&s));
    }
    return LQ_OK;
}

static lq_status new_config(lq_config **out) {
    lq_reader r = {.defaults = NULL, .mistakes = LQ_STR_INIT};
    *out = r.config = lq_alloc(sizeof *r.config);
    if (!*out) return LQ_EMEM;
    lq_status status = set_defaults(&r);
    if (status == LQ_OK && r.n_mistakes)
        status = lq_fail(LQ_ECONFIG, "a default is wrong: %s", lq_str_text(&r.mistakes));
    lq_str_clear(&r.mistakes);
    if (status == LQ_OK) return LQ_OK;
    lq_config_free(*out);
    *out = NULL;
    return status;
}

/* ---- the file -------------------------------------------------------------------------------- */

static lq_status read_text(lq_str *out, const char *path) {
    char block[4096];
    size_t n;
    FILE *f = fopen(path, "rb");
    if (!f) return lq_fail(LQ_ECONFIG, "%s: %s", path, strerror(errno));
    while ((n = fread(block, 1, sizeof block, f)) > 0 && out->n <= MAX_FILE_BYTES)
        lq_str_add(out, block, n);
    lq_status status = lq_str_status(out);
    if (ferror(f)) status = lq_fail(LQ_ECONFIG, "%s: %s", path, strerror(errno));
    else if (out->n > MAX_FILE_BYTES)
        status = lq_fail(LQ_ECONFIG, "%s: more than 1 MiB, which no configuration has", path);
    fclose(f);
    return status;
}

/* ---- the command line ------------------------------------------------------------------------ */

/* Length of the UTF-8 character at p; 0: not one. */
static int character(const unsigned char *p) {
    int n = 0;
    if (*p < 0x80) n = 1;
    else if (*p >= 0xc2 && *p < 0xe0) n = 2;
    else if (*p >= 0xe0 && *p < 0xf0) n = 3;
    else if (*p >= 0xf0 && *p < 0xf5) n = 4;
    for (int i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    const bool overlong = (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xf0 && p[1] < 0x90);
    const bool surrogate = *p == 0xed && p[1] > 0x9f, beyond = *p == 0xf4 && p[1] > 0x8f;
    return overlong || surrogate || beyond ? 0 : n;
}

static bool is_utf8(const char *text) {
    const unsigned char *p = (const unsigned char *)text;
    while (*p) {
        const int n = character(p);
        if (n == 0) return false;
        p += n;
    }
    return true;
}

/* The value as it stands; in brackets or braces, for a list or map, YAML. null: the default. */
static lq_status set_option(lq_reader *r, int key, bool inverted, const char *value) {
    lq_slot s = lq_slot_open(r, key, inverted, LQ_LINE_OPTION);
    if (strcmp(value, "null") == 0) LQ_TRY(lq_slot_default(&s));
    else if (s.key->kind->add && strchr("[{", value[strspn(value, " ")]))
        LQ_TRY(lq_yaml_read_value(&s, value));
    else LQ_TRY(s.key->kind->from_text(&s, value));
    lq_slot_close(&s);
    return LQ_OK;
}

/* --qat off leaves out what the file has; --qat on takes the defaults. */
static void set_section(lq_reader *r, int section, const char *value) {
    bool on = false;
    if (!lq_text_is_null(value) && !lq_text_to_bool(value, &on))
        lq_mistake(r, LQ_LINE_OPTION,
                   "%s: found '%.200s', wanted on or off, or its keys: --%s.KEY VALUE",
                   lq_sections[section].name, value, lq_sections[section].name);
    else lq_section_give(r, section, on, LQ_LINE_OPTION);
}

static lq_status read_option(lq_reader *r, const lq_override *o) {
    bool inverted;
    const char *name = o->key + strspn(o->key, "-");
    const int key = lq_key_find(name, &inverted), section = lq_section_find(name);
    if (!is_utf8(o->value) || !is_utf8(name))
        lq_mistake(r, LQ_LINE_OPTION, "%s: not valid UTF-8", key < 0 ? "?" : lq_keys[key].name);
    else if (key >= 0) return set_option(r, key, inverted, o->value);
    else if (section >= 0) set_section(r, section, o->value);
    else lq_unknown_key(r, LQ_LINE_OPTION, name);
    return LQ_OK;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static lq_status report(lq_reader *r) {
    const int shown = LQ_MAX_MISTAKES;
    LQ_TRY(lq_str_status(&r->mistakes));
    if (r->n_mistakes == 0) return LQ_OK;
    if (r->n_mistakes > shown) lq_str_printf(&r->mistakes, "\nand %d more", r->n_mistakes - shown);
    return lq_fail(LQ_ECONFIG, "%s", lq_str_text(&r->mistakes));
}

static lq_status read_everything(lq_reader *r, const char *text, size_t n,
                                 const lq_override *overrides, int n_overrides) {
    if (text) LQ_TRY(lq_yaml_read(r, text, n));
    r->in_option = true;
    for (int i = 0; i < n_overrides; i++) LQ_TRY(read_option(r, &overrides[i]));
    lq_config_check(r);
    return report(r);
}

static lq_status load(lq_config **out, const char *file, const char *text, size_t n,
                      const lq_override *overrides, int n_overrides) {
    lq_config *defaults = NULL;
    lq_reader r = {.file = file, .mistakes = LQ_STR_INIT};
    lq_status status = LQ_OK;
    LQ_GOTO(status, new_config(&defaults));
    LQ_GOTO(status, new_config(&r.config));
    r.defaults = defaults;
    LQ_GOTO(status, read_everything(&r, text, n, overrides, n_overrides));
    *out = r.config;
    r.config = NULL;
done:
    lq_config_free(r.config);
    lq_config_free(defaults);
    lq_str_clear(&r.mistakes);
    return status;
}

lq_status lq_config_load(lq_config **out, const char *path, const lq_override *overrides,
                         int n_overrides) {
    lq_str text = LQ_STR_INIT;
    *out = NULL;
    lq_status status = path ? read_text(&text, path) : LQ_OK;
    if (status == LQ_OK)
        status = load(out, path, path ? lq_str_text(&text) : NULL, text.n, overrides, n_overrides);
    lq_str_clear(&text);
    return status;
}

lq_status lq_config_read(lq_config **out, const char *yaml, const char *name,
                         const lq_override *overrides, int n_overrides) {
    *out = NULL;
    return load(out, name, yaml, strlen(yaml), overrides, n_overrides);
}

lq_status lq_config_parse(lq_config **out, const char *yaml, const char *name) {
    return lq_config_read(out, yaml, name, NULL, 0);
}
