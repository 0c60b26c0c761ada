/* build.c: logits and gradients equal those of transformers (tests/reference, made by
 * conformance/make_tiny_families.py); packed examples, patches, caches; a real model's loss. */
#include "model.h"

#include "atomic_file.h"
#include "test_util.h"
#include "tiny_model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- a model on a tape ---- */

typedef struct run {
    lq_tape *tape;
    lq_model_io io;
} run;

static lq_status try_start(run *r, const lq_model *m, const lq_build_options *o, int64_t rows,
                           bool training) {
    LQ_TRY(lq_tape_new(&r->tape, rows));
    LQ_TRY(lq_model_build(m, o, r->tape, &r->io));
    LQ_TRY(
        lq_tape_compile(r->tape, &(lq_tape_options){.training = training, .checkpoint = training}));
    return lq_tape_alloc(r->tape);
}

static void set_input(const lq_tensor *t, const int32_t *values, int64_t n) {
    if (t) memcpy(t->data, values, (size_t)n * sizeof *values);
}

static void forward(const run *r, int64_t n, const int32_t *ids, const int32_t *pos,
                    const int32_t *starts, const int32_t *labels, int64_t n_past) {
    lq_tape_set_rows(r->tape, n);
    set_input(r->io.ids, ids, n);
    set_input(r->io.pos, pos, n);
    set_input(r->io.starts, starts, n);
    set_input(r->io.labels, labels, n);
    ck_ok(lq_tape_forward(r->tape, 1, n_past));
}

static double loss_of(const run *r, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)lq_data_f32(r->io.out)[2 * i];
    return sum;
}

/* ---- against transformers ---- */

static const char *const cases[] = {
    "llama_tied", "llama_untied", "llama_freqs", "llama_biases", "qwen2", "qwen2_yarn", "qwen3",
    "gemma", "gemma2", "gemma3", "phi3_short", "phi3_long", "smollm3",
    "mixtral", "qwen2moe", "qwen3moe", "olmo2", "granite", "stablelm", "stablelm_parallel",
    "falcon", "falcon_grouped", "mpt", "gpt2",
};

typedef struct reference {
    lq_model *m;
    lq_gguf *ref;
    lq_patch *patch;
    float *memory;      /* parameters and gradients of the patches */
    int64_t n_tokens;
} reference;

static const lq_gguf_tensor *ref_tensor(const reference *r, const char *fmt, const char *name) {
    char full[80];
    snprintf(full, sizeof full, fmt, name);
    const lq_gguf_tensor *t = lq_gguf_find_tensor(r->ref, full);
    ck_assert_msg(t != NULL, "the reference has no %s", full);
    return t;
}

static const void *ref_data(const reference *r, const char *name) {
    return ref_tensor(r, "%s", name)->data;
}

static int64_t n_numbers(const lq_gguf_tensor *t) { return t->ne[0] * t->ne[1] * t->ne[2]; }

static void open_reference(reference *r, int i) {
    char path[512];
    *r = (reference){0};
    snprintf(path, sizeof path, "%s/tests/reference/%s.gguf", LOQUAT_SOURCE_DIR, cases[i]);
    ck_ok(lq_model_open(&r->m, path, true));
    snprintf(path, sizeof path, "%s/tests/reference/%s.ref.gguf", LOQUAT_SOURCE_DIR, cases[i]);
    ck_ok(lq_gguf_open(&r->ref, path));
    r->n_tokens = ref_tensor(r, "%s", "ids")->ne[0];
    r->patch = lq_alloc_array(r->m->n_weights, sizeof *r->patch);
    r->memory = lq_alloc_array(8 * lq_model_n_params(r->m), sizeof *r->memory);
}

static void close_reference(reference *r) {
    lq_model_close(r->m);
    lq_gguf_close(r->ref);
    lq_free(r->patch);
    lq_free(r->memory);
}

static float *place(float **at, const void *values, int64_t n) {
    float *p = *at;
    if (values) memcpy(p, values, (size_t)n * sizeof *p);
    *at += n;
    return p;
}

static void patch_full(reference *r) {
    float *at = r->memory;
    for (int i = 0; i < r->m->n_weights; i++) {
        const lq_weight *w = &r->m->weight[i];
        const int64_t n = w->rows * w->cols;
        r->patch[i] = (lq_patch){
            .full = true, .w = place(&at, w->data, n), .dw = place(&at, NULL, n)};
    }
}

