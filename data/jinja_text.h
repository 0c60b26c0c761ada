/* Text of the Jinja interpreter: printing and formatting of values, UTF-8, string operations. */
#ifndef LOQUAT_JINJA_TEXT_H
#define LOQUAT_JINJA_TEXT_H

#include "jinja_value.h"

/* ---- text (jinja_print.c, jinja_format.c) ---- */
void lq_jprint(jmem *m, jbuf *b, jvalue v); /* str(v) */
void lq_jrepr(jmem *m, jbuf *b, jvalue v);  /* repr(v) */
jvalue lq_jto_str(jmem *m, jvalue v);
void lq_jprint_float(jmem *m, jbuf *b, double f);
typedef struct jjson_style {
    bool ascii, sort_keys;
    const char *indent; /* NULL: one line */
    const char *item_sep, *key_sep;
} jjson_style;
void lq_jjson(jmem *m, jbuf *b, jvalue v, const jjson_style *style);
jvalue lq_jpercent(jmem *m, const jstr *format, jvalue args); /* format % args */
jvalue lq_jbrace_format(jmem *m, const jstr *format, const jseq *args, const jdict *kwargs);

/* ---- UTF-8 (jinja_text.c) ---- */
int lq_utf8_decode(const char *s, int64_t n,
                   uint32_t *code); /* bytes of one valid code point, >= 1 */
int lq_utf8_encode(uint32_t code, char out[4]);
bool lq_utf8_valid(const char *s, size_t n);
int64_t lq_utf8_offset(const jstr *s, int64_t chars); /* byte offset of a code point */
bool lq_is_space(uint32_t code);                      /* Python's str.isspace */
bool lq_is_printable(uint32_t code);
uint32_t lq_to_upper(uint32_t code);
uint32_t lq_to_lower(uint32_t code);
bool lq_is_alpha(uint32_t code);
bool lq_is_digit(uint32_t code);
jvalue lq_jupper(jmem *m, const jstr *s);
jvalue lq_jlower(jmem *m, const jstr *s);
jvalue lq_jstrip(jmem *m, const jstr *s, const jstr *chars, bool left,
                 bool right); /* chars NULL: space */
jvalue lq_jreplace(jmem *m, const jstr *s, const jstr *from, const jstr *to, int64_t count);
int64_t lq_jfind_bytes(const jstr *s, const jstr *part, int64_t from, int64_t end); /* -1: absent */
jvalue lq_jescape(jmem *m, const jstr *s);                                          /* HTML */

#endif
