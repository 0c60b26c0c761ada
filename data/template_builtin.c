/* Named chat templates for models whose file has none, in the formats those families document. All
 * take system, user and assistant messages; the end-of-turn token is part of what an assistant
 * message prints. */
#include "template.h"

#include <string.h>

/* Where the format has no system turn, the system text goes in front of the first user message. */
#define MERGE_SYSTEM                                                                     \
    "{%- set system = messages[0].content if messages and messages[0].role == 'system' %}\n" \
    "{%- for m in (messages[1:] if system else messages) if m.role != 'system' or m.content %}\n"

static const char chatml[] =
    "{%- for m in messages %}\n"
    "{{- '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}\n";

static const char llama2[] =
    "{{- bos_token }}\n" MERGE_SYSTEM
    "{%- if m.role == 'assistant' %}{{- ' ' ~ m.content ~ ' ' ~ eos_token }}\n"
    "{%- else %}\n"
    "{{- '' if loop.first else bos_token }}\n"
    "{{- '[INST] ' ~ ('<<SYS>>\\n' ~ system ~ '\\n<</SYS>>\\n\\n' if loop.first and system) }}\n"
    "{{- m.content ~ ' [/INST]' }}\n"
    "{%- endif %}{%- endfor %}\n";

static const char llama3[] =
    "{{- bos_token }}\n"
    "{%- for m in messages %}\n"
    "{{- '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\\n\\n' }}\n"
    "{{- (m.content | trim) ~ '<|eot_id|>' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}\n";

static const char gemma[] =
    "{{- bos_token }}\n" MERGE_SYSTEM
    "{{- '<start_of_turn>' ~ ('model' if m.role == 'assistant' else m.role) ~ '\\n' }}\n"
    "{{- (system ~ '\\n\\n' if loop.first and system) }}\n"
    "{{- (m.content | trim) ~ '<end_of_turn>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{%- endif %}\n";

static const char phi3[] =
    "{%- for m in messages %}\n"
    "{{- '<|' ~ m.role ~ '|>\\n' ~ m.content ~ '<|end|>\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}\n";

static const char mistral[] =
    "{{- bos_token }}\n" MERGE_SYSTEM
    "{%- if m.role == 'assistant' %}{{- m.content ~ eos_token }}\n"
    "{%- else %}\n"
    "{{- '[INST]' ~ (system ~ '\\n\\n' if loop.first and system) ~ m.content ~ '[/INST]' }}\n"
    "{%- endif %}{%- endfor %}\n";

static const char zephyr[] =
    "{%- for m in messages %}\n"
    "{{- '<|' ~ m.role ~ '|>\\n' ~ m.content ~ eos_token ~ '\\n' }}\n"
    "{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '<|assistant|>\\n' }}{%- endif %}\n";

static const char alpaca[] =
    "{%- for m in messages %}\n"
    "{%- if m.role == 'system' %}{{- m.content ~ '\\n\\n' }}\n"
    "{%- elif m.role == 'assistant' %}\n"
    "{{- '### Response:\\n' ~ m.content ~ eos_token ~ '\\n\\n' }}\n"
    "{%- else %}{{- '### Instruction:\\n' ~ m.content ~ '\\n\\n' }}\n"
    "{%- endif %}{%- endfor %}\n"
    "{%- if add_generation_prompt %}{{- '### Response:\\n' }}{%- endif %}\n";

static const char *const names[] = {"alpaca", "chatml",  "gemma", "llama2", "llama3",
                                    "mistral", "phi3", "zephyr", NULL};
static const char *const sources[] = {alpaca, chatml, gemma, llama2, llama3, mistral, phi3, zephyr};
_Static_assert(sizeof names == sizeof sources + sizeof *names, "a source for each name");

const char *lq_template_builtin(const char *name) {
    for (int i = 0; names[i]; i++)
        if (!strcmp(names[i], name)) return sources[i];
    return NULL;
}

const char *const *lq_template_builtin_names(void) { return names; }
