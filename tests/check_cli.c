/* The command line as users meet it: what works, and what every mistake says. */
#include "run_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- usage -------------------------------------------------------------------------------------------- */

static const struct { const char *args; int exit_status; const char *says; } usage[] = {
    {"--version", 0, "loquat "},
    {"--help", 0, "usage"},
    {"train --help", 0, "lora_r"},
    {"evaluate --help", 0, "--perplexity"},
    {"", 2, "usage"},
    {"trian x.yaml", 2, "unknown verb"},
    {"evaluate", 2, "usage"},
    {"evaluate m.gguf --perplexety x", 2, "unknown option --perplexety"},
    {"evaluate m.gguf --ctx-size many", 2, "wanted a whole number"},
    {"logits m.gguf --ids 1", 2, "usage"},
    {"inspect /nonexistent.gguf", 1, "/nonexistent.gguf"},
    {"train /nonexistent.yaml", 2, "/nonexistent.yaml"},
    {"merge m.gguf --lora x=zz --output y.gguf", 2, "not a number"},
    {"evaluate m.gguf --device tpu --data x", 2, "--device"},
};

START_TEST(usage_errors) {
    const fixture_result r = fixture_loquat("%s", usage[_i].args);
    ck_assert_msg(r.exit_status == usage[_i].exit_status, "loquat %s: exit %d: %s", usage[_i].args, r.exit_status, r.err);
    ck_assert_msg(test_contains(r.out, usage[_i].says) || test_contains(r.err, usage[_i].says), "loquat %s: %s%s", usage[_i].args,
                  r.out, r.err);
}
END_TEST

/* ---- configuration and data mistakes ---------------------------------------------------------------------- */

/* `line` joins run.yaml, `record` joins data.jsonl. */
static const struct { const char *line, *record; int exit_status; const char *says; } mistakes[] = {
    {"learing_rate: 1e-4\n", "", 2, "learning_rate"},
    {"lora_dropout: high\n", "", 2, "lora_dropout"},
    {"weight_decay: -1\n", "", 2, "weight_decay"},
    {"qat: {weight_dtype: q4_9, mode: merged}\n", "", 2, "q4_9"},
    {"qat: {weight_dtype: q4_0, mode: mergd}\n", "", 2, "merged"},
    {"adapter: lorra\n", "", 2, "lora"},
    {"lora_target_modules: [q_proj, kproj]\n", "", 2, "kproj"},
    {"excess_length_strategy: raise\n", "{\"prompt\": \"LONG\", \"completion\": \"x\"}\n", 1, "data.jsonl"},
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
    ck_assert_msg(r.exit_status == mistakes[_i].exit_status, "%s%s exit %d: %s", mistakes[_i].line, mistakes[_i].record,
                  r.exit_status, r.err);
    ck_assert_msg(test_contains(r.err, mistakes[_i].says), "%s%s: %s", mistakes[_i].line, mistakes[_i].record, r.err);
    ck_assert_msg(!test_contains(r.err, "Sanitizer"), "%s", r.err);
}
END_TEST

START_TEST(every_mistake_at_once) {
    fixture_run f;
    fixture_make(&f, "all", 2, "learing_rate: 1\nlora_r_: 4\nadapter: none\n");
    const fixture_result r = fixture_loquat("train %s --sed 4", f.config);
    ck_assert_int_eq(r.exit_status, 2);
    for (const char *const *part = (const char *const[]){"learing_rate", "lora_r_", "adapter", "sed", "run.yaml:", NULL}; *part; part++)
        ck_assert_msg(test_contains(r.err, *part), "lacks %s: %s", *part, r.err);
}
END_TEST

/* ---- broken model files -------------------------------------------------------------------------------------- */

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
        ck_assert_msg(r.exit_status == 1 && test_contains(r.err, cases[i].says), "case %d: exit %d: %s", i, r.exit_status, r.err);
    }
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
    snprintf(command, sizeof command, "ls -A '%s' '%s/checkpoints' | grep -q '[.]tmp'", f.out, f.out);
    const bool litter = system(command) == 0;
    snprintf(command, sizeof command, "umount '%s'", f.out);
    ck_assert_int_eq(system(command), 0);
    ck_assert_int_eq(exit_status, 1);
    ck_assert_msg(says, "the message does not say why: %s", r.err);
    ck_assert_msg(!litter, "a temporary file was left behind");
}
END_TEST

/* ---- verbs that work ------------------------------------------------------------------------------------------- */

START_TEST(verbs) {
    fixture_run f;
    fixture_make(&f, "verbs", 6, "qat: {weight_dtype: q8_0, mode: separate}\n");
    fixture_result r = fixture_loquat("plan %s --json", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "peak_bytes"), "%s%s", r.out, r.err);
    r = fixture_loquat("preprocess %s --debug", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "[["), "%s%s", r.out, r.err);
    r = fixture_loquat("train %s --json", f.config);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "\"artifacts\""), "%s%s", r.out, r.err);
    r = fixture_loquat("evaluate %s --data %s --exact-match --json", f.out, f.data);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "\"exact_match\""), "%s%s", r.out, r.err);
    r = fixture_loquat("chat %s --prompt 'make it red' --max-new-tokens 4", f.out);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    r = fixture_loquat("merge %s --lora %s/model-F32-LoRA.gguf --output %s/m.gguf --type Q4_0", f.model, f.out, f.dir);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    r = fixture_loquat("inspect %s/m.gguf", f.dir);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "llama"), "%s%s", r.out, r.err);
    r = fixture_loquat("logits %s --ids '1 2 3' --output %s/l.npy", f.model, f.dir);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    r = fixture_loquat("export %s", f.out);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "model-base-Q8_0.gguf"), "%s%s", r.out, r.err);
    r = fixture_loquat("tokenize %s 'red 7' --ids", f.model);
    ck_assert_msg(r.exit_status == 0, "%s", r.err);
    char ids[256];
    snprintf(ids, sizeof ids, "%.*s", (int)strcspn(r.out, "\n"), r.out);
    r = fixture_loquat("tokenize %s --detokenize '%s'", f.model, ids);
    ck_assert_msg(r.exit_status == 0 && test_contains(r.out, "red 7"), "%s%s", r.out, r.err);
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
    tcase_add_test(tc, unwritable_output);
    tcase_add_test(tc, full_disk);
    tcase_add_test(tc, verbs);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
