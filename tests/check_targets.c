/* Which weights a target list selects, and what is said about a list that selects nothing. */
#include "targets.h"

#include "adapter_fixture.h"
#include "test_util.h"

/* The fixture: 2 layers of 7 linears, untied (an output head) or tied. */
static const struct {
    const char *targets[4], *exclude[3];
    int layers[2], n_layers;
    bool tied;
    int n;              /* weights chosen */
    const char *only;   /* part of every chosen weight's GGUF name */
    const char *error;  /* part of the message, instead of n */
} cases[] = {
    {.n = 14, .only = "blk."},                                              /* NULL: all-linear */
    {.targets = {"all-linear"}, .n = 14, .only = "blk."},
    {.targets = {"all-linear", "lm_head"}, .n = 15, .only = "weight"},
    {.targets = {"output"}, .n = 1, .only = "output.weight"},
    {.targets = {"lm_head"}, .n = 1, .only = "output.weight"},
    {.targets = {"q_proj"}, .n = 2, .only = "attn_q.weight"},
    {.targets = {"attn_q"}, .n = 2, .only = "attn_q.weight"},
    {.targets = {"o_proj"}, .n = 2, .only = "attn_output.weight"},
    {.targets = {"gate_proj", "ffn_gate"}, .n = 2, .only = "ffn_gate.weight"},
    {.targets = {"self_attn.v_proj"}, .n = 2, .only = "attn_v.weight"},
    {.targets = {"model.layers.1.self_attn.v_proj"}, .n = 1, .only = "blk.1.attn_v.weight"},
    {.targets = {"blk.0.ffn_down.weight"}, .n = 1, .only = "blk.0.ffn_down.weight"},
    {.targets = {"*.mlp.*"}, .n = 6, .only = "ffn_"},
    {.targets = {"attn_[qk]"}, .n = 4, .only = "attn_"},
    {.targets = {"ffn_*"}, .n = 6, .only = "ffn_"},
    {.targets = {"all-linear"}, .exclude = {"down_proj"}, .n = 12, .only = "blk."},
    {.exclude = {"mlp.*", "attn_output"}, .n = 6, .only = "attn_"},
    {.targets = {"q_proj"}, .layers = {1}, .n_layers = 1, .n = 1, .only = "blk.1.attn_q"},
    {.layers = {0, 1}, .n_layers = 2, .n = 14, .only = "blk."},
    {.targets = {"q_proj", "lm_head"}, .layers = {1}, .n_layers = 1, .n = 1, .only = "blk.1."},
    /* what is said */
    {.targets = {"qproj"}, .error = "lora_target_modules: 'qproj' matches no linear of this model; "
                                    "did you mean 'q_proj'?"},
    {.targets = {"ffn_dwn"}, .error = "did you mean 'ffn_down'?"},
    {.targets = {"q_proj", "zzz", "yyy"}, .error = "'yyy'"},
    {.targets = {"_proj"}, .error = "'_proj' matches no linear"},           /* not a whole name */
    {.targets = {"embed_tokens"}, .error = "looked up, not multiplied"},
    {.targets = {"token_embd"}, .error = "looked up, not multiplied"},
    {.targets = {"lm_head"}, .tied = true, .error = "tied"},
    {.targets = {"output"}, .tied = true, .error = "tied"},
    {.targets = {"attn_norm"}, .error = "no linear; `adapter: full` trains it"},
    {.exclude = {"quetsch"}, .error = "lora_exclude_modules: 'quetsch'"},
    {.layers = {2}, .n_layers = 1, .error = "layer 2, the model has 0 to 1"},
    {.layers = {-1}, .n_layers = 1, .error = "layer -1"},
    {.exclude = {"*_proj"}, .error = "no weight is left"},
};

START_TEST(choose) {
    lq_model *m = fixture_model(cases[_i].tied ? FIXTURE_TIED : FIXTURE_UNTIED);
    const lq_adapter_options o = {
        .targets = cases[_i].targets[0] ? cases[_i].targets : NULL,
        .exclude = cases[_i].exclude[0] ? cases[_i].exclude : NULL,
        .layers = cases[_i].layers, .n_layers = cases[_i].n_layers,
    };
    bool *chosen = lq_alloc_array(m->n_weights, sizeof *chosen);
    if (cases[_i].error) {
        ck_fails(lq_targets_choose(chosen, m, &o), LQ_ECONFIG, cases[_i].error);
    } else {
        int n = 0;
        ck_ok(lq_targets_choose(chosen, m, &o));
        for (int i = 0; i < m->n_weights; i++) {
            if (!chosen[i]) continue;
            n++;
            ck_assert_msg(test_contains(m->weight[i].name, cases[_i].only), "%s is chosen",
                          m->weight[i].name);
        }
        ck_assert_int_eq(n, cases[_i].n);
    }
    lq_free(chosen);
    lq_model_close(m);
}
END_TEST

