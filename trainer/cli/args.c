/* See args.h. */
#include "args.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ID_SEPARATORS " \t\r\n,[]"
#define LATER "not supported by this version yet"

void *args_resize(void *p, size_t n, size_t size) {
    void *out = reallocarray(p, n ? n : 1, size);
    if (!out) {
        fprintf(stderr, "loquat: out of memory\n");
        exit(EXIT_FAILED);
    }
    return out;
}

static void push(arg_list *l, const char *value) {
    l->v = args_resize((void *)l->v, l->n + 1, sizeof *l->v);
    l->v[l->n++] = value;
}

void args_list_clear(arg_list *l) {
    free((void *)l->v);
    *l = (arg_list){0};
}

void args_clear(arg_result *r) {
    args_list_clear(&r->positional);
    free(r->settings);
    r->settings = NULL;
}

int args_failed(loquat_status status) {
    fprintf(stderr, "loquat: %s\n", loquat_error());
    if (status == LOQUAT_EINTERRUPTED) return EXIT_INTERRUPTED;
    return status == LOQUAT_ECONFIG ? EXIT_USAGE : EXIT_FAILED;
}

static bool same_name(const char *option, size_t n, const char *name) {
    if (n == 0 || strlen(name) != n) return false;
    for (size_t i = 0; i < n; i++)
        if ((option[i] == '_' ? '-' : option[i]) != name[i]) return false;
    return true;
}

static const arg_option *find(const arg_option *options, const char *name, size_t n) {
    for (const arg_option *o = options; o->name; o++)
        if (same_name(name, n, o->name)) return o;
    return NULL;
}

/* The option that shares most letters from the start with a mistyped one; NULL below three. */
static const arg_option *probably(const arg_option *options, const char *name) {
    const arg_option *best = NULL;
    size_t longest = 2;
    for (const arg_option *o = options; o->name; o++) {
        size_t n = 0;
        while (name[n] && name[n] == o->name[n]) n++;
        if (n > longest) {
            longest = n;
            best = o;
        }
    }
    return best;
}

static void print_unknown(const arg_verb *verb, const arg_option *options, const char *name) {
    const arg_option *meant = probably(options, name);
    fprintf(stderr, "loquat %s: unknown option --%s", verb->name, name);
    if (meant) fprintf(stderr, "; did you mean --%s?\n", meant->name);
    else fprintf(stderr, "; see loquat %s --help\n", verb->name);
}

static bool store(const arg_option *o, const char *value) {
    char *end = NULL;
    double number = 0;
    errno = 0;
    if (o->kind == ARG_TEXT) {
        *(const char **)o->out = value;
    } else if (o->kind == ARG_LIST) {
        push(o->out, value);
    } else if (o->kind == ARG_INT) {
        number = (double)(*(int64_t *)o->out = strtoll(value, &end, 10));
    } else {
        number = *(double *)o->out = strtod(value, &end);
    }
    if (!end || (!*end && end != value && !errno && isfinite(number) && number >= 0)) return true;
    fprintf(stderr, "loquat: --%s: found '%s', wanted a %s of 0 or more\n", o->name, value,
            o->kind == ARG_INT ? "whole number" : "number");
    return false;
}

static void print_options(const arg_option *options) {
    static const char *const value[] = {
        [ARG_FLAG] = "", [ARG_TEXT] = " TEXT", [ARG_INT] = " N", [ARG_REAL] = " X",
        [ARG_LIST] = " TEXT", [ARG_LATER] = ""};
    for (const arg_option *o = options; o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s", o->name, value[o->kind]);
        if (*o->name) printf("  %-30s %s\n", left, o->kind == ARG_LATER ? LATER : o->help);
    }
}

static void print_help(const arg_verb *verb, const arg_option *options, const arg_option *common) {
    printf("usage: loquat %s %s\n\n%s\n\n", verb->name, verb->usage, verb->summary);
    print_options(options);
    print_options(common);
    if (!verb->takes_config_keys) return;
    char *text = NULL;
    if (loquat_config_help(&text) == LOQUAT_OK)
        printf("\nEvery key of the configuration, as --KEY VALUE:\n\n%s", text);
    loquat_free(text);
}

static bool is_boolean(const char *text) {
    return strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
}

/* The value of the option at argv[*i]: after its '=', or the next argument; NULL for a flag
 * without one. */
static bool take_value(const arg_verb *verb, const char *name, char *equals, bool required,
                       int argc, char **argv, int *i, const char **value) {
    *value = equals;
    if (equals) return true;
    const char *next = *i + 1 < argc ? argv[*i + 1] : NULL;
    if (next && (required || is_boolean(next))) {
        *value = next;
        ++*i;
    }
    if (required && !*value) fprintf(stderr, "loquat %s: --%s wants a value\n", verb->name, name);
    return !required || *value;
}

