/* Records to conversations. See conversation.h. Nothing is rendered or tokenized here. */
#include "conversation.h"

#include "jsonl.h"

#include <string.h>

void lq_conversation_clear(lq_conversation *c) {
    json_decref(c->messages);
    json_decref(c->tools);
    *c = (lq_conversation){NULL, NULL};
}

static lq_status no_memory(void) {
    return lq_fail(LQ_EMEM, "out of memory while building a conversation");
}

lq_status lq_record_string(const char **out, const json_t *record, const char *field,
                           bool required) {
    const json_t *value = json_object_get(record, field);
    *out = "";
    if (!value || json_is_null(value))
        return required ? lq_fail(LQ_EFORMAT, "field '%s' is missing", field) : LQ_OK;
    if (!json_is_string(value))
        return lq_fail(LQ_EFORMAT, "field '%s': found %s, wanted a string", field,
                       lq_json_type_name(value));
    *out = json_string_value(value);
    return LQ_OK;
}

/* The list of turns under `field`: there, an array, not empty. Borrowed. */
static lq_status turns_of(json_t **out, const json_t *record, const char *field) {
    json_t *turns = json_object_get(record, field);
    if (!turns) return lq_fail(LQ_EFORMAT, "field '%s' is missing", field);
    if (!json_is_array(turns))
        return lq_fail(LQ_EFORMAT, "field '%s': found %s, wanted an array", field,
                       lq_json_type_name(turns));
    if (json_array_size(turns) == 0)
        return lq_fail(LQ_EFORMAT, "field '%s' is an empty array", field);
    *out = turns;
    return LQ_OK;
}

/* *out: new reference, NULL when there are none. Data sets also hold tools as a string of JSON. */
static lq_status tools_of(json_t **out, const json_t *record) {
    json_error_t e;
    json_t *tools = json_object_get(record, "tools");
    *out = NULL;
    if (!tools || json_is_null(tools) || (json_is_string(tools) && json_string_length(tools) == 0))
        return LQ_OK;
    tools =
        json_is_string(tools) ? json_loads(json_string_value(tools), 0, &e) : json_incref(tools);
    if (!tools && json_error_code(&e) == json_error_out_of_memory) return no_memory();
    if (!tools)
        return lq_fail(LQ_EFORMAT, "field 'tools': found a string that is no JSON: %s", e.text);
    if (!json_is_array(tools)) {
        const char *found = lq_json_type_name(tools);
        json_decref(tools);
        return lq_fail(LQ_EFORMAT, "field 'tools': found %s, wanted an array", found);
    }
    if (json_array_size(tools) > 0) *out = tools;
    else json_decref(tools);
    return LQ_OK;
}

/* ---- messages -------------------------------------------------------------------------------- */

static lq_status check_message(const json_t *m) {
    const char *role;
    if (!json_is_object(m))
        return lq_fail(LQ_EFORMAT, "found %s, wanted an object", lq_json_type_name(m));
    LQ_TRY(lq_record_string(&role, m, "role", true));
    const json_t *content = json_object_get(m, "content");
    if (json_is_string(content) || json_is_array(content)) return LQ_OK;
    if ((!content || json_is_null(content)) && json_object_get(m, "tool_calls")) return LQ_OK;
    if (!content) return lq_fail(LQ_EFORMAT, "field 'content' is missing");
    return lq_fail(LQ_EFORMAT, "field 'content': found %s, wanted a string or a list of parts",
                   lq_json_type_name(content));
}

lq_status lq_conversation_from_messages(lq_conversation *out, json_t *record) {
    json_t *turns = NULL, *turn;
    size_t i;
    *out = (lq_conversation){NULL, NULL};
    LQ_TRY(turns_of(&turns, record, "messages"));
    json_array_foreach(turns, i, turn) {
        const lq_status status = check_message(turn);
        if (status != LQ_OK) return lq_fail_context(status, "message %zu: ", i + 1);
    }
    LQ_TRY(tools_of(&out->tools, record));
    out->messages = json_incref(turns);
    return LQ_OK;
}

lq_status lq_conversation_from_turn(lq_conversation *out, const char *system, const char *user,
                                    const char *assistant) {
    out->tools = NULL;
    out->messages = json_pack("[{ss,ss},{ss,ss}]", "role", "user", "content", user,
                              "role", "assistant", "content", assistant);
    if (out->messages && *system) {
        json_t *first = json_pack("{ss,ss}", "role", "system", "content", system);
        if (json_array_insert_new(out->messages, 0, first) != 0) return no_memory();
    }
    return out->messages ? LQ_OK : no_memory();
}

