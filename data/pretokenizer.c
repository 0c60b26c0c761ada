/* The table of pre-tokenizers, by the names that llama.cpp gives them in `tokenizer.ggml.pre`.
 *
 * The regexes are the published ones of the models' tokenizer.json files as llama.cpp applies them:
 * it spells out (?i:...), and takes \p{Lu}, \p{Ll} and the like for \p{L}. Not here: pre-tokenizers
 * of encoders, of raw UTF-8 BPE (gemma4, sarvam-moe), kimi-k2, chameleon and superbpe. */
#include "pretokenizer.h"

#include <string.h>

#define CONTRACTION "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
#define LETTERS "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define SIGNS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
#define LINES "\\s*[\\r\\n]+"
#define BLANKS "\\s+(?!\\S)|\\s+"
#define DIGITS "\\p{N}{1,3}"
/* Groups of three digits counted from the right; what comes before a number stays with it. */
#define DIGITS_FROM_RIGHT "\\P{N}*\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))"
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|" BLANKS
#define LLAMA3 CONTRACTION "|" LETTERS "|" DIGITS "|" SIGNS "|" LINES "|" BLANKS
#define QWEN2 CONTRACTION "|" LETTERS "|\\p{N}|" SIGNS "|" LINES "|" BLANKS
/* Letters of either case, as llama.cpp tells them apart: (?=\p{L})[^a-z], (?=\p{L})[^A-Z]. */
#define UPPER "[^\\P{L}a-z]"
#define LOWER "[^\\P{L}A-Z]"
#define PATH_SIGNS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*"
#define KANJI "[一-龥぀-ゟ゠-ヿ]+"
#define CODE_WORD                                                     \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"              \
    "|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
#define MARKED_LETTERS "[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+" CONTRACTION "?"
#define NOT_PUNCTUATION " ?[^(\\s|.,!?…。，、।۔،)]+"
/* U+0800 to U+4E00 and what follows; no class of literal characters matches white space. */
#define CJK                                                                                 \
    "[\\x{800}-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}\\x{202A}-\\x{202E}"              \
    "\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-龥가-\\x{D7FF}]+"
/* Cased letters of the scripts that have case. */
#define CASED \
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫ" \
    "ᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭ" \
    "ℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟" \
    "𞤀-𞥃"
#define ASIA \
    "一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ"

typedef const char *const regexes[];

