/* See args.h. */
#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *grow(void *list, size_t n, size_t size) {
    void *p = realloc(list, (n + 1) * size);
    if (!p) {
        fprintf(stderr, "loquat: out of memory\n");
        exit(EXIT_FAILED);
    }
    return p;
}

static void push(arg_list *l, const char *value) {
    l->v = grow((void *)l->v, l->n, sizeof *l->v);
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
    if (strlen(name) != n) return false;
    for (size_t i = 0; i < n; i++)
        if ((option[i] == '_' ? '-' : option[i]) != name[i]) return false;
    return true;
}

static const arg_option *find(const arg_option *options, const char *name, size_t n) {
    for (const arg_option *o = options; o->name; o++)
        if (same_name(name, n, o->name)) return o;
    return NULL;
}

static bool store(const arg_option *o, const char *value) {
    char *end = NULL;
    errno = 0;
    if (o->kind == ARG_TEXT) *(const char **)o->out = value;
    else if (o->kind == ARG_LIST) push(o->out, value);
    else if (o->kind == ARG_INT) *(int64_t *)o->out = strtoll(value, &end, 10);
    else if (o->kind == ARG_REAL) *(double *)o->out = strtod(value, &end);
    if (end && (*end || end == value || errno)) {
        fprintf(stderr, "loquat: --%s: found '%s', wanted a %s\n", o->name, value,
                o->kind == ARG_INT ? "whole number" : "number");
        return false;
    }
    return true;
}

static void print_options(const arg_option *options) {
    for (const arg_option *o = options; o->name; o++) {
        const char *value = o->kind == ARG_FLAG ? "" : o->kind == ARG_INT ? " N" : o->kind == ARG_REAL ? " X" : " ...";
        char left[64];
        snprintf(left, sizeof left, "--%s%s", o->name, value);
        printf("  %-30s %s\n", left, o->help);
    }
}

static void print_help(const arg_verb *verb, const arg_option *options, const arg_option *common) {
    printf("usage: loquat %s %s\n\n%s\n\n", verb->name, verb->usage, verb->summary);
    print_options(options);
    print_options(common);
    if (!verb->takes_config_keys) return;
    char *text = NULL;
    if (loquat_config_help(&text) == LOQUAT_OK) printf("\nEvery key of the configuration, as --KEY VALUE:\n\n%s", text);
    loquat_free(text);
}

static bool is_boolean(const char *text) { return strcmp(text, "true") == 0 || strcmp(text, "false") == 0; }

/* The value of the option at argv[*i]: after its '=', or the next argument; NULL for a flag without one. */
static bool take_value(const arg_verb *verb, const char *name, char *equals, bool required, int argc, char **argv, int *i,
                       const char **value) {
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
static bool take_option(const arg_verb *verb, const arg_option *options, const arg_option *common, int argc,
                        char **argv, int *i, arg_result *out) {
    char *name = argv[*i] + 2, *equals = strchr(name, '=');
    if (equals) *equals++ = 0;
    const arg_option *o = find(options, name, strlen(name));
    if (!o) o = find(common, name, strlen(name));
    if (!o && !verb->takes_config_keys) {
        fprintf(stderr, "loquat %s: unknown option --%s; see loquat %s --help\n", verb->name, name, verb->name);
        return false;
    }
    if (o && o->kind == ARG_FLAG) {
        if (equals) fprintf(stderr, "loquat %s: --%s takes no value\n", verb->name, name);
        *(bool *)o->out = true;
        return !equals;
    }
    bool required = true;
    const char *value;
    if (!o) loquat_config_is_key(name, &required); /* an unknown key is reported with all other mistakes */
    if (!take_value(verb, name, equals, required, argc, argv, i, &value)) return false;
    if (o) return store(o, value);
    out->settings = grow(out->settings, out->n_settings, sizeof *out->settings);
    out->settings[out->n_settings++] = (loquat_setting){name, value ? value : "true"};
    return true;
}

bool args_parse(const arg_verb *verb, const arg_option *options, int argc, char **argv, size_t min, size_t max,
                arg_result *out, int *exit_status) {
    bool help = false;
    *out = (arg_result){0};
    const arg_option common[] = {
        {"json", ARG_FLAG, &out->common.json, "one JSON object on stdout and nothing else there"},
        {"quiet", ARG_FLAG, &out->common.quiet, "only errors on stderr"},
        {"verbose", ARG_FLAG, &out->common.verbose, "also debugging messages"},
        {"help", ARG_FLAG, &help, "this text"},
        /* where a configuration is read, these two are keys of it */
        {verb->takes_config_keys ? NULL : "threads", ARG_INT, &out->common.threads, "CPU threads (default: all cores)"},
        {"device", ARG_TEXT, &out->common.device, "cpu"},
        {NULL, ARG_FLAG, NULL, NULL},
    };
    *exit_status = EXIT_USAGE;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "-h") == 0) help = true;
        else if (strncmp(argv[i], "--", 2) != 0 || !argv[i][2]) push(&out->positional, argv[i]);
        else if (!take_option(verb, options, common, argc, argv, &i, out)) return false;
    }
    if (help) {
        print_help(verb, options, common);
        *exit_status = EXIT_DONE;
        return false;
    }
    if (out->positional.n < min || out->positional.n > max) {
        fprintf(stderr, "usage: loquat %s %s\n", verb->name, verb->usage);
        return false;
    }
    if (out->common.device && strcmp(out->common.device, "cpu") != 0 && strcmp(out->common.device, "auto") != 0) {
        fprintf(stderr, "loquat: --device: found '%s', this build has cpu\n", out->common.device);
        return false;
    }
    if (out->common.threads < 0) {
        fprintf(stderr, "loquat: --threads: found %lld, wanted 0 or more\n", (long long)out->common.threads);
        return false;
    }
    if (out->common.threads) loquat_set_threads((int)out->common.threads);
    return true;
}

bool args_lora(const char *text, char **path, float *scale) {
    const char *equals = strrchr(text, '=');
    char *end = NULL;
    *scale = equals ? strtof(equals + 1, &end) : 1;
    if (equals && (*end || end == equals + 1 || !isfinite(*scale))) {
        fprintf(stderr, "loquat: --lora %s: the scale after '=' is not a number\n", text);
        return false;
    }
    *path = strndup(text, equals ? (size_t)(equals - text) : strlen(text));
    return *path != NULL;
}
