/* Record types and their encoding. See records.h. */
#include "records.h"

#include "conversation.h"
#include "jsonl.h"

#include <string.h>

typedef struct context {
    lq_encoding *out;
    const lq_tokenizer *tok;
    const lq_data_options *options;
    bool generation_prompt;
} context;

struct lq_record_type {
    const char *name;
    const char *fields;         /* for error messages */
    const char *required[2];    /* the fields that show the type */
    lq_status (*encode)(const context *c, json_t *record);
};

void lq_encoding_clear(lq_encoding *e) {
    lq_str_clear(&e->text);
    lq_tokens_clear(&e->tokens);
    lq_spans_clear(&e->spans);
    lq_free(e->mask);
    lq_free(e->train);
    *e = (lq_encoding)LQ_ENCODING_INIT;
}

static bool is_bos(const context *c, int32_t id) {
    return id == lq_tokenizer_bos(c->tok) && id != lq_tokenizer_eos(c->tok);
}

/* mask := value for tokens [first, n); the first of all and BOS are no targets. */
static lq_status mark(const context *c, int64_t first, uint8_t value) {
    lq_encoding *e = c->out;
    void *mask = e->mask;
    LQ_TRY(lq_reserve(&mask, &e->mask_cap, e->tokens.n, 1));
    e->mask = mask;
    for (int64_t i = first; i < e->tokens.n; i++)
        e->mask[i] = value && i > 0 && !is_bos(c, e->tokens.id[i]);
    return LQ_OK;
}

/* ---- text, prompt and completion ------------------------------------------------------------- */

/* Appends text as tokens with offsets from the start of out->text. */
static lq_status add_text(const context *c, const char *text, size_t n, unsigned flags) {
    lq_tokens *t = &c->out->tokens;
    const int64_t first = t->n, base = (int64_t)c->out->text.n;
    lq_str_add(&c->out->text, text, n);
    LQ_TRY(lq_str_status(&c->out->text));
    LQ_TRY(lq_tokenize(c->tok, text, n, flags, t));
    for (int64_t i = first; i < t->n; i++) {
        t->start[i] += base;
        t->end[i] += base;
    }
    return LQ_OK;
}

static lq_status add_eos(const context *c) {
    const int32_t eos = lq_tokenizer_eos(c->tok);
    const int64_t end = (int64_t)c->out->text.n;
    return eos < 0 ? LQ_OK : lq_tokens_add(&c->out->tokens, eos, end, end);
}

/* Text that continues the prompt, if there is one. An SPM tokenizer puts a space before a text; a
 * control character that no piece contains takes that space, and its tokens are left out. */
static lq_status add_continuation(const context *c, const char *text) {
    const size_t n = strlen(text);
    if (c->out->text.n == 0 || strcmp(lq_tokenizer_model(c->tok), "llama") != 0)
        return add_text(c, text, n, LQ_TOK_SPECIAL);
    lq_status status = LQ_OK;
    lq_tokens marked = LQ_TOKENS_INIT;
    const int64_t base = (int64_t)c->out->text.n - 1;
    char *with_mark = lq_sprintf("\x01%s", text);
    LQ_GOTO(status, with_mark ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_tokenize(c->tok, with_mark, n + 1, LQ_TOK_SPECIAL, &marked));
    for (int64_t i = 0; i < marked.n; i++)
        if (marked.start[i] > 0)
            LQ_GOTO(status, lq_tokens_add(&c->out->tokens, marked.id[i], base + marked.start[i],
                                          base + marked.end[i]));
    lq_str_add(&c->out->text, text, n);
    status = lq_str_status(&c->out->text);
done:
    lq_free(with_mark);
    lq_tokens_clear(&marked);
    return status;
}

static lq_status no_generation_prompt(void) {
    return lq_fail(LQ_EVALUE, "only conversations have a generation prompt");
}

static lq_status encode_pair(const context *c, const char *prompt, const char *completion,
                             const char *field) {
    if (c->generation_prompt) return no_generation_prompt();
    if (!*completion)
        return lq_fail(LQ_EFORMAT, "field '%s' is empty: there is nothing to learn", field);
    LQ_TRY(add_text(c, prompt, strlen(prompt), LQ_TOK_BOS | LQ_TOK_SPECIAL));
    const int64_t n_prompt = c->out->tokens.n;
    LQ_TRY(add_continuation(c, completion));
    LQ_TRY(add_eos(c));
    LQ_TRY(mark(c, 0, c->options->train_on_inputs));
    return mark(c, n_prompt, 1);
}