static void patch_lora(reference *r) {
    float *at = r->memory, scale = 0;
    ck_ok(lq_gguf_get_f32(r->ref, "lora_scale", true, &scale));
    for (int i = 0; i < r->m->n_weights; i++) {
        const lq_weight *w = &r->m->weight[i];
        if (w->layer < 0 || !lq_weight_is_linear(w) || lq_weight_is_router(w)) continue;
        const lq_gguf_tensor *a = ref_tensor(r, "%s.a", w->name),
                             *b = ref_tensor(r, "%s.b", w->name);
        const int64_t na = n_numbers(a), nb = n_numbers(b);
        r->patch[i] = (lq_patch){.rank = (int)a->ne[1], .scale = scale,
                                 .a = place(&at, a->data, na), .da = place(&at, NULL, na),
                                 .b = place(&at, b->data, nb), .db = place(&at, NULL, nb)};
    }
}

static double max_abs(const float *x, int64_t n) {
    double top = 0;
    for (int64_t i = 0; i < n; i++) top = fmax(top, fabs((double)x[i]));
    return top;
}

/* 1e-4 of the largest element. */
static void check_gradient(const reference *r, const char *fmt, const char *name,
                           const float *got) {
    const lq_gguf_tensor *t = ref_tensor(r, fmt, name);
    const float *want = t->data;
    const int64_t n = n_numbers(t);
    test_close(t->name, got, want, n, 1e-4 * max_abs(want, n), 0);
}

static void run_reference(const reference *r, run *out, bool loss) {
    uint32_t n_ctx = 0;
    ck_ok(lq_gguf_get_u32(r->ref, "n_ctx", true, &n_ctx));
    const lq_build_options o = {.patch = r->patch, .loss = loss, .n_ctx = n_ctx};
    ck_ok(try_start(out, r->m, &o, r->n_tokens + 3, loss));   /* spare capacity */
    forward(out, r->n_tokens, ref_data(r, "ids"), ref_data(r, "pos"), ref_data(r, "starts"),
            ref_data(r, "labels"), 0);
}

static void check_logits(const reference *r, const char *name) {
    run logits;
    run_reference(r, &logits, false);
    test_close(name, lq_data_f32(logits.io.out), ref_data(r, name), r->n_tokens * r->m->hp.n_vocab,
               1e-4, 0);
    lq_tape_free(logits.tape);
}

static void check_loss_and_backward(const reference *r, const char *name) {
    run training;
    run_reference(r, &training, true);
    const double want = (double)*(const float *)ref_data(r, name);
    ck_assert_double_eq_tol(loss_of(&training, r->n_tokens), want, 1e-4 * want);
    ck_ok(lq_tape_backward(training.tape));
    lq_tape_free(training.tape);
}

START_TEST(full_training_equals_transformers) {
    reference r;
    open_reference(&r, _i);
    check_logits(&r, "logits");   /* frozen */
    patch_full(&r);
    check_logits(&r, "logits");
    check_loss_and_backward(&r, "loss");
    for (int i = 0; i < r.m->n_weights; i++)
        if (!lq_weight_is_constant(&r.m->weight[i]))
            check_gradient(&r, "d.%s", r.m->weight[i].name, r.patch[i].dw);
    close_reference(&r);
}
END_TEST

START_TEST(adapters_equal_transformers) {
    reference r;
    open_reference(&r, _i);
    patch_lora(&r);
    check_logits(&r, "lora_logits");
    check_loss_and_backward(&r, "lora_loss");
    for (int i = 0; i < r.m->n_weights; i++) {
        if (!r.patch[i].rank) continue;
        check_gradient(&r, "d.%s.a", r.m->weight[i].name, r.patch[i].da);
        check_gradient(&r, "d.%s.b", r.m->weight[i].name, r.patch[i].db);
    }
    close_reference(&r);
}
END_TEST

/* ---- what tapes can do ---- */

static const char *write_variant(const tiny_model *o) {
    static char path[256];
    snprintf(path, sizeof path, "%s", test_path("variant.gguf"));
    ck_ok(tiny_model_write(path, o));
    return path;
}

