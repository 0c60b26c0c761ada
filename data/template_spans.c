/* What is trained in a rendered conversation.
 *
 * Templates with {% generation %} say it themselves. For the others the text of message i is found
 * by rendering variants of the conversation and comparing them: before   messages [0,i) with
 * generation prompt: ends with the header through  messages [0,i]: ends with the message probe the
 * same with a mark as the content: where header and end-of-turn token are If `through` begins the
 * full text, that is the answer. Templates that print a message differently once others follow
 * (reasoning dropped, system text moved) need a fallback: the mark put into the message or the next
 * one of the full conversation, or a search for the message's own text after its header. */
#include "template_internal.h"

#include <string.h>

static const char MARK[] =
    "\xEE\xA2\xA1mark\xEE\xA2\xA2"; /* private-use characters: no template prints them */

static const char ADVICE[] =
    "Put {% generation %} ... {% endgeneration %} around what the template prints for the "
    "assistant, or use chat_template: chatml";

typedef struct finder {
    const jtemplate *t;
    json_t *messages;
    lq_template_options options;
    const lq_str *full;
    size_t cursor; /* end of the last span found */
    /* of the message being looked for */
    size_t i;
    bool generated;        /* has a generation header: role assistant */
    lq_str before, plain;  /* [0,i) with and without generation prompt */
    lq_str through, probe; /* [0,i]; probe: the message is {role, content: MARK} */
    bool has_before, has_plain, has_through;
    size_t header;                   /* bytes of `before` up to and with the header */
    size_t header_start, header_end; /* of the header's text in `before` */
    bool stable;                     /* message i does not change what is printed before it */
    size_t tail;                     /* bytes that `probe` prints after MARK, of which... */
    size_t marker;                   /* ...these are the end of turn */
} finder;

typedef enum content { KEEP, MARKED, MARKED_ALONE, NO_REASONING } content;

/* Message i as the variant wants it: a new reference. */
static json_t *variant(json_t *message, content how) {
    static const char *const reasoning[] = {"reasoning_content", "thinking", "reasoning"};
    if (how == KEEP) return json_incref(message);
    json_t *copy = how == MARKED_ALONE ? json_object() : json_copy(message);
    int failed = !copy;
    if (how == MARKED_ALONE && copy)
        failed = json_object_set(copy, "role", json_object_get(message, "role"));
    if (how != NO_REASONING && !failed)
        failed = json_object_set_new(copy, "content", json_string(MARK));
    for (int k = 0; how == NO_REASONING && !failed && k < LQ_ARRAY_LEN(reasoning); k++)
        json_object_del(copy, reasoning[k]); /* absent is fine */
    if (!failed) return copy;
    json_decref(copy);
    return NULL;
}

/* Renders the first n messages, message f->i in the given variant. *ok is false when the template
 * refuses; only running out of memory is an error. */
static lq_status render(const finder *f, size_t n, content how, bool prompt, lq_str *out,
                        bool *ok) {
    lq_template_options options = f->options;
    options.add_generation_prompt = prompt;
    lq_status status = LQ_OK;
    json_t *list = json_array();
    int failed = !list;
    for (size_t k = 0; k < n && !failed; k++) {
        json_t *message = variant(json_array_get(f->messages, k), k == f->i ? how : KEEP);
        failed = !message || json_array_append_new(list, message);
    }
    lq_str_reset(out);
    if (failed) status = lq_fail(LQ_EMEM, "out of memory while copying messages");
    else status = lq_jinja_render(f->t, list, &options, out, NULL);
    json_decref(list);
    *ok = status == LQ_OK;
    return status == LQ_EMEM ? LQ_EMEM : LQ_OK;
}

/* ---- text ---- */
static size_t common(const char *a, size_t na, const char *b, size_t nb) {
    size_t n = 0;
    while (n < na && n < nb && a[n] == b[n]) n++;
    return n;
}

static size_t common_text(const lq_str *a, const lq_str *b) {
    return common(lq_str_text(a), a->n, lq_str_text(b), b->n);
}

static bool ends_with(const char *s, size_t n, const char *end, size_t n_end) {
    return n_end <= n && !memcmp(s + n - n_end, end, n_end);
}

/* Position of `part` in s[from, n), or n + 1. */
static size_t find(const char *s, size_t n, size_t from, const char *part, size_t n_part) {
    for (size_t at = from; at + n_part <= n; at++)
        if (!memcmp(s + at, part, n_part)) return at;
    return n + 1;
}

