/* Which published model a byte-level tokenizer is of. llama.cpp names pre-tokenizers after the
 * models that it knows, and knows them by the SHA-256 of the ids of one text; the same text and the
 * hashes' first eight bytes are here, so that a converted file carries the same name. Names with
 * other regexes than the ones read from the file are never taken. Facts: conversion/base.py. */
#include "hf_vocab.h"

#include "hash.h"
#include "pretokenizer.h"
#include "tokenizer.h"

#include <stdlib.h>
#include <string.h>

static const char probe[] =
    "\n \n\n \n\n\n \t \t\t \t\n  \n   \n    \n     \n🚀 (normal) 😶\xe2\x80\x8d" ""
    "🌫\xef\xb8\x8f" " (multiple emojis concatenated) ✅ 🦙🦙 3 33 333 3333 33333"
    " 333333 3333333 33333333 3.3 3..3 3...3 កាន់តែពិសេសអាច😁 ?我想在apple工作1314"
    "151天～ ------======= нещо на Български ''''''```````\"\"\"\"......!!!!!!"
    "?????? I've been 'told he's there, 'RE you sure? 'M not sure I'll make "
    "it, 'D you like some tea? We'Ve a'lL";

typedef struct known { uint64_t hash; const char *pre; } known;

static const known models[] = {
    {0xb0a6b1c0bd5998eb, "a.x-4.0"}, {0x49fc0303c9e0d2c2, "afmoe"},
    {0x96a5f08be6259352, "bailingmoe"}, {0x9b1be57e70d20d95, "bailingmoe2"},
    {0x3c30d3ad1d6b6420, "bloom"}, {0x81d72c7348a9f0eb, "chatglm-bpe"},
    {0xb6e8e1518dc4305b, "chatglm-bpe"}, {0x7b3e7548e4308f52, "codeshell"},
    {0x52df12b4c8d4176e, "cohere2moe"}, {0x9c2227e4dd922002, "command-r"},
    {0xa8594e3edff7c29c, "dbrx"}, {0x347715f544604f91, "deepseek-coder"},
    {0x049ecf7629871e30, "deepseek-llm"}, {0xb3f499bb4255f8ca, "deepseek-r1-qwen"},
    {0x877081d19cf6996e, "deepseek-v3"}, {0x4e2b24cc4770243d, "exaone"},
    {0x6c81ce329e080288, "exaone-moe"}, {0x2085e1638f6c377a, "exaone4"},
    {0x862f827721df9560, "f2llmv2"}, {0x8aeee3860c56296a, "falcon"},
    {0x3eda48b4c4dc7de7, "falcon-h1"}, {0x48f8e02c0359c0bb, "falcon-h1"},
    {0x60476e1243776c4f, "falcon-h1"}, {0xa6b57017d60e6edb, "falcon-h1"},
    {0x9d032fcbd5501f4a, "falcon3"}, {0xad851be1dba641f2, "gigachat"}, {0x9ca2dd618e8afaf0, "glm4"},
    {0xa1336059768a55c9, "glm4"}, {0xcdf5f35325780597, "glm4"}, {0x0fe1cf6eda062318, "gpt-2"},
    {0x3ce83efda5659b07, "gpt-2"}, {0xccc2ef013c104be7, "gpt-4o"},
    {0xbc01ce58980e1db4, "gpt3-finnish"}, {0x53e325976a6e1423, "granite-docling"},
    {0x66b8d4e19ab16c3b, "grok-2"}, {0x7e57df22b1fe23a7, "hunyuan"},
    {0xbba3b3366b646dbd, "hunyuan-dense"}, {0xe6ddf9c6686791c1, "hy_v4"},
    {0xb53802fb28e26d64, "jais"}, {0xbc5108ee1eb6a3d6, "jais-2"}, {0xb4b8ca1f9769494f, "joyai-llm"},
    {0xe4d54df1ebc1f2b9, "kanana2"}, {0x4a2e2abae11ca2b8, "kormo"}, {0x972da7b59cec44d1, "laguna"},
    {0x169bf0296a13c4d9, "lfm2"}, {0x9e454714343b69b9, "lfm2"}, {0x0ef9807a4087ebef, "llama-bpe"},
    {0xd353350c764d8c3b, "llama4"}, {0xd4c8f286ea6b520b, "megrez"}, {0xa1e163ecab2e718a, "mellum"},
    {0x9dcf830ee9990cdb, "mellum2"}, {0xf6791d196f87ce6b, "midm-2.0"},
    {0x1431a23e583c9743, "minerva-7b"}, {0x36f3066e97b7f399, "minicpm5"},
    {0xf4f37b6c8eb9ea29, "minimax-m2"}, {0xb6dc8df998e1cfbd, "olmo"},
    {0xfcace8b9cac38ce8, "phi-2"}, {0x0e9433cbbb161f89, "pixtral"},
    {0xc7ea5862a53e4272, "poro-chat"}, {0xd4540891389ea895, "qwen2"}, {0xe636dc30a262dcc0, "qwen2"},
    {0x1444df51289cfa80, "qwen35"}, {0xd30d75d9059f1aa2, "qwen35"}, {0x6221ad2852e85ce9, "refact"},
    {0xd5f1dd6f980fec56, "seed-coder"}, {0xc136ed14d01c2745, "smaug-bpe"},
    {0x855059429035d75a, "smollm"}, {0x16389f0a1f51ee53, "solar-open"},
    {0x0a766d034107bc73, "spark2_5"}, {0x32d85c31273f8019, "stablelm2"},
    {0x35d91631860c815f, "starcoder"}, {0xf728162c1315c26e, "talkie"},
    {0x63b97e4253352e6f, "tekken"}, {0xd772b220ace2baec, "tiny_aya"},
    {0x1994ffd01900cfb3, "trillion"}, {0x653660222fb704f6, "ufakzeka"},
    {0x7fc505bd3104ca10, "viking"}, {0x9d70134b369a70e5, "youtu"},
};

