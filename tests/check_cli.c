/* The command line as users meet it: what works, and what every mistake says. */
#include "atomic_file.h"
#include "gguf.h"
#include "random.h"
#include "run_fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- usage ----------------------------------------------------------------------------------- */

static const struct { const char *args; int exit_status; const char *says; } usage[] = {
    {"--version", 0, "loquat "},
    {"--help", 0, "usage"},
    {"train --help", 0, "lora_r"},
    {"evaluate --help", 0, "--perplexity"},
    {"", 2, "usage"},
    {"trian x.yaml", 2, "unknown verb"},
    {"evaluate m.gguf --perplexety x", 2, "unknown option --perplexety"},
    {"evaluate m.gguf --ctx-size many", 2, "wanted a whole number"},
    {"evaluate", 2, "an argument is missing"},
    {"logits m.gguf --ids 1", 2, "--ids and --output are wanted"},
    {"tokenize m.gguf", 2, "one of TEXT, --file and --messages"},
    {"inspect /nonexistent.gguf", 1, "/nonexistent.gguf"},
    {"train /nonexistent.yaml", 2, "/nonexistent.yaml"},
    {"merge m.gguf --lora x=zz --output y.gguf", 2, "not a number"},
    {"evaluate m.gguf --device tpu --data x", 2, "wanted auto, cpu, cuda"},
    {"quantize a.gguf b.gguf q4_0 --device cuda", 2, "this verb works on the CPU"},
};

START_TEST(usage_errors) {
    const fixture_result r = fixture_loquat("%s", usage[_i].args);
    ck_assert_msg(r.exit_status == usage[_i].exit_status, "loquat %s: exit %d: %s", usage[_i].args,
                  r.exit_status, r.err);
    ck_assert_msg(test_contains(r.out, usage[_i].says) || test_contains(r.err, usage[_i].says),
                  "loquat %s: %s%s", usage[_i].args, r.out, r.err);
}
END_TEST

/* ---- configuration and data mistakes --------------------------------------------------------- */

/* `line` joins run.yaml, `record` joins data.jsonl. */
static const struct { const char *line, *record; int exit_status; const char *says; } mistakes[] = {
    {"learing_rate: 1e-4\n", "", 2, "learning_rate"},
    {"lora_dropout: high\n", "", 2, "lora_dropout"},
    {"weight_decay: -1\n", "", 2, "weight_decay"},
    {"qat: {weight_dtype: q4_9, mode: merged}\n", "", 2, "q4_9"},
    {"qat: {weight_dtype: q4_0, mode: mergd}\n", "", 2, "merged"},
    {"adapter: lorra\n", "", 2, "lora"},
    {"lora_target_modules: [q_proj, kproj]\n", "", 2, "kproj"},
    {"excess_length_strategy: raise\n", "{\"prompt\": \"LONG\", \"completion\": \"x\"}\n", 1,
     "data.jsonl"},
    {"", "{\"prompt\": \"a\", \"completion\": \n", 1, "data.jsonl:37"},
    {"", "{\"prompt\": \"a\"}\n", 1, "data.jsonl:37"},
    {"", "{\"prompt\": \"a\", \"completion\": \"\"}\n", 1, "data.jsonl:37"},
    {"", "{\"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}\n", 1, "data.jsonl:37"},
};

START_TEST(run_mistakes) {
    fixture_run f;
    char name[32];
    snprintf(name, sizeof name, "mistake-%d", _i);
    fixture_make(&f, name, 2, mistakes[_i].line);
    FILE *data = fopen(f.data, "a");
    const char *gap = strstr(mistakes[_i].record, "LONG");
    if (gap) {
        fprintf(data, "%.*s", (int)(gap - mistakes[_i].record), mistakes[_i].record);
        for (int i = 0; i < 400; i++) fputs("word ", data);
        fputs(gap + 4, data);
    } else {
        fputs(mistakes[_i].record, data);
    }
    fclose(data);
    const fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status == mistakes[_i].exit_status, "%s%s exit %d: %s", mistakes[_i].line,
                  mistakes[_i].record, r.exit_status, r.err);
    ck_assert_msg(test_contains(r.err, mistakes[_i].says), "%s%s: %s", mistakes[_i].line,
                  mistakes[_i].record, r.err);
    ck_assert_msg(!test_contains(r.err, "Sanitizer"), "%s", r.err);
}
END_TEST

