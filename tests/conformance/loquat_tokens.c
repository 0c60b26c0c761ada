/* Loquat's side of check_tokenizer.py. See token_lines.h. */
#include "token_lines.h"

#include "tokenizer.h"

static lq_status run(const lq_tokenizer *t, FILE *f, int flags) {
    const unsigned wanted =
        (flags & 1 ? LQ_TOK_BOS | LQ_TOK_EOS : 0) | (flags & 2 ? LQ_TOK_SPECIAL : 0);
    uint32_t n;
    for (char *text; (text = next_record(f, &n)); free(text)) {
        lq_tokens tokens = LQ_TOKENS_INIT;
        lq_str back = LQ_STR_INIT;
        LQ_TRY(lq_tokenize(t, text, n, wanted, &tokens));
        LQ_TRY(lq_detokenize(t, tokens.id, tokens.n, true, &back));
        print_record(tokens.id, (long)tokens.n, lq_str_text(&back), back.n);
        lq_str_clear(&back);
        lq_tokens_clear(&tokens);
    }
    return LQ_OK;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    lq_gguf *g = NULL;
    lq_tokenizer *t = NULL;
    FILE *f = fopen(argv[2], "rb");
    lq_status status = lq_gguf_open(&g, argv[1]);
    if (status == LQ_OK) status = lq_tokenizer_from_gguf(&t, g);
    if (status == LQ_OK && f) status = run(t, f, atoi(argv[3]));
    if (status != LQ_OK) fprintf(stderr, "%s\n", lq_error());
    if (f) fclose(f);
    lq_tokenizer_close(t);
    lq_gguf_close(g);
    return status == LQ_OK && f ? 0 : 1;
}
