/* dataset.c, records.c, conversation.c: what each kind of record shows the model and trains, what
 * is refused and how it is said, what is counted. Expected texts are lq_dataset_show's: trained
 * tokens in [[ ]]. */
#include "atomic_file.h"
#include "jsonl.h"
#include "records.h"
#include "test_util.h"
#include "tiny_model.h"

#include <stdlib.h>
#include <string.h>

/* Prints the beginning-of-sequence token, a header per message, and an end token after each
 * assistant message. */
static const char chat[] =
    "{{ bos_token }}{% if tools %}[tools]{{ tools | tojson }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}"
    "{% if m.tool_call_id %}{{ m.tool_call_id }}={% endif %}"
    "{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}";

static lq_gguf *file;
static lq_tokenizer *tok;
static lq_template *template;

static void setup(void) {
    ck_ok(lq_gguf_open(&file, test_tiny_model()));
    ck_ok(lq_tokenizer_from_gguf(&tok, file));
    ck_ok(lq_template_parse(&template, chat));
}

static void teardown(void) {
    lq_template_free(template);
    lq_tokenizer_close(tok);
    lq_gguf_close(file);
}

static const char *write_data(const char *name, const char *text) {
    const char *path = test_path(name);
    ck_ok(lq_write_file(path, text, strlen(text)));
    return path;
}

static lq_data_options options_with_chat(void) {
    return (lq_data_options){
        .sequence_len = 4096, .chat_template = template, .chat_template_source = chat};
}

static lq_status load_text(lq_dataset *d, const char *name, const char *text, const char *type,
                           const lq_data_options *options) {
    const lq_data_source source = {.path = write_data(name, text), .type = type, .weight = 1};
    return lq_dataset_load(d, &source, 1, tok, options);
}

/* ---- what is trained ------------------------------------------------------------------------- */

enum { NO_CHAT = 1, INPUTS = 2, USER_ROLE = 4 };

static const struct {
    const char *what, *record, *want;
    unsigned flags;
} shown[] = {
    {"text", "{\"text\":\"ab c\"}", "<s>[[ ab c</s>]]", 0},
    {"special tokens in a text are text", "{\"text\":\"a</s>b\"}", "<s>[[ a</s>b</s>]]", 0},
    {"completion", "{\"prompt\":\"ab\",\"completion\":\"cd\"}", "<s> ab[[cd</s>]]", 0},
    {"completion after a space", "{\"prompt\":\"ab\",\"completion\":\" cd\"}", "<s> ab[[ cd</s>]]",
     0},
    {"empty prompt", "{\"prompt\":\"\",\"completion\":\"cd\"}", "<s>[[ cd</s>]]", 0},
    {"completion, inputs too", "{\"prompt\":\"ab\",\"completion\":\"cd\"}", "<s>[[ abcd</s>]]",
     INPUTS},
    {"non-ASCII", "{\"prompt\":\"\xc3\xbc\",\"completion\":\"\xe2\x82\xac\"}",
     "<s> \xc3\xbc[[\xe2\x82\xac</s>]]", 0},
    {"messages",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":"
     "\"b\"}]}",
     "<s> [user]a[assistant][[b</s>]]", 0},
    {"messages, inputs too",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":"
     "\"b\"}]}",
     "<s>[[ [user]a[assistant]b</s>]]", INPUTS},
    {"two turns, one not to be trained",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":"
     "\"b\",\"train\":false},"
     "{\"role\":\"user\",\"content\":\"c\"},{\"role\":\"assistant\",\"content\":\"d\",\"weight\":1}"
     "]}",
     "<s> [user]a[assistant]b</s> [user]c[assistant][[d</s>]]", 0},
    {"tools",
     "{\"tools\":[{\"name\":\"f\"}],\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
     "{\"role\":\"assistant\",\"content\":\"b\"}]}",
     "<s> [tools][{\"name\": \"f\"}][user]a[assistant][[b</s>]]", 0},
    {"sharegpt",
     "{\"system\":\"s\",\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{\"from\":\"gpt\","
     "\"value\":\"b\"}]}",
     "<s> [system]s[user]a[assistant][[b</s>]]", 0},
    {"sharegpt with a call",
     "{\"tools\":\"[{\\\"name\\\": "
     "\\\"f\\\"}]\",\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},"
     "{\"from\":\"function_call\",\"value\":\"{\\\"name\\\":\\\"f\\\",\\\"arguments\\\":{\\\"x\\\":"
     "1}}\"},"
     "{\"from\":\"observation\",\"value\":\"o\"},{\"from\":\"gpt\",\"value\":\"b\"}]}",
     "<s> [tools][{\"type\": \"function\", \"function\": {\"name\": \"f\"}}][user]a[assistant]"
     "[[[{\"id\": \"call00001\", \"type\": \"function\", \"function\": {\"name\": \"f\", "
     "\"arguments\": {\"x\": 1}}}]</s>]]"
     " [tool]ocall00001=[assistant][[b</s>]]",
     0},
    {"alpaca through the template", "{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\"}",
     "<s> [user]a\nb[assistant][[c</s>]]", 0},
    {"alpaca with null input and a system text",
     "{\"instruction\":\"a\",\"input\":null,\"output\":\"c\",\"system\":\"s\"}",
     "<s> [system]s[user]a[assistant][[c</s>]]", 0},
    {"alpaca without a template", "{\"instruction\":\"a\",\"input\":\"\",\"output\":\"c\"}",
     "<s> Below is an instruction that describes a task. Write a response that appropriately "
     "completes the "
     "request.\n\n### Instruction:\na\n\n### Response:\n[[c</s>]]",
     NO_CHAT},
    {"alpaca with input, without a template",
     "{\"instruction\":\"a\",\"input\":\"b\",\"output\":\"c\",\"system\":\"s\"}",
     "<s> s\n\n### Instruction:\na\n\n### Input:\nb\n\n### Response:\n[[c</s>]]", NO_CHAT},
};

