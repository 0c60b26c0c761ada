/* A tiny Hugging Face directory (llama, two layers, no tokenizer) written with changes, for the
 * tests of everything that reads one. */
#ifndef LOQUAT_HF_FIXTURE_H
#define LOQUAT_HF_FIXTURE_H

#include "format.h"

typedef struct hf_change {
    const char *replace, *with;      /* in the text of config.json */
    const char *drop;                /* the tensor of this name is not written */
    const char *rename, *to;
    const char *narrow;              /* has one row less */
    const lq_format *fmt;            /* of all tensors; NULL: F32 */
    const char *class;               /* "LlamaForCausalLM" */
    uint64_t shard_bytes;            /* 0: one file */
    bool same_head;                  /* lm_head.weight has the embedding's values */
} hf_change;

enum { HF_VOCAB = 12, HF_EMBD = 8, HF_LAYERS = 2, HF_HEADS = 2, HF_KV = 1, HF_FF = 10 };

/* The directory's path below the test's own; change may be NULL. */
const char *hf_fixture(const char *name, const hf_change *change);
/* Element i of the tensor of that name: a multiple of 1/64 from -1 to 1, in every format. */
float hf_fixture_value(const char *tensor, int64_t i);

#endif
