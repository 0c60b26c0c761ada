/* Which pre-tokenizer a tokenizer.json asks for. Its normalizer and pre_tokenizer are written as
 * one signature: a line per step, a regex as it is, other steps by name. A table turns signatures
 * into names of pretokenizer.c, which has the regexes as llama.cpp applies them. Normalization to
 * NFC is left out, as llama.cpp leaves it out. */
#include "hf_vocab.h"

#include "pretokenizer.h"

#include <stdlib.h>
#include <string.h>

#define ANY "\1" /* in a row: whatever stands there (long classes of letters) */
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\n"
#define PATH_TAIL " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\n"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define FRONT "[^\\r\\n\\p{L}\\p{N}]?"
#define CJK "[一-龥ࠀ-一가-퟿]+\n"
#define KANJI "[一-龥぀-ゟ゠-ヿ]+\n"

typedef struct row {
    const char *signature;
    int ignores_merges;      /* -1: either */
    const char *pre;
} row;

/* Of the names that share a behaviour, the one without which a model is most often published. */
static const row rows[] = {
    {"ByteLevel\n", -1, "gpt-2"},
    {"Digit\nByteLevel\n", -1, "smollm"},
    {CONTRACTION "|" WORD "|\\p{N}{1,3}|" TAIL, 1, "llama-bpe"},
    {CONTRACTION "|" WORD "|\\p{N}{1,3}|" TAIL, 0, "dbrx"},
    {CONTRACTION "|" WORD "|\\p{N}|" TAIL, -1, "qwen2"},
    {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+"
     "[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+\n", -1, "qwen35"},
    {FRONT UPPER "*" LOWER "+|" FRONT UPPER "+" LOWER "*|\\p{N}|" PATH_TAIL, -1, "tekken"},
    {FRONT UPPER "*" LOWER "+" CONTRACTION "?|" FRONT UPPER "+" LOWER "*" CONTRACTION
     "?|\\p{N}{1,3}|" PATH_TAIL, -1, "gpt-4o"},
    {"[\\r\\n]\n\\s?[A-Za-zµÀ-Ö" ANY "]+\n\\s?[!-/:-~！-／：-～‘-‟" ANY "。]+\n\\s+$\n" CJK
     "Digits\n", -1, "deepseek-llm"},
    {"[\\r\\n]\n\\s?[A-Za-zµÀ-Ö" ANY "]+\n\\s?[!-/:-~！-／：-～‘-‟" ANY "。]+\n\\s+$\n" CJK
     "Digit\n", -1, "deepseek-llm"},
    {"[\\r\\n]\n\\s?\\p{L}+\n\\s?\\p{P}+\n" CJK "Digit\n", -1, "deepseek-coder"},
    {"\\p{N}{1,3}\n" KANJI "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
     "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+"
     "|\\s+(?!\\S)|\\s+\n", -1, "deepseek-v3"},
    {"Punctuation\nByteLevel\nDigits\n[0-9][0-9][0-9]\n", -1, "falcon"},
    {" ?[^(\\s|[.,!?…。，、।۔،])]+\n", -1, "bloom"},
    {" ?[^(\\s|[.,!?…。，、।۔،])]+\nDigit\n", -1, "viking"},
};

typedef struct reading {
    lq_str signature;
    bool bytes;              /* ByteLevel is among the steps */
    bool marks;              /* spaces become U+2581 */
    bool prefix;             /* and one is put in front */
} reading;

static const char *text_of(const json_t *object, const char *key) {
    const char *s = json_string_value(lq_hf_get(object, key));
    return s ? s : "";
}

static bool is(const char *a, const char *b) { return strcmp(a, b) == 0; }

static lq_status unknown(const char *what, const json_t *step) {
    char *shown = json_dumps(step, JSON_COMPACT);
    const lq_status status =
        lq_fail(shown ? LQ_EUNSUPPORTED : LQ_EMEM, "%s %.300s has no equivalent in llama.cpp", what,
                shown ? shown : "");
    free(shown);
    return status;
}

