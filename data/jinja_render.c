/* Entry point of rendering: JSON to template values, the variables Hugging Face passes, limits. */
#include "jinja.h"

#include <string.h>
#include <time.h>

enum { MAX_JSON_DEPTH = 200 };
static const size_t RENDER_MEMORY = (size_t)512 << 20;
static const int64_t RENDER_STEPS = 50 * 1000 * 1000;

static jvalue from_json(jx *x, const json_t *j, int depth);

static jvalue from_object(jx *x, const json_t *j, int depth) {
    const jvalue d = lq_jdict(&x->m, (int64_t)json_object_size(j));
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)j, key, value)
        lq_jappend_pair(&x->m, d.u.dict, lq_jtext(&x->m, key), from_json(x, value, depth));
    return d;
}

static jvalue from_json(jx *x, const json_t *j, int depth) {
    if (depth > MAX_JSON_DEPTH)
        lq_jthrow(&x->m, LQ_EVALUE, "the messages nest deeper than %d levels", MAX_JSON_DEPTH);
    switch (json_typeof(j)) {
    case JSON_OBJECT: return from_object(x, j, depth + 1);
    case JSON_ARRAY: {
        const jvalue list = lq_jseq(&x->m, J_LIST, (int64_t)json_array_size(j));
        for (size_t i = 0; i < json_array_size(j); i++)
            lq_jpush(&x->m, list, from_json(x, json_array_get(j, i), depth + 1));
        return list;
    }
    case JSON_STRING: return lq_jstr(&x->m, json_string_value(j), (int64_t)json_string_length(j));
    case JSON_INTEGER: return lq_jint(json_integer_value(j));
    case JSON_REAL: return lq_jfloat(json_real_value(j));
    case JSON_TRUE: return lq_jbool(true);
    case JSON_FALSE: return lq_jbool(false);
    default: return lq_jnone();
    }
}

/* As transformers: a message's reasoning, under whichever of its three names it comes, is also
 * there under the names that templates read: {"thinking": r, ...message, "reasoning_content": r}.
 */
static jvalue alias_reasoning(jx *x, jvalue message) {
    static const char *const names[] = {"reasoning_content", "thinking", "reasoning"};
    if (message.type != J_DICT) return message;
    const jvalue *reasoning = NULL;
    for (int i = 0; i < LQ_ARRAY_LEN(names) && !reasoning; i++) {
        reasoning = lq_jfind_text(message.u.dict, names[i]);
        if (reasoning && reasoning->type == J_NONE) reasoning = NULL;
    }
    if (!reasoning) return message;
    const jvalue out = lq_jdict(&x->m, message.u.dict->n + 2);
    lq_jappend_pair(&x->m, out.u.dict, lq_jtext(&x->m, "thinking"), *reasoning);
    for (int64_t i = 0; i < message.u.dict->n; i++)
        lq_jput(&x->m, out.u.dict, message.u.dict->v[i].key, message.u.dict->v[i].value);
    lq_jput(&x->m, out.u.dict, lq_jtext(&x->m, "reasoning_content"), *reasoning);
    return out;
}

static void define_variables(jx *x, const json_t *messages, const lq_template_options *o) {
    const jvalue list = from_json(x, messages, 0);
    for (int64_t i = 0; list.type == J_LIST && i < list.u.seq->n; i++)
        list.u.seq->v[i] = alias_reasoning(x, list.u.seq->v[i]);
    lq_jdefine(x, "messages", list);
    lq_jdefine(x, "tools", o->tools ? from_json(x, o->tools, 0) : lq_jnone());
    lq_jdefine(x, "documents", lq_jnone());
    lq_jdefine(x, "add_generation_prompt", lq_jbool(o->add_generation_prompt));
    lq_jdefine(x, "bos_token", lq_jtext(&x->m, o->bos_token ? o->bos_token : ""));
    lq_jdefine(x, "eos_token", lq_jtext(&x->m, o->eos_token ? o->eos_token : ""));
    const char *key;
    json_t *value;
    json_object_foreach(o->extra, key, value) { /* the caller's own word comes last */
        const jvalue name = lq_jtext(&x->m, key);
        lq_jdefine(x, name.u.str->s, from_json(x, value, 0));
    }
}

static lq_status render(jx *x, const jtemplate *t, const json_t *messages,
                        const lq_template_options *options) {
    if (setjmp(x->m.jump)) return x->m.status;
    jscope *const scope = lq_jalloc(&x->m, sizeof *scope);
    x->scope = scope;
    x->out = &x->text;
    define_variables(x, messages, options);
    lq_jexec(x, t->body);
    return LQ_OK;
}

static lq_status copy_spans(lq_spans *out, const lq_spans *from) {
    LQ_TRY(lq_reserve((void **)&out->span, &out->cap, out->n + from->n, sizeof *out->span));
    if (from->n) memcpy(out->span + out->n, from->span, (size_t)from->n * sizeof *from->span);
    out->n += from->n;
    return LQ_OK;
}

lq_status lq_jinja_render(const jtemplate *t, json_t *messages, const lq_template_options *options,
                          lq_str *out, lq_spans *generation) {
    jx *x = lq_alloc(sizeof *x);
    if (!x) return LQ_EMEM;
    x->m.limit = RENDER_MEMORY;
    x->m.steps = RENDER_STEPS;
    x->now = options->now ? options->now : (int64_t)time(NULL);
    lq_status status = render(x, t, messages, options);
    if (status == LQ_OK) {
        lq_str_add(out, x->text.s ? x->text.s : "", x->text.n);
        status = lq_str_status(out);
    }
    if (status == LQ_OK && generation) status = copy_spans(generation, &x->generation);
    lq_jmem_clear(&x->m);
    lq_free(x);
    return status;
}
