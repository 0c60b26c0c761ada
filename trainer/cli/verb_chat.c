/* chat: talk to a model; adapters are swapped by name without touching the base. */
#include "progress.h"
#include "verbs.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct voice {           /* one --lora NAME=FILE[=SCALE], opened when first used */
    char *name, *path;
    float scale;
    loquat_model *model;
} voice;

typedef struct chat {
    const char *model_path, *system;
    voice *voices;               /* [0] is the model as it stands, without adapter */
    size_t n_voices, current;
    json_t *messages;            /* [{"role", "content"}...], what the chat template gets */
    loquat_generate_options generate;
} chat;

static bool print_piece(void *ctx, const char *text, size_t n) {
    (void)ctx;
    fwrite(text, 1, n, stdout);
    fflush(stdout);
    return !cli_stop_asked(NULL);
}

/* NAME=FILE, NAME=FILE=SCALE, or FILE[=SCALE]: then the file is the name. */
static bool parse_voice(voice *v, const char *text) {
    const char *first = strchr(text, '='), *last = strrchr(text, '=');
    char *end = NULL;
    const bool ends_in_number = last && (strtof(last + 1, &end), end != last + 1 && !*end);
    const bool named = first && !(first == last && ends_in_number);
    v->name = named ? strndup(text, (size_t)(first - text)) : NULL;
    const char *file = named ? first + 1 : text;
    const bool scaled = ends_in_number && strchr(file, '=');
    v->scale = 1;
    if (scaled ? !args_lora(file, &v->path, &v->scale) : !(v->path = strdup(file))) return false;
    if (!v->name) v->name = strdup(v->path);
    return v->name != NULL;
}

static loquat_model *open_voice(chat *c) {
    voice *v = &c->voices[c->current];
    if (v->model) return v->model;
    const loquat_lora lora = {v->path, v->scale};
    if (loquat_model_open(&v->model, c->model_path, &lora, v->path ? 1 : 0) == LOQUAT_OK)
        return v->model;
    fprintf(stderr, "loquat: %s\n", loquat_error());
    return NULL;
}

/* ---- messages ----------------------------------------------------------------------------- */

static bool add_message(chat *c, const char *role, const char *content) {
    json_t *message = json_pack("{s:s, s:s}", "role", role, "content", content);
    if (json_array_append_new(c->messages, message) == 0) return true;
    fprintf(stderr, "loquat: the %s message is not UTF-8\n", role);
    return false;
}

static bool reset(chat *c) {
    json_decref(c->messages);
    c->messages = json_array();
    return !c->system || add_message(c, "system", c->system);
}

/* One turn. The answer is printed as it comes and joins the conversation. */
static int answer(chat *c, const char *text) {
    loquat_model *m = open_voice(c);
    if (!m) return EXIT_FAILED;
    const bool chats = loquat_model_chats(m);
    char *reply = NULL, *messages = NULL;
    if (chats) {
        if (!add_message(c, "user", text)) return EXIT_FAILED;
        messages = json_dumps(c->messages, 0);
        if (!messages) return EXIT_FAILED;
    }
    const loquat_status status = loquat_generate(m, messages, text, &c->generate, &reply);
    free(messages);
    putchar('\n');
    int exit_status = status == LOQUAT_OK ? EXIT_DONE : args_failed(status);
    if (status == LOQUAT_OK && chats && !add_message(c, "assistant", reply))
        exit_status = EXIT_FAILED;
    loquat_free(reply);
    return exit_status;
}

/* ---- the conversation ------------------------------------------------------------------------ */

static void swap(chat *c, const char *name) {
    for (size_t i = 0; i < c->n_voices; i++)
        if (strcmp(c->voices[i].name, name) == 0) {
            c->current = i;
            fprintf(stderr, "now: %s\n", name);
            return;
        }
    fprintf(stderr, "no adapter '%s'; there are:", name);
    for (size_t i = 0; i < c->n_voices; i++) fprintf(stderr, " %s", c->voices[i].name);
    fputc('\n', stderr);
}

/* True if the line was a command. */
static bool command(chat *c, const char *line, bool *quit) {
    if (line[0] != '/') return false;
    if (strcmp(line, "/quit") == 0 || strcmp(line, "/exit") == 0) *quit = true;
    else if (strcmp(line, "/reset") == 0) reset(c);
    else if (strncmp(line, "/adapter ", 9) == 0) swap(c, line + 9);
    else fprintf(stderr, "commands: /adapter NAME (none: the base), /reset, /quit\n");
    return true;
}

static int converse(chat *c) {
    char *line = NULL;
    size_t cap = 0;
    bool quit = false;
    int exit_status = EXIT_DONE;
    fprintf(stderr, "/adapter NAME swaps adapters, /reset forgets the conversation, /quit ends\n");
    while (!quit && exit_status == EXIT_DONE && !cli_stop_asked(NULL)) {
        fprintf(stderr, "%s> ", c->n_voices > 1 ? c->voices[c->current].name : "");
        const ssize_t n = getline(&line, &cap, stdin);
        if (n < 0) break;
        if (n > 0 && line[n - 1] == '\n') line[n - 1] = 0;
        if (line[0] && !command(c, line, &quit)) exit_status = answer(c, line);
    }
    free(line);
    return exit_status;
}

static bool open_voices(chat *c, const arg_list *loras) {
    c->voices = args_resize(NULL, loras->n + 1, sizeof *c->voices);
    c->voices[c->n_voices++] = (voice){.name = strdup("none")};
    for (size_t i = 0; i < loras->n; i++) {
        c->voices[c->n_voices++] = (voice){0};
        if (!parse_voice(&c->voices[i + 1], loras->v[i])) return false;
    }
    c->current = loras->n > 0; /* the first adapter given is the one that speaks first */
    return true;
}

static void close_chat(chat *c) {
    for (size_t i = 0; i < c->n_voices; i++) {
        loquat_model_close(c->voices[i].model);
        free(c->voices[i].name);
        free(c->voices[i].path);
    }
    free(c->voices);
    json_decref(c->messages);
}

int verb_chat(const arg_verb *verb, int argc, char **argv) {
    chat c = {.generate = {.max_new_tokens = 512, .piece = print_piece}};
    arg_list loras = {0};
    const char *prompt = NULL;
    int64_t seed = 0;
    const arg_option options[] = {
        {"lora", ARG_LIST, &loras,
         "adapter NAME=FILE[=SCALE]; may be repeated, /adapter NAME swaps"},
        {"system", ARG_TEXT, (void *)&c.system, "system message"},
        {"temperature", ARG_REAL, &c.generate.temperature, "0 (default): greedy"},
        {"top-p", ARG_REAL, &c.generate.top_p, "nucleus sampling"},
        {"seed", ARG_INT, &seed, "of the sampling"},
        {"max-new-tokens", ARG_INT, &c.generate.max_new_tokens, "longest answer (512)"},
        {"prompt", ARG_TEXT, (void *)&prompt, "print one completion and exit"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 1, 1, &args, &exit_status)) {
        cli_log_setup(&args.common);
        cli_catch_interrupts();
        c.generate.seed = (uint64_t)seed;
        c.model_path = args.positional.v[0];
        if (!reset(&c) || !open_voices(&c, &loras)) exit_status = EXIT_USAGE;
        else if (!open_voice(&c)) exit_status = EXIT_FAILED;
        else exit_status = prompt ? answer(&c, prompt) : converse(&c);
    }
    close_chat(&c);
    args_list_clear(&loras);
    args_clear(&args);
    return exit_status;
}
