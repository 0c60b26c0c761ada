/* Typed access to GGUF metadata: a key must have exactly the type that its reader wants, as in
 * llama.cpp's loader; nothing is converted. */
#include "gguf_parts.h"

#include <string.h>

/* *out: the value, or NULL when the key is absent and may be. */
static lq_status typed(const lq_gguf_kv **out, const lq_gguf *g, const char *key, bool required,
                       lq_gguf_type want) {
    const lq_gguf_kv *kv = lq_gguf_find(g, key);
    *out = kv;
    if (!kv && required) return lq_fail(LQ_EFORMAT, "key %s is missing", key);
    if (kv && kv->type != want)
        return lq_fail(LQ_EFORMAT, "key %s is of type %s, must be %s", key,
                       lq_gguf_type_name(kv->type), lq_gguf_type_name(want));
    return LQ_OK;
}

lq_status lq_gguf_get_u32(const lq_gguf *g, const char *key, bool required, uint32_t *out) {
    const lq_gguf_kv *kv;
    LQ_TRY(typed(&kv, g, key, required, LQ_GGUF_U32));
    if (kv) memcpy(out, kv->data, sizeof *out);
    return LQ_OK;
}

lq_status lq_gguf_get_f32(const lq_gguf *g, const char *key, bool required, float *out) {
    const lq_gguf_kv *kv;
    LQ_TRY(typed(&kv, g, key, required, LQ_GGUF_F32));
    if (kv) memcpy(out, kv->data, sizeof *out);
    return LQ_OK;
}

lq_status lq_gguf_get_bool(const lq_gguf *g, const char *key, bool required, bool *out) {
    const lq_gguf_kv *kv;
    LQ_TRY(typed(&kv, g, key, required, LQ_GGUF_BOOL));
    if (kv) *out = *(const uint8_t *)kv->data != 0;
    return LQ_OK;
}

lq_status lq_gguf_get_string(const lq_gguf *g, const char *key, bool required, char **out) {
    const lq_gguf_kv *kv;
    LQ_TRY(typed(&kv, g, key, required, LQ_GGUF_STRING));
    if (!kv) return LQ_OK;
    const lq_gguf_str *s = kv->data;
    *out = lq_strndup(s->s, s->n);
    return *out ? LQ_OK : LQ_EMEM;
}
