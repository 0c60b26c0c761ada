/* See tape_print.h. */
#include "tape_print.h"

#include "str.h"
#include "tape_parts.h"

#include <assert.h>

static void print_tensor(lq_str *s, const char *what, const lq_tensor *t) {
    lq_str_printf(s, "  %s %s (", what, t->fmt->name);
    for (int i = 0; i < t->ndim; i++)
        lq_str_printf(s, "%s%lld", i ? "," : "", (long long)t->dim[i]);
    lq_str_puts(s, ")");
    if (t->first >= 0)
        lq_str_printf(s, " live %d-%d at %zu, %zu bytes", t->first, t->last, t->offset,
                      lq_tensor_bytes(t));
}

static void print_entry(lq_str *s, int64_t at, const lq_entry *entry) {
    static const char *const kind[] = {"forward", "zero", "backward"};
    lq_str_printf(s, "%4lld %-8s", (long long)at, kind[entry->kind]);
    if (entry->kind == LQ_ENTRY_ZERO) {
        print_tensor(s, "gradient", entry->tensor);
    } else {
        const lq_node *const node = entry->node;
        lq_str_printf(s, " %s #%u", node->op->name, node->id);
        if (node->segment >= 0) lq_str_printf(s, " segment %d", node->segment);
        print_tensor(s, "out", node->out);
        if (node->saved) print_tensor(s, "saved", node->saved);
        if (entry->scratch) lq_str_printf(s, "  scratch %zu bytes", entry->scratch);
    }
    lq_str_putc(s, '\n');
}

lq_status tape_print(const lq_tape *tape, char **out_text) {
    assert(tape->local);
    *out_text = NULL;
    lq_str s = LQ_STR_INIT;
    for (int64_t i = 0; i < tape->n_entries; i++) print_entry(&s, i, &tape->entry[i]);
    lq_str_printf(&s, "arena %zu bytes, of it scratch %zu\n", tape->arena_bytes,
                  tape->scratch_bytes);
    *out_text = lq_str_take(&s);
    return *out_text ? LQ_OK : LQ_EMEM;
}