static void check_shown(int i) {
    lq_dataset d;
    lq_str text = LQ_STR_INIT;
    lq_data_options options = options_with_chat();
    if (shown[i].flags & NO_CHAT) options.chat_template = NULL;
    options.train_on_inputs = shown[i].flags & INPUTS;
    ck_ok(load_text(&d, "shown.jsonl", shown[i].record, NULL, &options));
    ck_assert_int_eq(d.n, 1);
    ck_ok(lq_dataset_show(&d, 0, tok, false, &text));
    ck_assert_msg(strcmp(lq_str_text(&text), shown[i].want) == 0, "%s: got '%s', wanted '%s'",
                  shown[i].what, lq_str_text(&text), shown[i].want);
    ck_assert_int_eq(d.mask[0], 0);
    ck_assert_int_eq(d.counts.trained_tokens, d.example[0].n_trained);
    lq_str_clear(&text);
    lq_dataset_clear(&d);
}

START_TEST(shows_and_trains) { check_shown(_i); }
END_TEST

START_TEST(colours) {
    lq_dataset d;
    lq_str text = LQ_STR_INIT;
    const lq_data_options options = options_with_chat();
    ck_ok(load_text(&d, "c.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}", NULL, &options));
    ck_ok(lq_dataset_show(&d, 0, tok, true, &text));
    ck_assert_str_eq(lq_str_text(&text), "<s> a\033[32mb</s>\033[0m");
    lq_str_clear(&text);
    lq_dataset_clear(&d);
}
END_TEST

/* The prompt's ids are those of tokenizing it alone: what a user of the model sends. */
START_TEST(prompt_ids_are_the_users) {
    static const char prompt[] = "Once upon a";
    lq_dataset d;
    lq_tokens alone = LQ_TOKENS_INIT;
    const lq_data_options options = options_with_chat();
    ck_ok(lq_tokenize(tok, prompt, strlen(prompt), LQ_TOK_BOS | LQ_TOK_SPECIAL, &alone));
    ck_ok(load_text(&d, "p.jsonl", "{\"prompt\":\"Once upon a\",\"completion\":\" time\"}", NULL,
                    &options));
    ck_assert_int_gt(d.example[0].n, alone.n);
    ck_assert_mem_eq(d.ids, alone.id, (size_t)alone.n * sizeof *alone.id);
    for (int64_t i = 0; i < d.n_tokens; i++) ck_assert_int_eq(d.mask[i], i >= alone.n);
    ck_assert_int_eq(d.ids[d.n_tokens - 1], lq_tokenizer_eos(tok));
    lq_tokens_clear(&alone);
    lq_dataset_clear(&d);
}
END_TEST