/* Two examples in one run give what each gives alone, bit for bit. */
START_TEST(packed_examples_do_not_see_each_other) {
    const int32_t ids[] = {1, 5, 9, 2, 7, 1, 8}, pos[] = {0, 1, 2, 0, 1, 2, 3},
                  starts[] = {0, 0, 0, 3, 3, 3, 3}, alone[] = {0, 0, 0, 0};
    lq_model *m = NULL;
    run r;
    ck_ok(lq_model_open(&m, test_tiny_model(), true));
    const int64_t V = m->hp.n_vocab;
    float *packed = lq_alloc_array(7 * V, sizeof *packed);
    ck_ok(try_start(&r, m, &(lq_build_options){0}, 8, false));
    forward(&r, 7, ids, pos, starts, NULL, 0);
    memcpy(packed, r.io.out->data, (size_t)(7 * V) * sizeof *packed);
    forward(&r, 3, ids, pos, alone, NULL, 0);
    test_close("first", lq_data_f32(r.io.out), packed, 3 * V, 1e-5, 0);
    forward(&r, 4, ids + 3, pos + 3, alone, NULL, 0);
    test_close("second", lq_data_f32(r.io.out), packed + 3 * V, 4 * V, 1e-5, 0);
    lq_tape_free(r.tape);
    lq_model_close(m);
    lq_free(packed);
}
END_TEST

/* In pieces with caches: the logits of transformers on the whole, for every family. */
START_TEST(caches_continue_a_text) {
    enum { N = 7, MAX_LAYERS = 8 };   /* the first example's length */
    float *k[MAX_LAYERS] = {NULL}, *v[MAX_LAYERS] = {NULL};
    uint32_t n_ctx = 0;
    reference r;
    run step;
    open_reference(&r, _i);
    ck_ok(lq_gguf_get_u32(r.ref, "n_ctx", true, &n_ctx));
    const int64_t V = r.m->hp.n_vocab, size = n_ctx * r.m->hp.n_head_kv * r.m->hp.head_dim;
    float *cache = lq_alloc_array(2 * r.m->hp.n_layer * size, sizeof *cache);
    ck_assert_int_le(r.m->hp.n_layer, MAX_LAYERS);
    for (int i = 0; i < r.m->hp.n_layer; i++) {
        k[i] = cache + 2 * i * size;
        v[i] = k[i] + size;
    }
    const lq_build_options o = {.k_cache = k, .v_cache = v, .n_ctx = n_ctx};
    ck_ok(try_start(&step, r.m, &o, 3, false));
    const int32_t *ids = ref_data(&r, "ids"), *pos = ref_data(&r, "pos"), starts[N] = {0};
    const float *want = ref_data(&r, "logits");
    for (int at = 0, n = 3; at < N; at += n, n = 1) {
        forward(&step, n, ids + at, pos + at, starts, NULL, at);
        test_close("logits", lq_data_f32(step.io.out), want + at * V, n * V, 1e-4, 0);
    }
    lq_tape_free(step.tape);
    lq_free(cache);
    close_reference(&r);
}
END_TEST

/* A weight in another format: the same as a file that has it so; a tied head follows the embedding.
 */
START_TEST(patched_formats_equal_files) {
    const int32_t ids[] = {1, 5, 9}, pos[] = {0, 1, 2}, starts[] = {0, 0, 0};
    lq_model *plain = NULL, *packed = NULL;
    run a, b;
    ck_ok(lq_model_open(&plain, write_variant(&(tiny_model){.tied = true}), true));
    ck_ok(
        lq_model_open(&packed, write_variant(&(tiny_model){.tied = true, .fmt = &lq_q8_0}), true));
    lq_patch *patch = lq_alloc_array(plain->n_weights, sizeof *patch);
    for (int i = 0; i < plain->n_weights; i++)
        patch[i] = (lq_patch){.fmt = packed->weight[i].fmt, .data = packed->weight[i].data};
    ck_ok(try_start(&a, plain, &(lq_build_options){.patch = patch}, 3, false));
    ck_ok(try_start(&b, packed, &(lq_build_options){0}, 3, false));
    forward(&a, 3, ids, pos, starts, NULL, 0);
    forward(&b, 3, ids, pos, starts, NULL, 0);
    ck_assert_mem_eq(a.io.out->data, b.io.out->data,
                     (size_t)(3 * plain->hp.n_vocab) * sizeof(float));
    lq_tape_free(a.tape);
    lq_tape_free(b.tape);
    lq_model_close(plain);
    lq_model_close(packed);
    lq_free(patch);
}
END_TEST

