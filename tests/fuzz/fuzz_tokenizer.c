/* The tokenizer on anything: as a GGUF file, and as text for the vocabularies that the seeds are.
 * What is accepted is loaded and used; the tokens cover the text in order and come back as some
 * text. */
#include "fuzz.h"

#include "tokenizer.h"
#include "vocab_fixture.h"

#include <stdlib.h>
#include <unistd.h>

enum { N_VOCABS = 3 };

static uint8_t *vocab[N_VOCABS];
static size_t vocab_bytes[N_VOCABS];
static lq_tokenizer *tokenizer[N_VOCABS];

static lq_status make(int i, lq_gguf_writer **w) {
    static const char *const pre[N_VOCABS] = {NULL, "llama-bpe", "deepseek-llm"};
    return pre[i] ? fixture_bpe(w, pre[i]) : fixture_spm(w);
}

static void prepare(int i) {
    char path[] = "/tmp/loquat-fuzz-XXXXXX";
    lq_gguf_writer *w = NULL;
    lq_gguf *g = NULL;
    const int fd = mkstemp(path);
    if (fd < 0 || make(i, &w) != LQ_OK || fixture_open(&g, w, path) != LQ_OK) abort();
    if (lq_tokenizer_from_gguf(&tokenizer[i], g) != LQ_OK) abort();
    vocab[i] = (uint8_t *)fixture_read(path, &vocab_bytes[i]);
    lq_gguf_close(g);
    lq_gguf_writer_free(w);
    close(fd);
    unlink(path);
}

static const char text_seed[] =
    "hello <tag> h\xc3\xa9llo\r\n  \xe4\xbd\xa0\xe3\x80\x80 1234 "
    "<|im_end|>\xf0\x9f\x91\x8d</s>'S x";

const uint8_t *fuzz_seed(int i, size_t *size) {
    if (!vocab[0])
        for (int k = 0; k < N_VOCABS; k++) prepare(k);
    if (i > N_VOCABS) return NULL;
    *size = i < N_VOCABS ? vocab_bytes[i] : sizeof text_seed - 1;
    return i < N_VOCABS ? vocab[i] : (const uint8_t *)text_seed;
}

static void use(const lq_tokenizer *t, const char *text, size_t n) {
    lq_tokens tokens = LQ_TOKENS_INIT;
    lq_str back = LQ_STR_INIT;
    const lq_status status =
        lq_tokenize(t, text, n, LQ_TOK_BOS | LQ_TOK_EOS | LQ_TOK_SPECIAL, &tokens);
    if (status != LQ_OK && !*lq_error()) abort();
    int64_t at = 0;
    for (int64_t i = 0; i < tokens.n; at = tokens.end[i++])
        if (tokens.start[i] < at || tokens.end[i] < tokens.start[i] || tokens.end[i] > (int64_t)n)
            abort();
    if (lq_detokenize(t, tokens.id, tokens.n, true, &back) != LQ_OK) abort();
    if (lq_utf8_complete(lq_str_text(&back), back.n) > back.n) abort();
    lq_str_clear(&back);
    lq_tokens_clear(&tokens);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lq_gguf *g = NULL;
    lq_tokenizer *t = NULL;
    if (lq_gguf_open_memory(&g, data, size, "fuzz") == LQ_OK) {
        if (lq_tokenizer_from_gguf(&t, g) == LQ_OK) use(t, text_seed, sizeof text_seed - 1);
        else if (t || !*lq_error()) abort();
    }
    lq_tokenizer_close(t);
    lq_gguf_close(g);
    const size_t n = size < 256 ? size : 256; /* a mutated file has little else to offer */
    for (int i = 0; i < N_VOCABS && tokenizer[i]; i++) use(tokenizer[i], (const char *)data, n);
    return 0;
}