START_TEST(roles_to_train) {
    static const char record[] = "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{"
                                 "\"from\":\"gpt\",\"value\":\"b\"}]}";
    static const char *const known[] = {"gpt", NULL}, *const absent[] = {"narrator", NULL};
    lq_dataset d;
    lq_data_options options = options_with_chat();
    options.roles_to_train = known;
    ck_ok(load_text(&d, "r.jsonl", record, NULL, &options));
    ck_assert_int_gt(d.counts.trained_tokens, 0);
    lq_dataset_clear(&d);
    options.roles_to_train = absent;
    ck_fails(load_text(&d, "r.jsonl", record, NULL, &options), LQ_EFORMAT,
             "in 1 all labels are masked: no message is from a role to train (narrator)");
}
END_TEST

/* What `loquat tokenize --messages` prints: text, ids and mask of one record. */
START_TEST(encodes_one_record) {
    static const char text[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}";
    const lq_data_options options = options_with_chat();
    const lq_record_type *type = NULL;
    lq_encoding e = LQ_ENCODING_INIT;
    json_t *record = json_loads(text, 0, NULL), *plain = json_loads("{\"text\":\"a\"}", 0, NULL);
    ck_ok(lq_record_type_of(&type, NULL, record));
    ck_assert_str_eq(lq_record_type_name(type), "messages");
    ck_ok(lq_record_encode(&e, record, type, tok, &options, false));
    ck_assert_str_eq(lq_str_text(&e.text), "<s>[user]a");
    ck_ok(lq_record_encode(&e, record, type, tok, &options, true));
    ck_assert_str_eq(lq_str_text(&e.text), "<s>[user]a[assistant]");
    for (int64_t i = 0; i < e.tokens.n; i++) ck_assert_int_eq(e.mask[i], 0);
    ck_ok(lq_record_type_of(&type, "text", plain));
    ck_fails(lq_record_encode(&e, plain, type, tok, &options, true), LQ_EVALUE,
             "text record: only conversations");
    ck_ok(lq_record_encode(&e, plain, type, tok, &options, false));
    ck_assert_str_eq(lq_str_text(&e.text), "a");
    json_decref(record);
    json_decref(plain);
    lq_encoding_clear(&e);
}
END_TEST

/* ---- what is refused ------------------------------------------------------------------------- */

static const struct { const char *type, *text, *part;
} refused[] = {
    {NULL, "", "x.jsonl: the file holds no records"},
    {NULL, "\n \n", "x.jsonl: the file holds no records"},
    {NULL, "{\"text\":\"a\"}\n{\"text\":\n", "x.jsonl:2: broken JSON"},
    {NULL, "{\"text\":\"\xff\"}", "x.jsonl:1: not UTF-8"},
    {NULL, "{\"body\":\"a\"}",
     "x.jsonl:1: the fields fit no known type of record:\n  messages {messages: [{role, content}]"},
    {"poem", "{\"text\":\"a\"}", "type: found 'poem', wanted one of"},
    {NULL, "{\"prompt\":\"a\"}", "x.jsonl:1: completion record: field 'completion' is missing"},
    {NULL, "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"text\":\"a\"}",
     "x.jsonl:2: completion record: field 'prompt' is missing"},
    {NULL, "{\"prompt\":\"a\",\"completion\":\"\"}",
     "completion record: field 'completion' is empty"},
    {NULL, "{\"prompt\":7,\"completion\":\"b\"}",
     "field 'prompt': found an integer, wanted a string"},
    {NULL, "{\"text\":\"\"}", "text record: field 'text' is empty"},
    {NULL, "{\"text\":\"a\",\"group\":1.5}",
     "field 'group': found a number, wanted a string or an integer"},
    {NULL, "{\"instruction\":\"a\",\"output\":\"\"}", "alpaca record: field 'output' is empty"},
    {NULL, "{\"instruction\":\"\",\"output\":\"a\"}", "fields 'instruction' and 'input' are empty"},
    {NULL, "{\"instruction\":\"a\",\"instances\":[]}", "alpaca record: field 'output' is missing"},
    {NULL, "{\"messages\":[]}", "messages record: field 'messages' is an empty array"},
    {NULL, "{\"messages\":\"a\"}", "field 'messages': found a string, wanted an array"},
    {NULL, "{\"messages\":[3]}", "message 1: found an integer, wanted an object"},
    {NULL, "{\"messages\":[{\"role\":\"user\"}]}", "message 1: field 'content' is missing"},
    {NULL, "{\"messages\":[{\"content\":\"a\"}]}", "message 1: field 'role' is missing"},
    {NULL, "{\"messages\":[{\"role\":\"user\",\"content\":1}]}",
     "field 'content': found an integer"},
    {NULL, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"train\":1}]}",
     "field 'train': found an integer"},
    {NULL, "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0.5}]}",
     "field 'weight': found 0.5, wanted 0 or 1"},
    {NULL, "{\"tools\":{},\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}]}",
     "field 'tools': found an object, wanted an array"},
    {NULL, "{\"tools\":\"{\",\"messages\":[{\"role\":\"assistant\",\"content\":\"a\"}]}",
     "field 'tools': found a string that is no JSON"},
    {"sharegpt", "{\"messages\":[]}", "sharegpt record: field 'conversations' is missing"},
    {NULL, "{\"conversations\":[{\"from\":\"gpt\"}]}", "turn 1: field 'value' is missing"},
    {NULL, "{\"conversations\":[{\"from\":\"function_call\",\"value\":\"f(1)\"}]}",
     "turn 1: function_call: found no JSON"},
    {NULL, "{\"conversations\":[{\"from\":\"function_call\",\"value\":\"{}\"}]}",
     "function_call: found no string 'name'"},
    {NULL, "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
     "in 1 all labels are masked: no message is from a role to train (assistant)"},
};