/* Line breaks inside a regex appear escaped or as they are. */
static void add_line(lq_str *out, const char *s) {
    for (; *s; s++) {
        if (*s == '\r') lq_str_puts(out, "\\r");
        else if (*s == '\n')
            lq_str_puts(out, "\\n");
        else
            lq_str_putc(out, *s);
    }
    lq_str_putc(out, '\n');
}

/* {"Regex": r} or {"String": s}; " " -> U+2581 has been done by a normalizer. */
static lq_status read_split(reading *r, const json_t *step) {
    const json_t *pattern = lq_hf_get(step, "pattern");
    const char *behavior = text_of(step, "behavior"), *regex = text_of(pattern, "Regex");
    const bool inverted = json_is_true(lq_hf_get(step, "invert"));
    if (r->marks && is(text_of(pattern, "String"), " ")) return LQ_OK;
    if (!*regex || !(inverted ? is(behavior, "Removed") : is(behavior, "Isolated")))
        return unknown("pre_tokenizer", step);
    add_line(&r->signature, regex);
    return LQ_OK;
}

static lq_status read_byte_level(reading *r, const json_t *step) {
    const json_t *regex = lq_hf_get(step, "use_regex");
    if (json_is_true(lq_hf_get(step, "add_prefix_space"))) return unknown("pre_tokenizer", step);
    r->bytes = true;
    if (!regex || json_is_true(regex)) lq_str_puts(&r->signature, "ByteLevel\n");
    return LQ_OK;
}

static lq_status read_metaspace(reading *r, const json_t *step) {
    const char *scheme = text_of(step, "prepend_scheme");
    r->marks = true;
    r->prefix = *scheme ? !is(scheme, "never")
                        : !json_is_false(lq_hf_get(step, "add_prefix_space"));
    return is(text_of(step, "replacement"), "▁") ? LQ_OK : unknown("pre_tokenizer", step);
}

static lq_status read_step(reading *r, const json_t *step) {
    const char *type = text_of(step, "type");
    if (is(type, "Split")) return read_split(r, step);
    if (is(type, "ByteLevel")) return read_byte_level(r, step);
    if (is(type, "Metaspace")) return read_metaspace(r, step);
    if (is(type, "Digits"))
        lq_str_puts(&r->signature,
                    json_is_true(lq_hf_get(step, "individual_digits")) ? "Digit\n" : "Digits\n");
    else if (is(type, "Punctuation") && is(text_of(step, "behavior"), "Contiguous"))
        lq_str_puts(&r->signature, "Punctuation\n");
    else
        return unknown("pre_tokenizer", step);
    return LQ_OK;
}

static lq_status read_normalizer(reading *r, const json_t *step) {
    const char *type = text_of(step, "type");
    const json_t *pattern = lq_hf_get(step, "pattern");
    const bool space = is(text_of(pattern, "String"), " ") || is(text_of(pattern, "Regex"), " ");
    if (is(type, "NFC")) return LQ_OK;
    if (is(type, "Prepend") && is(text_of(step, "prepend"), "▁")) r->prefix = true;
    else if (is(type, "Replace") && space && is(text_of(step, "content"), "▁"))
        r->marks = true;
    else
        return unknown("normalizer", step);
    return LQ_OK;
}

typedef lq_status (*step_reader)(reading *r, const json_t *step);

/* One component, or a Sequence of them under `list`. */
static lq_status read_steps(reading *r, const json_t *component, const char *list,
                            step_reader read) {
    if (!component || json_is_null(component)) return LQ_OK;
    if (!is(text_of(component, "type"), "Sequence")) return read(r, component);
    size_t i;
    json_t *step;
    json_array_foreach(lq_hf_get(component, list), i, step) LQ_TRY(read_steps(r, step, list, read));
    return LQ_OK;
}

/* ANY in the pattern stands for anything up to what follows it. */
static bool matches(const char *pattern, const char *s) {
    for (; *pattern && *pattern != *ANY; pattern++, s++)
        if (*pattern != *s) return false;
    if (!*pattern) return !*s;
    for (; *s && *s != '\n'; s++)
        if (matches(pattern + 1, s)) return true;
    return false;
}

