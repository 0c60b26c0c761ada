/* loquat_encode_record, loquat_render_record: what training sees of a record. */
#include "json_text.h"
#include "loquat.h"
#include "records.h"
#include "session.h"

/* Encodes one record with the model's template, or with the one given. */
static lq_status encode(lq_encoding *out, const loquat_model *m, const char *record_json,
                        const char *chat_template, bool add_generation_prompt) {
    const lq_record_type *type;
    lq_template *given = NULL;
    json_error_t error;
    lq_status status = LQ_OK;
    json_t *record = json_loads(record_json, JSON_REJECT_DUPLICATES, &error);
    LQ_GOTO(status,
            record ? LQ_OK : lq_fail(LQ_EFORMAT, "column %d: %s", error.column, error.text));
    if (!m->model->tokenizer)
        LQ_GOTO(status,
                lq_fail(LQ_EUNSUPPORTED, "%s: has no tokenizer", lq_gguf_path(m->model->file)));
    if (chat_template) LQ_GOTO(status, lq_template_parse(&given, chat_template));
    const lq_data_options options = {.chat_template = given ? given : m->chat_template};
    LQ_GOTO(status, lq_record_type_of(&type, NULL, record));
    LQ_GOTO(status, lq_record_encode(out, record, type, m->model->tokenizer, &options,
                                     add_generation_prompt));
done:
    lq_template_free(given);
    json_decref(record);
    return status;
}

static lq_status to_json(const lq_encoding *e, char **out) {
    lq_str text = LQ_STR_INIT;
    json_t *ids = json_array(), *mask = json_array();
    for (int64_t i = 0; i < e->tokens.n; i++) {
        json_array_append_new(ids, json_integer(e->tokens.id[i]));
        json_array_append_new(mask, json_integer(e->mask[i]));
    }
    json_t *o = json_pack("{s:s%, s:o, s:o}", "text", lq_str_text(&e->text), e->text.n, "ids", ids,
                          "mask", mask);
    const lq_status status = lq_json_print(&text, o, 0);
    json_decref(o);
    if (status == LQ_OK) *out = lq_str_take(&text);
    lq_str_clear(&text);
    return status;
}

loquat_status loquat_encode_record(const loquat_model *m, const char *record_json,
                                   const char *chat_template, bool add_generation_prompt,
                                   char **out_json) {
    lq_encoding e = LQ_ENCODING_INIT;
    *out_json = NULL;
    lq_status status = encode(&e, m, record_json, chat_template, add_generation_prompt);
    if (status == LQ_OK) status = to_json(&e, out_json);
    lq_encoding_clear(&e);
    return (loquat_status)status;
}

loquat_status loquat_render_record(const loquat_model *m, const char *record_json,
                                   const char *chat_template, bool add_generation_prompt,
                                   char **out_text) {
    lq_encoding e = LQ_ENCODING_INIT;
    lq_status status = encode(&e, m, record_json, chat_template, add_generation_prompt);
    *out_text = status == LQ_OK ? lq_strdup(lq_str_text(&e.text)) : NULL;
    if (status == LQ_OK && !*out_text) status = LQ_EMEM;
    lq_encoding_clear(&e);
    return (loquat_status)status;
}
