/* See progress.h. */
#include "progress.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool quiet, bar_shown;
static volatile sig_atomic_t interrupts;

static void clear_bar(void) {
    if (bar_shown) fputs("\r\033[K", stderr);
    bar_shown = false;
}

static void log_line(void *ctx, loquat_log_level level, const char *line) {
    const bool verbose = ctx != NULL;
    if (level == LOQUAT_LOG_DEBUG && !verbose) return;
    if (level != LOQUAT_LOG_WARN && quiet) return;
    clear_bar();
    fprintf(stderr, "%s%s\n", level == LOQUAT_LOG_WARN ? "warning: " : "", line);
}

void cli_log_setup(const arg_common *common) {
    static char verbose_mark;
    quiet = common->quiet;
    loquat_set_log(log_line, common->verbose ? &verbose_mark : NULL);
}

static void format_seconds(char out[32], double s) {
    const long t = s > 0 ? lround(s) : 0;
    if (t >= 3600) snprintf(out, 32, "%ld:%02ld:%02ld", t / 3600, t / 60 % 60, t % 60);
    else snprintf(out, 32, "%ld:%02ld", t / 60, t % 60);
}

/* NaN: there is no such number. */
static void print_number(const char *name, double value) {
    if (!isnan(value)) fprintf(stderr, "  %s %.4f", name, value);
}

static void draw_bar(const loquat_progress *p) {
    enum { WIDTH = 24 };
    char bar[WIDTH + 1], left[32];
    const int full = (int)(WIDTH * p->step / (p->total_steps ? p->total_steps : 1));
    memset(bar, '.', WIDTH);
    memset(bar, '#', (size_t)(full < WIDTH ? full : WIDTH));
    bar[WIDTH] = 0;
    format_seconds(left, p->seconds_left);
    fprintf(stderr, "\r\033[K[%s] %lld/%lld  loss %.4f", bar, (long long)p->step,
            (long long)p->total_steps, p->loss);
    print_number("kl", p->kl);
    fprintf(stderr, "  %.0f tok/s  %s left", p->tokens_per_second, left);
    fflush(stderr);
    bar_shown = true;
}

void cli_progress(void *ctx, const loquat_progress *p) {
    (void)ctx;
    if (quiet) return;
    const bool terminal = isatty(STDERR_FILENO);
    if (!isnan(p->eval_loss)) {
        clear_bar();
        fprintf(stderr, "step %lld/%lld", (long long)p->step, (long long)p->total_steps);
        print_number("eval_loss", p->eval_loss);
        print_number("eval_kl", p->eval_kl);
        print_number("eval_loss_ema", p->eval_loss_ema);
        fputc('\n', stderr);
    } else if (terminal) {
        draw_bar(p);
    } else if (p->logged) {
        char left[32];
        format_seconds(left, p->seconds_left);
        fprintf(stderr, "step %lld/%lld  epoch %.2f  loss %.4f", (long long)p->step,
                (long long)p->total_steps, p->epoch, p->loss);
        print_number("kl", p->kl);
        fprintf(stderr, "  lr %.3g  grad_norm %.3g  %.0f tok/s  %s left\n", p->learning_rate,
                p->grad_norm, p->tokens_per_second, left);
    }
}

void cli_progress_end(void) { clear_bar(); }

static void on_interrupt(int signal_number) {
    static const char note[] = "\nstopping; once more ends at once\n";
    (void)signal_number;
    if (interrupts++) _exit(EXIT_INTERRUPTED);
    if (write(STDERR_FILENO, note, sizeof note - 1) < 0) _exit(EXIT_INTERRUPTED);
}

void cli_catch_interrupts(void) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_interrupt;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_stop_asked(void *ctx) {
    (void)ctx;
    return interrupts > 0;
}
