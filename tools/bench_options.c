// See bench_options.h. Names, defaults and lists are llama-bench's.
// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define OPTION_LIST(full, short_name, variable, help_text) \
    {.name = (full), .also = (short_name), .kind = CLI_LIST, .value = (variable), .arg = "LIST", .help = (help_text)}

enum { N_VARIED = 12 }; // options at the head of the table: what the other side of --vs may have otherwise

static int parse(bench_options *o, bool other_side, int argc, char **argv, const char **operands, int max_operands, int *n_operands) {
    const cli_option options[] = {
        {.name = "model", .letter = 'm', .kind = CLI_LIST, .value = &o->models, .arg = "FILE", .help = "GGUF file; may be given several times (default: the model that `wattle fetch smollm2` gets)"},
        {.name = "n-prompt", .letter = 'p', .kind = CLI_LIST, .value = &o->n_prompt, .arg = "LIST", .help = "prompt tokens to prefill; 0: no such test (default 512)"},
        {.name = "n-gen", .letter = 'n', .kind = CLI_LIST, .value = &o->n_gen, .arg = "LIST", .help = "tokens to decode; 0: no such test (default 128)"},
        {.name = "prompt-gen", .also = "pg", .kind = CLI_LIST, .value = &o->pairs, .arg = "P,N", .help = "a test that prefills P tokens and decodes N behind them; may be given several times"},
        {.name = "n-depth", .letter = 'd', .kind = CLI_LIST, .value = &o->n_depth, .arg = "LIST", .help = "tokens that are in the KV cache before the clock starts (default 0)"},
        OPTION_LIST("n-parallel", "npl", &o->n_parallel, "sequences that prefill and decode at once; tokens/s counts all of them (default 1)"),
        {.name = "batch-size", .letter = 'b', .kind = CLI_LIST, .value = &o->n_batch, .arg = "LIST", .help = "most tokens of a step (default 2048)"},
        OPTION_LIST("ubatch-size", "ub", &o->n_ubatch, "most tokens of a step; the smaller of the two counts (default 512)"),
        {.name = "threads", .letter = 't', .kind = CLI_LIST, .value = &o->n_threads, .arg = "LIST", .help = "threads (default: the physical cores this process may use)"},
        OPTION_LIST("cache-type-k", "ctk", &o->type_k, "type of the KV cache: f16 (default), f32 or q8_0"),
        OPTION_LIST("cache-type-v", "ctv", &o->type_v, "the same, for V; both must be alike (default f16)"),
        CLI_OPTION_BACKEND(&o->backend),
        {.name = "repetitions", .letter = 'r', .kind = CLI_INT, .value = &o->repetitions, .arg = "N", .min = 1, .max = 100000, .help = "of each test, besides the warm-up (default 5)"},
        {.name = "delay", .kind = CLI_INT, .value = &o->delay_s, .arg = "S", .min = 0, .max = 86400, .help = "seconds of rest before each test (default 0)"},
        {.name = "no-warmup", .kind = CLI_FLAG, .value = &o->no_warmup, .help = "start the clock with the first run"},
        {.name = "output", .letter = 'o', .kind = CLI_STRING, .value = &o->output, .arg = "FORMAT", .choices = "md|csv|json|jsonl|sql",
         .help = "md (a table, default), csv, json, jsonl or sql"},
        {.name = "no-limits", .kind = CLI_FLAG, .value = &o->no_limits, .help = "do not measure the machine's limits: no pct_bandwidth and pct_compute"},
        {.name = "limits", .kind = CLI_FLAG, .value = &o->limits, .help = "print what the machine can do at most and nothing else: memory reads, integer and float multiply-adds, with 1 thread and all (or -t); md or json"},
        {.name = "profile", .kind = CLI_FLAG, .value = &o->profile, .help = "per operation of each test: share of the time, bytes, multiply-adds and how near it is to the machine's limits; a norm or gated activation counts with the matmul that takes it in; md or json"},
        {.name = "compare", .kind = CLI_FLAG, .value = &o->compare, .help = "with two files that `wattle bench` or llama-bench wrote as json or jsonl: ratios, and what else differs"},
        {.name = "vs", .kind = CLI_STRING, .value = &o->vs, .arg = "B", .help = "run the tests in turns with B, another model or other options (\"-t 2\"), and print the ratio of neighbours; md or json"},
        {.name = "calibrate", .kind = CLI_FLAG, .value = &o->calibrate, .help = "choose thread counts for prompts and replies apart, in two seconds, and keep them for run, chat and serve without -t; md or json"},
        {.name = "plot", .kind = CLI_STRING, .value = &o->plot, .arg = "FILE.svg", .help = "draw tokens/s, and joules a token where known, over the first list that has several values (needs gnuplot)"},
        {.name = "progress", .kind = CLI_FLAG, .value = &o->progress, .help = "say on standard error what is running"},
        CLI_OPTIONS_METER(&o->meter),
    };
    const cli_command command = {
        .name = other_side ? "bench --vs" : "bench", .summary = "measure speed and joules of a model on this machine",
        .operands = other_side ? "" : "[--compare A.json B.json]", .options = options, .n_options = other_side ? N_VARIED : CLI_COUNT(options),
        .notes = "LIST: numbers between commas and ranges first-last, first-last+step, first-last*factor; every combination is a test.\n"
                 "Options, tests and fields are llama-bench's, so that its scripts can read the output; our fields come behind them\n"
                 "(joules are the means of one repetition, null with a reason where no source can be read; GB/s counts weights and KV,\n"
                 "with its share of the memory limit measured in the same run: above 100 % they came from a cache). Results go to\n"
                 "standard output. Ctrl-C prints what was measured so far (exit code 130).\n\n"
                 "examples:\n"
                 "  wattle bench\n"
                 "  wattle bench -m a.gguf -m b.gguf -p 512 -n 128 -t 1,2 -o json\n"
                 "  wattle bench -p 0 -n 64 -npl 1,8,32\n"
                 "  wattle bench -p 0 -n 32 -d 0-2048+512 --plot depth.svg\n"
                 "  wattle bench --limits\n"
                 "  wattle bench --profile -p 512 -n 32\n"
                 "  wattle bench -t 1 --vs \"-t 2\" -r 20\n"
                 "  wattle bench --compare before.json after.json\n"};
    return cli_parse(&command, argc, argv, operands, max_operands, n_operands);
}