/* ---- sharegpt -------------------------------------------------------------------------------- */

/* The template's name of a role; a name that is not listed is its own. */
static const char *canonical_role(const char *name) {
    static const char *const known[][2] = {
        {"human", "user"}, {"gpt", "assistant"}, {"chatgpt", "assistant"}, {"bot", "assistant"},
        {"bard", "assistant"}, {"bing", "assistant"}, {"model", "assistant"},
        {"function_call", "assistant"}, {"function", "tool"}, {"observation", "tool"},
        {"function_response", "tool"}, {"tool_response", "tool"},
    };
    for (int i = 0; i < LQ_ARRAY_LEN(known); i++)
        if (strcmp(name, known[i][0]) == 0) return known[i][1];
    return name;
}

/* sharegpt has no call ids, and some templates insist on them (nine letters or digits): calls are
 * numbered, and the n-th answer is the n-th call's. */
typedef struct numbers { int calls, answers; } numbers;

static json_t *call_id(int number) { return json_sprintf("call%05d", number % 100000); }

/* {name, arguments} -> {id, type: function, function: {name, arguments}}; arguments written as a
 * string of JSON are parsed, as templates print them through tojson. */
static lq_status add_call(json_t *calls, const json_t *call, numbers *count) {
    json_t *arguments = json_object_get(call, "arguments"), *parsed = NULL;
    if (!json_is_string(json_object_get(call, "name")))
        return lq_fail(LQ_EFORMAT,
                       "function_call: found no string 'name', wanted {\"name\", \"arguments\"}");
    if (json_is_string(arguments)) parsed = json_loads(json_string_value(arguments), 0, NULL);
    if (!parsed) parsed = arguments ? json_incref(arguments) : json_object();
    json_t *wrapped =
        json_pack("{so,ss,s{sO,so}}", "id", call_id(++count->calls), "type", "function", "function",
                  "name", json_object_get(call, "name"), "arguments", parsed);
    return json_array_append_new(calls, wrapped) == 0 ? LQ_OK : no_memory();
}

/* The value of a function_call turn: one call or a list of them. *out: new reference. */
static lq_status calls_of(json_t **out, const char *value, numbers *count) {
    lq_status status = LQ_OK;
    json_error_t e;
    json_t *calls = NULL, *parsed = json_loads(value, 0, &e), *call;
    size_t i;
    if (!parsed && json_error_code(&e) == json_error_out_of_memory) return no_memory();
    if (!parsed)
        return lq_fail(LQ_EFORMAT,
                       "function_call: found no JSON (%s), wanted {\"name\", \"arguments\"}",
                       e.text);
    calls = json_array();
    LQ_GOTO(status, calls ? LQ_OK : no_memory());
    if (json_is_array(parsed)) {
        json_array_foreach(parsed, i, call) LQ_GOTO(status, add_call(calls, call, count));
    } else {
        LQ_GOTO(status, add_call(calls, parsed, count));
    }
    *out = json_incref(calls);
done:
    json_decref(calls);
    json_decref(parsed);
    return status;
}

static lq_status copy_flags(json_t *message, const json_t *turn) {
    static const char *const flag[] = {"train", "weight"};
    for (int i = 0; i < LQ_ARRAY_LEN(flag); i++) {
        json_t *value = json_object_get(turn, flag[i]);
        if (value && json_object_set(message, flag[i], value) != 0) return no_memory();
    }
    return LQ_OK;
}

/* *out: new reference. */
static lq_status message_of_turn(json_t **out, const json_t *turn, numbers *count) {
    const char *from, *value;
    if (!json_is_object(turn))
        return lq_fail(LQ_EFORMAT, "found %s, wanted an object", lq_json_type_name(turn));
    const bool openai =
        json_object_get(turn, "from") == NULL && json_object_get(turn, "role") != NULL;
    LQ_TRY(lq_record_string(&from, turn, openai ? "role" : "from", true));
    LQ_TRY(lq_record_string(&value, turn, openai ? "content" : "value", true));
    if (strcmp(from, "function_call") == 0) {
        json_t *calls = NULL;
        LQ_TRY(calls_of(&calls, value, count));
        *out = json_pack("{ss,ss,so}", "role", "assistant", "content", "", "tool_calls", calls);
    } else {
        const char *role = canonical_role(from);
        *out = json_pack("{ss,ss}", "role", role, "content", value);
        if (*out && strcmp(role, "tool") == 0 && count->answers < count->calls &&
            json_object_set_new(*out, "tool_call_id", call_id(++count->answers)) != 0)
            return no_memory();
    }
    return *out ? copy_flags(*out, turn) : no_memory();
}

