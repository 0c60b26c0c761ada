/* records.c, conversation.c: what each kind of record shows the model and trains, and what is
 * refused. Expected texts are lq_dataset_show's: trained tokens in [[ ]]. */
#include "record_fixture.h"
#include "test_util.h"

#include <string.h>

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
    lq_data_options options = fixture_chat_options();
    if (shown[i].flags & NO_CHAT) options.chat_template = NULL;
    options.train_on_inputs = shown[i].flags & INPUTS;
    ck_ok(fixture_load(&d, "shown.jsonl", shown[i].record, NULL, &options));
    ck_assert_int_eq(d.n, 1);
    ck_ok(lq_dataset_show(&d, 0, fixture_tok, false, &text));
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
    const lq_data_options options = fixture_chat_options();
    ck_ok(fixture_load(&d, "c.jsonl", "{\"prompt\":\"a\",\"completion\":\"b\"}", NULL, &options));
    ck_ok(lq_dataset_show(&d, 0, fixture_tok, true, &text));
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
    const lq_data_options options = fixture_chat_options();
    ck_ok(lq_tokenize(fixture_tok, prompt, strlen(prompt), LQ_TOK_BOS | LQ_TOK_SPECIAL, &alone));
    ck_ok(fixture_load(&d, "p.jsonl", "{\"prompt\":\"Once upon a\",\"completion\":\" time\"}", NULL,
                    &options));
    ck_assert_int_gt(d.example[0].n, alone.n);
    ck_assert_mem_eq(d.ids, alone.id, (size_t)alone.n * sizeof *alone.id);
    for (int64_t i = 0; i < d.n_tokens; i++) ck_assert_int_eq(d.mask[i], i >= alone.n);
    ck_assert_int_eq(d.ids[d.n_tokens - 1], lq_tokenizer_eos(fixture_tok));
    lq_tokens_clear(&alone);
    lq_dataset_clear(&d);
}
END_TEST

START_TEST(roles_to_train) {
    static const char record[] = "{\"conversations\":[{\"from\":\"human\",\"value\":\"a\"},{"
                                 "\"from\":\"gpt\",\"value\":\"b\"}]}";
    static const char *const known[] = {"gpt", NULL}, *const absent[] = {"narrator", NULL};
    lq_dataset d;
    lq_data_options options = fixture_chat_options();
    options.roles_to_train = known;
    ck_ok(fixture_load(&d, "r.jsonl", record, NULL, &options));
    ck_assert_int_gt(d.counts.trained_tokens, 0);
    lq_dataset_clear(&d);
    options.roles_to_train = absent;
    ck_fails(fixture_load(&d, "r.jsonl", record, NULL, &options), LQ_EFORMAT,
             "in 1 all labels are masked: no message is from a role to train (narrator)");
}
END_TEST

/* What `loquat tokenize --messages` prints: text, ids and mask of one record. */
START_TEST(encodes_one_record) {
    static const char text[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}";
    const lq_data_options options = fixture_chat_options();
    const lq_record_type *type = NULL;
    lq_encoding e = LQ_ENCODING_INIT;
    json_t *record = json_loads(text, 0, NULL), *plain = json_loads("{\"text\":\"a\"}", 0, NULL);
    ck_ok(lq_record_type_of(&type, NULL, record));
    ck_assert_str_eq(lq_record_type_name(type), "messages");
    ck_ok(lq_record_encode(&e, record, type, fixture_tok, &options, false));
    ck_assert_str_eq(lq_str_text(&e.text), "<s>[user]a");
    ck_ok(lq_record_encode(&e, record, type, fixture_tok, &options, true));
    ck_assert_str_eq(lq_str_text(&e.text), "<s>[user]a[assistant]");
    for (int64_t i = 0; i < e.tokens.n; i++) ck_assert_int_eq(e.mask[i], 0);
    ck_ok(lq_record_type_of(&type, "text", plain));
    ck_fails(lq_record_encode(&e, plain, type, fixture_tok, &options, true), LQ_EVALUE,
             "text record: only conversations");
    ck_ok(lq_record_encode(&e, plain, type, fixture_tok, &options, false));
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
    const lq_data_options options = fixture_chat_options();
    const lq_status want =
        refused[_i].type && !strcmp(refused[_i].type, "poem") ? LQ_ECONFIG : LQ_EFORMAT;
    ck_fails(fixture_load(&d, "x.jsonl", refused[_i].text, refused[_i].type, &options), want,
             refused[_i].part);
    ck_assert_ptr_null(d.example);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("records");
    TCase *tc = tcase_create("records");
    suite_add_tcase(suite, tc);
    tcase_set_timeout(tc, 60);
    tcase_add_unchecked_fixture(tc, fixture_setup, fixture_teardown);
    tcase_add_loop_test(tc, shows_and_trains, 0, LQ_ARRAY_LEN(shown));
    tcase_add_test(tc, colours);
    tcase_add_test(tc, prompt_ids_are_the_users);
    tcase_add_test(tc, roles_to_train);
    tcase_add_test(tc, encodes_one_record);
    tcase_add_loop_test(tc, refuses, 0, LQ_ARRAY_LEN(refused));
    return test_run(suite);
}
