/* Which architecture a file's tensors have, by which of them there are, held against what the file
 * says of itself. Models are renamed: a distilled Qwen says so in its name and is a llama inside,
 * or the other way round. Tensors: llama.cpp's src/llama-arch.cpp. */
#include "inspect_parts.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

enum { MAX_STEMS = 4, MAX_NAMES = 10 };

/* The first row all of whose `with` are there and none of whose `without`. Several architectures
 * can have the same tensors; they differ in numbers that are not in the tensors. */
typedef struct evidence {
    const char *with[MAX_STEMS], *without[MAX_STEMS];
    const char *names[MAX_NAMES];
} evidence;

static const evidence rows[] = {
    {{"ssm_in"}, {0},
     {"mamba", "mamba2", "jamba", "falcon-h1", "granitehybrid", "plamo2", "nemotron_h"}},
    {{"attn_kv_a_mqa"}, {0}, {"deepseek2", "minicpm3", "plm"}},
    {{"time_mix_w1"}, {0}, {"rwkv6", "rwkv7", "rwkv6qwen2", "arwkv7"}},
    {{"attn_qkv", "position_embd"}, {"ffn_gate"}, {"gpt2", "starcoder"}},
    {{"attn_qkv", "ffn_up"}, {"ffn_gate", "ffn_norm"}, {"falcon"}},
    {{"attn_qkv.bias", "ffn_up"}, {"ffn_gate"}, {"gptneox", "bloom", "codeshell", "phi2"}},
    {{"attn_qkv", "attn_norm.bias"}, {"ffn_gate"}, {"mpt", "gptneox", "bloom"}},
    {{"attn_qkv", "ffn_up"}, {"ffn_gate"}, {"phi3", "mpt", "phimoe", "glm4"}},
    {{"ffn_gate_exps", "ffn_gate_shexp"}, {"attn_q_norm"},
     {"qwen2moe", "deepseek", "ernie4_5-moe"}},
    {{"ffn_gate_exps", "attn_q_norm"}, {"attn_norm.bias"}, {"qwen3moe", "olmoe"}},
    {{"ffn_gate_exps"}, {0}, {"llama", "granitemoe", "dbrx", "grok", "gpt-oss", "mixtral"}},
    {{"attn_q_norm", "post_attention_norm", "attn_norm"}, {0}, {"gemma3", "gemma4", "gemma3n"}},
    {{"attn_q_norm", "post_attention_norm"}, {"attn_norm"}, {"olmo2"}},
    {{"post_attention_norm", "post_ffw_norm"}, {"attn_q_norm"}, {"gemma2", "glm4"}},
    {{"attn_q_norm", "ffn_gate"}, {0},
     {"qwen3", "stablelm", "command-r", "chameleon", "hunyuan-dense"}},
    {{"attn_norm.bias", "ffn_gate"}, {0}, {"stablelm"}},
    {{"attn_q.bias", "ffn_gate"}, {"attn_output.bias"}, {"qwen2", "llama", "stablelm"}},
    {{"attn_norm.bias", "attn_q"}, {"ffn_gate"}, {"phi2", "starcoder2", "gptneox", "nemotron"}},
    {{"attn_q", "ffn_gate", "attn_norm"}, {0},
     {"llama", "gemma", "smollm3", "granite", "minicpm", "mistral3", "exaone", "internlm2", "olmo",
      "qwen2"}},
};

/* `stem`, or "stem.bias". */
static bool has(const lq_gguf *g, const char *wanted) {
    char stem[LQ_STEM_BYTES], with_bias[LQ_STEM_BYTES + 8];
    for (int64_t i = 0; i < lq_gguf_n_tensors(g); i++) {
        const char *name = lq_gguf_tensor_at(g, i)->name, *suffix = strrchr(name, '.');
        lq_tensor_stem(stem, name);
        if (strcmp(stem, wanted) == 0) return true;
        snprintf(with_bias, sizeof with_bias, "%s%s", stem, suffix ? suffix : "");
        if (strcmp(with_bias, wanted) == 0) return true;
    }
    return false;
}

static bool fits(const evidence *e, const lq_gguf *g) {
    for (int i = 0; i < MAX_STEMS && e->with[i]; i++)
        if (!has(g, e->with[i])) return false;
    for (int i = 0; i < MAX_STEMS && e->without[i]; i++)
        if (has(g, e->without[i])) return false;
    return true;
}

static const evidence *find(const lq_gguf *g) {
    for (int i = 0; i < LQ_ARRAY_LEN(rows); i++)
        if (fits(&rows[i], g)) return &rows[i];
    return NULL;
}

