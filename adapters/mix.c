/* The table of file mixes. A mix is a type, and rules for the tensors that deserve more bits: the
 * first rule of the tensor's part whose condition holds. See mix.h. */
#include "mix.h"

#include "ggml_types.h"
#include "str.h"

#include <strings.h>

/* ---- conditions ------------------------------------------------------------------------------ */

/* The first and last eighth of the layers, and every third between. */
static bool more_bits(const lq_place *at) {
    const int64_t eighth = at->n / 8;
    return at->i < eighth || at->i >= 7 * at->n / 8 || (at->i - eighth) % 3 == 2;
}

static bool always(const lq_place *at) { return at != NULL; }
static bool first_two(const lq_place *at) { return at->i < 2; }
static bool first_four(const lq_place *at) { return at->i < 4; }
static bool first_eighth(const lq_place *at) { return at->i < at->n / 8; }
static bool first_sixteenth(const lq_place *at) { return at->i < at->n / 16; }
static bool few_kv_heads(const lq_place *at) { return at->gqa >= 4; }
static bool stacked(const lq_place *at) { return at->stacked; }
static bool falcon(const lq_place *at) { return at->falcon; }
static bool not_falcon(const lq_place *at) { return !at->falcon; }
static bool eight_experts(const lq_place *at) { return at->n_expert == 8 && !at->falcon; }
static bool not_eight_experts(const lq_place *at) { return at->n_expert != 8; }
static bool falcon_start(const lq_place *at) { return at->falcon && first_sixteenth(at); }
static bool falcon_more_bits(const lq_place *at) { return at->falcon && more_bits(at); }
static bool other_more_bits(const lq_place *at) { return !at->falcon && more_bits(at); }
static bool other_start(const lq_place *at) { return !at->falcon && first_eighth(at); }
static bool start_with_imatrix(const lq_place *at) { return at->has_imatrix && first_eighth(at); }
static bool start_without_imatrix(const lq_place *at) {
    return !at->has_imatrix && first_eighth(at);
}

/* ---- rules ----------------------------------------------------------------------------------- */

#define RULE(part, when, type) {LQ_PART_##part, when, LQ_TYPE_##type}
#define END {LQ_PART_OTHER, NULL, 0}

static const lq_mix_rule none[] = {END};
static const lq_mix_rule q4_0[] = {RULE(FFN_DOWN, start_with_imatrix, Q4_1), END};
static const lq_mix_rule q5_0[] = {RULE(FFN_DOWN, start_with_imatrix, Q5_1), END};
static const lq_mix_rule q2_k[] = {
    RULE(ATTN_V, few_kv_heads, Q4_K),
    RULE(ATTN_V, always, Q3_K),
    RULE(FFN_DOWN, always, Q3_K),
    RULE(ATTN_OUTPUT, eight_experts, Q5_K),
    RULE(ATTN_OUTPUT, not_falcon, Q3_K),
    END,
};
static const lq_mix_rule q2_k_s[] = {
    RULE(ATTN_V, few_kv_heads, Q4_K),
    RULE(FFN_DOWN, first_eighth, Q4_K),
    END,
};
static const lq_mix_rule q3_k_s[] = {RULE(ATTN_OUTPUT, eight_experts, Q5_K), END};
static const lq_mix_rule q3_k_m[] = {
    RULE(ATTN_V, first_two, Q5_K),
    RULE(ATTN_V, always, Q4_K),
    RULE(FFN_DOWN, first_sixteenth, Q5_K),
    RULE(FFN_DOWN, not_falcon, Q4_K),
    RULE(FFN_DOWN, more_bits, Q4_K),
    RULE(ATTN_OUTPUT, eight_experts, Q5_K),
    RULE(ATTN_OUTPUT, not_falcon, Q4_K),
    END,
};
static const lq_mix_rule q3_k_l[] = {
    RULE(ATTN_V, always, Q5_K),
    RULE(FFN_DOWN, falcon, Q4_K),
    RULE(FFN_DOWN, always, Q5_K),
    RULE(ATTN_OUTPUT, falcon, Q4_K),
    RULE(ATTN_OUTPUT, not_eight_experts, Q5_K),
    END,
};
static const lq_mix_rule q4_k_s[] = {
    RULE(ATTN_V, first_four, Q5_K),
    RULE(FFN_DOWN, other_start, Q5_K),
    RULE(ATTN_OUTPUT, eight_experts, Q5_K),
    END,
};
static const lq_mix_rule q4_k_m[] = {
    RULE(ATTN_V, more_bits, Q6_K),
    RULE(FFN_DOWN, falcon_start, Q6_K),
    RULE(FFN_DOWN, falcon_more_bits, Q5_K),
    RULE(FFN_DOWN, other_more_bits, Q6_K),
    RULE(ATTN_OUTPUT, eight_experts, Q5_K),
    END,
};
static const lq_mix_rule q5_k_m[] = {
    RULE(ATTN_V, more_bits, Q6_K),
    RULE(FFN_DOWN, more_bits, Q6_K),
    END,
};
static const lq_mix_rule iq4[] = {
    RULE(ATTN_V, few_kv_heads, Q5_K),
    RULE(FFN_DOWN, start_without_imatrix, Q5_K),
    RULE(ATTN_OUTPUT, eight_experts, Q5_K),
    END,
};
static const lq_mix_rule ternary[] = {RULE(EMBEDDING, always, Q4_K), END};
static const lq_mix_rule mxfp4_moe[] = {RULE(ANY, stacked, MXFP4), RULE(ANY, always, Q8_0), END};