START_TEST(every_mistake_at_once) {
    fixture_run f;
    fixture_make(&f, "all", 2, "learing_rate: 1\nlora_r_: 4\nadapter: none\n");
    const fixture_result r = fixture_loquat("train %s --sed 4", f.config);
    ck_assert_int_eq(r.exit_status, 2);
    for (const char *const *part =
             (const char *const[]){"learing_rate", "lora_r_", "adapter", "sed", "run.yaml:", NULL};
         *part; part++)
        ck_assert_msg(test_contains(r.err, *part), "lacks %s: %s", *part, r.err);
}
END_TEST

/* ---- broken model files ---------------------------------------------------------------------- */

START_TEST(broken_models) {
    fixture_run f;
    char path[300], command[700];
    fixture_make(&f, "broken", 2, "");
    snprintf(path, sizeof path, "%s/cut.gguf", f.dir);
    static const struct { const char *make, *says; } cases[] = {
        {"head -c 0 '%s' > '%s'", "cut.gguf"},
        {"head -c 100 '%s' > '%s'", "cut.gguf"},
        {"head -c 20000 '%s' > '%s'", "cut.gguf"},
        {"head -c -64 '%s' > '%s'", "cut.gguf"},
        {"sed 's/llama/lamma/' '%s' > '%s'", "lamma"},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(cases); i++) {
        snprintf(command, sizeof command, cases[i].make, f.model, path);
        ck_assert_int_eq(system(command), 0);
        const fixture_result r = fixture_loquat("evaluate %s --data %s", path, f.data);
        ck_assert_msg(r.exit_status == 1 && test_contains(r.err, cases[i].says),
                      "case %d: exit %d: %s", i, r.exit_status, r.err);
    }
}
END_TEST

/* The model again with a string of its metadata set (key) or a tensor changed. */
typedef struct model_change {
    const char *key, *value;
    const char *tensor;
    enum { UNCHANGED, LEFT_OUT, ROW_MISSING, NAN_INSIDE, INFINITE, OTHER_TYPE } how;
    const char *says[2];
} model_change;

static const model_change changes[] = {
    {.key = "general.architecture", .value = "lamma", .says = {"lamma", "llama"}},
    {.key = "tokenizer.ggml.model", .value = "wordsmith", .says = {"wordsmith"}},
    {.key = "tokenizer.ggml.model", .value = "gpt2", .says = {"tokenizer.ggml."}},
    {.tensor = "blk.1.ffn_up.weight", .how = LEFT_OUT, .says = {"blk.1.ffn_up.weight"}},
    {.tensor = "blk.0.attn_q.weight", .how = ROW_MISSING, .says = {"blk.0.attn_q.weight", "63"}},
    {.tensor = "output_norm.weight", .how = ROW_MISSING, .says = {"output_norm.weight", "63"}},
    {.tensor = "blk.0.ffn_down.weight", .how = NAN_INSIDE,
     .says = {"blk.0.ffn_down.weight", "NaN at row 1, column 4"}},
    {.tensor = "output_norm.weight", .how = INFINITE, .says = {"output_norm.weight", "infinity"}},
    {.tensor = "blk.1.attn_v.weight", .how = OTHER_TYPE, .says = {"blk.1.attn_v.weight", "I32"}},
};

/* `scratch`: room for one tensor. */
static lq_status add_changed(lq_gguf_writer *w, const lq_gguf_tensor *t,
                             const model_change *change, float *scratch) {
    enum { I32 = 26 };
    int64_t ne[4];
    memcpy(ne, t->ne, sizeof ne);
    if (!change->tensor || strcmp(t->name, change->tensor) != 0)
        return lq_gguf_writer_add(w, t->name, t->ggml_type, t->ndim, ne, t->data, t->bytes);
    ck_assert_uint_le(t->bytes, 131072);
    memcpy(scratch, t->data, t->bytes);
    if (change->how == LEFT_OUT) return LQ_OK;
    if (change->how == NAN_INSIDE) scratch[100] = NAN;
    if (change->how == INFINITE) scratch[7] = -INFINITY;
    if (change->how == ROW_MISSING) ne[t->ndim - 1]--;
    const uint64_t bytes = t->bytes / (uint64_t)t->ne[t->ndim - 1] * (uint64_t)ne[t->ndim - 1];
    return lq_gguf_writer_add(w, t->name, change->how == OTHER_TYPE ? I32 : t->ggml_type, t->ndim,
                              ne, scratch, bytes);
}