static bool names(const evidence *e, const char *arch) {
    for (int i = 0; i < MAX_NAMES && e->names[i]; i++)
        if (strcmp(e->names[i], arch) == 0) return true;
    return false;
}

static bool is_known(const char *arch) {
    for (int i = 0; i < LQ_ARRAY_LEN(rows); i++)
        if (names(&rows[i], arch)) return true;
    return false;
}

static json_t *names_json(const evidence *e) {
    json_t *list = json_array();
    for (int i = 0; list && i < MAX_NAMES && e->names[i]; i++)
        if (json_array_append_new(list, json_string(e->names[i])) != 0) {
            json_decref(list);
            return NULL;
        }
    return list;
}

/* ---- names ---- */

/* What a word in a model's name promises. */
typedef struct promise {
    const char *word;
    const char *archs[6];        /* beginnings of architecture names */
} promise;

static const promise promises[] = {
    {"qwen", {"qwen", "rwkv6qwen"}},
    {"llama", {"llama"}},
    {"mixtral", {"llama"}},
    {"ministral", {"llama", "mistral"}},
    {"mistral", {"llama", "mistral"}},
    {"gemma", {"gemma"}},
    {"phi", {"phi"}},
    {"smollm3", {"smollm3"}},
    {"smollm", {"llama", "smollm3"}},
    {"falcon", {"falcon", "llama"}},
    {"mpt", {"mpt"}},
    {"gpt2", {"gpt2"}},
    {"olmo", {"olmo"}},
    {"granite", {"granite", "llama"}},
    {"stablelm", {"stablelm"}},
    {"deepseek", {"deepseek", "llama", "qwen"}},
};

static bool keeps(const promise *p, const char *arch) {
    for (int i = 0; i < LQ_ARRAY_LEN(p->archs) && p->archs[i]; i++)
        if (strncmp(arch, p->archs[i], strlen(p->archs[i])) == 0) return true;
    return false;
}

/* A word stands alone, or digits and signs follow: "phi" is not in "dolphin". */
static bool says(const char *name, const char *word) {
    const size_t n = strlen(word);
    for (const char *at = strstr(name, word); at; at = strstr(at + 1, word))
        if ((at == name || !isalpha((unsigned char)at[-1])) && !isalpha((unsigned char)at[n]))
            return true;
    return false;
}

/* The first promise that the name makes and the architecture breaks, unless another is kept. */
static const promise *broken_promise(const char *name, const char *arch) {
    const promise *broken = NULL;
    for (int i = 0; i < LQ_ARRAY_LEN(promises); i++) {
        if (!says(name, promises[i].word)) continue;
        if (keeps(&promises[i], arch)) return NULL;
        if (!broken) broken = &promises[i];
    }
    return broken;
}

/* True if there was something to say. */
static bool check_name(lq_report *r, const char *where, const char *name, const char *arch) {
    char low[256];
    size_t n = 0;
    for (; name[n] && n + 1 < sizeof low; n++) low[n] = (char)tolower((unsigned char)name[n]);
    low[n] = 0;
    const promise *p = broken_promise(low, arch);
    if (p)
        lq_report_warn(r, "the %s '%s' says %s, but the architecture is %s: renamed, mislabelled "
                       "or distilled", where, name, p->word, arch);
    return p != NULL;
}

/* Once: a directory is named after its model, too. */
static void report_names(lq_report *r, const char *arch) {
    static const char *const keys[] = {"general.name", "general.basename"};
    if (!*arch) return;
    const char *slash = strrchr(r->path, '/');
    bool warned = check_name(r, "file name", slash ? slash + 1 : r->path, arch);
    for (int i = 0; !warned && i < LQ_ARRAY_LEN(keys); i++) {
        char *name = NULL;
        if (lq_gguf_get_string(r->file, keys[i], false, &name) == LQ_EMEM) r->failed = true;
        if (name) warned = check_name(r, keys[i], name, arch);
        lq_free(name);
    }
}

/* ---- the report ---- */

void lq_report_architecture(lq_report *r, json_t *out) {
    char *arch = NULL;
    json_t *object = lq_report_object(r, out, "architecture");
    const lq_status status = lq_gguf_get_string(r->file, "general.architecture", false, &arch);
    if (status == LQ_EMEM) r->failed = true;
    lq_report_text(r, object, "name", arch ? arch : "not stated");
    const evidence *e = find(r->file);
    if (e) lq_report_put(r, object, "by its tensors", names_json(e));
    if (e && arch && is_known(arch) && !names(e, arch))
        lq_report_warn(r, "the file says that its architecture is %s, but its tensors are those "
                       "of %s", arch, e->names[0]);
    report_names(r, arch ? arch : e ? e->names[0] : "");
    lq_free(arch);
}
