/* Tokens with a role: their ids by key or, as llama.cpp does, by text; the set that ends
 * generation; what a text says about its token's type against the file; and the fingerprint over
 * all that decides ids. */
#include "tokenizer_parts.h"

#include <ctype.h>
#include <string.h>

enum { MAX_TEXTS = 12 };

/* A role that a text can give, and whether its token ends generation. */
typedef struct role {
    const char *key;
    bool ends;
    const char *text[MAX_TEXTS]; /* the first one that is in the vocabulary counts */
} role;

static const role roles[] = {
    {"tokenizer.ggml.eot_token_id",
     true,
     {"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>",
      "<EOT>", "_<EOT>", "[EOT]", "<｜end▁of▁sentence｜>", "<end_of_utterance>"}},
    {"tokenizer.ggml.eom_token_id", true, {"<|eom_id|>"}},
    {"tokenizer.ggml.fim_pre_token_id",
     false,
     {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<｜fim▁begin｜>", "<PRE>", "▁<PRE>",
      "<|code_prefix|>", "<|prefix|>"}},
    {"tokenizer.ggml.fim_suf_token_id",
     false,
     {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<｜fim▁hole｜>", "<SUF>", "▁<SUF>",
      "<|code_suffix|>", "<|suffix|>"}},
    {"tokenizer.ggml.fim_mid_token_id",
     false,
     {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<｜fim▁end｜>", "<MID>", "▁<MID>",
      "<|code_middle|>", "<|middle|>"}},
    {"tokenizer.ggml.fim_pad_token_id",
     true,
     {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"}},
    {"tokenizer.ggml.fim_rep_token_id",
     true,
     {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}},
    {"tokenizer.ggml.fim_sep_token_id", true, {"<|file_sep|>"}},
};

/* Every token of these texts ends generation. */
static const char *const ending_texts[] = {
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]",
    "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<｜end▁of▁sentence｜>", "[e~[",
};

/* Parts of a message in the harmony format: shown and parsed whatever the file says. */
static const char *const shown_texts[] = {"<|channel|>", "<|message|>", "<|start|>",
                                          "<|constrain|>"};

static void set_type(lq_tokenizer *t, int32_t id, int type) {
    if (t->type[id] == type) return;
    lq_log(LQ_LOG_DEBUG, "token %d '%s': type %d becomes %d because of its text", id,
           lq_token_text(t, id), t->type[id], type);
    t->type[id] = (uint8_t)type;
}

/* *id comes in as the default. Ids outside the vocabulary are ignored, also in the file. */
static lq_status read_id(const lq_tokenizer *t, const lq_gguf *g, const char *key, int32_t *id) {
    uint32_t found = UINT32_MAX;
    if (*id >= t->n_vocab) *id = -1;
    LQ_TRY(lq_gguf_get_u32(g, key, false, &found));
    if (found < (uint32_t)t->n_vocab) *id = (int32_t)found;
    else if (found != UINT32_MAX)
        lq_log(LQ_LOG_WARN, "%s is %u, but there are %d tokens: ignored", key, found, t->n_vocab);
    return LQ_OK;
}

static lq_status find_role(lq_tokenizer *t, const lq_gguf *g, const role *r, int32_t *id) {
    *id = -1;
    LQ_TRY(read_id(t, g, r->key, id));
    for (int i = 0; *id < 0 && i < MAX_TEXTS && r->text[i]; i++) {
        *id = lq_token_find(t, r->text[i]);
        if (*id >= 0) set_type(t, *id, LQ_TOKEN_CONTROL);
    }
    if (*id >= 0 && r->ends) t->is_eog[*id] = true;
    return LQ_OK;
}

static void mark_texts(lq_tokenizer *t) {
    for (int i = 0; i < LQ_ARRAY_LEN(ending_texts); i++) {
        const int32_t id = lq_token_find(t, ending_texts[i]);
        if (id < 0) continue;
        t->is_eog[id] = true;
        set_type(t, id, LQ_TOKEN_CONTROL);
    }
    for (int i = 0; i < LQ_ARRAY_LEN(shown_texts); i++) {
        const int32_t id = lq_token_find(t, shown_texts[i]);
        if (id >= 0) set_type(t, id, LQ_TOKEN_USER);
    }
}

static bool ends(const lq_tokenizer *t, const char *text) {
    const int32_t id = lq_token_find(t, text);
    return id >= 0 && t->is_eog[id];
}

static void take_back(lq_tokenizer *t, const char *text, int type) {
    const int32_t id = lq_token_find(t, text);
    t->is_eog[id] = false;
    set_type(t, id, type);
}

/* Endings that end nothing after all: <|end|> of harmony and solar, </s> of gemma4. */
static void settle_endings(lq_tokenizer *t) {
    const bool calls = ends(t, "<|call|>") || ends(t, "<|calls|>");
    if (calls && (ends(t, "<|return|>") || ends(t, "<|flush|>")) && ends(t, "<|end|>"))
        take_back(t, "<|end|>", LQ_TOKEN_USER);
    if ((ends(t, "<|tool_response>") || ends(t, "<|plamo:eos|>")) && ends(t, "</s>"))
        take_back(t, "</s>", LQ_TOKEN_NORMAL);
}

/* Phi-3's special tokens swallow the white space behind them; only the model's name says so. */
static lq_status find_stripping(lq_tokenizer *t, const lq_gguf *g) {
    static const char *const keeping[] = {"<unk>", "<s>", "<|endoftext|>"};
    char *name = NULL;
    LQ_TRY(lq_gguf_get_string(g, "general.name", false, &name));
    for (char *c = name; c && *c; c++) *c = (char)tolower((unsigned char)*c);
    const bool strips = name && (strstr(name, "phi-3") || strstr(name, "phi3"));
    lq_free(name);
    if (!strips) return LQ_OK;
    memset(t->strips_right, true, (size_t)t->n_vocab * sizeof *t->strips_right);
    for (int i = 0; i < LQ_ARRAY_LEN(keeping); i++) {
        const int32_t id = lq_token_find(t, keeping[i]);
        if (id >= 0) t->strips_right[id] = false;
    }
    return LQ_OK;
}

/* Each part with its length before it, so that no two vocabularies look the same. */
static void add_bytes(lq_str *s, const void *bytes, size_t n) {
    lq_str_printf(s, "%zu:", n);
    lq_str_add(s, bytes, n);
}

static lq_status add_merges(lq_str *s, const lq_gguf *g) {
    const lq_gguf_kv *kv = lq_gguf_find(g, "tokenizer.ggml.merges");
    const lq_gguf_str *line = kv ? kv->data : NULL;
    for (uint64_t i = 0; kv && i < kv->n; i++) add_bytes(s, line[i].s, line[i].n);
    return lq_str_status(s);
}

static lq_status make_fingerprint(lq_tokenizer *t, const lq_gguf *g) {
    lq_str s = LQ_STR_INIT;
    lq_str_printf(&s, "%s %s %d %d %d %d %d %d %d\n", t->model->name, lq_tokenizer_pre(t),
                  t->n_vocab, t->bos, t->eos, t->unknown, t->add_bos, t->add_eos, t->space_prefix);
    for (int32_t id = 0; id < t->n_vocab; id++) {
        size_t n;
        const char *text = lq_intern_text(&t->strings, id, &n);
        add_bytes(&s, text, n);
    }
    add_bytes(&s, t->type, (size_t)t->n_vocab);
    add_bytes(&s, t->score, (size_t)t->n_vocab * sizeof *t->score);
    add_bytes(&s, t->strips_right, (size_t)t->n_vocab);
    const lq_status status = t->model == &lq_bpe ? add_merges(&s, g) : lq_str_status(&s);
    if (status == LQ_OK) lq_sha256(t->fingerprint, s.s, s.n);
    lq_str_clear(&s);
    return status;
}

static lq_status check_added(const lq_tokenizer *t) {
    if (t->add_bos && t->bos < 0)
        return lq_fail(LQ_EFORMAT, "add_bos_token is true, but there is no BOS token");
    if (t->add_eos && t->eos < 0)
        return lq_fail(LQ_EFORMAT, "add_eos_token is true, but there is no EOS token");
    return LQ_OK;
}

lq_status lq_tokenizer_load_special(lq_tokenizer *t, const lq_gguf *g) {
    t->is_eog = lq_alloc_array(t->n_vocab, sizeof *t->is_eog);
    t->strips_right = lq_alloc_array(t->n_vocab, sizeof *t->strips_right);
    if (!t->is_eog || !t->strips_right) return LQ_EMEM;
    LQ_TRY(read_id(t, g, "tokenizer.ggml.bos_token_id", &t->bos));
    LQ_TRY(read_id(t, g, "tokenizer.ggml.eos_token_id", &t->eos));
    LQ_TRY(read_id(t, g, "tokenizer.ggml.unknown_token_id", &t->unknown));
    for (int i = 0; i < LQ_ARRAY_LEN(roles); i++) {
        int32_t id;
        LQ_TRY(find_role(t, g, &roles[i], &id));
        if (i == 0) t->eot = id;
    }
    mark_texts(t);
    if (t->eos >= 0) t->is_eog[t->eos] = true;
    settle_endings(t);
    LQ_TRY(check_added(t));
    LQ_TRY(find_stripping(t, g));
    LQ_TRY(t->model->load(t, g));
    return make_fingerprint(t, g);
}
