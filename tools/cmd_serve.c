// `wattle serve`: the options of the server, spelt as llama-server's where both have the thing. The server itself is in serve/server_life.c.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli.h"
#include "tools/serve/server_life.h"

enum { PARALLEL = 8 };

// What the command line gives in another form than the server wants it.
typedef struct serve_words {
    const char *kv_memory, *key_file, *type_k, *type_v;
    cli_list keys;
    bool metrics, slots, no_slots;
} serve_words;

static int parse(server_options *o, serve_words *w, int argc, char **argv) {
    const cli_option options[] = {
        CLI_OPTION_MODEL(&o->model),
        {.name = "host", .kind = CLI_STRING, .value = &o->host, .arg = "ADDRESS", .help = "address to listen on (default 127.0.0.1; 0.0.0.0 for all, then also set --api-key)"},
        {.name = "port", .kind = CLI_INT, .value = &o->port, .arg = "N", .max = 65535, .help = "0: any free one, see the line that says where (default 8080)"},
        {.name = "ctx-size", .letter = 'c', .kind = CLI_INT, .value = &o->n_ctx, .arg = "N", .max = 2147483647,
         .help = "positions of all parallel requests together: each gets N / parallel for prompt and reply (default 0: each gets the model's, at most 8192)"},
        {.name = "parallel", .also = "np", .kind = CLI_INT, .value = &o->n_parallel, .arg = "N", .min = 1, .max = 256, .help = "requests that run at once (default 8)"},
        CLI_OPTION_THREADS(&o->threads),
        {.name = "batch-size", .letter = 'b', .kind = CLI_INT, .value = &o->n_batch, .arg = "N", .max = 65536, .help = "tokens of one step at most (default 512)"},
        {.name = "ubatch-size", .also = "ub", .kind = CLI_INT, .value = &o->n_ubatch, .arg = "N", .max = 65536, .help = "the same; the smaller of the two counts"},
        {.name = "api-key", .kind = CLI_LIST, .value = &w->keys, .arg = "KEY", .help = "ask for this key; several with commas between, or the option again (default: any key, or none)"},
        {.name = "api-key-file", .kind = CLI_STRING, .value = &w->key_file, .arg = "FILE", .help = "the same, one key per line: not seen in lists of processes"},
        {.name = "alias", .letter = 'a', .kind = CLI_STRING, .value = &o->alias, .arg = "NAME", .help = "what the model is called (default: its file's name)"},
        {.name = "chat-template", .kind = CLI_STRING, .value = &o->chat_template, .arg = "FILE|NAME", .help = "a Jinja file, or a built-in template (default: the model's own)"},
        {.name = "n-predict", .letter = 'n', .kind = CLI_INT, .value = &o->n_predict, .arg = "N", .min = -1, .max = 2147483647,
         .help = "tokens of a reply whose request sets no limit; -1: until it ends or the context is full (default -1)"},
        {.name = "max-itl-ms", .kind = CLI_FLOAT, .value = &o->max_itl_ms, .arg = "MS", .min = 1, .max = 60000,
         .help = "target for the time between two tokens of a running reply while prompts are read (default 100)"},
        {.name = "draft-max", .also = "draft", .kind = CLI_INT, .value = &o->n_draft, .arg = "N", .max = 15,
         .help = "tokens guessed from what a text repeats and checked in one step: the same reply, sooner; 0: none (default 7)"},
        {.name = "queue", .kind = CLI_INT, .value = &o->n_queue, .arg = "N", .min = 1, .max = 100000, .help = "requests that wait at most; more get 503 (default 256)"},
        {.name = "kv-memory", .kind = CLI_STRING, .value = &w->kv_memory, .arg = "SIZE",
         .help = "memory of the KV cache, running and kept, in MiB or as 1.5G (default: the whole context of all parallel requests, at most a quarter of the machine's memory)"},
        CLI_OPTION_KV(&o->kv),
        {.name = "cache-type-k", .also = "ctk", .kind = CLI_STRING, .value = &w->type_k, .arg = "TYPE", .choices = KV_TYPE_CHOICES, .help = "llama-server's names for --kv: both"},
        {.name = "cache-type-v", .also = "ctv", .kind = CLI_STRING, .value = &w->type_v, .arg = "TYPE", .choices = KV_TYPE_CHOICES, .help = "must be given, with the same type"},
        {.name = "kv-dir", .kind = CLI_STRING, .value = &o->kv_dir, .arg = "FOLDER", .help = "keep cached prompts here over restarts"},
        {.name = "no-prefix-cache", .kind = CLI_FLAG, .value = &o->no_prefix_cache, .help = "read every prompt from its first token"},
        {.name = "max-connections", .kind = CLI_INT, .value = &o->max_connections, .arg = "N", .min = 1, .max = 65536, .help = "open connections at most (default 512)"},
        {.name = "drain", .kind = CLI_FLOAT, .value = &o->drain_s, .arg = "SECONDS", .max = 86400, .help = "after SIGTERM: finish running answers for so long (default 30)"},
        {.name = "settle-ms", .kind = CLI_FLOAT, .value = &o->settle_ms, .arg = "MS", .max = 60000,
         .help = "the end of an answer waits so long for its joules to settle: GPU counters are a quarter of a second late (default 400)"},
        {.name = "price", .kind = CLI_FLOAT, .value = &o->price_per_kwh, .arg = "X", .max = 1e6, .help = "price of a kWh: answers then have a cost"},
        {.name = "currency", .kind = CLI_STRING, .value = &o->currency, .arg = "NAME", .help = "of the price (\"EUR\")"},
        {.name = "carbon", .kind = CLI_FLOAT, .value = &o->carbon_gco2e_per_kwh, .arg = "G", .max = 1e6, .help = "grams of CO2e of a kWh here: answers then have a footprint"},
        {.name = "metrics", .kind = CLI_FLAG, .value = &w->metrics, .help = "accepted; GET /metrics is always there"},
        {.name = "slots", .kind = CLI_FLAG, .value = &w->slots, .help = "accepted; GET /slots is there unless --no-slots"},
        {.name = "no-slots", .kind = CLI_FLAG, .value = &w->no_slots, .help = "without GET /slots"},
        {.name = "no-webui", .kind = CLI_FLAG, .value = &o->no_webui, .help = "without the chat page"},
        {.name = "log-json", .kind = CLI_FLAG, .value = &o->log_json, .help = "log lines as JSON objects"},
        {.name = "verbose", .letter = 'v', .kind = CLI_FLAG, .value = &o->verbose, .help = "more in the log lines"},
        CLI_OPTION_BACKEND(&o->backend),
        {.name = "deterministic", .kind = CLI_FLAG, .value = &o->deterministic, .help = "logits do not depend on the batch for F32, F16 and BF16 weights either (slower prompts)"},
        CLI_OPTIONS_ENERGY(&o->energy),
    };
    const cli_command command = {
        .name = "serve", .summary = "answer HTTP requests: chat, completions, energy", .operands = "", .options = options, .n_options = CLI_COUNT(options),
        .notes = "Speaks the OpenAI API (/v1/chat/completions, /v1/completions, /v1/models) and llama-server's own routes; usage.energy has the\n"
                 "joules of every answer. GET / is a chat page, GET /metrics is for Prometheus, GET /v1/energy has the sums.\n"
                 "Requests get 503 while the model loads. SIGTERM or Ctrl-C ends after the running answers, a second one at once.\n\n"
                 "examples:\n"
                 "  wattle serve\n"
                 "  wattle serve -m model.gguf --host 0.0.0.0 --api-key-file keys.txt -np 16 -c 65536\n"};
    int n_operands = 0;
    return cli_parse(&command, argc, argv, NULL, 0, &n_operands);
}

