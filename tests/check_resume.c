/* A run killed at any moment and resumed ends with the bytes of one that never stopped; a checkpoint of another run is
 * refused by name; Ctrl-C saves. */
#include "random.h"
#include "run_fixture.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { KILLS = 20 };

static pid_t start(const fixture_run *f) {
    const pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid > 0) return pid;
    if (!freopen("/dev/null", "w", stderr)) _exit(99);
    execl(LOQUAT_PROGRAM, "loquat", "train", f->config, "--resume-from-checkpoint", "auto", (char *)NULL);
    _exit(99);
}

/* Milliseconds until the process ends; it is killed after `after` ms if after >= 0. True if it ended by itself. */
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

/* Modes with what they export. Dropout, packing, EMA and shuffling are on somewhere: all of it must resume. */
static const struct { const char *name, *extra, *files[3]; } modes[] = {
    {"merged", "qat: {weight_dtype: q4_0, mode: merged}\nema_decay: 0.9\n", {"model-Q4_0.gguf"}},
    {"separate", "qat: {weight_dtype: q8_0, mode: separate}\nlora_dropout: 0.1\nsample_packing: true\n",
     {"model-base-Q8_0.gguf", "model-F32-LoRA.gguf"}},
    {"plain", "gradient_checkpointing: true\nneftune_noise_alpha: 5\nlora_dropout: 0.05\nexport: {outtype: f32}\n", {"model-F32-LoRA.gguf"}},
    {"late", "qat: {weight_dtype: q4_0, mode: merged, fake_quant_after_n_steps: 0.5}\noptimizer: sgd\n", {"model-Q4_0.gguf"}},
};

START_TEST(killed_and_resumed_ends_the_same) {
    fixture_run whole, killed;
    char name[64];
    snprintf(name, sizeof name, "whole-%s", modes[_i].name);
    fixture_make(&whole, name, 12, modes[_i].extra);
    snprintf(name, sizeof name, "killed-%s", modes[_i].name);
    fixture_make(&killed, name, 12, modes[_i].extra);
    ck_assert_int_eq(run_whole(&whole), 0);
    int kills = 0, status;
    for (uint64_t attempt = 0; kills < KILLS / 2 && attempt < 400; attempt++) {
        const int after = (int)lq_random_below(11 + (uint64_t)_i, attempt, 150);
        if (wait_or_kill(start(&killed), after, SIGKILL, &status)) {
            char command[600]; /* it got through: begin again, so that every moment of a run is hit */
            snprintf(command, sizeof command, "rm -rf '%s'", killed.out);
            ck_assert_int_eq(system(command), 0);
        } else {
            kills++;
        }
    }
    ck_assert_int_eq(kills, KILLS / 2);
    ck_assert_int_eq(run_whole(&killed), 0);
    same_results(&whole, &killed, modes[_i].files);
}
END_TEST

START_TEST(interrupt_saves_and_resumes) {
    fixture_run whole, stopped;
    int status;
    fixture_make(&whole, "whole-interrupt", 60, "");
    fixture_make(&stopped, "stopped", 60, "");
    ck_assert_int_eq(run_whole(&whole), 0);
    const pid_t pid = start(&stopped);
    char metrics[300];
    snprintf(metrics, sizeof metrics, "%s/metrics.jsonl", stopped.out);
    for (int i = 0; i < 5000 && access(metrics, F_OK) != 0; i++) usleep(1000); /* it has begun */
    ck_assert_msg(wait_or_kill(pid, 5, SIGINT, &status), "SIGINT killed the run instead of stopping it");
    ck_assert_int_eq(WEXITSTATUS(status), 130);
    ck_assert_int_eq(run_whole(&stopped), 0);
    same_results(&whole, &stopped, (const char *const[]){"model-F32-LoRA.gguf", NULL});
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
        const fixture_result r = fixture_loquat("train %s --resume-from-checkpoint auto %s", f.config, strangers[i].change);
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
    ck_assert_int_eq(fixture_loquat("train %s --overwrite-output-dir true", f.config).exit_status, 0);
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
    tcase_add_test(tc, interrupt_saves_and_resumes);
    tcase_add_test(tc, stranger_is_refused_by_name);
    tcase_add_test(tc, earlier_run_is_not_overwritten);
    tcase_add_test(tc, two_runs_into_one_directory);
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