static regexes fallback = {"[\\p{P}$+<=>^~|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]", NULL};
static regexes gpt2 = {GPT2, NULL};
static regexes gpt2_digits = {"\\p{N}", GPT2, NULL};
static regexes llama3 = {LLAMA3, NULL};
static regexes qwen2 = {QWEN2, NULL};
static regexes qwen35 = {CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
                         "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES "|" BLANKS, NULL};
static regexes minicpm5 = {DIGITS, CONTRACTION "|" LETTERS "|\\p{N}+|" SIGNS "|" LINES "|" BLANKS,
                           NULL};
static regexes jais2 = {
    CONTRACTION "|" LETTERS "|" DIGITS "|" SIGNS "|" LINES
                "|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)"
                "|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s",
    NULL};
static regexes deepseek_llm = {"[\\r\\n]", "\\s?[" CASED "]+", "\\s?[!-/:-~！-／：-～‘-‟、。]+",
                               "(?<!\\s)\\s+\\z", CJK, "\\p{N}+", NULL};
static regexes deepseek_coder = {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}", NULL};
static regexes deepseek_v3 = {DIGITS, KANJI,
                              CODE_WORD "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES "|" BLANKS, NULL};
static regexes spark = {DIGITS, KANJI, CODE_WORD "| ?[\\p{P}\\p{S}]+|[\\r\\n]|" BLANKS, "\\p{N}",
                        NULL};
static regexes youtu = {"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|" KANJI,
                        MARKED_LETTERS "|\\p{N}|" PATH_SIGNS "|" LINES "|" BLANKS, NULL};
static regexes falcon = {"[\\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]", NULL};
static regexes bloom = {NOT_PUNCTUATION, NULL};
static regexes viking = {NOT_PUNCTUATION, "\\p{N}", NULL};
static regexes tekken = {"[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+"
                         "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*"
                         "|\\p{N}|" PATH_SIGNS "|" LINES "|" BLANKS, NULL};
static regexes gpt4o = {"[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" CONTRACTION "?"
                        "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" CONTRACTION "?"
                        "|" DIGITS "|" PATH_SIGNS "|" LINES "|" BLANKS, NULL};
static regexes tiny_aya = {DIGITS_FROM_RIGHT,
                           MARKED_LETTERS "|" DIGITS "|" PATH_SIGNS "|" LINES "|" BLANKS, NULL};
static regexes bailing = {"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|" LETTERS "|\\p{N}|" SIGNS
                          "|\\s*[\\r\\n]|" BLANKS, NULL};
static regexes seed_coder = {
    CONTRACTION "|" LETTERS "|\\p{N}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" LINES "|" BLANKS, NULL};
static regexes ufakzeka = {LETTERS "|\\p{N}|" SIGNS "|" LINES "|" BLANKS, NULL};
static regexes afmoe = {DIGITS_FROM_RIGHT, "[" ASIA "]+",
                        CODE_WORD "| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES "|" BLANKS, NULL};
static regexes laguna = {"[^\\n]+|\\n+", QWEN2, NULL};
static regexes exaone_moe = {CONTRACTION
                             "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}"
                             "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|" BLANKS,
                             NULL};

enum {
    MERGES = LQ_PRE_IGNORE_MERGES,
    BOS = LQ_PRE_ADD_BOS,
    NO_BOS = LQ_PRE_NO_BOS,
    KEEP = LQ_PRE_KEEP_SPACES
};

static const lq_pre table[] = {
    {"default", fallback, 0},
    {"llama-bpe", llama3, MERGES | BOS},
    {"llama3", llama3, MERGES | BOS},
    {"llama-v3", llama3, MERGES | BOS},
    {"falcon3", llama3, MERGES | BOS},
    {"falcon-h1", llama3, MERGES | BOS},
    {"pixtral", llama3, MERGES | BOS},
    {"midm-2.0", llama3, MERGES | BOS},
    {"lfm2", llama3, MERGES | BOS},
    {"dbrx", llama3, 0},
    {"smaug-bpe", llama3, 0},
    {"chatglm-bpe", llama3, NO_BOS},
    {"glm4", llama3, NO_BOS | MERGES},
    {"glm5", llama3, NO_BOS | MERGES},
    {"jais-2", jais2, 0},
    {"minicpm5", minicpm5, MERGES},
    {"gpt-2", gpt2, 0},
    {"phi-2", gpt2, 0},
    {"mpt", gpt2, 0},
    {"olmo", gpt2, 0},
    {"jais", gpt2, 0},
    {"exaone4", gpt2, 0},
    {"gigachat", gpt2, 0},
    {"a.x-4.0", gpt2, 0},
    {"mellum", gpt2, 0},
    {"trillion", gpt2, KEEP},
    {"granite-docling", gpt2, KEEP},
    {"starcoder", gpt2_digits, 0},
    {"refact", gpt2_digits, 0},
    {"codeshell", gpt2_digits, 0},
    {"exaone", gpt2_digits, 0},
    {"minerva-7b", gpt2_digits, 0},
    {"mellum2", gpt2_digits, 0},
    {"command-r", gpt2_digits, KEEP},
    {"smollm", gpt2_digits, KEEP},
    {"qwen2", qwen2, KEEP},
    {"deepseek-r1-qwen", qwen2, KEEP},
    {"kormo", qwen2, KEEP},
    {"f2llmv2", qwen2, KEEP},
    {"hunyuan", qwen2, KEEP},
    {"solar-open", qwen2, KEEP},
    {"grok-2", qwen2, KEEP},
    {"megrez", qwen2, 0},
    {"stablelm2", qwen2, 0},
    {"qwen35", qwen35, KEEP},
    {"deepseek-llm", deepseek_llm, KEEP},
    {"deepseek-coder", deepseek_coder, KEEP},
    {"deepseek-v3", deepseek_v3, KEEP},
    {"hunyuan-dense", deepseek_v3, KEEP},
    {"joyai-llm", deepseek_v3, KEEP},
    {"hy_v4", deepseek_v3, KEEP},
    {"spark2_5", spark, KEEP},
    {"youtu", youtu, KEEP | MERGES},
    {"falcon", falcon, 0},
    {"bloom", bloom, 0},
    {"gpt3-finnish", bloom, 0},
    {"poro-chat", bloom, KEEP},
    {"viking", viking, KEEP},
    {"tekken", tekken, KEEP | MERGES | BOS},
    {"gpt-4o", gpt4o, KEEP},
    {"llama4", gpt4o, KEEP},
    {"kanana2", gpt4o, KEEP},
    {"talkie", gpt4o, KEEP},
    {"minimax-m2", gpt4o, KEEP},
    {"tiny_aya", tiny_aya, KEEP},
    {"cohere2moe", tiny_aya, KEEP},
    {"bailingmoe", bailing, KEEP},
    {"bailingmoe2", bailing, KEEP},
    {"llada-moe", bailing, KEEP},
    {"seed-coder", seed_coder, KEEP},
    {"ufakzeka", ufakzeka, KEEP},
    {"afmoe", afmoe, KEEP},
    {"laguna", laguna, KEEP},
    {"exaone-moe", exaone_moe, 0},
};

const lq_pre *lq_pre_at(int i) { return i >= 0 && i < LQ_ARRAY_LEN(table) ? &table[i] : NULL; }

const lq_pre *lq_pre_find(const char *name) {
    for (int i = 0; i < LQ_ARRAY_LEN(table); i++)
        if (strcmp(table[i].name, name) == 0) return &table[i];
    return NULL;
}