static size_t trimmed(const char *s, size_t n) {
    while (n > 0 && strchr(" \n\r\t", s[n - 1])) n--;
    return n;
}

/* Cuts s[0,n) back to where a header may end: after a line, a > or a ]. Not below `least`. */
static size_t snap(const char *s, size_t n, size_t least) {
    while (n > least && !strchr("\n>]", s[n - 1])) n--;
    return n;
}

/* Bytes of the end-of-turn token at the start of s: the end-of-sequence token, <...> or [...];
 * white space before it belongs to it. 0 if there is none. */
static size_t marker_bytes(const finder *f, const char *s, size_t n) {
    const char *const eos = f->options.eos_token;
    const size_t space = strspn(s, " \n"), n_eos = eos ? strlen(eos) : 0;
    if (n_eos && n - space >= n_eos && !memcmp(s + space, eos, n_eos)) return space + n_eos;
    const char close = s[space] == '<' ? '>' : s[space] == '[' ? ']' : 0;
    const char *end = close ? memchr(s + space, close, n - space) : NULL;
    return end ? (size_t)(end - s) + 1 : 0;
}

/* ---- variants of one message ---- */
static void measure(finder *f) {
    const char *const probe = lq_str_text(&f->probe);
    const size_t at = find(probe, f->probe.n, 0, MARK, sizeof MARK - 1);
    const bool marked = at < f->probe.n;
    f->tail = f->marker = 0;
    if (marked) {
        const size_t after = at + sizeof MARK - 1;
        f->tail = f->probe.n - after;
        f->marker = marker_bytes(f, probe + after, f->tail);
    }
    f->header_start = f->has_plain && f->has_before ? common_text(&f->plain, &f->before) : 0;
    f->header_end = 0;
    if (f->generated && f->has_before) {
        f->header = common_text(&f->before, marked ? &f->probe : &f->through);
        if (!marked && f->header < f->before.n)
            f->header = snap(lq_str_text(&f->before), f->header, f->header_start);
    } else if (f->generated && marked) {
        lq_str_reset(&f->before); /* nothing can be rendered before it: the header ends where
                                     content begins */
        lq_str_add(&f->before, probe, at);
        f->header = f->header_start = at;
        f->has_before = true;
    } else {
        f->header = common_text(&f->plain, &f->through);
        if (f->header < f->plain.n) f->header = snap(lq_str_text(&f->through), f->header, 0);
        f->header_start = f->header;
    }
    f->stable = f->header >= f->header_start;
    f->header_end = f->stable ? f->header : f->before.n;
}

static lq_status render_variants(finder *f) {
    bool has_probe;
    f->header = f->header_start = 0;
    LQ_TRY(render(f, f->i, KEEP, false, &f->plain, &f->has_plain));
    LQ_TRY(render(f, f->i, KEEP, true, &f->before, &f->has_before));
    LQ_TRY(render(f, f->i + 1, KEEP, false, &f->through, &f->has_through));
    LQ_TRY(render(f, f->i + 1, MARKED_ALONE, false, &f->probe, &has_probe));
    measure(f);
    return lq_str_status(&f->before);
}

/* Where the end of turn ends in a text that ends with message i. */
static size_t turn_end(const finder *f, const lq_str *text) {
    const char *const tail = lq_str_text(&f->probe) + f->probe.n - f->tail;
    if (f->tail && ends_with(lq_str_text(text), text->n, tail, f->tail))
        return text->n - f->tail + f->marker;
    return trimmed(lq_str_text(text), text->n);
}

static const char *known(const finder *f) {
    return f->generated ? lq_str_text(&f->before) : lq_str_text(&f->through);
}

static bool header_matches(const finder *f) {
    return f->stable && f->header <= f->full->n &&
           !memcmp(known(f), lq_str_text(f->full), f->header);
}

/* ---- the three ways ---- */
static bool by_prefix(const finder *f, lq_span *span) {
    if (!f->has_through || !header_matches(f)) return false;
    const size_t end = turn_end(f, &f->through);
    if (end <= f->header || common_text(&f->through, f->full) < end) return false;
    *span = (lq_span){(int64_t)f->header, (int64_t)end};
    return true;
}

/* Start of what is trained in x[0,n), the text before the mark: after the header. n + 1: not found.
 */
