/* A run killed at any moment and resumed ends with the bytes of one that never stopped; a
 * checkpoint of another run is refused by name; a damaged one is passed over; Ctrl-C and SIGTERM
 * save; another day changes nothing. */
#include "atomic_file.h"
#include "random.h"
#include "run_fixture.h"
#include "str.h"

#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { KILLS = 10 };

/* `setting`: NULL, or a key and its value that override run.yaml. */
static pid_t start_with(const fixture_run *f, const char *setting, const char *value) {
    const pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid > 0) return pid;
    if (!freopen("/dev/null", "w", stderr)) _exit(99);
    execl(LOQUAT_PROGRAM, "loquat", "train", f->config, "--resume-from-checkpoint", "auto", setting,
          value, (char *)NULL);
    _exit(99);
}

static pid_t start(const fixture_run *f) { return start_with(f, NULL, NULL); }

/* Waits for the end; sends `sig` after so many ms if after >= 0. True if it ended by itself. */
static bool wait_or_kill(pid_t pid, int after, int sig, int *status) {
    for (int ms = 0; ms < 60000; ms++) {
        if (waitpid(pid, status, WNOHANG) == pid) return !WIFSIGNALED(*status);
        if (ms == after) kill(pid, sig);
        usleep(1000);
    }
    kill(pid, SIGKILL);
    waitpid(pid, status, 0);
    ck_abort_msg("the run did not end within a minute");
}

static int run_whole(const fixture_run *f) {
    int status;
    wait_or_kill(start(f), -1, 0, &status);
    return WEXITSTATUS(status);
}

static void same_results(const fixture_run *a, const fixture_run *b, const char *const *files) {
    for (; *files; files++) {
        char x[400], y[400];
        snprintf(x, sizeof x, "%s/%s", a->out, *files);
        snprintf(y, sizeof y, "%s/%s", b->out, *files);
        ck_assert_msg(fixture_same_file(x, y), "%s and %s differ", x, y);
    }
}

/* Modes with what they export. Dropout, packing, EMA, shuffling: all of it must resume. */
static const struct {
    const char *name, *extra, *files[3];
    bool wide;
} modes[] = {
    {"merged", "qat: {mode: merged}\nema_decay: 0.9\n", {"model-Q4_0.gguf"}, false},
    {"separate",
     "qat: {weight_dtype: q8_0, mode: separate}\nlora_dropout: 0.1\nsample_packing: true\n",
     {"model-base-Q8_0.gguf", "model-F32-LoRA.gguf"}, false},
    {"plain",
     "gradient_checkpointing: true\nneftune_noise_alpha: 5\nlora_dropout: 0.05\n"
     "export: {outtype: f32}\n", {"model-F32-LoRA.gguf"}, false},
    {"late",
     "qat: {mode: merged, fake_quant_after_n_steps: 0.5, imatrix: auto}\noptimizer: sgd\n",
     {"model-Q4_0.gguf"}, false},
    {"scales", "qat: {weight_dtype: Q4_K_M, imatrix: auto, requantize_every: 5}\n",
     {"model-Q4_K_M.gguf"}, true},
    {"distilled", "qat: {mode: merged}\nkd: {alpha: 0.75}\ngradient_checkpointing: true\n",
     {"model-Q4_0.gguf"}, false},
    {"clipped", "qat: {mode: merged, ste: clipped}\n", {"model-Q4_0.gguf"}, false},
    {"dora", "use_dora: true\nqat: {mode: merged, fake_quant_after_n_steps: 6}\n",
     {"model-Q4_0.gguf"}, false},
    {"pissa", "init_lora_weights: pissa\nqat: {mode: separate, fake_quant_after_n_steps: 6}\n",
     {"model-base-Q4_0.gguf", "model-F32-LoRA.gguf"}, false},
    {"block scales", "adapter: scales\nbase_quant: q8_0\nema_decay: 0.9\n", {"model-Q8_0.gguf"},
     false},
    {"recipe",
     "recipe: [lora, qad]\nlora_dropout: 0.1\nqat: {weight_dtype: q4_0, mode: merged}\n"
     "lora: {max_steps: 6}\nqad: {max_steps: 8, kd.alpha: 0.9}\n",
     {"lora/model-F32-LoRA.gguf", "model-Q4_0.gguf"}, false},
    {"top", "kd: {top_k: 5, temperature: 2, divergence: reverse_kl}\n",
     {"model-F32-LoRA.gguf"}, false},
};