static void change_model(const fixture_run *f, const model_change *change) {
    static float scratch[32768];
    lq_gguf *g = NULL;
    lq_gguf_writer *w = NULL;
    ck_ok(lq_gguf_open(&g, f->model));
    ck_ok(lq_gguf_writer_new(&w));
    ck_ok(lq_gguf_writer_copy_kv(w, g));
    if (change->key) ck_ok(lq_gguf_writer_set_string(w, change->key, change->value));
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++)
        ck_ok(add_changed(w, lq_gguf_tensor_at(g, i), change, scratch));
    ck_ok(lq_gguf_writer_write(w, f->model));
    lq_gguf_writer_free(w);
    lq_gguf_close(g);
}

START_TEST(unfit_models) {
    fixture_run f;
    const model_change *change = &changes[_i];
    fixture_make(&f, "unfit", 2, "");
    change_model(&f, change);
    for (int verb = 0; verb < 2; verb++) {
        const fixture_result r =
            verb ? fixture_loquat("merge %s --output %s.out --type F16", f.model, f.model)
                 : fixture_loquat("train %s", f.config);
        for (int i = 0; i < 2 && change->says[i]; i++)
            ck_assert_msg(r.exit_status == 1 && test_contains(r.err, change->says[i]),
                          "case %d: exit %d: %s", _i, r.exit_status, r.err);
    }
}
END_TEST

/* A random bit in the header, the metadata or the tensor table: whatever it does, the program ends
 * in order. */
START_TEST(flipped_bits) {
    enum { FLIPS = 20 };
    fixture_run f;
    lq_gguf *g = NULL;
    char *bytes = NULL, path[300];
    size_t n;
    fixture_make(&f, "flipped", 2, "");
    snprintf(path, sizeof path, "%s/flipped.gguf", f.dir);
    ck_ok(lq_gguf_open(&g, f.model));
    int n_regions;
    const char *start = lq_gguf_regions(g, &n_regions)->p;
    const uint64_t header = (uint64_t)((const char *)lq_gguf_tensor_at(g, 0)->data - start);
    lq_gguf_close(g);
    ck_ok(lq_read_file(&bytes, &n, f.model));
    for (uint64_t i = 0; i < FLIPS; i++) {
        const uint64_t at = lq_random_below(1, i, (uint32_t)header), bit = lq_random_below(2, i, 8);
        bytes[at] = (char)(bytes[at] ^ (1 << bit));
        ck_ok(lq_write_file(path, bytes, n));
        bytes[at] = (char)(bytes[at] ^ (1 << bit));
        const fixture_result r = fixture_loquat("evaluate %s --data %s", path, f.data);
        ck_assert_msg(r.exit_status == 0 || r.exit_status == 1, "bit %d of byte %d: exit %d: %s",
                      (int)bit, (int)at, r.exit_status, r.err);
        ck_assert_msg(r.exit_status == 0 || test_contains(r.err, "flipped.gguf") ||
                          test_contains(r.err, "data.jsonl"),
                      "bit %d of byte %d: %s", (int)bit, (int)at, r.err);
        ck_assert_msg(!test_contains(r.err, "Sanitizer") && !test_contains(r.err, "runtime error"),
                      "bit %d of byte %d: %s", (int)bit, (int)at, r.err);
    }
    lq_free(bytes);
}
END_TEST

/* Nothing is left to train on. */
static const struct { const char *args, *says; } nothing[] = {
    {"--sequence-len 8", "longer than sequence_len"},
    {"--sequence-len 8 --excess-length-strategy truncate", "beyond sequence_len 8"},
    {"--sequence-len 8 --excess-length-strategy raise", "data.jsonl:1"},
};