/* Bare {name, description, parameters} entries of sharegpt files in the shape that templates read.
 */
static lq_status wrap_tools(json_t **tools) {
    json_t *tool, *wrapped = json_array();
    size_t i;
    if (!wrapped) return no_memory();
    json_array_foreach(*tools, i, tool) {
        const bool bare = json_is_object(tool) && json_object_get(tool, "name") &&
                          !json_object_get(tool, "function");
        json_t *entry =
            bare ? json_pack("{ss,sO}", "type", "function", "function", tool) : json_incref(tool);
        if (json_array_append_new(wrapped, entry) != 0) {
            json_decref(wrapped);
            return no_memory();
        }
    }
    json_decref(*tools);
    *tools = wrapped;
    return LQ_OK;
}

static lq_status add_message(json_t *messages, const json_t *turn, numbers *count) {
    json_t *message = NULL;
    const lq_status status = message_of_turn(&message, turn, count);
    if (status != LQ_OK) {
        json_decref(message);
        return status;
    }
    return json_array_append_new(messages, message) == 0 ? LQ_OK : no_memory();
}

static lq_status add_system(json_t *messages, const json_t *record) {
    const char *system;
    LQ_TRY(lq_record_string(&system, record, "system", false));
    if (!*system) return LQ_OK;
    json_t *message = json_pack("{ss,ss}", "role", "system", "content", system);
    return json_array_append_new(messages, message) == 0 ? LQ_OK : no_memory();
}

lq_status lq_conversation_from_sharegpt(lq_conversation *out, json_t *record) {
    lq_status status = LQ_OK;
    numbers count = {0, 0};
    json_t *turns = NULL, *turn;
    size_t i;
    *out = (lq_conversation){NULL, NULL};
    LQ_TRY(turns_of(&turns, record, "conversations"));
    out->messages = json_array();
    LQ_GOTO(status, out->messages ? LQ_OK : no_memory());
    LQ_GOTO(status, add_system(out->messages, record));
    json_array_foreach(turns, i, turn) {
        status = add_message(out->messages, turn, &count);
        if (status != LQ_OK) LQ_GOTO(status, lq_fail_context(status, "turn %zu: ", i + 1));
    }
    LQ_GOTO(status, tools_of(&out->tools, record));
    if (out->tools) LQ_GOTO(status, wrap_tools(&out->tools));
done:
    if (status != LQ_OK) lq_conversation_clear(out);
    return status;
}

/* ---- what to train --------------------------------------------------------------------------- */

static bool role_listed(const char *role, const char *const *roles) {
    if (!roles) return strcmp(role, "assistant") == 0;
    for (; *roles; roles++)
        if (strcmp(role, *roles) == 0 || strcmp(role, canonical_role(*roles)) == 0) return true;
    return false;
}

/* The message's own wish; *given false when it has none. */
static lq_status own_flag(const json_t *message, bool *given, bool *train) {
    const json_t *flag = json_object_get(message, "train"),
                 *weight = json_object_get(message, "weight");
    *given = true;
    if (flag && !json_is_boolean(flag))
        return lq_fail(LQ_EFORMAT, "field 'train': found %s, wanted true or false",
                       lq_json_type_name(flag));
    if (weight && !json_is_null(weight) && !json_is_number(weight))
        return lq_fail(LQ_EFORMAT, "field 'weight': found %s, wanted 0 or 1",
                       lq_json_type_name(weight));
    if (json_is_number(weight) && json_number_value(weight) != 0 && json_number_value(weight) != 1)
        return lq_fail(LQ_EFORMAT, "field 'weight': found %g, wanted 0 or 1",
                       json_number_value(weight));
    if (flag) *train = json_is_true(flag);
    else if (json_is_number(weight)) *train = json_number_value(weight) != 0;
    else *given = false;
    return LQ_OK;
}

lq_status lq_conversation_choose(bool *train, const lq_conversation *c, const char *const *roles,
                                 bool all) {
    json_t *message;
    size_t i;
    json_array_foreach(c->messages, i, message) {
        bool given, wish = false;
        const lq_status status = own_flag(message, &given, &wish);
        if (status != LQ_OK) return lq_fail_context(status, "message %zu: ", i + 1);
        const char *role = json_string_value(json_object_get(message, "role"));
        train[i] = given ? wish : all || role_listed(role, roles);
    }
    return LQ_OK;
}
