/* tokenizer.json from a tokenizer of GGUF: byte-level BPE with llama.cpp's regexes, or SPM as BPE
 * with byte fallback. Every token is in the model's vocabulary, so that added ones keep their ids.
 * The file is text from the start: it may be large, and nothing reads it here. */
#include "codepoint.h"
#include "hf_write_parts.h"

#include <stdio.h>
#include <string.h>

/* ---- strings --------------------------------------------------------------------------------- */

static bool is_utf8(const char *s, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t code;
        char text[4];
        const size_t used = lq_codepoint_read(s + i, n - i, &code);
        if (lq_codepoint_write(code, text) != used || memcmp(text, s + i, used) != 0) return false;
        if (code >= 0xD800 && code <= 0xDFFF) return false;
        i += used;
    }
    return true;
}

lq_status lq_json_quote(lq_str *out, const char *s, size_t n) {
    if (!is_utf8(s, n))
        return lq_fail(LQ_EUNSUPPORTED, "'%.*s' is no UTF-8", (int)(n < 100 ? n : 100), s);
    lq_str_putc(out, '"');
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '"' || s[i] == '\\') lq_str_putc(out, '\\');
        if ((unsigned char)s[i] < 0x20) lq_str_printf(out, "\\u%04x", (unsigned char)s[i]);
        else
            lq_str_putc(out, s[i]);
    }
    lq_str_putc(out, '"');
    return LQ_OK;
}

lq_status lq_json_quote_token(lq_str *out, const lq_tokenizer *t, int32_t id) {
    size_t n;
    const char *text = lq_intern_text(&t->strings, id, &n);
    return lq_json_quote(out, text, n);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static lq_status add_vocab(lq_str *out, const lq_tokenizer *t) {
    for (int32_t id = 0; id < t->n_vocab; id++) {
        lq_str_puts(out, id ? ",\n" : "\n");
        LQ_TRY(lq_json_quote_token(out, t, id));
        lq_str_printf(out, ": %d", id);
    }
    return LQ_OK;
}

/* What partition.c looks for in a text. */
static bool is_added(int type) {
    return type == LQ_TOKEN_CONTROL || type == LQ_TOKEN_USER || type == LQ_TOKEN_UNKNOWN;
}

static lq_status add_added(lq_str *out, const lq_tokenizer *t) {
    const char *before = "\n";
    for (int32_t id = 0; id < t->n_vocab; id++) {
        if (!is_added(t->type[id])) continue;
        lq_str_printf(out, "%s{\"id\": %d, \"content\": ", before, id);
        LQ_TRY(lq_json_quote_token(out, t, id));
        lq_str_printf(out, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": %s, "
                      "\"normalized\": false, \"special\": %s}",
                      t->strips_right[id] ? "true" : "false",
                      t->type[id] == LQ_TOKEN_USER ? "false" : "true");
        before = ",\n";
    }
    return LQ_OK;
}

/* ---- what goes around a text ----------------------------------------------------------------- */

static lq_status add_special(lq_str *out, const lq_tokenizer *t, int32_t id, int type_id) {
    lq_str_puts(out, "{\"SpecialToken\": {\"id\": ");
    LQ_TRY(lq_json_quote_token(out, t, id));
    lq_str_printf(out, ", \"type_id\": %d}}", type_id);
    return LQ_OK;
}

/* BOS, the text, EOS, as far as they are added. */
static lq_status add_text(lq_str *out, const lq_tokenizer *t, const char *name, int type_id) {
    if (t->add_bos) {
        LQ_TRY(add_special(out, t, t->bos, type_id));
        lq_str_puts(out, ", ");
    }
    lq_str_printf(out, "{\"Sequence\": {\"id\": \"%s\", \"type_id\": %d}}", name, type_id);
    if (!t->add_eos) return LQ_OK;
    lq_str_puts(out, ", ");
    return add_special(out, t, t->eos, type_id);
}

static lq_status describe(lq_str *out, const lq_tokenizer *t, int32_t id) {
    LQ_TRY(lq_json_quote_token(out, t, id));
    lq_str_puts(out, ": {\"id\": ");
    LQ_TRY(lq_json_quote_token(out, t, id));
    lq_str_printf(out, ", \"ids\": [%d], \"tokens\": [", id);
    LQ_TRY(lq_json_quote_token(out, t, id));
    lq_str_puts(out, "]}");
    return LQ_OK;
}

static lq_status add_processor(lq_str *out, const lq_tokenizer *t) {
    if (!t->add_bos && !t->add_eos) {
        lq_str_puts(out, "null");
        return LQ_OK;
    }
    lq_str_puts(out, "{\"type\": \"TemplateProcessing\", \"single\": [");
    LQ_TRY(add_text(out, t, "A", 0));
    lq_str_puts(out, "], \"pair\": [");
    LQ_TRY(add_text(out, t, "A", 0));
    lq_str_puts(out, ", ");
    LQ_TRY(add_text(out, t, "B", 1));
    lq_str_puts(out, "], \"special_tokens\": {");
    if (t->add_bos) LQ_TRY(describe(out, t, t->bos));
    if (t->add_eos && !(t->add_bos && t->eos == t->bos)) {
        if (t->add_bos) lq_str_puts(out, ", ");
        LQ_TRY(describe(out, t, t->eos));
    }
    lq_str_puts(out, "}}");
    return LQ_OK;
}

/* ---- byte-level BPE -------------------------------------------------------------------------- */

static lq_status add_bpe(lq_str *out, const lq_tokenizer *t, const lq_gguf *g) {
    lq_str_puts(out, "\"normalizer\": null,\n\"pre_tokenizer\": {\"type\": \"Sequence\", "
                "\"pretokenizers\": [\n");
    for (const char *const *regex = t->pre->regex; *regex; regex++) {
        lq_str_puts(out, "{\"type\": \"Split\", \"pattern\": {\"Regex\": ");
        LQ_TRY(lq_json_quote(out, *regex, strlen(*regex)));
        lq_str_puts(out, "}, \"behavior\": \"Isolated\", \"invert\": false},\n");
    }
    lq_str_puts(out, "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": "
                "true, \"use_regex\": false}]},\n\"decoder\": {\"type\": \"ByteLevel\", "
                "\"add_prefix_space\": false, \"trim_offsets\": true, \"use_regex\": false},\n");
    lq_str_printf(out, "\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, "
                  "\"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
                  "\"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": %s,\n"
                  "\"merges\": [",
                  t->pre->flags & LQ_PRE_IGNORE_MERGES ? "true" : "false");
    return lq_hf_bpe_merges(out, t, g);
}

/* ---- SPM ------------------------------------------------------------------------------------- */

static lq_status check_bytes(const lq_tokenizer *t) {
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        if (lq_token_find(t, name) < 0)
            return lq_fail(LQ_EUNSUPPORTED, "there is no token %s, and unknown characters would "
                           "have other ids than here", name);
    }
    return LQ_OK;
}

