/* Cuts a text into words with PCRE2. Every regex cuts the pieces that the one before left; a match
 * is a word, and so is what lies between matches. A piece is matched as if it were the whole text,
 * so that
 * (?!\S) holds at its end.
 *
 * llama.cpp sorts characters by Unicode 15.1 and PCRE2 by whatever it was built with (14.0 in
 * Debian 12), so characters that are new in between are replaced before matching by an old one of
 * the same class and as many bytes. U+180E, white space only to PCRE2, and surrogates, which it
 * does not allow, likewise. */
#include "pretokenizer.h"

#include "codepoint.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

enum { MAX_REGEXES = 8 };

struct lq_splitter {
    pcre2_general_context *memory;
    pcre2_code *code[MAX_REGEXES];
    int n_codes;
};

/* PCRE2 takes its memory from lq_alloc; a failure there is told apart from its own limits by this.
 */
static _Thread_local bool out_of_memory;

static void *allocate(size_t bytes, void *ctx) {
    (void)ctx;
    void *p = lq_alloc(bytes);
    if (!p) out_of_memory = true;
    return p;
}

static void release(void *p, void *ctx) {
    (void)ctx;
    lq_free(p);
}

void lq_splitter_free(lq_splitter *s) {
    if (!s) return;
    for (int i = 0; i < s->n_codes; i++) pcre2_code_free(s->code[i]);
    pcre2_general_context_free(s->memory);
    lq_free(s);
}

/* Without memory for machine code (or a system that forbids it) the regex is interpreted. */
static lq_status compile(pcre2_code **out, pcre2_compile_context *context, const char *regex) {
    int error;
    PCRE2_SIZE at;
    out_of_memory = false;
    *out = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_NO_AUTO_CAPTURE, &error, &at, context);
    if (out_of_memory) return LQ_EMEM;
    if (!*out) {
        PCRE2_UCHAR message[128] = "";
        pcre2_get_error_message(error, message, sizeof message);
        return lq_fail(LQ_EUNSUPPORTED, "pre-tokenizer regex '%s': %s at byte %zu", regex,
                       (const char *)message, (size_t)at);
    }
    pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
    return out_of_memory ? LQ_EMEM : LQ_OK;
}

lq_status lq_splitter_new(lq_splitter **out, const lq_pre *pre) {
    pcre2_compile_context *context = NULL;
    lq_status status = LQ_EMEM;
    lq_splitter *s = lq_alloc(sizeof *s);
    if (!s) return LQ_EMEM;
    s->memory = pcre2_general_context_create(allocate, release, NULL);
    if (!s->memory) goto done;
    context = pcre2_compile_context_create(s->memory);
    if (!context) goto done;
    for (int i = 0; pre->regex[i]; i++) {
        status = compile(&s->code[i], context, pre->regex[i]);
        if (s->code[i]) s->n_codes = i + 1;
        if (status != LQ_OK) goto done;
    }
    *out = s;
    s = NULL;
done:
    pcre2_compile_context_free(context);
    lq_splitter_free(s);
    return status;
}

typedef struct words {
    int32_t *bytes;
    int64_t n, cap;
} words;

static lq_status add_word(words *w, size_t bytes) {
    if (!bytes) return LQ_OK;
    LQ_TRY(lq_reserve((void **)&w->bytes, &w->cap, w->n + 1, sizeof *w->bytes));
    w->bytes[w->n++] = (int32_t)bytes;
    return LQ_OK;
}

/* The next match in piece[0..n) at or after `from`. */
static lq_status next_match(const pcre2_code *code, const char *piece, size_t n, size_t from,
                            pcre2_match_data *match, bool *found) {
    const PCRE2_SPTR text = (PCRE2_SPTR)piece;
    out_of_memory = false;
    int rc = pcre2_match(code, text, n, from, PCRE2_NO_UTF_CHECK, match, NULL);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(code, text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, match, NULL);
    *found = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return LQ_OK;
    if (out_of_memory) return LQ_EMEM;
    return lq_fail(LQ_EVALUE,
                   "pre-tokenizer: regex match failed on a text of %zu bytes (PCRE2 error %d)", n,
                   rc);
}

static lq_status cut_piece(const pcre2_code *code, const char *piece, size_t n,
                           pcre2_match_data *match, words *out) {
    const PCRE2_SIZE *const range = pcre2_get_ovector_pointer(match);
    for (size_t at = 0; at < n; at = range[1]) {
        bool found;
        LQ_TRY(next_match(code, piece, n, at, match, &found));
        if (!found) return add_word(out, n - at);
        LQ_TRY(add_word(out, range[0] - at));
        LQ_TRY(add_word(out, range[1] - range[0]));
    }
    return LQ_OK;
}

static lq_status cut(const lq_splitter *s, int i, const char *text, const words *in, words *out) {
    pcre2_match_data *match = pcre2_match_data_create(1, s->memory);
    if (!match) return LQ_EMEM;
    lq_status status = LQ_OK;
    for (int64_t k = 0; k < in->n && status == LQ_OK; text += in->bytes[k++])
        status = cut_piece(s->code[i], text, (size_t)in->bytes[k], match, out);
    pcre2_match_data_free(match);
    return status;
}

