/* Times the main ops alone and a whole LoRA step of a llama-shaped model made of random weights,
 * through the tape as a training run would. By hand: bench_ops [smollm2|stories] [f32|q8_0|q4_0]
 * [plain|merged]. Prints milliseconds (the best of several) and, for products, GFLOP/s. Never a
 * test. */
#include "ops.h"
#include "random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct model_shape {
    const char *name;
    int64_t rows, segment, layers, width, ff, vocab;
    int heads, kv_heads, head_dim, rank, repeat;
} model_shape;

static const model_shape shapes[] = {
    {"smollm2", 512, 512, 30, 576, 1536, 49152, 9, 3, 64, 16, 5},
    {"stories", 2048, 256, 5, 64, 172, 512, 8, 4, 8, 16, 30},
};

static void check(lq_status status) {
    if (status == LQ_OK) return;
    fprintf(stderr, "%s: %s\n", lq_status_text(status), lq_error());
    exit(1);
}

static float *random_floats(int64_t n, float scale) {
    static uint64_t key;
    float *x = lq_alloc_array(n, sizeof *x);
    if (!x) check(LQ_EMEM);
    key++;
    for (int64_t i = 0; i < n; i++) x[i] = (lq_random_uniform(key, (uint64_t)i) * 2 - 1) * scale;
    return x;
}

typedef struct bench {
    const model_shape *s;
    const lq_format *fmt;
    bool merged;
    lq_tape *tape;
    lq_tensor *ids, *pos, *starts, *labels;
} bench;

static lq_tensor *weight(const bench *b, int64_t rows, int64_t cols) {
    const lq_format *fmt = cols % b->fmt->block == 0 ? b->fmt : &lq_f32;
    float *x = random_floats(rows * cols, 1 / sqrtf((float)cols));
    void *data = lq_alloc_aligned(lq_format_bytes(fmt, rows * cols));
    if (!data) check(LQ_EMEM);
    fmt->quant(x, data, rows * cols, NULL);
    lq_free(x);
    return lq_tape_weight(b->tape, "weight", fmt, 2, (int64_t[]){rows, cols}, data);
}

static lq_tensor *param(const bench *b, int64_t rows, int64_t cols) {
    return lq_tape_param(b->tape, NULL, 2, (int64_t[]){rows, cols},
                         random_floats(rows * cols, 0.1f),
                         lq_alloc_array(rows * cols, sizeof(float)));
}

static lq_tensor *norm(const bench *b, lq_tensor *x) {
    lq_tensor *w =
        lq_tape_weight(b->tape, "norm", &lq_f32, 1, &b->s->width, random_floats(b->s->width, 1));
    return lq_rmsnorm(b->tape, x, w, (lq_rmsnorm_attr){1e-5f});
}

static lq_tensor *lora(const bench *b, lq_tensor *x, int64_t rows, int64_t cols) {
    const lq_lora_attr attr = {.scale = 2, .merged = b->merged};
    return lq_lora_linear(b->tape, x, NULL, weight(b, rows, cols), NULL, param(b, b->s->rank, cols),
                          param(b, rows, b->s->rank), attr);
}

static lq_tensor *attend(const bench *b, lq_tensor *q, lq_tensor *k, lq_tensor *v) {
    const model_shape *s = b->s;
    const lq_attention_attr attr = {.n_head = s->heads,
                                    .n_head_kv = s->kv_heads,
                                    .head_dim = s->head_dim,
                                    .scale = 1 / sqrtf((float)s->head_dim)};
    return lq_attention(b->tape, q, k, v, b->starts, NULL, NULL, attr);
}

static lq_tensor *layer(const bench *b, lq_tensor *h) {
    const model_shape *s = b->s;
    const int64_t q_width = s->heads * s->head_dim, kv_width = s->kv_heads * s->head_dim;
    const lq_rope_attr rope = {s->head_dim, s->head_dim, false, 10000, 1, 1};
    lq_tensor *n = norm(b, h);
    lq_tensor *q = lq_rope(b->tape, lora(b, n, q_width, s->width), b->pos, NULL, rope);
    lq_tensor *k = lq_rope(b->tape, lora(b, n, kv_width, s->width), b->pos, NULL, rope);
    lq_tensor *v = lora(b, n, kv_width, s->width);
    h = lq_add(b->tape, h, lora(b, attend(b, q, k, v), s->width, q_width));
    n = norm(b, h);
    lq_tensor *gate = lora(b, n, s->ff, s->width), *up = lora(b, n, s->ff, s->width);
    return lq_add(b->tape, h,
                  lora(b, lq_glu(b->tape, gate, up, (lq_glu_attr){LQ_SILU}), s->width, s->ff));
}

static void fill_inputs(const bench *b) {
    const model_shape *s = b->s;
    for (int64_t i = 0; i < s->rows; i++) {
        ((int32_t *)b->ids->data)[i] = (int32_t)(i * 7919 % s->vocab);
        ((int32_t *)b->labels->data)[i] = (int32_t)((i + 1) * 7919 % s->vocab);
        ((int32_t *)b->pos->data)[i] = (int32_t)(i % s->segment);
        ((int32_t *)b->starts->data)[i] = (int32_t)(i - i % s->segment);
    }
}