static lq_status encode_completion(const context *c, json_t *record) {
    const char *prompt, *completion;
    LQ_TRY(lq_record_string(&prompt, record, "prompt", true));
    LQ_TRY(lq_record_string(&completion, record, "completion", true));
    return encode_pair(c, prompt, completion, "completion");
}

static lq_status encode_text(const context *c, json_t *record) {
    const char *text;
    if (c->generation_prompt) return no_generation_prompt();
    LQ_TRY(lq_record_string(&text, record, "text", true));
    if (!*text) return lq_fail(LQ_EFORMAT, "field 'text' is empty");
    LQ_TRY(add_text(c, text, strlen(text), LQ_TOK_BOS));
    LQ_TRY(add_eos(c));
    return mark(c, 0, 1);
}

/* ---- conversations --------------------------------------------------------------------------- */

/* Targets are the tokens that start inside one of the spans (both in order), or, inverted, the
 * others. */
static lq_status mark_spans(const context *c, bool inverted) {
    const lq_tokens *t = &c->out->tokens;
    const lq_spans *spans = &c->out->spans;
    LQ_TRY(mark(c, 0, 1));
    int64_t s = 0;
    for (int64_t i = 0; i < t->n; i++) {
        while (s < spans->n && spans->span[s].end <= t->start[i]) s++;
        const bool inside = s < spans->n && spans->span[s].start <= t->start[i];
        if (inside == inverted) c->out->mask[i] = 0;
    }
    return LQ_OK;
}

/* With train_on_inputs the spans are of the messages that ask to be left out. */
static lq_status choose_messages(const context *c, const lq_conversation *talk) {
    const lq_data_options *o = c->options;
    lq_encoding *e = c->out;
    void *train = e->train;
    const int64_t n = (int64_t)json_array_size(talk->messages);
    LQ_TRY(lq_reserve(&train, &e->train_cap, n, sizeof *e->train));
    e->train = train;
    LQ_TRY(lq_conversation_choose(e->train, talk, o->roles_to_train, o->train_on_inputs));
    for (int64_t i = 0; o->train_on_inputs && i < n; i++) e->train[i] = !e->train[i];
    return LQ_OK;
}

static bool any(const bool *flag, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (flag[i]) return true;
    return false;
}

static const char *token_text(const lq_tokenizer *tok, int32_t id) {
    return id < 0 ? NULL : lq_token_text(tok, id);
}

static lq_status encode_conversation(const context *c, const lq_conversation *talk) {
    const lq_template *t = c->options->chat_template;
    lq_str *text = &c->out->text;
    if (!t)
        return lq_fail(LQ_ECONFIG,
                       "the model has no chat template, and conversations need one: set "
                       "chat_template (\"chatml\", \"llama3\", ...) or "
                       "chat_template_jinja");
    const lq_template_options options = {
        .add_generation_prompt = c->generation_prompt,
        .bos_token = token_text(c->tok, lq_tokenizer_bos(c->tok)),
        .eos_token = token_text(c->tok, lq_tokenizer_eos(c->tok)),
        .tools = talk->tools,
        .now = c->options->now,
    };
    LQ_TRY(choose_messages(c, talk));
    const bool spans = any(c->out->train, (int64_t)json_array_size(talk->messages));
    LQ_TRY(spans ? lq_template_render_spans(t, talk->messages, c->out->train, &options, text,
                                            &c->out->spans)
                 : lq_template_render(t, talk->messages, &options, text));
    LQ_TRY(lq_tokenize(c->tok, lq_str_text(text), text->n, LQ_TOK_SPECIAL, &c->out->tokens));
    return mark_spans(c, c->options->train_on_inputs);
}

static lq_status encode_with(const context *c, json_t *record,
                             lq_status (*convert)(lq_conversation *, json_t *)) {
    lq_conversation talk = {NULL, NULL};
    LQ_TRY(convert(&talk, record));
    const lq_status status = encode_conversation(c, &talk);
    lq_conversation_clear(&talk);
    return status;
}

static lq_status encode_messages(const context *c, json_t *record) {
    return encode_with(c, record, lq_conversation_from_messages);
}

static lq_status encode_sharegpt(const context *c, json_t *record) {
    return encode_with(c, record, lq_conversation_from_sharegpt);
}

/* ---- alpaca ---------------------------------------------------------------------------------- */

typedef struct alpaca { const char *instruction, *input, *output, *system; } alpaca;

/* The prompt of the Alpaca data set, for models that know no chat; a system text takes the header's
 * place. */
