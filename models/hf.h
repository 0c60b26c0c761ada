/* Models as Hugging Face directories: config.json, model.safetensors or its shards, tokenizer
 * files. A directory is opened as the GGUF file that llama.cpp's converter would make of it, so
 * that everything behind lq_gguf works on both: its keys, its names, its tensors. Matrices stay in
 * the mapped files, in their format, unless the two worlds disagree about their layout. */
#ifndef LOQUAT_HF_H
#define LOQUAT_HF_H

#include "model.h"

/* Is it a directory with a config.json? */
bool lq_hf_is_dir(const char *path);
/* Tensors that the architecture does not know keep their own names: binding lists them with all the
 * other mistakes. */
lq_status lq_hf_open(lq_gguf **out, const char *dir);

/* How a weight of a GGUF differs from Hugging Face's. */
typedef struct lq_hf_layout {
    int64_t heads;     /* > 0: the rows of each of so many heads are interleaved: row 2i+j of a head
                          is Hugging Face's row j*d/2+i */
    int64_t groups;    /* > 0: the rows are so many groups of queries, their key, their value; in
                          GGUF first the queries of all `heads` heads, then the keys, the values */
    bool plus_one;     /* a norm that is stored as 1 + w */
    bool transposed;   /* a matrix that Hugging Face has as (in, out) */
} lq_hf_layout;
lq_hf_layout lq_hf_layout_of(const lq_model *m, const lq_weight *w);
/* Hugging Face's row that is row r of `rows` in GGUF. */
int64_t lq_hf_row(const lq_hf_layout *layout, int64_t rows, int64_t r);

/* The name of a weight in a checkpoint; expert: of its part, where the weight is a stack of
 * experts, else -1. The caller's; NULL: out of memory. */
char *lq_hf_tensor_name(const lq_model *m, const lq_weight *w, int64_t expert);

/* Refuses a model that no config.json can be made of. */
lq_status lq_hf_can_write(const lq_model *m);
/* Writes config.json and what belongs to the tokenizer into dir: copies, where m comes from a
 * directory. type: of the weights that will lie beside them. */
lq_status lq_hf_write_files(const lq_model *m, const lq_format *type, const char *dir);

/* The value of `architectures` in config.json for an architecture; NULL: none is known. */
const char *lq_hf_class(const char *arch);

#endif