static void begin(bench *b) {
    check(lq_tape_new(&b->tape, b->s->rows));
    b->ids = lq_tape_input(b->tape, "ids", &lq_i32, 0);
    b->pos = lq_tape_input(b->tape, "pos", &lq_i32, 0);
    b->starts = lq_tape_input(b->tape, "starts", &lq_i32, 0);
    b->labels = lq_tape_input(b->tape, "labels", &lq_i32, 0);
}

/* Compiles with `out` as the loss and prints the best times. flops: of one forward; 0: none
 * printed. The random weights stay allocated: the program ends soon. */
static void time_tape(bench *b, const char *name, lq_tensor *out, double flops) {
    double best_forward = INFINITY, best_backward = INFINITY;
    lq_tape_output(b->tape, out);
    check(lq_tape_compile(b->tape, &(lq_tape_options){.training = true}));
    check(lq_tape_alloc(b->tape));
    lq_tape_set_rows(b->tape, b->s->rows);
    fill_inputs(b);
    for (int i = 0; i < b->s->repeat; i++) {
        const double t0 = lq_seconds();
        check(lq_tape_forward(b->tape, 1, 0));
        const double t1 = lq_seconds();
        check(lq_tape_backward(b->tape));
        const double t2 = lq_seconds();
        best_forward = fmin(best_forward, t1 - t0);
        best_backward = fmin(best_backward, t2 - t1);
    }
    printf("%-28s forward %8.3f ms  backward %8.3f ms", name, best_forward * 1e3,
           best_backward * 1e3);
    if (flops > 0) printf("  %5.0f GFLOP/s", 2 * flops / (best_forward + best_backward) * 1e-9);
    else printf("  %6.0f tokens/s", (double)b->s->rows / (best_forward + best_backward));
    printf("  arena %.1f MB\n", (double)lq_tape_arena_bytes(b->tape) * 1e-6);
    lq_tape_free(b->tape);
}

static void time_linear(bench *b, int64_t rows, int64_t cols) {
    char name[64];
    begin(b);
    lq_tensor *x = param(b, b->s->rows, cols);
    snprintf(name, sizeof name, "linear %lld x %lld", (long long)rows, (long long)cols);
    time_tape(b, name, lq_linear(b->tape, x, weight(b, rows, cols), NULL),
              2.0 * (double)(b->s->rows * rows * cols));
    begin(b);
    x = param(b, b->s->rows, cols);
    snprintf(name, sizeof name, "lora_linear %lld x %lld", (long long)rows, (long long)cols);
    time_tape(b, name, lora(b, x, rows, cols), 2.0 * (double)(b->s->rows * rows * cols));
}

static void time_ops(bench *b) {
    const model_shape *s = b->s;
    time_linear(b, s->width, s->width);
    time_linear(b, s->kv_heads * s->head_dim, s->width);
    time_linear(b, s->ff, s->width);
    time_linear(b, s->width, s->ff);
    begin(b);
    const int64_t q_width = s->heads * s->head_dim, kv_width = s->kv_heads * s->head_dim;
    lq_tensor *q = param(b, s->rows, q_width), *k = param(b, s->rows, kv_width),
              *v = param(b, s->rows, kv_width);
    time_tape(b, "attention", attend(b, q, k, v), 0);
    begin(b);
    lq_tensor *gate = param(b, s->rows, s->ff), *up = param(b, s->rows, s->ff);
    time_tape(b, "glu", lq_glu(b->tape, gate, up, (lq_glu_attr){LQ_SILU}), 0);
    begin(b);
    time_tape(b, "rmsnorm", norm(b, param(b, s->rows, s->width)), 0);
    begin(b);
    const lq_rope_attr rope = {s->head_dim, s->head_dim, false, 10000, 1, 1};
    time_tape(b, "rope", lq_rope(b->tape, param(b, s->rows, q_width), b->pos, NULL, rope), 0);
    begin(b);
    lq_tensor *h = param(b, s->rows, s->width);
    time_tape(
        b, "ce_head",
        lq_ce_head(b->tape, h, weight(b, s->vocab, s->width), b->labels, (lq_ce_head_attr){0}), 0);
}

static void time_step(bench *b) {
    begin(b);
    lq_tensor *embedding = weight(b, b->s->vocab, b->s->width);
    lq_tensor *h = lq_embed(b->tape, b->ids, embedding, NULL, (lq_embed_attr){1, 0});
    for (int64_t i = 0; i < b->s->layers; i++) h = layer(b, h);
    time_tape(b, "whole step",
              lq_ce_head(b->tape, norm(b, h), embedding, b->labels, (lq_ce_head_attr){0}), 0);
}

int main(int argc, char **argv) {
    bench b = {.s = &shapes[0], .fmt = &lq_f32};
    for (int i = 0; i < LQ_ARRAY_LEN(shapes); i++)
        if (argc > 1 && strcmp(argv[1], shapes[i].name) == 0) b.s = &shapes[i];
    if (argc > 2 && !(b.fmt = lq_format_by_name(argv[2]))) return 2;
    b.merged = argc > 3 && strcmp(argv[3], "merged") == 0;
    printf("%s, %s weights%s\n", b.s->name, b.fmt->label, b.merged ? ", merged" : "");
    time_ops(&b);
    time_step(&b);
    return 0;
}
