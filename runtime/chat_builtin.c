// Built-in chat templates: for models that bring none, and for people who ask for one by name.
//
// Own text, in the forms that the model families were trained on. They spell every mark out and never build one from a role, and they
// leave BOS to the caller (wtl_chat_render adds it where the model wants it). A system message where the family has none becomes part
// of the first user turn. Messages of unknown roles are taken as user turns, so that nothing is lost silently.
// SPDX-License-Identifier: Apache-2.0
#include "runtime/chat_builtin.h"

#include <string.h>

// With trim_blocks and lstrip_blocks a line that holds one tag leaves nothing behind.
#define PER_MESSAGE "{% for message in messages %}\n"
#define END_MESSAGE "{% endfor %}\n"
// The system message, if the conversation begins with one, goes into `system`; the rest into `turns`.
#define SPLIT_SYSTEM                                                \
    "{% if messages and messages[0]['role'] == 'system' %}\n"       \
    "{% set system = (messages[0]['content'] or '') | trim %}\n"    \
    "{% set turns = messages[1:] %}\n"                              \
    "{% else %}\n"                                                  \
    "{% set system = '' %}\n"                                       \
    "{% set turns = messages %}\n"                                  \
    "{% endif %}\n"
// Content may be null where an assistant only called tools.
#define CONTENT "(message['content'] or '')"

static const chat_builtin builtins[] = {
    {.name = "chatml",
     .marks = {"<|im_start|>", "<|im_end|>"},
     .end = "<|im_end|>",
     .source = PER_MESSAGE
     "{{ '<|im_start|>' ~ message['role'] ~ '\\n' ~ " CONTENT " ~ '<|im_end|>\\n' }}"
     END_MESSAGE
     "{% if add_generation_prompt %}\n"
     "{{ '<|im_start|>assistant\\n' }}"
     "{% endif %}\n"},
    {.name = "gemma",
     .marks = {"<start_of_turn>", "<end_of_turn>"},
     .end = "<end_of_turn>",
     .source = SPLIT_SYSTEM
     "{% for message in turns %}\n"
     "{{ '<start_of_turn>' ~ ('model' if message['role'] == 'assistant' else 'user') ~ '\\n' }}"
     "{% if loop.first and system %}\n"
     "{{ system ~ '\\n\\n' }}"
     "{% endif %}\n"
     "{{ (" CONTENT " | trim) ~ '<end_of_turn>\\n' }}"
     "{% else %}\n"
     "{% if system %}\n"
     "{{ '<start_of_turn>user\\n' ~ system ~ '<end_of_turn>\\n' }}"
     "{% endif %}\n"
     "{% endfor %}\n"
     "{% if add_generation_prompt %}\n"
     "{{ '<start_of_turn>model\\n' }}"
     "{% endif %}\n"},
    {.name = "llama3",
     .marks = {"<|start_header_id|>", "<|eot_id|>"},
     .end = "<|eot_id|>",
     .source = PER_MESSAGE
     "{{ '<|start_header_id|>' ~ message['role'] ~ '<|end_header_id|>\\n\\n' ~ (" CONTENT " | trim) ~ '<|eot_id|>' }}"
     END_MESSAGE
     "{% if add_generation_prompt %}\n"
     "{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}"
     "{% endif %}\n"},
    {.name = "mistral",
     .marks = {"[INST]", "[/INST]"},
     .source = SPLIT_SYSTEM
     "{% for message in turns %}\n"
     "{% if message['role'] == 'assistant' %}\n"
     "{{ ' ' ~ (" CONTENT " | trim) ~ eos_token }}"
     "{% else %}\n"
     "{{ '[INST] ' }}"
     "{% if loop.first and system %}\n"
     "{{ system ~ '\\n\\n' }}"
     "{% endif %}\n"
     "{{ (" CONTENT " | trim) ~ ' [/INST]' }}"
     "{% endif %}\n"
     "{% else %}\n"
     "{% if system %}\n"
     "{{ '[INST] ' ~ system ~ ' [/INST]' }}"
     "{% endif %}\n"
     "{% endfor %}\n"},
    {.name = "phi3",
     .marks = {"<|user|>", "<|end|>"},
     .end = "<|end|>",
     .source = PER_MESSAGE
     "{{ '<|system|>' if message['role'] == 'system' else '<|assistant|>' if message['role'] == 'assistant' else '<|user|>' }}"
     "{{ '\\n' ~ " CONTENT " ~ '<|end|>\\n' }}"
     END_MESSAGE
     "{% if add_generation_prompt %}\n"
     "{{ '<|assistant|>\\n' }}"
     "{% endif %}\n"},
    {.name = "zephyr",
     .marks = {"<|user|>", "<|assistant|>"},
     .end = "<|user|>",
     .source = PER_MESSAGE
     "{{ '<|system|>' if message['role'] == 'system' else '<|assistant|>' if message['role'] == 'assistant' else '<|user|>' }}"
     "{{ '\\n' ~ " CONTENT " ~ eos_token ~ '\\n' }}"
     END_MESSAGE
     "{% if add_generation_prompt %}\n"
     "{{ '<|assistant|>\\n' }}"
     "{% endif %}\n"},
    {.name = "plain",
     .end = "\nUser:",
     .source = PER_MESSAGE
     "{% if message['role'] == 'system' %}\n"
     "{{ (" CONTENT " | trim) ~ '\\n\\n' }}"
     "{% else %}\n"
     "{{ ('Assistant: ' if message['role'] == 'assistant' else 'User: ') ~ (" CONTENT " | trim) ~ '\\n' }}"
     "{% endif %}\n"
     END_MESSAGE
     "{% if add_generation_prompt %}\n"
     "{{ 'Assistant:' }}"
     "{% endif %}\n"},
};

enum { N_BUILTINS = sizeof builtins / sizeof *builtins };

const chat_builtin *chat_builtin_at(size_t i) { return i < N_BUILTINS ? &builtins[i] : NULL; }

const chat_builtin *chat_builtin_find(const char *name) {
    for (size_t i = 0; i < N_BUILTINS; i++)
        if (strcmp(builtins[i].name, name) == 0) return &builtins[i];
    return NULL;
}

const chat_builtin *chat_builtin_for(const wtl_tokenizer *tokenizer) {
    for (size_t i = 0; i < N_BUILTINS; i++) {
        const char *const *marks = builtins[i].marks;
        if (!marks[0] || (tokenizer_special(tokenizer, marks[0]) >= 0 && tokenizer_special(tokenizer, marks[1]) >= 0)) return &builtins[i];
    }
    return NULL; // "plain" has no marks: not reached
}
