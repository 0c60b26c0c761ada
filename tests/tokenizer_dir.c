/* See tokenizer_dir.h. */
#include "tokenizer_dir.h"

#include "atomic_file.h"
#include "hf_tokenizer.h"
#include "test_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char fixture_dir[256];

void fixture_put(const char *name, const void *bytes, size_t n) {
    char *path = lq_path_join(fixture_dir, name);
    ck_ok(lq_write_file(path, bytes, n));
    lq_free(path);
}

void fixture_put_text(const char *name, const char *text) { fixture_put(name, text, strlen(text)); }

void fixture_put_json(const char *name, json_t *v) {
    char *text = json_dumps(v, 0);
    ck_assert(text != NULL);
    fixture_put_text(name, text);
    free(text);
    json_decref(v);
}

void fixture_start(void) {
    char name[32];
    snprintf(name, sizeof name, "hf-%d", (int)getpid());
    snprintf(fixture_dir, sizeof fixture_dir, "%s", test_path(name));
    ck_ok(lq_make_dirs(fixture_dir));
}

lq_status fixture_open_dir(lq_tokenizer **out, const char *dir) {
    lq_gguf_writer *w = NULL;
    lq_gguf *g = NULL;
    lq_str file = LQ_STR_INIT;
    lq_status status;
    *out = NULL;
    LQ_GOTO(status, lq_gguf_writer_new(&w));
    LQ_GOTO(status, lq_hf_tokenizer_metadata(w, dir));
    LQ_GOTO(status, lq_gguf_writer_memory(w, &file));
    LQ_GOTO(status, lq_gguf_open_memory(&g, file.s, file.n, dir));
    status = lq_tokenizer_from_gguf(out, g);
done:
    lq_gguf_close(g);
    lq_gguf_writer_free(w);
    lq_str_clear(&file);
    return status;
}

const lq_gguf_str *fixture_strings(const lq_gguf *g, const char *key) {
    return lq_gguf_find(g, key)->data;
}

int fixture_type(const lq_gguf *g, uint64_t i) {
    int32_t type;
    const char *data = lq_gguf_find(g, "tokenizer.ggml.token_type")->data;
    memcpy(&type, data + 4 * i, sizeof type);
    return type;
}

static const char *const texts[] = {
    "hello", " hello  hello\n\n", "Hello, world 1234 + x_y", "<tag>hello</tag><|im_end|>",
    "  \t\n he'll 3.14 \xf0\x9f\x91\x8d\xe4\xbd\xa0\xe5\xa5\xbd e\xcc\x81 \xff", "",
};

void fixture_same_ids(const lq_tokenizer *a, const lq_tokenizer *b) {
    for (int i = 0; i < LQ_ARRAY_LEN(texts); i++) {
        lq_tokens x = LQ_TOKENS_INIT, y = LQ_TOKENS_INIT;
        ck_ok(lq_tokenize(a, texts[i], strlen(texts[i]), LQ_TOK_SPECIAL | LQ_TOK_BOS, &x));
        ck_ok(lq_tokenize(b, texts[i], strlen(texts[i]), LQ_TOK_SPECIAL | LQ_TOK_BOS, &y));
        ck_assert_int_eq(x.n, y.n);
        for (int64_t k = 0; k < x.n; k++) ck_assert_int_eq(x.id[k], y.id[k]);
        lq_tokens_clear(&x);
        lq_tokens_clear(&y);
    }
}