static size_t start_before_mark(const finder *f, const char *x, size_t n, bool content_only) {
    const char *const header = lq_str_text(&f->before) + f->header_start;
    const size_t n_header = f->header_end - f->header_start;
    if (header_matches(f) && f->header <= n && !memcmp(known(f), x, f->header)) return f->header;
    for (size_t len = n_header; len > 0; len = snap(header, len - 1, 0))
        if (ends_with(x, n, header, len)) return n;
    for (size_t at = n_header && n >= n_header ? n - n_header + 1 : 0; at > f->cursor; at--)
        if (!memcmp(x + at - 1, header, n_header)) return at - 1 + n_header;
    return !n_header && content_only ? n : n + 1;
}

static lq_status by_mark(const finder *f, lq_span *span, bool *found) {
    lq_str text = LQ_STR_INIT;
    bool ok;
    const json_t *message = json_array_get(f->messages, f->i);
    const bool has_calls = json_array_size(json_object_get(message, "tool_calls")) > 0;
    lq_status status = render(f, json_array_size(f->messages), MARKED,
                              f->options.add_generation_prompt, &text, &ok);
    *found = false;
    if (status != LQ_OK || !ok || !f->generated || has_calls) goto done;
    const char *const s = lq_str_text(&text), *const full = lq_str_text(f->full);
    const size_t n_mark = sizeof MARK - 1, at = find(s, text.n, 0, MARK, n_mark);
    if (at > text.n || find(s, text.n, at + 1, MARK, n_mark) < text.n) goto done;
    const size_t start = start_before_mark(f, s, at, json_object_size(message) == 2);
    const char *const rest = s + at + n_mark;
    const size_t n_rest = text.n - at - n_mark;
    if (start > at || start > f->full->n || memcmp(s, full, start)) goto done;
    if (f->full->n < start + n_rest || !ends_with(full, f->full->n, rest, n_rest)) goto done;
    *span =
        (lq_span){(int64_t)start, (int64_t)(f->full->n - n_rest + marker_bytes(f, rest, n_rest))};
    *found = span->end > span->start;
done:
    lq_str_clear(&text);
    return status;
}

/* For a message that others follow: the mark goes into the next one, and the message ends with the
 * last end of turn before it. */
static lq_status by_next(finder *f, lq_span *span, bool *found) {
    lq_str text = LQ_STR_INIT;
    const size_t n = json_array_size(f->messages), i = f->i;
    const char *const marker = lq_str_text(&f->probe) + f->probe.n - f->tail, *const full =
                                                                                  lq_str_text(
                                                                                      f->full);
    lq_status status = LQ_OK;
    *found = false;
    if (i + 1 >= n || !f->marker || !header_matches(f)) return LQ_OK;
    f->i = i + 1;
    status = render(f, n, MARKED, f->options.add_generation_prompt, &text, found);
    f->i = i;
    const char *const s = lq_str_text(&text);
    const size_t next = *found ? find(s, text.n, 0, MARK, sizeof MARK - 1) : 0;
    *found = *found && next <= f->full->n && next <= text.n && !memcmp(s, full, next);
    for (size_t at = next; *found && at >= f->header + f->marker; at--) {
        if (!ends_with(full, at, marker, f->marker)) continue;
        *span = (lq_span){(int64_t)f->header, (int64_t)at};
        goto done;
    }
    *found = false;
done:
    lq_str_clear(&text);
    return status;
}

/* The one place after the cursor where the message's text, as printed in `text`, follows its
 * header. */
static bool by_search(const finder *f, const lq_str *text, lq_span *span) {
    const size_t end = turn_end(f, text);
    if (!f->stable || end <= f->header ||
        common(known(f), f->header, lq_str_text(text), text->n) < f->header)
        return false;
    const size_t header = f->header - f->header_start;
    const size_t context = header ? header : f->header < 8 ? f->header : 8;
    const char *const part = lq_str_text(text) + f->header - context, *const full =
                                                                          lq_str_text(f->full);
    const size_t n = end - f->header + context,
                 from = f->cursor > context ? f->cursor - context : 0;
    const size_t at = find(full, f->full->n, from, part, n);
    if (at > f->full->n || find(full, f->full->n, at + 1, part, n) < f->full->n) return false;
    *span = (lq_span){(int64_t)(at + context), (int64_t)(at + n)};
    return true;
}

static lq_status find_span(finder *f, lq_span *span) {
    bool found, ok;
    LQ_TRY(render_variants(f));
    if (by_prefix(f, span)) return LQ_OK;
    LQ_TRY(by_mark(f, span, &found));
    if (found) return LQ_OK;
    LQ_TRY(by_next(f, span, &found));
    if (found) return LQ_OK;
    if (f->has_through && by_search(f, &f->through, span)) return LQ_OK;
    LQ_TRY(render(f, f->i + 1, NO_REASONING, false, &f->through, &ok));
    if (ok && by_search(f, &f->through, span)) return LQ_OK;
    return lq_fail(
        LQ_EUNSUPPORTED,
        "chat template: cannot tell which part of the text is message %zu: the template prints it "
        "differently when other messages follow. %s",
        f->i, ADVICE);
}