// ---- Lists ----------------------------------------------------------------------------------------------------------
static int check_most(const char *name, const bench_list *list, int32_t max) {
    for (size_t i = 0; i < list->n; i++)
        if (list->values[i] > max) return cli_wrong("bench: --%s %d: at most %d", name, list->values[i], max);
    return CLI_GO;
}

static int read_lists(bench_options *o) {
    bench_params *p = &o->params;
    const struct {
        const char *name;
        const cli_list *given;
        bench_list *out;
        int32_t min;
    } lists[] = {{"n-prompt", &o->n_prompt, &p->n_prompt, 0}, {"n-gen", &o->n_gen, &p->n_gen, 0}, {"n-depth", &o->n_depth, &p->n_depth, 0},
                 {"n-parallel", &o->n_parallel, &p->n_parallel, 1}, {"batch-size", &o->n_batch, &p->n_batch, 1}, {"ubatch-size", &o->n_ubatch, &p->n_ubatch, 1},
                 {"threads", &o->n_threads, &p->n_threads, 1}};
    char why[160];
    for (size_t i = 0; i < CLI_COUNT(lists); i++)
        for (size_t k = 0; k < lists[i].given->n; k++)
            if (!bench_list_add(lists[i].out, lists[i].given->items[k], lists[i].min, why, sizeof why))
                return cli_wrong("bench: --%s %s: %s", lists[i].name, lists[i].given->items[k], why);
    for (size_t k = 0; k < o->pairs.n; k++, p->n_pairs++)
        if (!bench_pair_parse(o->pairs.items[k], &p->pair_prompt[k], &p->pair_gen[k], why, sizeof why)) return cli_wrong("bench: -pg %s: %s", o->pairs.items[k], why);
    const int code = check_most("n-parallel", &p->n_parallel, BENCH_PARALLEL_MAX);
    return code == CLI_GO ? check_most("threads", &p->n_threads, BENCH_THREADS_MAX) : code;
}

static int read_kv_types(const char *name, const cli_list *given, wtl_kv_type *out, size_t *n) {
    for (size_t i = 0; i < given->n; i++) {
        const char *item = given->items[i];
        while (*item) {
            char word[16];
            const size_t len = strcspn(item, ",");
            snprintf(word, sizeof word, "%.*s", (int)len, item);
            if (*n == BENCH_KV_MAX || !kv_type_parse(word, &out[*n]))
                return cli_wrong("bench: --%s %s: must be f16 or f32 or q8_0", name, given->items[i]);
            ++*n;
            item += len + (item[len] == ',');
        }
    }
    return CLI_GO;
}

// ---- Models -----------------------------------------------------------------------------------------------------------
static int add_model(bench_options *o, char *path) {
    if (!path) return cli_fail("out of memory");
    if (o->n_texts == CLI_COUNT(o->texts)) {
        free(path);
        return cli_wrong("bench: more than %zu models", CLI_COUNT(o->texts));
    }
    o->texts[o->n_texts++] = path;
    o->params.models[o->params.n_models++] = path;
    return CLI_GO;
}