// "512" and "512M" are MiB, "1.5G" GiB, "800K" KiB; "MiB", "GB" and the like mean the same.
static bool parse_memory(const char *text, double *mib) {
    char *end = NULL;
    if (*text < '0' || *text > '9') return false;
    const double value = strtod(text, &end);
    double unit = 1;
    switch (*end) {
    case '\0': break;
    case 'k': case 'K': unit = 1.0 / 1024; break;
    case 'm': case 'M': break;
    case 'g': case 'G': unit = 1024; break;
    case 't': case 'T': unit = 1048576; break;
    default: return false;
    }
    if (*end) end++;
    if (strcmp(end, "iB") == 0 || strcmp(end, "B") == 0) end = "";
    *mib = value * unit;
    return !*end && isfinite(*mib) && *mib > 0 && *mib < 1e9;
}

// ---- Keys ----------------------------------------------------------------------------------------------------------------------------
static int add_key(cli_list *keys, const char *key) {
    if (!*key) return CLI_GO;
    if (keys->n == CLI_COUNT(keys->items)) return cli_wrong("serve: more than %zu API keys", CLI_COUNT(keys->items));
    keys->items[keys->n++] = key;
    return CLI_GO;
}

// Cuts `text` at the separators; the keys borrow its bytes.
static int add_keys(cli_list *keys, char *text, const char *separators) {
    char *rest = NULL;
    int code = CLI_GO;
    for (char *key = strtok_r(text, separators, &rest); key && code == CLI_GO; key = strtok_r(NULL, separators, &rest)) {
        key += strspn(key, " \t");
        for (size_t n = strlen(key); n && strchr(" \t", key[n - 1]); n--) key[n - 1] = '\0';
        code = add_key(keys, key);
    }
    return code;
}

