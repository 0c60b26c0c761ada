/* Gathers mistakes, and opens and closes the slots that values are read into. See schema.h. */
#include "schema.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

enum { MISTAKE_BYTES = 512 };

static void add_mistake(lq_reader *r, int line, const char *label, const char *text) {
    if (++r->n_mistakes > LQ_MAX_MISTAKES) return;
    if (r->n_mistakes > 1) lq_str_putc(&r->mistakes, '\n');
    if (line > 0) lq_str_printf(&r->mistakes, "%s:%d: ", r->file, line);
    else if (line == LQ_LINE_OPTION) lq_str_puts(&r->mistakes, "--");
    else if (r->file) lq_str_printf(&r->mistakes, "%s: ", r->file);
    const size_t label_at = r->mistakes.n;
    lq_str_printf(&r->mistakes, "%s%s", label, text);
    if (line != LQ_LINE_OPTION || r->mistakes.failed) return;
    for (char *p = r->mistakes.s + label_at; *p && *p != ':'; p++)
        if (*p == '_') *p = '-';
}

void lq_mistake(lq_reader *r, int line, const char *fmt, ...) {
    char text[MISTAKE_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    add_mistake(r, line, "", text);
}

void lq_slot_mistake(lq_slot *s, const char *fmt, ...) {
    char text[MISTAKE_BYTES], label[LQ_NAME_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(label, sizeof label, "%s: ", s->key->name);
    add_mistake(s->reader, s->line, label, text);
    s->reader->bad[s->key - lq_keys] = true;
}

void lq_unknown_key(lq_reader *r, int line, const char *name) {
    char nearest[LQ_NAME_BYTES] = "";
    if (r->n_mistakes < LQ_MAX_MISTAKES) lq_key_nearest(nearest, name); /* others: counted */
    if (*nearest) lq_mistake(r, line, "%.200s: unknown key; did you mean '%s'?", name, nearest);
    else lq_mistake(r, line, "%.200s: unknown key", name);
}

/* Given twice in the file, or twice on the command line; an option may override the file. */
static void check_repeated(lq_slot *s) {
    const int before = s->reader->line[s->key - lq_keys];
    if (before == LQ_LINE_NONE || (before > 0) != (s->line > 0)) return;
    if (before > 0)
        lq_slot_mistake(s, "given again; line %d has it already (perhaps under another name)",
                        before);
    else lq_slot_mistake(s, "given twice (perhaps under another name)");
}

lq_slot lq_slot_open(lq_reader *r, int key, bool inverted, int line) {
    assert(key >= 0 && key < lq_n_keys);
    const lq_key *k = &lq_keys[key];
    lq_slot s = {r, k, lq_key_field(k, r->config), line, inverted};
    if (r->defaults) check_repeated(&s);
    r->line[key] = line;
    if (k->kind->add) k->kind->clear(s.field);
    const int section = lq_section_of(k->name);
    if (r->defaults && section >= 0) lq_section_give(r, section, true, line);
    return s;
}

void lq_slot_close(lq_slot *s) {
    const lq_key *k = s->key;
    if (!(k->flags & LQ_KEY_NOT_YET) || s->reader->bad[k - lq_keys]) return;
    if (!k->kind->equal(s->field, lq_key_value(k, s->reader->defaults)))
        lq_slot_mistake(s, "not supported by this version yet");
}

lq_status lq_slot_default(lq_slot *s) {
    s->key->kind->clear(s->field);
    s->inverted = false;
    return s->key->init ? s->key->kind->from_text(s, s->key->init) : LQ_OK;
}

void lq_section_give(lq_reader *r, int section, bool on, int line) {
    const lq_section *s = &lq_sections[section];
    r->section_line[section] = on ? line : LQ_LINE_NONE;
    if (s->has >= 0) *((bool *)((char *)r->config + s->has)) = on;
}
