/* tokenize: tokens of a text, or conversations as training sees them. */
#include "progress.h"
#include "verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tokenize_args {
    const char *file, *messages, *chat_template;
    bool ids, no_bos, parse_special, detokenize, generation_prompt;
} tokenize_args;

/* A whole file or standard input, with a NUL behind it; NULL: printed. */
static char *read_all(const char *path, size_t *n) {
    enum { STEP = 65536 };
    FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "rb");
    char *text = NULL;
    *n = 0;
    for (size_t got = 1; f && got;) {
        text = args_resize(text, *n + STEP + 1, 1);
        got = fread(text + *n, 1, STEP, f);
        *n += got;
        text[*n] = 0;
    }
    if (!f || ferror(f)) {
        fprintf(stderr, "loquat: %s: %s\n", path, strerror(errno));
        free(text);
        text = NULL;
    }
    if (f && f != stdin) fclose(f);
    return text;
}

static void print_json_bytes(const char *s, size_t n) {
    putchar('"');
    for (size_t i = 0; i < n; i++) {
        const unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c < 0x20) printf("\\u%04x", c);
        else putchar(c);
    }
    putchar('"');
}

static int print_pieces(const loquat_model *m, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) {
        char *text;
        size_t bytes;
        const loquat_status status = loquat_detokenize(m, &ids[i], 1, &text, &bytes);
        if (status != LOQUAT_OK) return args_failed(status);
        printf("%6d  ", ids[i]);
        print_json_bytes(text, bytes);
        putchar('\n');
        loquat_free(text);
    }
    return EXIT_DONE;
}

static int tokenize(const loquat_model *m, const tokenize_args *t, bool json, const char *text,
                    size_t n) {
    const unsigned flags =
        (t->no_bos ? LOQUAT_TOKENIZE_NO_BOS : 0) | (t->parse_special ? LOQUAT_TOKENIZE_SPECIAL : 0);
    int32_t *ids = NULL;
    size_t count;
    const loquat_status status = loquat_tokenize(m, text, n, flags, &ids, &count);
    if (status != LOQUAT_OK) return args_failed(status);
    int exit_status = EXIT_DONE;
    if (json || t->ids) {
        fputs(json ? "{\"ids\": [" : "", stdout);
        for (size_t i = 0; i < count; i++) printf("%s%d", i ? json ? ", " : " " : "", ids[i]);
        puts(json ? "]}" : "");
    } else {
        exit_status = print_pieces(m, ids, count);
    }
    loquat_free(ids);
    return exit_status;
}

static int detokenize(const loquat_model *m, const char *text) {
    int32_t *ids;
    size_t n, bytes = 0;
    char *out = NULL;
    if (!args_ids(text, &ids, &n)) return EXIT_USAGE;
    const loquat_status status = loquat_detokenize(m, ids, n, &out, &bytes);
    if (status == LOQUAT_OK) fwrite(out, 1, bytes, stdout);
    loquat_free(out);
    free(ids);
    return status == LOQUAT_OK ? EXIT_DONE : args_failed(status);
}

static bool print_record(const loquat_model *m, const tokenize_args *t, bool json, const char *line,
                         const char *jinja) {
    char *out = NULL;
    const loquat_status status =
        json ? loquat_encode_record(m, line, jinja, t->generation_prompt, &out)
             : loquat_render_record(m, line, jinja, t->generation_prompt, &out);
    if (status == LOQUAT_OK) puts(out);
    loquat_free(out);
    return status == LOQUAT_OK;
}

static int conversations(const loquat_model *m, const tokenize_args *t, bool json) {
    size_t n = 0, n_template;
    char *lines = read_all(t->messages, &n),
         *jinja = t->chat_template ? read_all(t->chat_template, &n_template) : NULL;
    int exit_status = lines && (jinja || !t->chat_template) ? EXIT_DONE : EXIT_FAILED;
    size_t number = 0;
    for (char *line = lines, *next; exit_status == EXIT_DONE && line < lines + n; line = next) {
        char *end = memchr(line, '\n', n - (size_t)(line - lines));
        if (!end) end = lines + n;
        *end = 0;
        next = end + 1;
        number++;
        if (!line[strspn(line, " \t\r")] || print_record(m, t, json, line, jinja)) continue;
        fprintf(stderr, "loquat: %s:%zu: %s\n", t->messages, number, loquat_error());
        exit_status = EXIT_FAILED;
    }
    free(lines);
    free(jinja);
    return exit_status;
}

static int run(const loquat_model *m, const tokenize_args *t, const arg_result *args) {
    if (t->messages) return conversations(m, t, args->common.json);
    size_t n = 0;
    char *owned = t->file ? read_all(t->file, &n) : NULL;
    if (t->file && !owned) return EXIT_FAILED;
    const char *text = t->file ? owned : args->positional.v[1];
    if (!t->file) n = strlen(text);
    const int exit_status =
        t->detokenize ? detokenize(m, text) : tokenize(m, t, args->common.json, text, n);
    free(owned);
    return exit_status;
}

int verb_tokenize(const arg_verb *verb, int argc, char **argv) {
    tokenize_args t = {0};
    const arg_option options[] = {
        {"file", ARG_TEXT, (void *)&t.file,
         "read the text (or ids) from a file, verbatim; - is standard input"},
        {"ids", ARG_FLAG, &t.ids, "print ids only, on one line"},
        {"no-bos", ARG_FLAG, &t.no_bos, "add neither BOS nor EOS"},
        {"parse-special", ARG_FLAG, &t.parse_special,
         "control tokens written in the text become themselves"},
        {"detokenize", ARG_FLAG, &t.detokenize, "the text is ids: print what they spell"},
        {"messages", ARG_TEXT, (void *)&t.messages, "one record a line, as training would see it"},
        {"chat-template", ARG_TEXT, (void *)&t.chat_template,
         "a Jinja file instead of the model's own template"},
        {"add-generation-prompt", ARG_FLAG, &t.generation_prompt,
         "end with the header of the next answer"},
        {0},
    };
    arg_result args;
    int exit_status;
    if (args_parse(verb, options, argc, argv, 1, 2, &args, &exit_status)) {
        loquat_model *m = NULL;
        cli_log_setup(&args.common);
        if ((args.positional.n == 2) + !!t.file + !!t.messages != 1) {
            exit_status = args_misused(verb, "one of TEXT, --file and --messages is wanted");
        } else if (t.detokenize && args.common.json) {
            fprintf(stderr, "loquat tokenize: --detokenize prints bytes, not --json\n");
            exit_status = EXIT_USAGE;
        } else {
            const loquat_status status = loquat_model_open(&m, args.positional.v[0], NULL, 0);
            exit_status = status == LOQUAT_OK ? run(m, &t, &args) : args_failed(status);
        }
        loquat_model_close(m);
    }
    args_clear(&args);
    return exit_status;
}
