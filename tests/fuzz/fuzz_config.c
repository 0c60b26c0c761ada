/* lq_config_parse on anything: no crash, no leak; what it accepts is what its dump says. */
#include "fuzz.h"

#include "config.h"

#include <stdlib.h>
#include <string.h>

static const char *const seeds[] = {
    "base_model: m.gguf\ndatasets:\n  - path: a.jsonl\n    type: text\n    weight: 0.5\n  - "
    "b.jsonl\n"
    "lora_rank_pattern: {q_proj: 4, \"*\": 2}\nlora_target_modules: [q_proj, "
    "'v_proj']\nlayers_to_transform: [0, 3]\n"
    "learning_rate: 1e-5\nmask_prompt: yes\nqat:\n  weight_dtype: q8_0\n  mode: separate\nexport: "
    "{outtype: f16}\n",
    "model: &x m\ndata: *x\nrun_name: \"\\u00e9 \\x01 \\\\\"\nnum_epochs: 0.5 # "
    "c\nchat_template_jinja: |\n  {{ a }}\n  b\n",
};

const uint8_t *fuzz_seed(int i, size_t *size) {
    if (i >= LQ_ARRAY_LEN(seeds)) return NULL;
    *size = strlen(seeds[i]);
    return (const uint8_t *)seeds[i];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    lq_config *c = NULL, *again = NULL;
    lq_str dump = LQ_STR_INIT, diff = LQ_STR_INIT;
    char *yaml = malloc(size + 1);
    if (!yaml) abort();
    memcpy(yaml, data, size);
    yaml[size] = 0;
    if (lq_config_parse(&c, yaml, "fuzz") == LQ_OK) {
        if (lq_config_dump(c, &dump) != LQ_OK ||
            lq_config_parse(&again, lq_str_text(&dump), "dump") != LQ_OK)
            abort();
        if (lq_config_diff(c, again, false, &diff) != LQ_OK || *lq_str_text(&diff)) abort();
    } else if (c || !*lq_error()) {
        abort();
    }
    lq_str_clear(&dump);
    lq_str_clear(&diff);
    lq_config_free(c);
    lq_config_free(again);
    free(yaml);
    return 0;
}
