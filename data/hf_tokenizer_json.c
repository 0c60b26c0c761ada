/* tokenizer.json: a BPE model, byte-level or with byte fallback (SentencePiece's in other words),
 * and its added tokens. Also the older pair of vocab.json and merges.txt.
 *
 * SPM needs scores where the file has merges. The k-th merge gives its result the score -k, unless
 * an earlier one did: merging by best score then takes the pairs in the order of the list. */
#include "hf_vocab.h"

#include "atomic_file.h"
#include "json_file.h"
#include "tokenizer_parts.h"

#include <string.h>

/* A space inside a part of a merge is written as the character that stands for it in byte-level
 * vocabularies. */
static lq_status add_part(lq_str *out, const json_t *part) {
    const char *s = json_string_value(part);
    for (size_t i = 0; s && i < json_string_length(part); i++) {
        if (s[i] == ' ') lq_str_puts(out, "\xc4\xa0");
        else
            lq_str_putc(out, s[i]);
    }
    return lq_str_status(out);
}

static lq_status bad_merge(size_t i) {
    return lq_fail(LQ_EFORMAT, "merge %zu must be \"left right\" or [\"left\", \"right\"]", i);
}

/* The parts of a merge, one behind the other in `text`; spaces are kept for SPM. */
static lq_status split_merge(const json_t *merge, size_t i, bool spm, lq_str *text,
                             size_t *n_left) {
    lq_str_reset(text);
    if (json_is_array(merge)) {
        const json_t *left = json_array_get(merge, 0), *right = json_array_get(merge, 1);
        if (json_array_size(merge) != 2 || !json_string_length(left) || !json_string_length(right))
            return bad_merge(i);
        if (spm) lq_str_add(text, json_string_value(left), json_string_length(left));
        else
            LQ_TRY(add_part(text, left));
        *n_left = text->n;
        if (!spm) return add_part(text, right);
        lq_str_add(text, json_string_value(right), json_string_length(right));
        return lq_str_status(text);
    }
    const char *s = json_string_value(merge);
    const size_t n = json_string_length(merge);
    const char *space = n > 2 ? memchr(s + 1, ' ', n - 2) : NULL;
    if (!space) return bad_merge(i);
    *n_left = (size_t)(space - s);
    lq_str_add(text, s, *n_left);
    lq_str_add(text, space + 1, n - *n_left - 1);
    return lq_str_status(text);
}

static lq_status read_merges(lq_hf_vocab *v, const json_t *model) {
    const json_t *list = lq_hf_get(model, "merges"), *vocab = lq_hf_get(model, "vocab");
    if (!json_is_array(list)) return lq_fail(LQ_EFORMAT, "model.merges is missing");
    lq_str text = LQ_STR_INIT;
    lq_status status = LQ_OK;
    for (size_t i = 0; i < json_array_size(list) && status == LQ_OK; i++) {
        size_t n_left = 0;
        status = split_merge(json_array_get(list, i), i, v->spm, &text, &n_left);
        if (status != LQ_OK) break;
        if (!v->spm) {
            status = lq_hf_vocab_merge(v, text.s, n_left, text.s + n_left, text.n - n_left);
            continue;
        }
        const json_t *id = lq_hf_get(vocab, text.s);
        lq_hf_token *t = json_is_integer(id) ? &v->token[json_integer_value(id)] : NULL;
        if (t && t->score == 0) t->score = -(float)(i + 1);
    }
    lq_str_clear(&text);
    return status;
}

static lq_status read_vocab(lq_hf_vocab *v, const json_t *vocab) {
    const char *text;
    json_t *id;
    if (!json_object_size(vocab)) return lq_fail(LQ_EFORMAT, "the vocabulary is missing or empty");
    json_object_foreach((json_t *)vocab, text, id) {
        if (!json_is_integer(id))
            return lq_fail(LQ_EFORMAT, "the id of token '%.60s' is no number", text);
        LQ_TRY(lq_hf_vocab_set(v, json_integer_value(id), text, strlen(text), 0, LQ_TOKEN_NORMAL));
    }
    return LQ_OK;
}

static bool is_byte_name(const lq_hf_vocab *v, const lq_hf_token *t) {
    const char *s = v->bytes.s + t->text.start;
    return t->text.n == 6 && memcmp(s, "<0x", 3) == 0 && s[5] == '>' &&
           strspn(s + 3, "0123456789ABCDEFabcdef") == 2;
}

static bool is_one_character(const lq_hf_vocab *v, const lq_hf_token *t) {
    size_t n = 0;
    for (size_t i = 0; i < t->text.n; i++) n += (v->bytes.s[t->text.start + i] & 0xC0) != 0x80;
    return n <= 1;
}

/* What no merge makes comes last in SPM, which joins whatever is a token. */
static void finish_spm(lq_hf_vocab *v, const json_t *model) {
    const float last = -1.0F - (float)json_array_size(lq_hf_get(model, "merges"));
    const json_t *unknown =
        lq_hf_get(lq_hf_get(model, "vocab"), json_string_value(lq_hf_get(model, "unk_token")));
    for (int64_t id = 0; id < v->n; id++) {
        lq_hf_token *t = &v->token[id];
        if (is_byte_name(v, t)) t->type = LQ_TOKEN_BYTE;
        else if (t->score == 0 && !is_one_character(v, t))
            t->score = last;
    }
    const int64_t id = json_integer_value(unknown);
    if (json_is_integer(unknown)) v->token[id].type = LQ_TOKEN_UNKNOWN;
    if (json_is_integer(unknown)) v->token[id].score = 0;
}

