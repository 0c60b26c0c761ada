/* A configuration as YAML, the difference of two, and the help: walks over the table of keys. See
 * config.h. */
#include "schema.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- scalars --------------------------------------------------------------------------------- */

void lq_write_real(lq_str *out, double value) {
    char text[40];
    int digits = 6;
    do snprintf(text, sizeof text, "%.*g", digits++, value);
    while (digits <= 17 && strtod(text, NULL) != value);
    const char *e = strchr(text, 'e');
    if (e && !strchr(text, '.'))
        lq_str_printf(out, "%.*s.0%s", (int)(e - text), text, e); /* YAML 1.1 wants the point */
    else lq_str_puts(out, text);
}

/* Could be read as something else than this text, or ends the scalar. */
static bool needs_quotes(const char *text) {
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
    bool truth;
    double real;
    return text[strspn(text, plain)] ||
           !strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ/_", text[0]) ||
           lq_text_is_null(text) || lq_text_to_bool(text, &truth) || lq_text_to_real(text, &real) ||
           strcasecmp(text, "nan") == 0 || strcasecmp(text, "inf") == 0;
}

/* The code point at *p, which moves on; text is valid UTF-8: libyaml and the command line see to
 * it. */
static unsigned decode(const unsigned char **p) {
    const unsigned char c = *(*p)++;
    const int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
    unsigned code = more ? c & (0x3fu >> more) : c;
    for (int i = 0; i < more; i++) code = code << 6 | (*(*p)++ & 0x3fu);
    return code;
}

static bool is_printable(unsigned code) {
    return (code >= 0x20 && code < 0x7f) || (code >= 0xa0 && code < 0x2028) ||
           (code > 0x2029 && code < 0xd800) || (code >= 0xe000 && code < 0xfeff) ||
           (code > 0xfeff && code < 0xfffe) || code >= 0x10000;
}

void lq_write_text(lq_str *out, const char *text) {
    if (!needs_quotes(text)) {
        lq_str_puts(out, text);
        return;
    }
    lq_str_putc(out, '"');
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const unsigned char *const start = p;
        const unsigned code = decode(&p);
        if (code == '"' || code == '\\') lq_str_printf(out, "\\%c", (char)code);
        else if (code == '\n') lq_str_puts(out, "\\n");
        else if (code == '\t') lq_str_puts(out, "\\t");
        else if (!is_printable(code)) lq_str_printf(out, "\\u%04x", code);
        else lq_str_add(out, (const char *)start, (size_t)(p - start));
    }
    lq_str_putc(out, '"');
}

/* ---- dump ------------------------------------------------------------------------------------ */

static bool section_given(const lq_config *c, int section) {
    const ptrdiff_t has = lq_sections[section].has;
    return has < 0 || *(const bool *)((const char *)c + has);
}

lq_status lq_config_dump(const lq_config *c, lq_str *out) {
    const char *group = "";
    for (int i = 0; i < lq_n_keys; i++) {
        const lq_key *k = &lq_keys[i];
        const int section = lq_section_of(k->name);
        if (section >= 0 && !section_given(c, section)) continue;
        if (strcmp(group, k->group) != 0) {
            if (*group) lq_str_putc(out, '\n');
            lq_str_printf(out, section < 0 ? "# %s\n" : "%s:\n", k->group);
        }
        group = k->group;
        const char *dot = strchr(k->name, '.');
        lq_str_printf(out, "%s%s:", dot ? "  " : "", dot ? dot + 1 : k->name);
        k->kind->write(lq_key_value(k, c), out);
        lq_str_putc(out, '\n');
    }
    return lq_str_status(out);
}

/* ---- difference ------------------------------------------------------------------------------ */

static void add_name(lq_str *out, const char *name) {
    lq_str_printf(out, "%s%s", out->n ? ", " : "", name);
}

lq_status lq_config_diff(const lq_config *a, const lq_config *b, bool result_only, lq_str *out) {
    for (int i = 0; i < LQ_N_SECTIONS; i++)
        if (section_given(a, i) != section_given(b, i)) add_name(out, lq_sections[i].name);
    for (int i = 0; i < lq_n_keys; i++) {
        const lq_key *k = &lq_keys[i];
        const int section = lq_section_of(k->name);
        if (section >= 0 && !(section_given(a, section) && section_given(b, section))) continue;
        if (result_only && (k->flags & LQ_KEY_KEEPS_RESULT)) continue;
        if (!k->kind->equal(lq_key_value(k, a), lq_key_value(k, b))) add_name(out, k->name);
    }
    return lq_str_status(out);
}

/* ---- help ------------------------------------------------------------------------------------ */

static void write_bounds(const lq_key *k, lq_str *out) {
    const bool bounded = k->max < 1e9; /* more only guards against nonsense */
    if (!isfinite(k->min)) return;
    if (k->flags & LQ_KEY_ABOVE_MIN) lq_str_printf(out, "; more than %g", k->min);
    else if (k->min != 0 || bounded) lq_str_printf(out, "; from %g", k->min);
    if (bounded) lq_str_printf(out, " to %.10g", k->max);
}

/* The words of a list of choices or aliases, "=" and what follows left out. */
static void write_words(lq_str *out, const char *before, const char *words) {
    if (!words || !*words) return;
    lq_str_puts(out, before);
    for (const char *p = words; *p; p += strspn(p, " ")) {
        if (p != words) lq_str_puts(out, ", ");
        if (*p == '!') lq_str_puts(out, "(reversed) ");
        p += *p == '!';
        lq_str_add(out, p, strcspn(p, " ="));
        p += strcspn(p, " ");
    }
}

static void write_key(const lq_key *k, lq_str *out) {
    char left[LQ_NAME_BYTES];
    snprintf(left, sizeof left, "--%s %s", k->name, k->kind->placeholder);
    for (char *p = left; *p && *p != ' '; p++)
        if (*p == '_') *p = '-';
    lq_str_printf(out, "  %s\n      %s", left, k->help);
    if (k->kind != &lq_kind_datasets)
        write_words(out, ": ", k->supported ? k->supported : k->choices);
    write_bounds(k, out);
    if (k->init) lq_str_printf(out, " [%s]", k->init);
    if (k->flags & LQ_KEY_NOT_YET) lq_str_puts(out, " (not supported by this version yet)");
    write_words(out, "\n      also: ", k->aliases);
    lq_str_putc(out, '\n');
}

lq_status lq_config_help(lq_str *out) {
    const char *group = "";
    for (int i = 0; i < lq_n_keys; i++) {
        const lq_key *k = &lq_keys[i];
        if (strcmp(group, k->group) != 0)
            lq_str_printf(out, "%s%s\n", *group ? "\n" : "", k->group);
        group = k->group;
        write_key(k, out);
    }
    return lq_str_status(out);
}

bool lq_config_is_key(const char *name, bool *takes_value) {
    bool inverted;
    name += strspn(name, "-");
    const int key = lq_key_find(name, &inverted);
    *takes_value = key < 0 || lq_keys[key].kind != &lq_kind_bool;
    return key >= 0 || lq_section_find(name) >= 0;
}
