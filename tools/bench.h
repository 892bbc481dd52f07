// What the files of `wattle bench` share: which tests there are, and what one of them gave.
//
// cmd_bench.c reads the options into bench_params; bench_case.c multiplies them out; bench_run.c runs one test on an open model;
// bench_row.c turns the outcome into a row, a JSON object; bench_print.c prints rows. Comparing and plotting need only rows, so they
// work on files of earlier runs, and of llama-bench, too.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_BENCH_H
#define WTL_TOOLS_BENCH_H

#include "runtime/wattle.h"
#include "telemetry/telemetry.h"
#include "tools/bench_list.h"
#include "tools/bench_machine.h"
#include "tools/cli.h"

// ---- Tests: bench_case.c ------------------------------------------------------------------------------------------
enum { BENCH_KV_MAX = 8, BENCH_PAIRS_MAX = 32, BENCH_PARALLEL_MAX = 2048, BENCH_THREADS_MAX = 1024 }; // threads: the engine's limit

typedef struct bench_params { // a test for every combination; empty lists stand for the defaults
    const char *models[32];
    size_t n_models;
    bench_list n_prompt, n_gen, n_depth, n_batch, n_ubatch, n_threads, n_parallel;
    int32_t pair_prompt[BENCH_PAIRS_MAX], pair_gen[BENCH_PAIRS_MAX];
    size_t n_pairs;
    wtl_kv_type type_k[BENCH_KV_MAX], type_v[BENCH_KV_MAX];
    size_t n_type_k, n_type_v;
} bench_params;

typedef struct bench_case {
    const char *model;  // path, borrowed
    int32_t n_prompt;   // tokens of each sequence to prefill; 0: none
    int32_t n_gen;      // tokens of each sequence to decode behind it; 0: none
    int32_t n_depth;    // tokens that are there before the clock starts
    int32_t n_batch, n_ubatch, n_threads; // n_threads 0: the engine's default
    int32_t n_parallel; // sequences at once
    int32_t n_session_threads; // of the engine's threads, for every step; 0: the engine's choice
    wtl_kv_type kv_type;
} bench_case;

// llama-bench's order. CLI_GO with *out malloc'ed [*n]; CLI_USAGE or CLI_FAILED after a message.
int bench_cases(const bench_params *params, bench_case **out, size_t *n);
// Reads every model's header: CLI_FAILED after a message when one is missing or cannot run, or a test does not fit its context.
int bench_cases_check(const bench_case *cases, size_t n);
// "pp512", "tg128", "pp512+tg128", with " @ d1024" and " x8" where there is a depth and more than one sequence.
const char *bench_case_name(const bench_case *c, char *text, size_t cap);

// ---- A model, open with a number of threads: bench_model.c -----------------------------------------------------------
typedef struct bench_model {
    const char *path;  // borrowed
    wtl_engine *engine;
    wtl_engine_info info;
    char type[96];     // "llama 134.52M Q4_K - Medium": architecture, parameters, what the file says it is, else the type of most weights
    bool float_weights; // most weights are F32, F16 or BF16
    uint64_t tensor_bytes, n_params, load_ns;
    int32_t asked_threads;
} bench_model;

// Opens the model of the case with its threads; keeps what is open when it is the same. CLI_GO, or CLI_FAILED after a message.
int bench_model_open(bench_model *model, const bench_case *c, const char *backend);
void bench_model_close(bench_model *model);

// ---- Running: bench_run.c ------------------------------------------------------------------------------------------
typedef struct bench_settings {
    int32_t repetitions;
    bool no_warmup, progress;
    int64_t delay_s;
    size_t case_index, n_cases; // for the progress lines
    tel_meter *meter;           // NULL: joules are unavailable with no_meter as the reason
    const char *no_meter;
} bench_settings;

typedef struct bench_limit { // what the machine allows with that many threads; 0: not measured
    double read_gb_per_s, gmac_per_s;
    double int8_gmac_per_s, int16_gmac_per_s, f32_gmac_per_s; // gmac_per_s is the one of the weights' kind
    const char *arithmetic; // "int8 avx512vnni"; static
} bench_limit;

typedef struct bench_result {
    bench_case at;         // n_threads resolved
    char test_time[32];    // UTC
    uint64_t *samples_ns;  // [n_samples], malloc'ed
    size_t n_samples;
    // Sums over the samples.
    uint64_t cpu_ns, weight_bytes, kv_bytes, macs;
    uint64_t energy_ns;    // length of the windows that energy is of
    tel_energy energy;
    bench_use use;         // of the machine meanwhile
    uint64_t rss_bytes;    // resident when the test was over
    bench_limit limit;
} bench_result;

// A session and its sequences, ready to repeat one test.
typedef struct bench_bout {
    bench_case at;
    const bench_model *model;
    wtl_session *session;
    wtl_entry *entries;    // [n_entries] room of one step
    int32_t n_entries, n_vocab, bos;
    int32_t *bases, *seqs; // [n_parallel]: at the depth, kept; of this repetition. -1: none
    uint32_t random;
    wtl_error err;
} bench_bout;

// CLI_GO, CLI_FAILED after a message, or CLI_INTERRUPTED without one.
int bench_bout_open(bench_bout *bout, const bench_model *model, const bench_case *c, bool profile);
void bench_bout_close(bench_bout *bout);
int bench_bout_depth(bench_bout *bout); // prefills the depth, once
// One repetition. Adds its work to *sum and stores its time in *ns; sum may be NULL (warm-up, n_gen then 1 at most).
int bench_bout_once(bench_bout *bout, bench_result *sum, uint64_t *ns);

// Warm-up and all repetitions. CLI_GO; CLI_FAILED after a message; CLI_INTERRUPTED: out holds what was done. Free out in every case.
int bench_run(const bench_model *model, const bench_case *c, const bench_settings *settings, bench_result *out);
void bench_result_free(bench_result *result);
void bench_test_time(bench_result *result); // now
// Joules of all domains that count between two moments; waits a moment for the meter to have seen the end.
tel_energy bench_energy(const bench_settings *settings, uint64_t from_ns, uint64_t to_ns);

// ---- Rows: bench_row.c, bench_print.c ---------------------------------------------------------------------------------
double bench_tokens(const bench_case *c); // of one repetition, all sequences
// All fields in order, see bench_fields; NULL when out of memory.
json_t *bench_row(const bench_model *model, const bench_result *result);

typedef enum bench_kind { BENCH_TEXT, BENCH_INTEGER, BENCH_REAL, BENCH_BOOL, BENCH_SAMPLES } bench_kind;
typedef struct bench_field {
    const char *name;
    bench_kind kind; // BENCH_SAMPLES: an array, in JSON only
} bench_field;
extern const bench_field bench_fields[]; // llama-bench's in its order, then ours
size_t bench_n_fields(void);

typedef enum bench_format { BENCH_MD, BENCH_CSV, BENCH_JSON, BENCH_JSONL, BENCH_SQL } bench_format;
typedef struct bench_printer {
    bench_format format;
    size_t n_rows;
    bool show_batch, show_ubatch, show_kv, energy; // columns of md beside those that are always there
    int joules_width;                              // of its column; the first row sets it
} bench_printer;
bool bench_format_parse(const char *name, bench_format *out);
void bench_print_row(bench_printer *printer, const json_t *row); // the header comes with the first one
void bench_print_end(bench_printer *printer);

#endif