/* What Loquat wrote itself (hf_write_tokenizer.c): the regexes of pretokenizer.c, one per line. */
static bool is_own(const lq_pre *pre, const char *signature, bool ignores_merges) {
    if (ignores_merges != ((pre->flags & LQ_PRE_IGNORE_MERGES) != 0)) return false;
    for (const char *const *regex = pre->regex; *regex; regex++) {
        const size_t n = strlen(*regex);
        if (strncmp(signature, *regex, n) != 0 || signature[n] != '\n') return false;
        signature += n + 1;
    }
    return !*signature;
}

static lq_status look_up(const char **pre, const char *signature, bool ignores_merges) {
    for (int i = 0; i < LQ_ARRAY_LEN(rows); i++) {
        if (rows[i].ignores_merges >= 0 && rows[i].ignores_merges != ignores_merges) continue;
        if (!matches(rows[i].signature, signature)) continue;
        *pre = rows[i].pre;
        return LQ_OK;
    }
    for (int i = 0; lq_pre_at(i); i++) {
        if (!is_own(lq_pre_at(i), signature, ignores_merges)) continue;
        *pre = lq_pre_at(i)->name;
        return LQ_OK;
    }
    return lq_fail(LQ_EUNSUPPORTED, "pre_tokenizer is not known; its steps are:\n%.2000s",
                   signature);
}

static lq_status decide(lq_hf_vocab *v, const json_t *tokenizer, const reading *r) {
    const json_t *model = lq_hf_get(tokenizer, "model");
    LQ_TRY(lq_str_status(&r->signature));
    if (r->bytes && (r->marks || r->prefix))
        return lq_fail(LQ_EUNSUPPORTED, "both ByteLevel and U+2581 for spaces are not supported");
    if (r->bytes)
        return look_up(&v->pre, lq_str_text(&r->signature),
                       json_is_true(lq_hf_get(model, "ignore_merges")));
    if (!r->marks || r->signature.n || !json_is_true(lq_hf_get(model, "byte_fallback")))
        return lq_fail(LQ_EUNSUPPORTED,
                       "neither byte-level BPE (pre_tokenizer ByteLevel) nor SentencePiece's "
                       "(U+2581 for spaces, byte_fallback); its steps are:\n%.2000s",
                       lq_str_text(&r->signature));
    v->spm = true;
    if (!r->prefix) v->space_prefix = 0;
    return LQ_OK;
}

lq_status lq_hf_find_pre(lq_hf_vocab *v, const json_t *tokenizer) {
    reading r = {.signature = LQ_STR_INIT};
    lq_status status;
    LQ_GOTO(status, read_steps(&r, lq_hf_get(tokenizer, "normalizer"), "normalizers",
                               read_normalizer));
    LQ_GOTO(status, read_steps(&r, lq_hf_get(tokenizer, "pre_tokenizer"), "pretokenizers",
                               read_step));
    status = decide(v, tokenizer, &r);
done:
    lq_str_clear(&r.signature);
    return status;
}

lq_status lq_hf_pre_of_class(const char **pre, const json_t *tokenizer_class) {
    static const char *const classes[][2] = {
        {"GPT2Tokenizer", "gpt-2"}, {"CodeGenTokenizer", "gpt-2"}, {"Qwen2Tokenizer", "qwen2"}};
    const char *name = json_string_value(tokenizer_class);
    for (int i = 0; i < LQ_ARRAY_LEN(classes); i++) {
        const size_t n = strlen(classes[i][0]);
        if (!name || strncmp(name, classes[i][0], n) != 0) continue;
        if (name[n] && !is(name + n, "Fast")) continue;
        *pre = classes[i][1];
        return LQ_OK;
    }
    return lq_fail(LQ_EUNSUPPORTED,
                   "vocab.json and merges.txt without tokenizer.json: tokenizer_class '%s' does "
                   "not tell how words are cut, only GPT2Tokenizer, CodeGenTokenizer and "
                   "Qwen2Tokenizer do", name ? name : "(none)");
}