START_TEST(killed_and_resumed_ends_the_same) {
    fixture_run whole, killed;
    char name[64];
    snprintf(name, sizeof name, "whole-%s", modes[_i].name);
    fixture_make(&whole, name, 12, modes[_i].extra);
    snprintf(name, sizeof name, "killed-%s", modes[_i].name);
    fixture_make(&killed, name, 12, modes[_i].extra);
    if (modes[_i].wide) {
        fixture_widen(&whole);
        fixture_widen(&killed);
    }
    ck_assert_int_eq(run_whole(&whole), 0);
    int kills = 0, status;
    for (uint64_t attempt = 0; kills < KILLS && attempt < 400; attempt++) {
        const int after = (int)lq_random_below(11 + (uint64_t)_i, attempt, 150);
        if (wait_or_kill(start(&killed), after, SIGKILL, &status)) {
            char command[600]; /* it got through: again, so that every moment of a run is hit */
            snprintf(command, sizeof command, "rm -rf '%s'", killed.out);
            ck_assert_int_eq(system(command), 0);
        } else {
            kills++;
        }
    }
    ck_assert_int_eq(kills, KILLS);
    ck_assert_int_eq(run_whole(&killed), 0);
    same_results(&whole, &killed, modes[_i].files);
}
END_TEST

/* ---- signals ---------------------------------------------------------------------------------
 * With save_steps 1000 no checkpoint is due: one that is there was made because of the signal. */

static void wait_until_begun(const fixture_run *f) {
    char metrics[300];
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", f->out);
    for (int i = 0; i < 20000 && access(metrics, F_OK) != 0; i++) usleep(1000);
}