/* {id, content, special, ...} of tokenizer.json. */
static lq_status read_added(lq_hf_vocab *v, const json_t *list) {
    size_t i;
    json_t *entry;
    json_array_foreach((json_t *)list, i, entry) {
        const json_t *id = lq_hf_get(entry, "id");
        if (!json_is_integer(id)) return lq_fail(LQ_EFORMAT, "added token %zu has no id", i);
        LQ_TRY(lq_hf_vocab_added(v, json_integer_value(id), lq_hf_get(entry, "content"),
                                 json_is_true(lq_hf_get(entry, "special"))));
    }
    return LQ_OK;
}

static lq_status check_model(const json_t *model) {
    static const char *const empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    const json_t *type = lq_hf_get(model, "type");
    if (type && (!json_is_string(type) || strcmp(json_string_value(type), "BPE") != 0))
        return lq_fail(LQ_EUNSUPPORTED, "model type '%s' is not supported, only BPE is",
                       json_is_string(type) ? json_string_value(type) : "?");
    for (int i = 0; i < LQ_ARRAY_LEN(empty); i++)
        if (json_string_length(lq_hf_get(model, empty[i])))
            return lq_fail(LQ_EUNSUPPORTED, "model.%s is not supported", empty[i]);
    return LQ_OK;
}

static lq_status read_json(lq_hf_vocab *v, const lq_hf_files *f) {
    const json_t *model = lq_hf_get(f->tokenizer, "model");
    LQ_TRY(check_model(model));
    LQ_TRY(lq_hf_find_pre(v, f->tokenizer));
    LQ_TRY(read_vocab(v, lq_hf_get(model, "vocab")));
    LQ_TRY(read_merges(v, model));
    if (v->spm) finish_spm(v, model);
    return read_added(v, lq_hf_get(f->tokenizer, "added_tokens"));
}

static lq_status known_component(const json_t *component, const char *what, const char *parts,
                                 const char *const *known) {
    const char *type = json_string_value(lq_hf_get(component, "type"));
    size_t i;
    json_t *part;
    if (!component || json_is_null(component)) return LQ_OK;
    for (i = 0; known[i] && !(type && strcmp(type, known[i]) == 0);) i++;
    if (!known[i])
        return lq_fail(LQ_EUNSUPPORTED, "%s of type '%s' is not known", what, type ? type : "?");
    json_array_foreach(lq_hf_get(component, parts), i, part)
        LQ_TRY(known_component(part, what, parts, known));
    return LQ_OK;
}

/* Decoders are not followed, a GGUF's model has its own; one of a kind that does not exist tells of
 * a file that is not understood. */
static lq_status check_components(const json_t *tokenizer) {
    static const char *const decoders[] = {"ByteLevel", "ByteFallback", "Fuse", "Strip", "Replace",
                                           "Metaspace", "Sequence", "BPEDecoder", NULL};
    static const char *const processors[] = {"ByteLevel", "TemplateProcessing", "Sequence",
                                             "BertProcessing", "RobertaProcessing", NULL};
    LQ_TRY(known_component(lq_hf_get(tokenizer, "decoder"), "decoder", "decoders", decoders));
    return known_component(lq_hf_get(tokenizer, "post_processor"), "post_processor", "processors",
                           processors);
}

lq_status lq_hf_read_tokenizer_json(lq_hf_vocab *v, const lq_hf_files *f) {
    lq_status status = check_components(f->tokenizer);
    if (status == LQ_OK) status = read_json(v, f);
    return status == LQ_OK ? status : lq_fail_context(status, "%s/tokenizer.json: ", f->dir);
}

/* ---- vocab.json and merges.txt ---- */

/* Lines "left right"; the first may say which version it is. */
static lq_status read_merge_lines(lq_hf_vocab *v, const char *text) {
    for (int line = 1; *text; line++) {
        const size_t n = strcspn(text, "\r\n"), n_left = strcspn(text, " \r\n");
        const bool version = line == 1 && *text == '#';
        if (n && !version) {
            const char *right = text + n_left + 1;
            if (!n_left || n_left + 1 >= n || memchr(right, ' ', n - n_left - 1))
                return lq_fail(LQ_EFORMAT, "line %d must be two strings with a space between",
                               line);
            LQ_TRY(lq_hf_vocab_merge(v, text, n_left, right, n - n_left - 1));
        }
        text += n;
        text += strspn(text, "\r");
        text += *text == '\n';
    }
    return LQ_OK;
}

static lq_status read_merges_txt(lq_hf_vocab *v, const char *dir) {
    size_t n;
    char *text = NULL, *path = lq_path_join(dir, "merges.txt");
    if (!path) return LQ_EMEM;
    lq_status status = lq_read_file(&text, &n, path);
    if (status == LQ_OK) {
        status = read_merge_lines(v, text);
        if (status != LQ_OK) lq_fail_context(status, "%s: ", path);
    }
    lq_free(text);
    lq_free(path);
    return status;
}

lq_status lq_hf_read_vocab_json(lq_hf_vocab *v, const lq_hf_files *f) {
    json_t *vocab = NULL;
    LQ_TRY(lq_hf_pre_of_class(&v->pre, lq_hf_get(f->tokenizer_config, "tokenizer_class")));
    LQ_TRY(lq_json_read(&vocab, f->dir, "vocab.json", true));
    lq_status status = read_vocab(v, vocab);
    json_decref(vocab);
    if (status != LQ_OK) return lq_fail_context(status, "%s/vocab.json: ", f->dir);
    return read_merges_txt(v, f->dir);
}