/* Of the mixes of one type, the plainest comes first: lq_mix_of_type. */
const lq_mix lq_mixes[] = {
    {"F32", NULL, 0, LQ_TYPE_F32, none},
    {"F16", NULL, 1, LQ_TYPE_F16, none},
    {"BF16", NULL, 32, LQ_TYPE_BF16, none},
    {"Q4_0", NULL, 2, LQ_TYPE_Q4_0, q4_0},
    {"Q4_1", NULL, 3, LQ_TYPE_Q4_1, none},
    {"Q5_0", NULL, 8, LQ_TYPE_Q5_0, q5_0},
    {"Q5_1", NULL, 9, LQ_TYPE_Q5_1, none},
    {"Q8_0", NULL, 7, LQ_TYPE_Q8_0, none},
    {"Q2_K", NULL, 10, LQ_TYPE_Q2_K, q2_k},
    {"Q2_K_S", NULL, 21, LQ_TYPE_Q2_K, q2_k_s},
    {"Q3_K_S", NULL, 11, LQ_TYPE_Q3_K, q3_k_s},
    {"Q3_K_M", "Q3_K", 12, LQ_TYPE_Q3_K, q3_k_m},
    {"Q3_K_L", NULL, 13, LQ_TYPE_Q3_K, q3_k_l},
    {"Q4_K_S", NULL, 14, LQ_TYPE_Q4_K, q4_k_s},
    {"Q4_K_M", "Q4_K", 15, LQ_TYPE_Q4_K, q4_k_m},
    {"Q5_K_S", NULL, 16, LQ_TYPE_Q5_K, none},
    {"Q5_K_M", "Q5_K", 17, LQ_TYPE_Q5_K, q5_k_m},
    {"Q6_K", NULL, 18, LQ_TYPE_Q6_K, none},
    {"IQ4_NL", NULL, 25, LQ_TYPE_IQ4_NL, iq4},
    {"IQ4_XS", NULL, 30, LQ_TYPE_IQ4_XS, iq4},
    {"TQ1_0", NULL, 36, LQ_TYPE_TQ1_0, ternary},
    {"TQ2_0", NULL, 37, LQ_TYPE_TQ2_0, ternary},
    {"MXFP4_MOE", NULL, 38, LQ_TYPE_MXFP4, mxfp4_moe},
    {"NVFP4", NULL, 39, LQ_TYPE_NVFP4, none},
    {"Q1_0", NULL, 40, LQ_TYPE_Q1_0, none},
    {"Q2_0", NULL, 41, LQ_TYPE_Q2_0, ternary},
    {NULL, NULL, -1, -1, NULL},
};

/* Mixes of types that Loquat only reads, and the nearest in size that it writes. */
static const struct { const char *name, *nearest; } read_only[] = {
    {"IQ1_S", "Q2_K_S"},   {"IQ1_M", "Q2_K_S"},   {"IQ2_XXS", "Q2_K_S"}, {"IQ2_XS", "Q2_K_S"},
    {"IQ2_S", "Q2_K_S"},   {"IQ2_M", "Q2_K"},     {"IQ3_XXS", "Q3_K_S"}, {"IQ3_XS", "Q3_K_S"},
    {"IQ3_S", "Q3_K_S"},   {"IQ3_M", "Q3_K_M"},
};

static lq_status unknown(const char *what, const char *name) {
    for (int i = 0; i < LQ_ARRAY_LEN(read_only); i++)
        if (strcasecmp(read_only[i].name, name) == 0)
            return lq_fail(LQ_EUNSUPPORTED,
                           "%s: %s is read but not written by Loquat; the nearest type that is: %s",
                           what, read_only[i].name, read_only[i].nearest);
    lq_str names = LQ_STR_INIT;
    for (const lq_mix *m = lq_mixes; m->name; m++)
        lq_str_printf(&names, "%s%s", m == lq_mixes ? "" : ", ", m->name);
    lq_status status = lq_str_status(&names);
    if (status == LQ_OK)
        status = lq_fail(LQ_ECONFIG, "%s: found '%s', wanted one of %s", what, name,
                         lq_str_text(&names));
    lq_str_clear(&names);
    return status;
}

const lq_mix *lq_mix_by_name(const char *name) {
    for (const lq_mix *m = lq_mixes; m->name; m++)
        if (strcasecmp(m->name, name) == 0 || (m->alias && strcasecmp(m->alias, name) == 0))
            return m;
    return NULL;
}

lq_status lq_mix_find(const lq_mix **out, const char *what, const char *name) {
    *out = lq_mix_by_name(name);
    return *out ? LQ_OK : unknown(what, name);
}

const lq_mix *lq_mix_of_type(int type) {
    for (const lq_mix *m = lq_mixes; m->name; m++)
        if (m->type == type) return m;
    return NULL;
}

lq_mix_request lq_mix_plain(int type) {
    return (lq_mix_request){.mix = lq_mix_of_type(type), .embedding = LQ_TYPE_BY_RULE,
                            .output = LQ_TYPE_BY_RULE};
}

const char *lq_mix_label(const lq_mix_request *request) {
    const lq_format *fmt = lq_format_by_ggml_id(request->mix->type);
    return request->mixed || !fmt ? request->mix->name : fmt->label;
}