static int count_checkpoints(const fixture_run *f) {
    char pattern[300];
    glob_t found;
    snprintf(pattern, sizeof pattern, "%s/checkpoints/step-*.h5", f->out);
    const int n = glob(pattern, 0, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
    globfree(&found);
    return n;
}

static const char *const adapter_file[] = {"model-F32-LoRA.gguf", NULL};
static const int stop_signals[] = {SIGINT, SIGTERM};

START_TEST(signal_saves_and_resumes) {
    fixture_run whole, stopped;
    int status;
    fixture_make(&whole, "whole-interrupt", 60, "");
    fixture_make(&stopped, "stopped", 60, "");
    ck_assert_int_eq(run_whole(&whole), 0);
    const pid_t pid = start_with(&stopped, "--save-steps", "1000");
    wait_until_begun(&stopped);
    ck_assert_msg(wait_or_kill(pid, 5, stop_signals[_i], &status),
                  "the signal killed the run instead of stopping it");
    ck_assert_int_eq(WEXITSTATUS(status), 130);
    ck_assert_int_eq(count_checkpoints(&stopped), 1);
    ck_assert_int_eq(run_whole(&stopped), 0);
    same_results(&whole, &stopped, adapter_file);
}
END_TEST

/* Both signals wait while the process is stopped, so it gets the second before it can do anything
 * about the first. */
START_TEST(second_signal_ends_at_once) {
    fixture_run whole, stopped;
    int status;
    fixture_make(&whole, "whole-twice", 60, "");
    fixture_make(&stopped, "twice", 60, "");
    ck_assert_int_eq(run_whole(&whole), 0);
    const pid_t pid = start_with(&stopped, "--save-steps", "1000");
    wait_until_begun(&stopped);
    kill(pid, SIGSTOP);
    ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
    ck_assert(WIFSTOPPED(status));
    kill(pid, SIGINT);
    kill(pid, SIGTERM);
    kill(pid, SIGCONT);
    ck_assert(wait_or_kill(pid, -1, 0, &status));
    ck_assert_int_eq(WEXITSTATUS(status), 130);
    ck_assert_int_eq(count_checkpoints(&stopped), 0);
    ck_assert_int_eq(run_whole(&stopped), 0);
    same_results(&whole, &stopped, adapter_file);
}
END_TEST

/* Ctrl-C pressed again so many milliseconds later hits every moment of the saving. */
START_TEST(second_signal_while_saving) {
    fixture_run whole, stopped;
    fixture_make(&whole, "whole-saving", 60, "");
    fixture_make(&stopped, "saving", 60, "");
    ck_assert_int_eq(run_whole(&whole), 0);
    for (unsigned ms = 0; ms < 8; ms++) {
        int status;
        const pid_t pid = start(&stopped);
        wait_until_begun(&stopped);
        usleep(20000);
        kill(pid, SIGINT);
        usleep(1000 * ms);
        kill(pid, SIGINT);
        const bool by_itself = wait_or_kill(pid, -1, 0, &status);
        /* before the handler is there a signal does what it does to any program */
        ck_assert_msg(!by_itself || WEXITSTATUS(status) == 130 || WEXITSTATUS(status) == 0,
                      "exit %d", WEXITSTATUS(status));
    }
    ck_assert_int_eq(run_whole(&stopped), 0);
    same_results(&whole, &stopped, adapter_file);
}
END_TEST

/* ---- damage ---------------------------------------------------------------------------------- */

static const struct { const char *what, *command; } damages[] = {
    {"cut", "truncate -s -100 '%s'"},
    {"emptied", "truncate -s 0 '%s'"},
    {"one bit", "printf '\\377' | dd of='%s' bs=1 seek=5000 conv=notrunc 2>/dev/null"},
    {"first bytes", "printf x | dd of='%s' bs=1 conv=notrunc 2>/dev/null"},
};

static void damage(const fixture_run *f, const char *file, const char *how) {
    char path[300], command[700];
    snprintf(path, sizeof path, "%s/checkpoints/%s", f->out, file);
    ck_assert_int_eq(access(path, F_OK), 0);
    snprintf(command, sizeof command, how, path);
    ck_assert_int_eq(system(command), 0);
}

START_TEST(damaged_checkpoint_is_passed_over) {
    fixture_run whole, f;
    fixture_make(&whole, "whole-damage", 12, "");
    fixture_make(&f, "damage", 12, "");
    ck_assert_int_eq(run_whole(&whole), 0);
    ck_assert_int_eq(run_whole(&f), 0);
    damage(&f, "step-000012.h5", damages[_i].command);
    const fixture_result r = fixture_loquat("train %s --resume-from-checkpoint auto", f.config);
    ck_assert_msg(r.exit_status == 0, "%s: %s", damages[_i].what, r.err);
    ck_assert_msg(test_contains(r.err, "warning: ") && test_contains(r.err, "step-000012.h5") &&
                      test_contains(r.err, "resumed at step 10 "),
                  "%s: %s", damages[_i].what, r.err);
    same_results(&whole, &f, adapter_file);
}
END_TEST

START_TEST(only_checkpoint_damaged) {
    fixture_run f;
    int status;
    fixture_make(&f, "only", 4, "");
    ck_assert(wait_or_kill(start_with(&f, "--save-steps", "1000"), -1, 0, &status));
    ck_assert_int_eq(count_checkpoints(&f), 1);
    damage(&f, "step-000004.h5", damages[_i].command);
    const fixture_result r = fixture_loquat("train %s --resume-from-checkpoint auto", f.config);
    ck_assert_int_eq(r.exit_status, 1);
    ck_assert_msg(test_contains(r.err, "no checkpoint can be read") &&
                      test_contains(r.err, "step-000004.h5") &&
                      test_contains(r.err, "--overwrite-output-dir"),
                  "%s: %s", damages[_i].what, r.err);
    ck_assert_int_eq(fixture_loquat("train %s --overwrite-output-dir true", f.config).exit_status,
                     0);
}
END_TEST

/* ---- another day ----------------------------------------------------------------------------- */

static void make_dated(fixture_run *f, const char *name) {
    lq_str data = LQ_STR_INIT;
    fixture_make(f, name, 4,
                 "chat_template: jinja\nchat_template_jinja: \"{{ strftime_now('%d %b %Y') }}"
                 "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}\"\n");
    for (int i = 0; i < 20; i++)
        lq_str_printf(&data, "{\"messages\": [{\"role\": \"user\", \"content\": \"make it %d\"}, "
                      "{\"role\": \"assistant\", \"content\": \"%d\"}]}\n", i, 7 * i % 10);
    fixture_write(f->data, lq_str_text(&data));
    lq_str_clear(&data);
}

static void write_started(const fixture_run *f, const char *text) {
    char path[300];
    mkdir(f->out, 0755);
    snprintf(path, sizeof path, "%s/started", f->out);
    fixture_write(path, text);
}

/* A run that began long ago, as `started` says, and goes on today: its template still prints the
 * day it began on. */
START_TEST(resumed_on_another_day) {
    fixture_run f;
    make_dated(&f, "dated");
    write_started(&f, "1600000000\n");
    ck_assert_int_eq(run_whole(&f), 0);
    const fixture_result again = fixture_loquat("train %s", f.config);
    ck_assert_int_eq(again.exit_status, 2); /* and touches nothing */
    ck_assert_int_eq(run_whole(&f), 0);
    static const struct { const char *text; int exit_status; const char *says; } others[] = {
        {"1610000000\n", 2, "other training data"},
        {"yesterday\n", 1, "started: found 'yesterday"},
        {"", 1, "started: found ''"},
        {"1600000000\n", 0, "resumed at step 4"},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(others); i++) {
        write_started(&f, others[i].text);
        const fixture_result r = fixture_loquat("train %s --resume-from-checkpoint auto", f.config);
        ck_assert_msg(r.exit_status == others[i].exit_status &&
                          test_contains(r.err, others[i].says),
                      "'%s': exit %d: %s", others[i].text, r.exit_status, r.err);
    }
}
END_TEST

/* Left to itself a run writes down when it began. */
START_TEST(start_is_written_down) {
    fixture_run f;
    char path[300];
    make_dated(&f, "today");
    const long long before = (long long)time(NULL);
    ck_assert_int_eq(fixture_loquat("train %s", f.config).exit_status, 0);
    snprintf(path, sizeof path, "%s/started", f.out);
    char *text = NULL;
    size_t n;
    ck_ok(lq_read_file(&text, &n, path));
    const long long started = strtoll(text, NULL, 10);
    ck_assert(started >= before && started <= (long long)time(NULL));
    lq_free(text);
}
END_TEST

/* A checkpoint belongs to one base, one configuration, one data set. */
static const struct { const char *change, *says; } strangers[] = {
    {"--learning-rate 0.5", "learning_rate"},
    {"--lora-r 8", "lora_r"},
    {"--seed 7", "seed"},
};

START_TEST(stranger_is_refused_by_name) {
    fixture_run f;
    fixture_make(&f, "stranger", 12, "");
    ck_assert_int_eq(run_whole(&f), 0);
    for (int i = 0; i < LQ_ARRAY_LEN(strangers); i++) {
        const fixture_result r = fixture_loquat("train %s --resume-from-checkpoint auto %s",
                                                f.config, strangers[i].change);
        ck_assert_int_ne(r.exit_status, 0);
        ck_assert_msg(test_contains(r.err, strangers[i].says), "%s", r.err);
    }
    FILE *data = fopen(f.data, "a");
    fputs("{\"prompt\": \"one\", \"completion\": \" more\"}\n", data);
    fclose(data);
    const fixture_result r = fixture_loquat("train %s --resume-from-checkpoint auto", f.config);
    ck_assert_int_ne(r.exit_status, 0);
    ck_assert_msg(test_contains(r.err, "other training data"), "%s", r.err);
}
END_TEST

START_TEST(earlier_run_is_not_overwritten) {
    fixture_run f;
    fixture_make(&f, "again", 12, "");
    ck_assert_int_eq(fixture_loquat("train %s", f.config).exit_status, 0);
    const fixture_result r = fixture_loquat("train %s", f.config);
    ck_assert_int_eq(r.exit_status, 2);
    ck_assert_msg(test_contains(r.err, "holds an earlier run"), "%s", r.err);
    ck_assert_int_eq(fixture_loquat("train %s --overwrite-output-dir true", f.config).exit_status,
                     0);
}
END_TEST

START_TEST(two_runs_into_one_directory) {
    fixture_run f;
    fixture_make(&f, "busy", 100000, "");
    const pid_t pid = start(&f);
    char lock[300];
    snprintf(lock, sizeof lock, "%s/metrics.jsonl", f.out);
    for (int i = 0; i < 5000 && access(lock, F_OK) != 0; i++) usleep(1000);
    const fixture_result r = fixture_loquat("train %s --resume-from-checkpoint auto", f.config);
    int status;
    const bool alive = waitpid(pid, &status, WNOHANG) == 0;
    if (alive) {
        kill(pid, SIGKILL);
        waitpid(pid, &status, 0);
        ck_assert_int_eq(r.exit_status, 1);
        ck_assert_msg(test_contains(r.err, "another run writes"), "%s", r.err);
    }
    ck_assert_msg(alive, "the first run ended too early to test anything");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("resume");
    TCase *tc = tcase_create("resume");
    tcase_set_timeout(tc, 240);
    tcase_add_loop_test(tc, killed_and_resumed_ends_the_same, 0, LQ_ARRAY_LEN(modes));
    tcase_add_loop_test(tc, signal_saves_and_resumes, 0, LQ_ARRAY_LEN(stop_signals));
    tcase_add_test(tc, second_signal_ends_at_once);
    tcase_add_test(tc, second_signal_while_saving);
    tcase_add_loop_test(tc, damaged_checkpoint_is_passed_over, 0, LQ_ARRAY_LEN(damages));
    tcase_add_loop_test(tc, only_checkpoint_damaged, 0, LQ_ARRAY_LEN(damages));
    tcase_add_test(tc, resumed_on_another_day);
    tcase_add_test(tc, start_is_written_down);
    tcase_add_test(tc, stranger_is_refused_by_name);
    tcase_add_test(tc, earlier_run_is_not_overwritten);
    tcase_add_test(tc, two_runs_into_one_directory);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