START_TEST(nothing_to_train_on) {
    fixture_run f;
    fixture_make(&f, "nothing", 2, "");
    const fixture_result r = fixture_loquat("train %s %s", f.config, nothing[_i].args);
    ck_assert_msg(r.exit_status == 1 && test_contains(r.err, nothing[_i].says), "%s: exit %d: %s",
                  nothing[_i].args, r.exit_status, r.err);
    ck_assert_msg(!lq_file_exists(f.out), "a run that never began left its directory");
}
END_TEST

START_TEST(role_that_nobody_has) {
    fixture_run f;
    fixture_make(&f, "roles", 2, "chat_template: chatml\nroles_to_train: [narrator]\n");
    fixture_write(f.data, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}, {\"role\": "
                          "\"assistant\", \"content\": \"b\"}]}\n");
    const fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_msg(r.exit_status == 1 && test_contains(r.err, "narrator"), "exit %d: %s",
                  r.exit_status, r.err);
}
END_TEST

START_TEST(unwritable_output) {
    fixture_run f;
    fixture_make(&f, "unwritable", 2, "");
    const fixture_result r = fixture_loquat("train %s --output-dir /proc/loquat", f.config);
    ck_assert_int_eq(r.exit_status, 1);
    ck_assert_msg(test_contains(r.err, "/proc/loquat"), "%s", r.err);
}
END_TEST

/* A disk with room for the beginning of a run only. Needs the right to mount; skipped otherwise. */
START_TEST(full_disk) {
    fixture_run f;
    char command[900];
    fixture_make(&f, "full", 12, "");
    mkdir(f.out, 0755);
    snprintf(command, sizeof command, "mount -t tmpfs -o size=256k tmpfs '%s' 2>/dev/null", f.out);
    if (system(command) != 0) {
        fprintf(stderr, "skipped: cannot mount a small tmpfs here\n");
        return;
    }
    const fixture_result r = fixture_loquat("train %s", f.config);
    const int exit_status = r.exit_status;
    const bool says = test_contains(r.err, "No space left");
    snprintf(command, sizeof command, "ls -A '%s' '%s/checkpoints' | grep -q '[.]tmp'", f.out,
             f.out);
    const bool litter = system(command) == 0;
    snprintf(command, sizeof command, "umount '%s'", f.out);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_eq(exit_status, 1);
    ck_assert_msg(says, "the message does not say why: %s", r.err);
    ck_assert_msg(!litter, "a temporary file was left behind");
}
END_TEST

/* ---- verbs that work ------------------------------------------------------------------------- */

START_TEST(verbs) {
    fixture_run f;
    fixture_make(&f, "verbs", 6, "qat: {weight_dtype: q8_0, mode: separate}\n");
    fixture_result r = fixture_loquat("plan %s --json", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "peak_bytes"), "%s%s", r.out, r.err);
    r = fixture_loquat("plan %s --memory 1K", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "it does not fit, not even with") &&
                      test_contains(r.out, "gradient_checkpointing: true"), "%s%s", r.out, r.err);
    r = fixture_loquat("plan %s --memory 64G", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "it fits"), "%s%s", r.out, r.err);
    r = fixture_loquat("plan %s --memory lots", f.config);
    ck_assert_msg(r.exit_status == 2 && test_contains(r.err, "found 'lots'"), "%s", r.err);
    r = fixture_loquat("preprocess %s --debug", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "[["), "%s%s", r.out, r.err);
    r = fixture_loquat("train %s --json", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "\"artifacts\""), "%s%s", r.out,
                  r.err);
    r = fixture_loquat("evaluate %s --data %s --exact-match --json", f.out, f.data);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "\"exact_match\""), "%s%s", r.out,
                  r.err);
    r = fixture_loquat("chat %s --prompt 'make it red' --max-new-tokens 4", f.out);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    r = fixture_loquat("merge %s --lora %s/model-F32-LoRA.gguf --output %s/m.gguf --type Q4_0",
                       f.model, f.out, f.dir);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    r = fixture_loquat("inspect %s", f.out);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "  artifacts:\n    kind ") &&
                      test_contains(r.out, " lines, in --json)"), "%s%s", r.out, r.err);
    r = fixture_loquat("inspect %s --json", f.out);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "\"kind\": \"run\"") &&
                      test_contains(r.out, "\"kind\": \"adapter\""), "%s%s", r.out, r.err);
    r = fixture_loquat("inspect %s/m.gguf %s", f.dir, f.model);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "relative difference"), "%s", r.err);
    r = fixture_loquat("inspect %s/m.gguf", f.dir);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "llama"), "%s%s", r.out, r.err);
    r = fixture_loquat("logits %s --ids '1 2 3' --output %s/l.npy", f.model, f.dir);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    r = fixture_loquat("imatrix %s --file %s --output %s/i.gguf --ctx-size 64", f.model, f.data,
                       f.dir);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "14 weights"), "%s%s", r.out, r.err);
    r = fixture_loquat("quantize %s %s/q.gguf iq4_nl --imatrix %s/i.gguf --tensor-type attn_v=q8_0 "
                       "--output-tensor-type q4_0", f.model, f.dir, f.dir);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "IQ4_NL"), "%s%s", r.out, r.err);
    r = fixture_loquat("evaluate %s/q.gguf --data %s", f.dir, f.data);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    r = fixture_loquat("export %s", f.out);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "model-base-Q8_0.gguf"), "%s%s", r.out,
                  r.err);
    r = fixture_loquat("tokenize %s 'red 7' --ids", f.model);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    char ids[256];
    snprintf(ids, sizeof ids, "%.*s", (int)strcspn(r.out, "\n"), r.out);
    r = fixture_loquat("tokenize %s --detokenize '%s'", f.model, ids);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "red 7"), "%s%s", r.out, r.err);
}
END_TEST