// llama-bench takes a,b for two models; a file whose name has a comma is one.
static int add_models(bench_options *o, const char *text) {
    if (access(text, F_OK) == 0 || !strchr(text, ',')) return add_model(o, strdup(text));
    int code = CLI_GO;
    while (code == CLI_GO && *text) {
        const size_t len = strcspn(text, ",");
        if (len) code = add_model(o, strndup(text, len));
        text += len + (text[len] == ',');
    }
    return code;
}

static int read_models(bench_options *o) {
    int code = CLI_GO;
    for (size_t i = 0; i < o->models.n && code == CLI_GO; i++) code = add_models(o, o->models.items[i]);
    if (code != CLI_GO || o->params.n_models) return code;
    char *path = NULL;
    code = cli_model_path(NULL, &path);
    return code == CLI_GO ? add_model(o, path) : code;
}

// What the lists mean; the command line was read.
static int understand(bench_options *o) {
    bench_format_parse(o->output ? o->output : "md", &o->format);
    int code = read_lists(o);
    if (code == CLI_GO) code = read_kv_types("cache-type-k", &o->type_k, o->params.type_k, &o->params.n_type_k);
    if (code == CLI_GO) code = read_kv_types("cache-type-v", &o->type_v, o->params.type_v, &o->params.n_type_v);
    return code == CLI_GO && !o->limits && !o->compare ? read_models(o) : code;
}

// Short names of llama-bench for what there is not here. getopt would read -ngl as -n gl and -mmp as -m mp.
static int refuse_foreign(int argc, char **argv) {
    static const char *const names[] = {"-ngl", "-ncmoe", "-nkvo", "-nopo", "-mmp", "-mg", "-ts", "-tgb", "-oe", "-ot", "-dev", "-rpc", "-rtr", "-rcache",
                                        "-fa", "-sm", "-embd", "-lm", "-lzm", "-hf", "-hfr", "-hff", "-gp"};
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        for (size_t k = 0; k < CLI_COUNT(names); k++)
            if (strcmp(argv[i], names[k]) == 0) return cli_wrong("bench: %s of llama-bench has no meaning here: leave it out, and its value", names[k]);
    return CLI_GO;
}

int bench_options_read(bench_options *o, int argc, char **argv, const char **operands, int max_operands, int *n_operands) {
    if (refuse_foreign(argc, argv) != CLI_GO) return CLI_USAGE;
    const int code = parse(o, false, argc, argv, operands, max_operands, n_operands);
    return code == CLI_GO ? understand(o) : code;
}

// ---- The other side of --vs -------------------------------------------------------------------------------------------
// Words between spaces; argv[0] is the command's name. Their number, or 0 when there are too many.
static int split_words(char *text, char *argv[], int max) {
    int n = 0;
    static char name[] = "bench";
    argv[n++] = name;
    for (char *word = strtok(text, " "); word; word = strtok(NULL, " ")) {
        if (n == max) return 0;
        argv[n++] = word;
    }
    argv[n] = NULL;
    return n;
}

// The environment was read again, too: only what lies in the text of --vs was said there.
static bool said(const bench_options *o, const char *item) { return item >= o->words && item <= o->words + o->words_len; }

static void keep_unsaid(bench_options *o, const bench_options *a) {
    cli_list *const lists[] = {&o->models, &o->n_prompt, &o->n_gen, &o->pairs, &o->n_depth, &o->n_batch, &o->n_ubatch, &o->type_k, &o->type_v, &o->n_threads, &o->n_parallel};
    const cli_list *const theirs[] = {&a->models, &a->n_prompt, &a->n_gen, &a->pairs, &a->n_depth, &a->n_batch, &a->n_ubatch, &a->type_k, &a->type_v, &a->n_threads, &a->n_parallel};
    for (size_t i = 0; i < CLI_COUNT(lists); i++)
        if (lists[i]->n == 0 || !said(o, lists[i]->items[0])) *lists[i] = *theirs[i];
    if (!o->backend || !said(o, o->backend)) o->backend = a->backend;
}

int bench_options_vary(const bench_options *a, const char *text, bench_options *o) {
    enum { WORDS_MAX = 64 };
    char *argv[WORDS_MAX + 1];
    int n_operands = 0;
    *o = (bench_options){.words = strdup(text), .words_len = strlen(text)};
    if (!o->words) return cli_fail("out of memory");
    if (*text != '-') {
        o->models = (cli_list){.items = {o->words}, .n = 1};
    } else {
        const int argc = split_words(o->words, argv, WORDS_MAX);
        if (argc == 0) return cli_wrong("bench: --vs: more than %d words", WORDS_MAX - 1);
        const int code = parse(o, true, argc, argv, NULL, 0, &n_operands);
        if (code != CLI_GO) return code;
    }
    keep_unsaid(o, a);
    return understand(o);
}

void bench_options_free(bench_options *o) {
    for (size_t i = 0; i < o->n_texts; i++) free(o->texts[i]);
    free(o->words);
    *o = (bench_options){0};
}