START_TEST(refuses) {
    lq_dataset d;
    const lq_data_options options = options_with_chat();
    const lq_status want =
        refused[_i].type && !strcmp(refused[_i].type, "poem") ? LQ_ECONFIG : LQ_EFORMAT;
    ck_fails(load_text(&d, "x.jsonl", refused[_i].text, refused[_i].type, &options), want,
             refused[_i].part);
    ck_assert_ptr_null(d.example);
}
END_TEST

/* A file of unknown records is said once, not line by line. */
START_TEST(unknown_records_are_said_once) {
    lq_dataset d;
    const lq_data_options options = options_with_chat();
    ck_fails(load_text(&d, "u.jsonl", "{\"a\":1}\n{\"a\":2}\n", NULL, &options), LQ_EFORMAT,
             "u.jsonl:1: the fields fit");
    ck_assert(!test_contains(lq_error(), "u.jsonl:2"));
}
END_TEST

START_TEST(refuses_conversations_without_a_template) {
    lq_dataset d;
    const lq_data_options options = {.sequence_len = 100};
    ck_fails(load_text(&d, "m.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
                       NULL, &options),
             LQ_ECONFIG, "m.jsonl:1: the model has no chat template");
}
END_TEST

START_TEST(gathers_twenty_mistakes) {
    lq_str text = LQ_STR_INIT;
    lq_dataset d;
    const lq_data_options options = options_with_chat();
    for (int i = 0; i < 30; i++)
        lq_str_printf(&text, "{\"text\":%s}\n", i % 6 == 5 ? "\"a\"" : "null");
    ck_fails(load_text(&d, "many.jsonl", lq_str_text(&text), NULL, &options), LQ_EFORMAT,
             "many.jsonl:1: text record");
    ck_assert(test_contains(lq_error(), "many.jsonl:23: "));
    ck_assert(!test_contains(lq_error(), "many.jsonl:25: "));
    ck_assert(test_contains(lq_error(), "... and 5 more"));
    lq_str_clear(&text);
}
END_TEST

START_TEST(refuses_bad_sources) {
    lq_dataset d;
    const lq_data_options options = options_with_chat();
    lq_data_options one_token = options;
    one_token.sequence_len = 1;
    lq_data_source source = {.path = test_path("absent.jsonl"), .weight = 1};
    ck_fails(lq_dataset_load(&d, &source, 1, tok, &options), LQ_EIO, "absent.jsonl");
    source.weight = 0;
    ck_fails(lq_dataset_load(&d, &source, 1, tok, &options), LQ_ECONFIG, "weight: found 0");
    ck_fails(lq_dataset_load(&d, &source, 0, tok, &options), LQ_ECONFIG, "found none");
    ck_fails(lq_dataset_load(&d, &source, 1, tok, &one_token), LQ_ECONFIG, "sequence_len: found 1");
}
END_TEST

/* ---- length, counts, weights ----------------------------------------------------------------- */

static const char mixed[] =
    "{\"prompt\":\"a\",\"completion\":\"b\"}\n"
    "{\"prompt\":\"a\",\"completion\":\"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\"}\n"
    "{\"prompt\":\"zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz\",\"completion\":\"b\"}\n"
    "{\"prompt\":\"a\",\"completion\":\"b\",\"id\":4}\n";