/* One `--name[=value]`; *i moves past its value. */
static bool take_option(const arg_verb *verb, const arg_option *options, const arg_option *common,
                        int argc, char **argv, int *i, arg_result *out) {
    char *name = argv[*i] + 2, *equals = strchr(name, '=');
    if (equals) *equals++ = 0;
    const arg_option *o = find(options, name, strlen(name));
    if (!o) o = find(common, name, strlen(name));
    if (!o && !verb->takes_config_keys) {
        print_unknown(verb, options, name);
        return false;
    }
    if (o && o->kind == ARG_LATER) {
        fprintf(stderr, "loquat %s: --%s is " LATER "\n", verb->name, o->name);
        return false;
    }
    if (o && o->kind == ARG_FLAG) {
        if (equals) fprintf(stderr, "loquat %s: --%s takes no value\n", verb->name, name);
        *(bool *)o->out = true;
        return !equals;
    }
    bool required = true;
    const char *value;
    if (!o) loquat_config_is_key(name, &required); /* an unknown one is reported with the others */
    if (!take_value(verb, name, equals, required, argc, argv, i, &value)) return false;
    if (o) return store(o, value);
    out->settings = args_resize(out->settings, out->n_settings + 1, sizeof *out->settings);
    out->settings[out->n_settings++] = (loquat_setting){name, value ? value : "true"};
    return true;
}

static bool choose_device(const arg_verb *verb, const char *name, int *exit_status) {
    const bool is_cpu = strcmp(name, "cpu") == 0 || strcmp(name, "auto") == 0;
    if (!verb->runs_on_device && !is_cpu) {
        fprintf(stderr, "loquat %s: --device: found '%s', this verb works on the CPU\n",
                verb->name, name);
        return false;
    }
    const loquat_status status = verb->runs_on_device ? loquat_set_device(name) : LOQUAT_OK;
    if (status != LOQUAT_OK) *exit_status = args_failed(status);
    return status == LOQUAT_OK;
}

bool args_parse(const arg_verb *verb, const arg_option *options, int argc, char **argv, size_t min,
                size_t max, arg_result *out, int *exit_status) {
    bool help = false, options_end = false;
    *out = (arg_result){0};
    const arg_option common[] = {
        {verb->has_json ? "json" : "", ARG_FLAG, &out->common.json,
         "one JSON object on stdout and nothing else there"},
        {"quiet", ARG_FLAG, &out->common.quiet, "only errors on stderr"},
        {"verbose", ARG_FLAG, &out->common.verbose, "also debugging messages"},
        {"help", ARG_FLAG, &help, "this text"},
        /* where a configuration is read, these two are keys of it */
        {verb->takes_config_keys ? "" : "threads", ARG_INT, &out->common.threads,
         "CPU threads (default: all cores)"},
        {verb->takes_config_keys ? "" : "device", ARG_TEXT, &out->common.device,
         verb->runs_on_device ? "cpu (default), cuda, cuda:N or auto: a GPU if there is one"
                              : "cpu: where this verb works"},
        {NULL, ARG_FLAG, NULL, NULL},
    };
    *exit_status = EXIT_USAGE;
    for (int i = 0; i < argc; i++) {
        const bool option = !options_end && strncmp(argv[i], "--", 2) == 0;
        if (option && !argv[i][2]) options_end = true;
        else if (!options_end && strcmp(argv[i], "-h") == 0) help = true;
        else if (!option) push(&out->positional, argv[i]);
        else if (!take_option(verb, options, common, argc, argv, &i, out)) return false;
    }
    if (help) {
        print_help(verb, options, common);
        *exit_status = EXIT_DONE;
        return false;
    }
    if (out->positional.n < min || out->positional.n > max) {
        args_misused(verb, out->positional.n < min ? "an argument is missing"
                                                   : "too many arguments");
        return false;
    }
    if (out->common.device && !choose_device(verb, out->common.device, exit_status)) return false;
    if (out->common.threads > INT_MAX) {
        fprintf(stderr, "loquat: --threads: found %lld\n", (long long)out->common.threads);
        return false;
    }
    if (out->common.threads) loquat_set_threads((int)out->common.threads);
    return true;
}

int args_misused(const arg_verb *verb, const char *what) {
    fprintf(stderr, "loquat %s: %s\nusage: loquat %s %s\n", verb->name, what, verb->name,
            verb->usage);
    return EXIT_USAGE;
}

int args_print(loquat_status status, char *text) {
    if (status != LOQUAT_OK) return args_failed(status);
    fputs(text, stdout);
    loquat_free(text);
    return EXIT_DONE;
}

bool args_lora(const char *text, char **path, float *scale) {
    const char *equals = strrchr(text, '=');
    char *end = NULL;
    *scale = equals ? strtof(equals + 1, &end) : 1;
    if (equals && access(text, F_OK) == 0) { /* a path may have one */
        equals = NULL;
        *scale = 1;
    } else if (equals && (*end || end == equals + 1 || !isfinite(*scale))) {
        fprintf(stderr, "loquat: --lora %s: the scale after '=' is not a number\n", text);
        return false;
    }
    *path = strndup(text, equals ? (size_t)(equals - text) : strlen(text));
    return *path != NULL;
}

bool args_ids(const char *text, int32_t **ids, size_t *n) {
    *ids = args_resize(NULL, strlen(text) / 2 + 1, sizeof **ids); /* a digit and what parts it */
    *n = 0;
    for (const char *p = text + strspn(text, ID_SEPARATORS); *p; p += strspn(p, ID_SEPARATORS)) {
        char *end;
        const long id = strtol(p, &end, 10);
        if (end == p || id < 0 || id > INT32_MAX) {
            fprintf(stderr, "loquat: found '%.20s', wanted token ids\n", p);
            free(*ids);
            *ids = NULL;
            return false;
        }
        (*ids)[(*n)++] = (int32_t)id;
        p = end;
    }
    return true;
}
