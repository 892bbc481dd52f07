// What every subcommand shares: options from one table, text input, the default model, output, messages.
//
// A subcommand declares its variables with their defaults, a table of cli_option that points at them, and calls cli_parse().
// Each option can also be given as environment variable WTL_<NAME> (--top-k: WTL_TOP_K); the command line wins. Help is
// generated from the same table. Functions that can end the program return CLI_GO, or the exit code to return from main
// after they have printed why: `int code = cli_parse(...); if (code != CLI_GO) return code;`.
// Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_CLI_H
#define WTL_TOOLS_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tools/kv_types.h"

enum { CLI_GO = -1, CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

// ---- Subcommands: argv[0] is the name of the subcommand ----------------------------------------------------------
int cmd_run(int argc, char **argv);
int cmd_chat(int argc, char **argv);
int cmd_meters(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_tokenize(int argc, char **argv);
int cmd_perplexity(int argc, char **argv);
int cmd_fetch(int argc, char **argv);
int cmd_ledger(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_bench(int argc, char **argv);

// ---- Options -----------------------------------------------------------------------------------------------------
typedef enum cli_kind {
    CLI_FLAG,   // bool *, set to true (environment: 1/0, true/false, yes/no, on/off)
    CLI_INT,    // int64_t *, min <= value <= max
    CLI_FLOAT,  // double *, min <= value <= max
    CLI_STRING, // const char **, borrowed from argv or the environment; choices, if any, limit it
    CLI_LIST,   // cli_list *, each use of the option adds one
} cli_kind;

typedef struct cli_list {
    const char *items[32];
    size_t n;
} cli_list;

typedef struct cli_option {
    const char *name;    // long name without dashes
    char letter;         // short name, 0: none
    const char *also;    // another short name, of several letters, as other programs have them: "np" for -np; NULL: none
    cli_kind kind;
    void *value;         // see cli_kind; holds the default before cli_parse
    const char *arg;     // what the help calls the value: "N", "FILE"
    const char *help;    // one sentence, with the default where it is not obvious
    double min, max;     // CLI_INT (exact up to 2^53) and CLI_FLOAT
    const char *choices; // CLI_STRING: "cpu|ref"; NULL: anything
} cli_option;

typedef struct cli_command {
    const char *name;     // "run"
    const char *summary;  // "write text with a model"
    const char *operands; // what follows the options in the usage line, "FILE"; "" for none
    const char *notes;    // printed below the options in the help (examples); may be NULL
    const cli_option *options;
    size_t n_options;
} cli_command;

#define CLI_COUNT(table) (sizeof(table) / sizeof((table)[0]))

// Fills the option variables. Operands (not options) go to operands[0..max_operands), their count to *n_operands; more of
// them than max_operands are wrong usage. Handles --help.
int cli_parse(const cli_command *command, int argc, char **argv, const char **operands, int max_operands, int *n_operands);

// The options that several commands share, so that they are spelt and explained alike.
#define CLI_OPTION_MODEL(variable) \
    {.name = "model", .letter = 'm', .kind = CLI_STRING, .value = (variable), .arg = "FILE", \
     .help = "GGUF file (default: the model that `wattle fetch smollm2` gets)"}
#define CLI_OPTION_PROMPT(variable) \
    {.name = "prompt", .letter = 'p', .kind = CLI_STRING, .value = (variable), .arg = "TEXT", .help = "the text itself"}
#define CLI_OPTION_FILE(variable) \
    {.name = "file", .letter = 'f', .kind = CLI_STRING, .value = (variable), .arg = "FILE", \
     .help = "read the text from FILE (default: standard input)"}
#define CLI_OPTION_JSON(variable) \
    {.name = "json", .kind = CLI_FLAG, .value = (variable), .help = "print one JSON object"}
#define CLI_OPTION_THREADS(variable) \
    {.name = "threads", .letter = 't', .kind = CLI_INT, .value = (variable), .arg = "N", .min = 1, .max = 1024, \
     .help = "threads (default: what `wattle bench --calibrate` found, else the physical cores this process may use)"}
#define CLI_OPTION_BACKEND(variable) \
    {.name = "backend", .kind = CLI_STRING, .value = (variable), .arg = "NAME", .choices = "cpu|ref", \
     .help = "cpu, or ref: slow scalar code to compare with"}
#define CLI_OPTION_KV(variable) \
    {.name = "kv", .kind = CLI_STRING, .value = (variable), .arg = "TYPE", .choices = KV_TYPE_CHOICES, \
     .help = "of the KV cache: f16 (default), f32, or q8_0: half the memory of f16"}
#define CLI_OPTION_LEDGER(variable) \
    {.name = "ledger", .kind = CLI_STRING, .value = (variable), .arg = "FILE", \
     .help = "energy ledger, or none (default ~/.local/state/wattle/ledger.db)"}

// ---- Messages: "wattle: sentence" on standard error ----------------------------------------------------------------
int cli_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));  // returns CLI_FAILED
int cli_wrong(const char *format, ...) __attribute__((format(printf, 1, 2))); // returns CLI_USAGE
void cli_warn(const char *format, ...) __attribute__((format(printf, 1, 2))); // the same, and things go on
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2))); // information; dim where cli_dims, no prefix

// Whether a file descriptor is a terminal that moves its cursor when told to: not one that calls itself dumb.
bool cli_draws(int fd);
// The same, and the person has not asked for text without looks (NO_COLOR).
bool cli_dims(int fd);

// ---- Input -------------------------------------------------------------------------------------------------------
typedef struct cli_text {
    char *bytes; // malloc'ed, terminated; may hold NUL bytes before `len`
    size_t len;
} cli_text;
// The text of -p (prompt), else of -f (file, "-" for standard input), else of standard input. With neither and a terminal
// as standard input: CLI_USAGE. Text that is no UTF-8 is CLI_FAILED with the byte offset. Free with cli_text_free.
int cli_text_read(const char *prompt, const char *file, cli_text *out);
void cli_text_free(cli_text *text); // accepts an empty one

// `given`, or the cached default model: ${XDG_CACHE_HOME:-~/.cache}/wattle/<file>. When that is absent the message names
// `wattle fetch`. *path is malloc'ed.
int cli_model_path(const char *given, char **path);

// ---- Output ------------------------------------------------------------------------------------------------------
// Standard output that may be a closed pipe or a full disk. After the first failure the rest is dropped.
bool cli_put(const char *bytes, size_t len);                                // false once output has failed
bool cli_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool cli_flush(void);
// A JSON string; what is no UTF-8 in text, a file's name for instance, becomes U+FFFD. NULL when out of memory.
json_t *cli_json_text(const char *text);
bool cli_put_json(const json_t *value);                                     // one line; reals with 15 digits
// Flushes. code, or CLI_FAILED with a message when output was lost for another reason than a reader that left.
int cli_finish(int code);

// ---- Time and signals --------------------------------------------------------------------------------------------
uint64_t cli_now_ns(void);   // monotonic
int64_t cli_unix_ms(void);   // wall clock
uint64_t cli_start_ns(void); // stamp that main took first
void cli_stamp_start(void);  // main only
// From here on Ctrl-C and SIGTERM set a flag; a second one kills the process.
void cli_catch_interrupt(void);
bool cli_interrupted(void);
// Goes on after Ctrl-C: forgets it and catches the next one. False after SIGTERM, which is not forgotten.
bool cli_resume(void);

#endif