START_TEST(adapter_on_the_head) {
    const tiny_model untied = {.seed = 3};
    lq_model *m = NULL;
    run r = {0};
    float a[64] = {0}, b[320] = {0}, da[64] = {0}, db[320] = {0};
    ck_ok(lq_model_open(&m, write_variant(&untied), true));
    lq_patch *patch = lq_alloc_array(m->n_weights, sizeof *patch);
    lq_patch *head = &patch[lq_model_find(m, LQ_ROLE_OUTPUT, -1, false)];
    *head = (lq_patch){.rank = 1, .a = a, .b = b, .da = da, .db = db, .scale = 1};
    ck_fails(try_start(&r, m, &(lq_build_options){.patch = patch, .loss = true}, 3, true),
             LQ_EUNSUPPORTED, "an adapter on output.weight cannot be trained yet");
    lq_tape_free(r.tape);
    head->da = head->db = NULL;
    ck_ok(try_start(&r, m, &(lq_build_options){.patch = patch}, 3, false));
    lq_tape_free(r.tape);
    lq_model_close(m);
    lq_free(patch);
}
END_TEST

/* ---- a real model ---- */

enum { STORIES = 100, CONTEXT = 512, STORY_TOKENS = 37217 };

/* The next story without the newline at each of its ends; NULL after the last. */
static const char *next_story(const char **text, size_t *n) {
    static const char end[] = "<|endoftext|>";
    const char *story = *text, *stop = strstr(story, end);
    if (!stop) return NULL;
    *text = stop + strlen(end);
    if (*story == '\n') story++;
    if (stop > story && stop[-1] == '\n') stop--;
    *n = (size_t)(stop - story);
    return story;
}

/* Adds the story's negative log-likelihood, each token given those before it. */
static void score(const run *r, const lq_tokens *t, double *nll, int64_t *scored) {
    int32_t pos[CONTEXT] = {0}, labels[CONTEXT] = {0}, starts[CONTEXT] = {0};
    const int64_t n = t->n < CONTEXT ? t->n : CONTEXT;
    for (int64_t i = 0; i < n; i++) {
        pos[i] = (int32_t)i;
        labels[i] = i + 1 < n ? t->id[i + 1] : -1;
    }
    forward(r, n, t->id, pos, starts, labels, 0);
    *nll += loss_of(r, n);
    *scored += n - 1;
}

START_TEST(stories_have_the_known_loss) {
    const char *path = test_shared(LOQUAT_SHARED_DATA, "models/stories260K/stories260K.gguf");
    const char *data = test_shared(LOQUAT_SHARED_DATA, "text/tinystories_sample_2M.txt");
    if (!path || !data) return;
    lq_model *m = NULL;
    run r;
    char *text = NULL;
    size_t n;
    double nll = 0;
    int64_t scored = 0;
    ck_ok(lq_model_open(&m, path, true));
    ck_ok(lq_read_file(&text, &n, data));
    ck_ok(try_start(&r, m, &(lq_build_options){.loss = true}, CONTEXT, false));
    const char *rest = text;
    for (int i = 0; i < STORIES; i++) {
        lq_tokens tokens = LQ_TOKENS_INIT;
        const char *story = next_story(&rest, &n);
        ck_ok(lq_tokenize(m->tokenizer, story, n, LQ_TOK_BOS, &tokens));
        score(&r, &tokens, &nll, &scored);
        lq_tokens_clear(&tokens);
    }
    ck_assert_int_eq(scored, STORY_TOKENS);
    ck_assert_double_eq_tol(nll / (double)scored, 1.4263, 5e-5);
    lq_tape_free(r.tape);
    lq_model_close(m);
    lq_free(text);
}
END_TEST

static lq_status open_and_build(void *ctx) {
    lq_model *m = NULL;
    run r = {0};
    lq_status status = lq_model_open(&m, ctx, true);
    if (status == LQ_OK) status = try_start(&r, m, &(lq_build_options){.loss = true}, 4, false);
    lq_tape_free(r.tape);
    lq_model_close(m);
    return status;
}

START_TEST(failed_allocations_are_clean) {
    test_alloc_failures(open_and_build,
                        (void *)write_variant(&(tiny_model){.n_layer = 1, .n_embd = 8, .n_ff = 8}));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("build");
    TCase *tc = tcase_create("build");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, full_training_equals_transformers, 0, LQ_ARRAY_LEN(cases));
    tcase_add_loop_test(tc, adapters_equal_transformers, 0, LQ_ARRAY_LEN(cases));
    tcase_add_test(tc, packed_examples_do_not_see_each_other);
    tcase_add_loop_test(tc, caches_continue_a_text, 0, LQ_ARRAY_LEN(cases));
    tcase_add_test(tc, patched_formats_equal_files);
    tcase_add_test(tc, adapter_on_the_head);
    tcase_add_test(tc, stories_have_the_known_loss);
    tcase_add_test(tc, failed_allocations_are_clean);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
