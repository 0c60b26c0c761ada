/* The small model that the tests of adapters/ work on, and what they all do with it. */
#ifndef LOQUAT_ADAPTER_FIXTURE_H
#define LOQUAT_ADAPTER_FIXTURE_H

#include "adapter.h"
#include "mix.h"

/* 2 layers, 64 wide; the feed-forward width 44 is divisible by no block. The tied one has no
 * tokenizer. */
typedef enum fixture_kind { FIXTURE_UNTIED, FIXTURE_TIED, FIXTURE_F16 } fixture_kind;

lq_model *fixture_model(fixture_kind kind);

/* Linears `fmt`, embedding and head Q8_0. */
const lq_mix_request *fixture_types(const lq_format *fmt);

/* r 4, alpha 8, all-linear; with a mode: weights `fmt`, embedding and head Q8_0. */
lq_adapter_options fixture_options(lq_qat_mode mode, const lq_format *fmt);

/* Fills the whole span with multiples of 1/64: products and sums are exact, in any order. */
void fixture_fill(lq_adapter *a);

/* What weight i must be in format `fmt`: quantize(dequantize(W) + s B A), by naive loops in double.
 * The caller's to lq_free. */
void *fixture_effective(const lq_adapter *a, int i, const lq_format *fmt, bool with_adapter);

/* A new adapter, filled as above and rebuilt. */
lq_adapter *fixture_filled(const lq_model *m, lq_adapter_options o);

lq_gguf *fixture_gguf(const char *path);
/* The string under `key`; want NULL: there is none. */
void fixture_expect_string(const lq_gguf *g, const char *key, const char *want);

#endif