/* ---- all messages ---- */
static bool is_assistant(json_t *messages, size_t i) {
    const char *role = json_string_value(json_object_get(json_array_get(messages, i), "role"));
    return role && !strcmp(role, "assistant");
}

static bool is_trained(json_t *messages, const bool *train, size_t i) {
    return train ? train[i] : is_assistant(messages, i);
}

static lq_status add_span(lq_spans *spans, lq_span span) {
    LQ_TRY(lq_reserve((void **)&spans->span, &spans->cap, spans->n + 1, sizeof *spans->span));
    spans->span[spans->n++] = span;
    return LQ_OK;
}

static lq_status compare_renderings(finder *f, const bool *train, lq_spans *spans) {
    lq_status status = LQ_OK;
    for (f->i = 0; f->i < json_array_size(f->messages) && status == LQ_OK; f->i++) {
        lq_span span = {0, 0};
        if (!is_trained(f->messages, train, f->i)) continue;
        f->generated = is_assistant(f->messages, f->i);
        status = find_span(f, &span);
        if (status == LQ_OK && span.start < (int64_t)f->cursor)
            status = lq_fail(LQ_EUNSUPPORTED,
                             "chat template: message %zu is not printed after the one before. %s",
                             f->i, ADVICE);
        if (status == LQ_OK) status = add_span(spans, span);
        f->cursor = (size_t)span.end;
    }
    lq_str_clear(&f->before);
    lq_str_clear(&f->plain);
    lq_str_clear(&f->through);
    lq_str_clear(&f->probe);
    return status;
}

/* Of the template's own blocks, one per assistant message, those that are trained. */
static lq_status choose_blocks(json_t *messages, const bool *train, const lq_spans *blocks,
                               lq_spans *spans) {
    int64_t n_assistant = 0, block = 0;
    bool all = true;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        n_assistant += is_assistant(messages, i);
        all = all && is_trained(messages, train, i) == is_assistant(messages, i);
    }
    if (!all && n_assistant != blocks->n)
        return lq_fail(
            LQ_EUNSUPPORTED,
            "chat template: its %lld generation blocks do not match %lld assistant messages, so "
            "a part of them cannot be chosen; train all of them",
            (long long)blocks->n, (long long)n_assistant);
    for (size_t i = 0; i < json_array_size(messages) && !all; i++) {
        const bool assistant = is_assistant(messages, i), wanted = is_trained(messages, train, i);
        if (wanted && !assistant)
            return lq_fail(
                LQ_EUNSUPPORTED,
                "chat template: its generation blocks mark assistant messages only, so message "
                "%zu cannot be trained",
                i);
        if (wanted) LQ_TRY(add_span(spans, blocks->span[block]));
        block += assistant;
    }
    for (int64_t k = 0; k < blocks->n && all; k++) LQ_TRY(add_span(spans, blocks->span[k]));
    return LQ_OK;
}

lq_status lq_template_render_spans(const lq_template *t, json_t *messages, const bool *train,
                                   const lq_template_options *options, lq_str *out,
                                   lq_spans *spans) {
    static const lq_template_options none = {0};
    if (!options) options = &none;
    LQ_TRY(lq_template_check(messages, options));
    lq_str text = LQ_STR_INIT;
    lq_spans blocks = LQ_SPANS_INIT, found = LQ_SPANS_INIT;
    lq_status status = lq_jinja_render(&t->jinja, messages, options, &text, &blocks);
    const int64_t base = (int64_t)out->n;
    if (status == LQ_OK && t->jinja.has_generation) {
        status = choose_blocks(messages, train, &blocks, &found);
    } else if (status == LQ_OK) {
        finder f = {.t = &t->jinja, .messages = messages, .options = *options, .full = &text};
        status = compare_renderings(&f, train, &found);
    }
    for (int64_t k = 0; k < found.n && status == LQ_OK; k++)
        status = add_span(spans, (lq_span){base + found.span[k].start, base + found.span[k].end});
    if (status == LQ_OK) {
        lq_str_add(out, lq_str_text(&text), text.n);
        status = lq_str_status(out);
    }
    lq_spans_clear(&blocks);
    lq_spans_clear(&found);
    lq_str_clear(&text);
    return status;
}
