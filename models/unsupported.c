/* What an architecture without a row in arch.c would need: by its name where it is known, and by
 * the tensors of the file that no row has. Only the file's header is read. */
#include "model_parts.h"

#include "str.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { STEM_BYTES = 64, MAX_STEMS = 8 };

static const struct { const char *name, *needs; } known[] = {
    {"arctic", "a dense feed-forward beside the experts"},
    {"bert", "attention in both directions and an encoder's head"},
    {"bloom", "a LayerNorm on the embeddings"},
    {"cohere2", "LayerNorms without bias in parallel blocks and scaled logits"},
    {"command-r", "LayerNorms without bias in parallel blocks and scaled logits"},
    {"deepseek2", "latent attention (MLA) and experts chosen in groups"},
    {"falcon-h1", "state-space layers (Mamba)"},
    {"gemma3n", "embeddings per layer, AltUp, Laurel and layers that share keys and values"},
    {"gemma4", "embeddings per layer, layers that share keys and values, head sizes per layer"},
    {"gpt-oss", "attention sinks and experts with biases"},
    {"gptneox", "fused q, k and v with biases in blocks with two LayerNorms"},
    {"jamba", "state-space layers (Mamba)"},
    {"llama4", "attention in chunks and experts weighted by a sigmoid"},
    {"mamba", "state-space layers (Mamba)"},
    {"mamba2", "state-space layers (Mamba)"},
    {"mistral3", "queries scaled by their position"},
    {"olmoe", "norms of whole queries and keys together with experts"},
    {"phi2", "LayerNorms in parallel blocks and a head with a bias"},
    {"phimoe", "LayerNorms together with experts"},
    {"qwen2vl", "rotary positions in several axes (M-RoPE)"},
    {"qwen3next", "gated delta-net layers"},
    {"qwen35", "gated delta-net layers"},
    {"rwkv6", "recurrent layers (RWKV)"},
    {"rwkv7", "recurrent layers (RWKV)"},
    {"t5", "an encoder and relative attention biases"},
};

const char *lq_arch_needs(const char *name) {
    for (int i = 0; i < LQ_ARRAY_LEN(known); i++)
        if (strcmp(known[i].name, name) == 0) return known[i].needs;
    return NULL;
}

/* "blk.3.ssm_in.weight" -> "blk.#.ssm_in" */
static const char *stem_of(char stem[STEM_BYTES], const char *name) {
    const char *rest = name;
    int n = 0;
    if (strncmp(name, "blk.", 4) == 0 && isdigit((unsigned char)name[4])) {
        for (rest = name + 4; isdigit((unsigned char)*rest);) rest++;
        n = snprintf(stem, STEM_BYTES, "blk.#");
    }
    snprintf(stem + n, (size_t)(STEM_BYTES - n), "%s", rest);
    char *end = strrchr(stem, '.');
    if (end && (strcmp(end, ".weight") == 0 || strcmp(end, ".bias") == 0)) *end = 0;
    return stem;
}

/* The stems that no row has, each once. */
static int strange_stems(char stem[MAX_STEMS][STEM_BYTES], const lq_gguf *file) {
    int n = 0;
    for (int64_t i = 0; i < lq_gguf_n_tensors(file) && n < MAX_STEMS; i++) {
        stem_of(stem[n], lq_gguf_tensor_at(file, i)->name);
        bool seen = lq_arch_has_tensor(stem[n]);
        for (int k = 0; k < n; k++) seen |= strcmp(stem[k], stem[n]) == 0;
        n += !seen;
    }
    return n;
}

lq_status lq_arch_explain(lq_status status, const lq_gguf *file) {
    char stem[MAX_STEMS][STEM_BYTES];
    lq_str text = LQ_STR_INIT;
    const int n = strange_stems(stem, file);
    lq_str_printf(&text, "%s", lq_error());
    for (int i = 0; i < n; i++)
        lq_str_printf(&text, "%s%s", i ? ", " : "; tensors that no supported architecture has: ",
                      stem[i]);
    if (n == MAX_STEMS) lq_str_puts(&text, " and perhaps more");
    if (lq_str_status(&text) == LQ_OK) lq_fail(status, "%s", lq_str_text(&text));
    else status = lq_str_status(&text);
    lq_str_clear(&text);
    return status;
}