/* What a runtime rounds changes the loss a little; a type that cannot be is refused by name. */
static const struct { const char *options; int exit_status; const char *says; } roundings[] = {
    {"", 0, NULL},
    {"--activation-dtype off --cache-type-k f32 --cache-type-v F32", 0, NULL},
    {"--activation-dtype runtime", 0, NULL},
    {"--cache-type-k f16", 0, NULL},
    {"--cache-type-k f16 --cache-type-v f16", 0, NULL},
    {"--cache-type-v bf16", 0, NULL},
    {"--activation-dtype q8_0", 2, "--activation-dtype: found 'q8_0', wanted off or runtime"},
    {"--cache-type-k q9_0", 2, "--cache-type-k: found 'q9_0', wanted f32, f16"},
    {"--cache-type-v q8_0", 2, "blocks of 32 do not divide this model's heads of 16"},
};

START_TEST(evaluate_rounds_as_asked) {
    fixture_run f;
    char first[2000] = "", last[2000] = "";
    fixture_make(&f, "roundings", 1, "");
    ck_assert_int_eq(
        fixture_loquat("quantize %s %s/q.gguf Q8_0", f.model, f.dir).exit_status, 0);
    for (int i = 0; i < LQ_ARRAY_LEN(roundings); i++) {
        const fixture_result r =
            fixture_loquat("evaluate %s/q.gguf --data %s --json %s", f.dir, f.data,
                           roundings[i].options);
        ck_assert_int_eq(r.exit_status, roundings[i].exit_status);
        if (roundings[i].says)
            ck_assert_msg(test_contains(r.err, roundings[i].says), "%s", r.err);
        else if (i < 2) ck_assert_msg(i == 0 || strcmp(r.out, first) == 0, "%s%s", first, r.out);
        else ck_assert_msg(strcmp(r.out, last) != 0, "%s: %s", roundings[i].options, r.out);
        if (i == 0) snprintf(first, sizeof first, "%s", r.out);
        snprintf(last, sizeof last, "%s", r.out);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("cli");
    TCase *tc = tcase_create("cli");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, usage_errors, 0, LQ_ARRAY_LEN(usage));
    tcase_add_loop_test(tc, run_mistakes, 0, LQ_ARRAY_LEN(mistakes));
    tcase_add_test(tc, every_mistake_at_once);
    tcase_add_test(tc, broken_models);
    tcase_add_loop_test(tc, unfit_models, 0, LQ_ARRAY_LEN(changes));
    tcase_add_test(tc, flipped_bits);
    tcase_add_loop_test(tc, nothing_to_train_on, 0, LQ_ARRAY_LEN(nothing));
    tcase_add_test(tc, role_that_nobody_has);
    tcase_add_test(tc, unwritable_output);
    tcase_add_test(tc, full_disk);
    tcase_add_test(tc, verbs);
    tcase_add_test(tc, evaluate_rounds_as_asked);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
