/* What the files about Hugging Face directories share. */
#ifndef LOQUAT_HF_PARTS_H
#define LOQUAT_HF_PARTS_H

#include "hf.h"

#include <jansson.h>

/* A number of config.json and the key that it becomes (after "ARCH."). */
typedef struct lq_hf_key {
    const char *key;
    lq_gguf_type type;       /* LQ_GGUF_U32 or LQ_GGUF_F32 */
    const char *names;       /* in config.json: the first that is there counts; by spaces */
    bool required;
    double fallback;         /* when none is there; 0: no key then */
} lq_hf_key;

typedef struct lq_hf_config {
    const char *path;        /* of config.json, for messages */
    json_t *root;            /* owned; a text_config lies over it */
    bool multimodal;         /* there was a text_config: other towers are left out */
    int64_t n_head, n_head_kv;
} lq_hf_config;

typedef struct lq_hf_family lq_hf_family;
struct lq_hf_family {
    const char *class;       /* `architectures` in config.json */
    const char *arch;        /* general.architecture */
    const char *model_type;  /* in a config.json made from a GGUF; of the rows that are written */
    bool mixture;            /* the class of `arch` with experts, where there is another without */
    const lq_hf_key *key;
    int n_keys;
    const char *acts;        /* the activations that `arch` stands for, by spaces */
    bool permuted;           /* rows of q and k are interleaved in GGUF */
    bool plus_one;           /* norms are 1 + w */
    bool transposed;         /* matrices of the blocks are (in, out) */
    bool grouped;            /* rows of qkv come in groups that share a key and a value */
    bool no_head;            /* lm_head.weight is the embedding, also where it is stored */
    /* Keys that are no plain copies; may be NULL. */
    lq_status (*more)(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w);
};

/* LQ_EUNSUPPORTED names the class and those that there are. */
lq_status lq_hf_find_family(const lq_hf_family **out, const lq_hf_config *c);
const lq_hf_family *lq_hf_family_of(const char *arch);   /* NULL: none */
const lq_hf_family *lq_hf_family_for(const lq_model *m); /* NULL: none */

lq_status lq_hf_config_read(lq_hf_config *out, const char *dir);
/* root: taken over. name: for messages. */
lq_status lq_hf_config_of(lq_hf_config *out, json_t *root, const char *name);
void lq_hf_config_clear(lq_hf_config *c);
/* The first of `names` (by spaces) that is there and not null; NULL: none. */
json_t *lq_hf_config_get(const lq_hf_config *c, const char *names);
/* A whole number from 1 on; 0: not there (or no such number). */
int64_t lq_hf_config_int(const lq_hf_config *c, const char *names);
/* All keys of the architecture; what would be computed differently is refused. */
lq_status lq_hf_config_write(lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w);
/* ARCH.NAME = value */
lq_status lq_hf_set_u32(lq_gguf_writer *w, const lq_hf_family *f, const char *name, int64_t value);
lq_status lq_hf_set_f32(lq_gguf_writer *w, const lq_hf_family *f, const char *name, double value);

/* A config.json for a model that came as a GGUF (hf_made_config.c). */
lq_status lq_hf_config_make(json_t **out, const lq_model *m);

/* ---- Falcon and MPT (hf_older.c). Keys of config.json, then the way back ---- */
int64_t lq_hf_falcon_groups(const lq_hf_config *c);   /* of queries that share a key */
lq_status lq_hf_falcon_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w);
lq_status lq_hf_mpt_keys(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w);
void lq_hf_say_falcon(json_t *root, const lq_model *m);
void lq_hf_say_mpt(json_t *root, const lq_model *m);
lq_status lq_hf_check_mpt(const lq_model *m);   /* what GGUF's has and transformers' has not */

/* ---- rotary positions (hf_rope.c) ---- */
lq_status lq_hf_rope_write(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w);
/* The same where llama.cpp's converter writes no base of the frequencies: only one that is not the
 * usual 10000. */
lq_status lq_hf_theta_write(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w);
/* phi3's: two tables of factors, chosen by the context. */
lq_status lq_hf_longrope_write(const lq_hf_config *c, const lq_hf_family *f, lq_gguf_writer *w);
/* The rotated numbers of a head: partial_rotary_factor of them. */
int64_t lq_hf_rotated(const lq_hf_config *c);
/* A list of n numbers in the rope parameters ("long_factor"); *out NULL: not there. The
 * caller's. */
lq_status lq_hf_rope_list(float **out, int64_t *n, const lq_hf_config *c, const char *name);
/* llama3's factors, one for each rotated pair; *out NULL: the model has none. The caller's. */
lq_status lq_hf_rope_factors(float **out, int64_t *n, const lq_hf_config *c);

#endif