typedef struct stand_in { uint32_t first, last, code; } stand_in;

/* Sorted. The stand-ins, by bytes. Three: U+20D0 and (in Lao) U+0EC8 marks, U+2190 a symbol, U+200B
 * and U+E000 none of the classes. Four: U+10000 a letter, U+1D167 a mark, U+10107 a number, U+10100
 * punctuation, U+1D100 a symbol. */
static const stand_in stand_ins[] = {
    {0xCF3, 0xCF3, 0x20D0},       {0xECE, 0xECE, 0xEC8},        {0x180E, 0x180E, 0x200B},
    {0x2FFC, 0x2FFF, 0x2190},     {0x31EF, 0x31EF, 0x2190},     {0xD800, 0xDFFF, 0xE000},
    {0x10EFD, 0x10EFF, 0x1D167},  {0x1123F, 0x11240, 0x10000},  {0x11241, 0x11241, 0x1D167},
    {0x11B00, 0x11B09, 0x10100},  {0x11F00, 0x11F01, 0x1D167},  {0x11F02, 0x11F02, 0x10000},
    {0x11F03, 0x11F03, 0x1D167},  {0x11F04, 0x11F10, 0x10000},  {0x11F12, 0x11F33, 0x10000},
    {0x11F34, 0x11F3A, 0x1D167},  {0x11F3E, 0x11F42, 0x1D167},  {0x11F43, 0x11F4F, 0x10100},
    {0x11F50, 0x11F59, 0x10107},  {0x1342F, 0x1342F, 0x10000},  {0x13440, 0x13440, 0x1D167},
    {0x13441, 0x13446, 0x10000},  {0x13447, 0x13455, 0x1D167},  {0x1B132, 0x1B132, 0x10000},
    {0x1B155, 0x1B155, 0x10000},  {0x1D2C0, 0x1D2D3, 0x10107},  {0x1DF25, 0x1DF2A, 0x10000},
    {0x1E030, 0x1E06D, 0x10000},  {0x1E08F, 0x1E08F, 0x1D167},  {0x1E4D0, 0x1E4EB, 0x10000},
    {0x1E4EC, 0x1E4EF, 0x1D167},  {0x1E4F0, 0x1E4F9, 0x10107},  {0x1F6DC, 0x1F6DC, 0x1D100},
    {0x1F774, 0x1F776, 0x1D100},  {0x1F77B, 0x1F77F, 0x1D100},  {0x1F7D9, 0x1F7D9, 0x1D100},
    {0x1FA75, 0x1FA77, 0x1D100},  {0x1FA87, 0x1FA88, 0x1D100},  {0x1FAAD, 0x1FAAF, 0x1D100},
    {0x1FABB, 0x1FABD, 0x1D100},  {0x1FABF, 0x1FABF, 0x1D100},  {0x1FACE, 0x1FACF, 0x1D100},
    {0x1FADA, 0x1FADB, 0x1D100},  {0x1FAE8, 0x1FAE8, 0x1D100},  {0x1FAF7, 0x1FAF8, 0x1D100},
    {0x2B739, 0x2B739, 0x10000},  {0x2EBF0, 0x2EE5D, 0x10000},  {0x31350, 0x323AF, 0x10000},
};

/* 0: the character stands for itself. */
static uint32_t stand_in_for(uint32_t code) {
    int low = 0, high = LQ_ARRAY_LEN(stand_ins);
    while (low < high) {
        const int middle = (low + high) / 2;
        if (code > stand_ins[middle].last) low = middle + 1;
        else high = middle;
    }
    return low < LQ_ARRAY_LEN(stand_ins) && code >= stand_ins[low].first ? stand_ins[low].code : 0;
}

/* *copy: the text with stand-ins, or NULL when there is nothing to replace. */
static lq_status replace(char **copy, const char *text, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t code;
        const size_t bytes = lq_codepoint_read(text + i, n - i, &code);
        const uint32_t other = code < stand_ins[0].first ? 0 : stand_in_for(code);
        if (other) {
            if (!*copy && !(*copy = lq_strndup(text, n))) return LQ_EMEM;
            lq_codepoint_write(other, *copy + i);
        }
        i += bytes;
    }
    return LQ_OK;
}

lq_status lq_splitter_run(const lq_splitter *s, const char *text, size_t n, int32_t **out,
                          int64_t *n_out) {
    char *copy = NULL;
    words from = {NULL, 0, 0}, to = {NULL, 0, 0};
    lq_status status;
    LQ_GOTO(status, replace(&copy, text, n));
    LQ_GOTO(status, add_word(&from, n));
    for (int i = 0; i < s->n_codes; i++) {
        LQ_GOTO(status, cut(s, i, copy ? copy : text, &from, &to));
        const words emptied = {from.bytes, 0, from.cap};
        from = to;
        to = emptied;
    }
    *out = from.bytes;
    *n_out = from.n;
    from.bytes = NULL;
done:
    lq_free(copy);
    lq_free(from.bytes);
    lq_free(to.bytes);
    return status;
}