// The texts that keys borrow from; freed after the server has ended.
typedef struct key_texts {
    char *of[34];
    size_t n;
} key_texts;

static int collect_keys(const serve_words *w, cli_list *keys, key_texts *texts) {
    int code = CLI_GO;
    for (size_t i = 0; i < w->keys.n && code == CLI_GO; i++) {
        char *text = strdup(w->keys.items[i]);
        if (!text) return cli_fail("out of memory for the API keys");
        texts->of[texts->n++] = text;
        code = add_keys(keys, text, ",");
    }
    if (w->key_file && code == CLI_GO) {
        cli_text text = {0};
        code = cli_text_read(NULL, w->key_file, &text);
        if (code != CLI_GO) return code;
        texts->of[texts->n++] = text.bytes;
        code = add_keys(keys, text.bytes, "\r\n");
    }
    const bool asked = w->keys.n > 0 || w->key_file;
    if (code == CLI_GO && asked && keys->n == 0) return cli_wrong("serve: no API key in what was given: an open server needs no --api-key");
    return code;
}

// llama-server's -ctk and -ctv say what --kv says; what is not given is f16, as there.
static int check_kv(server_options *o, const serve_words *w) {
    if (!w->type_k && !w->type_v) return CLI_GO;
    const char *k = w->type_k ? w->type_k : "f16", *v = w->type_v ? w->type_v : "f16";
    if (strcmp(k, v) != 0) return cli_wrong("serve: -ctk %s -ctv %s: K and V must have the same type", k, v);
    if (o->kv && strcmp(o->kv, k) != 0) return cli_wrong("serve: --kv %s and -ctk %s: give one of them", o->kv, k);
    o->kv = k;
    return CLI_GO;
}

static int check(server_options *o, const serve_words *w) {
    const int code = check_kv(o, w);
    if (code != CLI_GO) return code;
    if (w->kv_memory && !parse_memory(w->kv_memory, &o->kv_memory_mib)) return cli_wrong("serve: --kv-memory %s: must be a size (512, 512M, 1.5G)", w->kv_memory);
    if (o->n_ctx > 0 && o->n_ctx < 2 * o->n_parallel)
        return cli_wrong("serve: --ctx-size %lld is for all %lld parallel requests together: each needs two positions at least", (long long)o->n_ctx, (long long)o->n_parallel);
    if (o->currency && o->price_per_kwh <= 0) return cli_wrong("serve: --currency needs --price");
    o->metrics = true; // harmless, and a dashboard should not need a restart
    o->slots = !w->no_slots;
    return CLI_GO;
}

int cmd_serve(int argc, char **argv) {
    server_options o = {.port = 8080, .n_parallel = PARALLEL, .n_draft = 7, .n_predict = -1, .drain_s = 30, .settle_ms = 400};
    serve_words words = {0};
    key_texts texts = {0};
    int code = parse(&o, &words, argc, argv);
    if (code == CLI_GO) code = check(&o, &words);
    if (code == CLI_GO) code = collect_keys(&words, &o.api_keys, &texts);
    if (code == CLI_GO) code = server_run(&o);
    for (size_t i = 0; i < texts.n; i++) free(texts.of[i]);
    return cli_finish(code);
}