/* Every mistake of a list is in the one message. */
START_TEST(all_mistakes_at_once) {
    lq_model *m = fixture_model(FIXTURE_TIED);
    const char *const targets[] = {"qproj", "lm_head", NULL}, *const exclude[] = {"foo", NULL};
    const int layers[] = {7};
    const lq_adapter_options o = {.targets = targets, .exclude = exclude, .layers = layers,
                                  .n_layers = 1};
    bool *chosen = lq_alloc_array(m->n_weights, sizeof *chosen);
    static const char *const parts[] = {"'qproj'", "'lm_head'", "'foo'", "layer 7"};
    for (int i = 0; i < LQ_ARRAY_LEN(parts); i++)
        ck_fails(lq_targets_choose(chosen, m, &o), LQ_ECONFIG, parts[i]);
    lq_free(chosen);
    lq_model_close(m);
}
END_TEST

/* ---- patterns -------------------------------------------------------------------------------- */

static const struct {
    lq_pattern pattern[2];
    int n;
    const char *name;   /* a weight and the value it gets; the fallback is 5 */
    double value;
    const char *error;
} patterns[] = {
    {{{"q_proj", 3}}, 1, "blk.1.attn_q.weight", 3, NULL},
    {{{"q_proj", 3}}, 1, "blk.1.attn_k.weight", 5, NULL},
    {{{"attn_*", 3}}, 1, "blk.0.attn_output.weight", 3, NULL},
    {{{"layers\\.\\d+\\.mlp\\.up_proj", 3}}, 1, "blk.0.ffn_up.weight", 3, NULL},
    {{{"^model.layers.0.self_attn.k_proj", 3}}, 1, "blk.0.attn_k.weight", 3, NULL},
    {{{"^model.layers.0.self_attn.k_proj", 3}}, 1, "blk.1.attn_k.weight", 5, NULL},
    {{{"(k|v)_proj", 3}}, 1, "blk.1.attn_v.weight", 3, NULL},
    {{{"layers.1.*.q_proj", 3}, {"q_proj", 4}}, 2, "blk.1.attn_q.weight", 3, NULL}, /* first wins */
    {{{"layers.1.*.q_proj", 3}, {"q_proj", 4}}, 2, "blk.0.attn_q.weight", 4, NULL},
    {{{"qproj", 3}}, 1, NULL, 0, "lora_rank_pattern: 'qproj' matches no linear"},
    {{{"(k", 3}}, 1, NULL, 0, "neither a name nor a valid regular expression"},
};

START_TEST(pattern) {
    lq_model *m = fixture_model(FIXTURE_UNTIED);
    const lq_adapter_options o = {.r = 1};
    bool *chosen = lq_alloc_array(m->n_weights, sizeof *chosen);
    double *value = lq_alloc_array(m->n_weights, sizeof *value);
    ck_ok(lq_targets_choose(chosen, m, &o));
    const lq_status status = lq_targets_pattern(value, m, chosen, "lora_rank_pattern",
                                                patterns[_i].pattern, patterns[_i].n, 5);
    if (patterns[_i].error) {
        ck_assert_int_eq(status, LQ_ECONFIG);
        ck_assert_msg(test_contains(lq_error(), patterns[_i].error), "%s", lq_error());
    } else {
        ck_ok(status);
        ck_assert_double_eq(value[lq_model_find_name(m, patterns[_i].name)], patterns[_i].value);
    }
    lq_free(chosen);
    lq_free(value);
    lq_model_close(m);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("targets");
    TCase *tc = tcase_create("targets");
    tcase_add_loop_test(tc, choose, 0, LQ_ARRAY_LEN(cases));
    tcase_add_test(tc, all_mistakes_at_once);
    tcase_add_loop_test(tc, pattern, 0, LQ_ARRAY_LEN(patterns));
    suite_add_tcase(suite, tc);
    return test_run(suite);
}
