/* The general.* keys of a Hugging Face directory. */
#ifndef LOQUAT_HF_GENERAL_H
#define LOQUAT_HF_GENERAL_H

#include "gguf.h"

lq_status lq_hf_write_general(lq_gguf_writer *w, const char *dir, const char *arch);

#endif