static char *alpaca_prompt(const alpaca *a) {
    static const char plain[] =
        "Below is an instruction that describes a task. Write a response that "
        "appropriately completes the request.";
    static const char with_input[] =
        "Below is an instruction that describes a task, paired with an input that "
        "provides further context. Write a response that appropriately completes "
        "the request.";
    const char *header = *a->system ? a->system : *a->input ? with_input : plain;
    return lq_sprintf("%s\n\n### Instruction:\n%s\n\n%s%s%s### Response:\n", header, a->instruction,
                      *a->input ? "### Input:\n" : "", a->input, *a->input ? "\n\n" : "");
}

static lq_status encode_alpaca_chat(const context *c, const alpaca *a) {
    lq_status status = LQ_OK;
    lq_conversation talk = {NULL, NULL};
    char *user =
        lq_sprintf("%s%s%s", a->instruction, *a->instruction && *a->input ? "\n" : "", a->input);
    LQ_GOTO(status, user ? LQ_OK : LQ_EMEM);
    LQ_GOTO(status, lq_conversation_from_turn(&talk, a->system, user, a->output));
    status = encode_conversation(c, &talk);
done:
    lq_free(user);
    lq_conversation_clear(&talk);
    return status;
}

static lq_status encode_alpaca(const context *c, json_t *record) {
    alpaca a;
    LQ_TRY(lq_record_string(&a.instruction, record, "instruction", true));
    LQ_TRY(lq_record_string(&a.input, record, "input", false));
    LQ_TRY(lq_record_string(&a.output, record, "output", true));
    LQ_TRY(lq_record_string(&a.system, record, "system", false));
    if (!*a.instruction && !*a.input)
        return lq_fail(LQ_EFORMAT, "fields 'instruction' and 'input' are empty");
    if (!*a.output)
        return lq_fail(LQ_EFORMAT, "field 'output' is empty: there is nothing to learn");
    if (c->options->chat_template) return encode_alpaca_chat(c, &a);
    char *prompt = alpaca_prompt(&a);
    if (!prompt) return LQ_EMEM;
    const lq_status status = encode_pair(c, prompt, a.output, "output");
    lq_free(prompt);
    return status;
}

/* ---- the types ------------------------------------------------------------------------------- */

static const lq_record_type types[] = {
    {"messages", "messages: [{role, content}], tools?", {"messages"}, encode_messages},
    {"sharegpt", "conversations: [{from, value}], system?, tools?", {"conversations"},
     encode_sharegpt},
    {"alpaca", "instruction, input?, output, system?", {"instruction", "output"}, encode_alpaca},
    {"completion", "prompt, completion", {"prompt", "completion"}, encode_completion},
    {"text", "text", {"text"}, encode_text},
};

const char *lq_record_type_name(const lq_record_type *type) { return type->name; }

static const lq_record_type *by_name(const char *name) {
    for (int i = 0; i < LQ_ARRAY_LEN(types); i++)
        if (strcmp(name, types[i].name) == 0) return &types[i];
    return NULL;
}

/* A type all of whose fields are there; failing that, one of whose fields one is. */
static const lq_record_type *by_fields(const json_t *record) {
    const lq_record_type *partly = NULL;
    for (int i = 0; i < LQ_ARRAY_LEN(types); i++) {
        int there = 0, n = 0;
        for (; n < LQ_ARRAY_LEN(types[i].required) && types[i].required[n]; n++)
            there += json_object_get(record, types[i].required[n]) != NULL;
        if (there == n) return &types[i];
        if (there > 0 && !partly) partly = &types[i];
    }
    return partly;
}

lq_status lq_record_type_of(const lq_record_type **out, const char *name, const json_t *record) {
    const bool named = name && *name;
    *out = named ? by_name(name) : by_fields(record);
    if (*out) return LQ_OK;
    lq_str known = LQ_STR_INIT;
    for (int i = 0; i < LQ_ARRAY_LEN(types); i++)
        lq_str_printf(&known, "\n  %s {%s}", types[i].name, types[i].fields);
    lq_status status = lq_str_status(&known);
    if (status == LQ_OK && named)
        status =
            lq_fail(LQ_ECONFIG, "type: found '%s', wanted one of%s", name, lq_str_text(&known));
    else if (status == LQ_OK)
        status = lq_fail(LQ_EFORMAT, "the fields fit no known type of record:%s",
                         lq_str_text(&known));
    lq_str_clear(&known);
    return status;
}

lq_status lq_record_encode(lq_encoding *out, json_t *record, const lq_record_type *type,
                           const lq_tokenizer *tok, const lq_data_options *options,
                           bool generation_prompt) {
    const context c = {out, tok, options, generation_prompt};
    lq_str_reset(&out->text);
    out->tokens.n = out->spans.n = 0;
    const lq_status status = type->encode(&c, record);
    if (status == LQ_OK || status == LQ_EMEM || status == LQ_ECONFIG) return status;
    return lq_fail_context(status, "%s record: ", type->name);
}