START_TEST(too_long) {
    lq_dataset d;
    lq_data_options options = {.sequence_len = 10, .excess = LQ_EXCESS_DROP};
    ck_ok(load_text(&d, "l.jsonl", mixed, NULL, &options));
    ck_assert_int_eq(d.counts.records, 4);
    ck_assert_int_eq(d.counts.too_long_dropped, 2);
    ck_assert_int_eq(d.counts.duplicates, 1); /* an id does not make it another example */
    ck_assert_int_eq(d.counts.examples, 2);
    lq_dataset_clear(&d);
    options.excess = LQ_EXCESS_TRUNCATE;
    ck_ok(load_text(&d, "l.jsonl", mixed, NULL, &options));
    ck_assert_int_eq(d.counts.truncated, 2);
    ck_assert_int_eq(d.counts.nothing_trained, 1); /* cut before the completion */
    ck_assert_int_eq(d.counts.examples, 3);
    ck_assert_int_eq(d.example[1].n, 10);
    ck_assert_int_eq(d.example[1].line, 2);
    lq_dataset_clear(&d);
    options.excess = LQ_EXCESS_RAISE;
    ck_fails(load_text(&d, "l.jsonl", mixed, NULL, &options), LQ_EFORMAT,
             "tokens, but sequence_len is 10");
    ck_assert(test_contains(lq_error(), "l.jsonl:2: ") && test_contains(lq_error(), "l.jsonl:3: "));
    options = (lq_data_options){.sequence_len = 2};
    ck_fails(load_text(&d, "l.jsonl", mixed, NULL, &options), LQ_EFORMAT,
             "4 are longer than sequence_len 2 (the longest has");
}
END_TEST

static void load_weighted(lq_dataset *d, double weight, uint64_t seed) {
    lq_str text = LQ_STR_INIT;
    const lq_data_options options = {.sequence_len = 100, .seed = seed};
    for (int i = 0; i < 40; i++) lq_str_printf(&text, "{\"text\":\"record %d\"}\n", i);
    const lq_data_source source = {.path = write_data("w.jsonl", lq_str_text(&text)),
                                   .weight = weight};
    ck_ok(lq_dataset_load(d, &source, 1, tok, &options));
    lq_str_clear(&text);
}

START_TEST(weights) {
    static const struct {
        double weight;
        int n;
    } cases[] = {{1, 40}, {2, 80}, {0.5, 20}, {2.25, 90}, {0.001, 0}};
    for (int c = 0; c < 4; c++) {
        lq_dataset d, again;
        int count[40] = {0};
        load_weighted(&d, cases[c].weight, 1);
        load_weighted(&again, cases[c].weight, 1);
        ck_assert_int_eq(d.n, cases[c].n);
        ck_assert_int_eq(d.counts.records, 40);
        ck_assert_int_eq(d.counts.examples, cases[c].n);
        ck_assert_int_eq(d.counts.duplicates, 0);
        for (int64_t i = 0; i < d.n; i++) {
            count[d.example[i].line - 1]++;
            ck_assert_int_eq(d.example[i].line, again.example[i].line);
        }
        for (int i = 0; i < 40; i++)
            ck_assert(count[i] == (int)cases[c].weight || count[i] == (int)cases[c].weight + 1);
        lq_dataset_clear(&d);
        lq_dataset_clear(&again);
    }
}
END_TEST

START_TEST(groups_and_content) {
    lq_dataset d;
    const lq_data_options options = options_with_chat();
    const lq_data_source source[] = {
        {.path = write_data(
             "g1.jsonl",
             "{\"text\":\"a\",\"group\":\"x\"}\n{\"text\":\"b\"}\n{\"text\":\"c\",\"group\":1}\n"),
         .weight = 1},
        {.path = write_data("g2.json", "[{\"text\":\"d\",\"group\":\"x\"},{\"text\":\"b\"},{"
                                       "\"text\":\"e\",\"group\":\"1\"}]"),
         .weight = 1},
    };
    ck_ok(lq_dataset_load(&d, source, 2, tok, &options));
    ck_assert_int_eq(d.n, 6);
    ck_assert_uint_eq(d.example[0].group, d.example[3].group);
    ck_assert_uint_ne(d.example[1].group, d.example[4].group);
    ck_assert_uint_eq(d.example[1].hash, d.example[4].hash);
    ck_assert_uint_ne(d.example[2].group, d.example[5].group);
    ck_assert_int_eq(d.example[5].source, 1);
    ck_assert_int_eq(d.example[5].line, 3);
    ck_assert_int_eq(d.counts.duplicates, 1);
    lq_dataset_clear(&d);
}
END_TEST