static lq_status add_spm(lq_str *out, const lq_tokenizer *t, const lq_gguf *g) {
    (void)g;
    LQ_TRY(check_bytes(t));
    lq_str_puts(out, "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    if (t->space_prefix) lq_str_puts(out, "{\"type\": \"Prepend\", \"prepend\": \"▁\"}, ");
    lq_str_puts(out, "{\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, \"content\": "
                "\"▁\"}]},\n\"pre_tokenizer\": null,\n\"decoder\": {\"type\": \"Sequence\", "
                "\"decoders\": [{\"type\": \"Replace\", \"pattern\": {\"String\": \"▁\"}, "
                "\"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}");
    if (t->space_prefix)
        lq_str_puts(out, ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}");
    lq_str_puts(out, "]},\n\"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    if (t->unknown >= 0) LQ_TRY(lq_json_quote_token(out, t, t->unknown));
    else lq_str_puts(out, "null");
    lq_str_puts(out, ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null, "
                "\"fuse_unk\": true, \"byte_fallback\": true, \"ignore_merges\": false,\n"
                "\"merges\": [");
    return lq_hf_spm_merges(out, t);
}

/* ---- all of it ------------------------------------------------------------------------------- */

lq_status lq_hf_tokenizer_json(lq_str *out, const lq_tokenizer *t, const lq_gguf *g) {
    lq_str_puts(out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"
                "\"added_tokens\": [");
    LQ_TRY(add_added(out, t));
    lq_str_puts(out, "],\n\"post_processor\": ");
    LQ_TRY(add_processor(out, t));
    lq_str_puts(out, ",\n");
    LQ_TRY((t->pre ? add_bpe : add_spm)(out, t, g));
    lq_str_puts(out, "],\n\"vocab\": {");
    LQ_TRY(add_vocab(out, t));
    lq_str_puts(out, "}}}\n");
    return lq_str_status(out);
}
