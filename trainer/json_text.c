/* See json_text.h. */
#include "json_text.h"

#include "codepoint.h"

#include <math.h>

static int add(const char *text, size_t n, void *out) {
    lq_str_add(out, text, n);
    return lq_str_status(out) == LQ_OK ? 0 : -1;
}

lq_status lq_json_print(lq_str *out, const json_t *o, size_t flags) {
    if (!o || json_dump_callback(o, add, out, flags) != 0)
        return lq_fail(LQ_EMEM, "out of memory while printing JSON");
    return LQ_OK;
}

json_t *lq_json_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

void lq_utf8_repair(lq_str *out, const lq_str *text) {
    for (size_t i = 0; i < text->n;) {
        uint32_t code;
        char bytes[4];
        i += lq_codepoint_read(text->s + i, text->n - i, &code);
        if (code >= 0xD800 && code < 0xE000) code = 0xFFFD; /* surrogates are not UTF-8 either */
        lq_str_add(out, bytes, lq_codepoint_write(code, bytes));
    }
}

json_t *lq_json_string(const lq_str *text) {
    lq_str valid = LQ_STR_INIT;
    lq_utf8_repair(&valid, text);
    json_t *o = lq_str_status(&valid) == LQ_OK ? json_stringn(lq_str_text(&valid), valid.n) : NULL;
    lq_str_clear(&valid);
    return o;
}