/* The ids as Python prints a list of them. */
static lq_status hash_ids(const int32_t *id, int64_t n, uint64_t *hash) {
    char hex[LQ_SHA256_HEX] = "";
    lq_str list = LQ_STR_INIT;
    for (int64_t i = 0; i < n; i++) lq_str_printf(&list, "%s%d", i ? ", " : "[", id[i]);
    lq_str_puts(&list, n ? "]" : "[]");
    const lq_status status = lq_str_status(&list);
    if (status == LQ_OK) lq_sha256(hex, list.s, list.n);
    lq_str_clear(&list);
    hex[16] = 0;
    *hash = strtoull(hex, NULL, 16);
    return status;
}

/* NULL: no known model has this hash and these regexes. */
static const char *find(uint64_t hash, const char *pre) {
    for (int i = 0; i < LQ_ARRAY_LEN(models); i++)
        if (models[i].hash == hash && lq_pre_find(models[i].pre)->regex == lq_pre_find(pre)->regex)
            return models[i].pre;
    return NULL;
}

/* Whether BOS was in front when the hash was taken does not always show in the files: the way that
 * they say goes first. */
static lq_status find_model(const lq_tokenizer *t, const char *pre, const char **found) {
    lq_tokens ids = LQ_TOKENS_INIT;
    const int32_t bos = lq_tokenizer_bos(t);
    const bool first = lq_tokenizer_adds_bos(t) && bos >= 0;
    *found = NULL;
    lq_status status = lq_tokens_add(&ids, bos, 0, 0);
    if (status == LQ_OK) status = lq_tokenize(t, probe, sizeof probe - 1, LQ_TOK_SPECIAL, &ids);
    for (int i = 0; i < 2 && status == LQ_OK && !*found; i++) {
        uint64_t hash;
        const int skip = (i == 0) == first ? 0 : 1;
        if (skip == 0 && bos < 0) continue;
        status = hash_ids(ids.id + skip, ids.n - skip, &hash);
        if (status == LQ_OK) *found = find(hash, pre);
    }
    lq_tokens_clear(&ids);
    return status;
}

lq_status lq_hf_refine_pre(lq_gguf_writer *w, const char *pre) {
    lq_str file = LQ_STR_INIT;
    lq_gguf *g = NULL;
    lq_tokenizer *t = NULL;
    const char *found;
    lq_status status;
    LQ_GOTO(status, lq_gguf_writer_memory(w, &file));
    LQ_GOTO(status, lq_gguf_open_memory(&g, file.s, file.n, "converted tokenizer"));
    LQ_GOTO(status, lq_tokenizer_from_gguf(&t, g));
    LQ_GOTO(status, find_model(t, pre, &found));
    if (found) status = lq_gguf_writer_set_string(w, "tokenizer.ggml.pre", found);
    else
        lq_log(LQ_LOG_INFO, "pre-tokenizer '%s': by its definition, no known model has these ids",
               pre);
done:
    lq_tokenizer_close(t);
    lq_gguf_close(g);
    lq_str_clear(&file);
    return status;
}