/* ---- real files ------------------------------------------------------------------------------ */

static void load_shared(const char *name, int64_t n) {
    const char *path = test_shared(LOQUAT_SHARED_DATA "/instruct", name);
    if (!path) return;
    lq_dataset d;
    lq_data_options options = options_with_chat();
    options.sequence_len = 1 << 20;
    const lq_data_source source = {.path = path, .weight = 1};
    ck_ok(lq_dataset_load(&d, &source, 1, tok, &options));
    ck_assert_int_eq(d.n, n);
    ck_assert_int_eq(d.counts.records, n);
    ck_assert_int_gt(d.counts.trained_tokens, 0);
    lq_dataset_clear(&d);
}

START_TEST(real_files) {
    load_shared("rasbt_instruction-data.json", 1100);
    load_shared("lf_glaive_toolcall_en_demo.json", 300);
}
END_TEST

/* Self-instruct's records hold their answer in `instances`; taken out of there they are alpaca's.
 */
static void add_first_instance(lq_str *out, json_t *record) {
    const json_t *instance = json_array_get(json_object_get(record, "instances"), 0);
    json_t *flat = json_pack("{sO,sO,sO}", "instruction", json_object_get(record, "instruction"),
                             "input", json_object_get(instance, "input"), "output",
                             json_object_get(instance, "output"));
    char *line = json_dumps(flat, 0);
    lq_str_printf(out, "%s\n", line);
    free(line);
    json_decref(flat);
}

START_TEST(real_self_instruct) {
    static const struct {
        const char *name;
        int n;
    } files[] = {{"seed_tasks.jsonl", 175}, {"user_oriented_instructions.jsonl", 252}};
    for (int f = 0; f < LQ_ARRAY_LEN(files); f++) {
        const char *path = test_shared(LOQUAT_SHARED_DATA "/instruct", files[f].name);
        if (!path) continue;
        lq_jsonl *reader = NULL;
        json_t *record = NULL;
        lq_str flat = LQ_STR_INIT;
        lq_dataset d;
        lq_data_options options = options_with_chat();
        options.sequence_len = 1 << 20;
        ck_ok(lq_jsonl_open(&reader, path));
        while (lq_jsonl_next(reader, &record) == LQ_OK && record) add_first_instance(&flat, record);
        ck_ok(load_text(&d, "flat.jsonl", lq_str_text(&flat), NULL, &options));
        ck_assert_int_eq(d.n, files[f].n);
        lq_dataset_clear(&d);
        lq_str_clear(&flat);
        lq_jsonl_close(reader);
    }
}
END_TEST

static lq_status load_everything(void *ctx) {
    const lq_data_options options = options_with_chat();
    const lq_data_source *source = ctx;
    lq_dataset d;
    const lq_status status = lq_dataset_load(&d, source, 2, tok, &options);
    lq_dataset_clear(&d);
    return status;
}

START_TEST(allocation_failures) {
    lq_data_source source[] = {
        {.path = write_data("af1.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{"
                                         "\"role\":\"assistant\",\"content\":\"b\"}]}"),
         .weight = 2},
        {.path = write_data(
             "af2.jsonl",
             "{\"prompt\":\"a\",\"completion\":\"b\"}\n{\"prompt\":\"c\",\"completion\":\"d\"}"),
         .weight = 0.5},
    };
    test_alloc_failures(load_everything, source);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("dataset");
    TCase *tc = tcase_create("dataset");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, shows_and_trains, 0, LQ_ARRAY_LEN(shown));
    tcase_add_test(tc, colours);
    tcase_add_test(tc, prompt_ids_are_the_users);
    tcase_add_test(tc, roles_to_train);
    tcase_add_test(tc, encodes_one_record);
    tcase_add_loop_test(tc, refuses, 0, LQ_ARRAY_LEN(refused));
    tcase_add_test(tc, unknown_records_are_said_once);
    tcase_add_test(tc, refuses_conversations_without_a_template);
    tcase_add_test(tc, gathers_twenty_mistakes);
    tcase_add_test(tc, refuses_bad_sources);
    tcase_add_test(tc, too_long);
    tcase_add_test(tc, weights);
    tcase_add_test(tc, groups_and_content);
    tcase_add_test(tc, real_files);
    tcase_add_test(tc, real_self_instruct);
    tcase_add_test(tc, allocation_failures);
    return test_run(suite);
}
