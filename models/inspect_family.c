/* Whose vocabulary is it? Models of a family share their tokens; special ones are added or renamed
 * from model to model, so the hash is over two stretches of ordinary ids. */
#include "inspect_parts.h"

#include "hash.h"

#include <string.h>

/* Tokens FIRST[i] .. FIRST[i] + STRETCH - 1. */
enum { STRETCH = 1000 };
static const int32_t first[] = {1000, 20000};

typedef struct family { uint64_t hash; const char *name; } family;

static const family families[] = {
    {0xb3a349b37d5ac4c1, "Baichuan"},
    {0xc6e1a2538a3a5c51, "DeepSeek Coder"},
    {0x1d0518b8e9cd7e7f, "DeepSeek LLM"},
    {0x1ee7c2f8f9838889, "Falcon"},
    {0xac072f5cbfce97c8, "GPT-2"},
    {0xd5f198787ffe01f1, "Gemma 1 and 2"},
    {0x6e14fc53ff15f143, "Llama 2 (also Code Llama, TinyLlama, Phi-3)"},
    {0x50f4dd7b27e728d9, "Llama 3 (also 3.1, 3.2, DeepSeek-R1-Distill-Llama)"},
    {0x6765adcbf53f51b1, "Qwen 2 (also Qwen 1.5, 2.5, 3, DeepSeek-R1-Distill-Qwen)"},
    {0x7e5d2e80e485f89c, "Refact"},
    {0x68b2fba790c7aa07, "StarCoder"},
    {0x43bf643b523a08ce, "GPT-NeoX (also Pythia, MPT, OLMo)"},
};

/* 0: the vocabulary is too small to tell. */
static uint64_t hash_of(const lq_tokenizer *t) {
    uint64_t hash = LQ_FNV_INIT;
    for (int i = 0; i < LQ_ARRAY_LEN(first); i++) {
        if (first[i] + STRETCH > lq_tokenizer_n_vocab(t)) return 0;
        for (int32_t id = first[i]; id < first[i] + STRETCH; id++) {
            const char *s = lq_token_text(t, id);
            hash = lq_fnv1a(hash, s, strlen(s) + 1);
        }
    }
    return hash;
}

const char *lq_vocabulary_family(const lq_tokenizer *t) {
    const uint64_t hash = hash_of(t);
    for (int i = 0; i < LQ_ARRAY_LEN(families); i++)
        if (families[i].hash == hash) return families[i].name;
    return NULL;
}
