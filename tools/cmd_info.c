// `wattle info FILE`: what a model file holds, in words, as a table of tensors, or as JSON.
//
// Reads metadata only (wtl_file), so it takes milliseconds whatever the file's size. Sizes are decimal: 1 MB = 10^6
// bytes. A file that can be read but not run is described all the same, with the reason; that is no failure.
// SPDX-License-Identifier: Apache-2.0
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "runtime/wattle.h"
#include "tools/cli.h"

// ---- Tensor groups ----------------------------------------------------------------------------------------------
enum { GROUP_EMBEDDING, GROUP_ATTENTION, GROUP_FFN, GROUP_NORMS, GROUP_OUTPUT, GROUP_OTHER, GROUPS };
static const char *const group_names[GROUPS] = {"embedding", "attention", "feed-forward", "norms", "output", "other"};

#define TYPES_MAX 48 // more than the format has

typedef struct tensor_type {
    const char *name; // borrowed from the file
    uint64_t bytes;
} tensor_type;

typedef struct tensor_group {
    uint64_t n, bytes;
    tensor_type types[TYPES_MAX];
    size_t n_types;
} tensor_group;

static int group_of(const char *name) {
    if (strstr(name, "norm")) return GROUP_NORMS;
    if (strncmp(name, "output.", 7) == 0) return GROUP_OUTPUT;
    if (strstr(name, "embd") || strncmp(name, "token_types", 11) == 0) return GROUP_EMBEDDING;
    if (strstr(name, "attn_")) return GROUP_ATTENTION;
    if (strstr(name, "ffn_")) return GROUP_FFN;
    return GROUP_OTHER;
}

// Largest type first.
static void sort_types(tensor_group *g) {
    for (size_t i = 1; i < g->n_types; i++)
        for (size_t k = i; k > 0 && g->types[k].bytes > g->types[k - 1].bytes; k--) {
            tensor_type t = g->types[k];
            g->types[k] = g->types[k - 1];
            g->types[k - 1] = t;
        }
}

static void group_tensors(const wtl_file *file, uint64_t n_tensors, tensor_group groups[GROUPS]) {
    for (uint64_t i = 0; i < n_tensors; i++) {
        wtl_tensor_info t = wtl_file_tensor(file, i);
        tensor_group *g = &groups[group_of(t.name)];
        size_t k = 0;
        while (k < g->n_types && strcmp(g->types[k].name, t.dtype) != 0) k++;
        if (k == TYPES_MAX) continue;
        if (k == g->n_types) {
            g->types[k].name = t.dtype;
            g->n_types++;
        }
        g->types[k].bytes += t.bytes;
        g->bytes += t.bytes;
        g->n++;
    }
    for (int i = 0; i < GROUPS; i++) sort_types(&groups[i]);
}

// ---- Figures ----------------------------------------------------------------------------------------------------

static double megabytes(uint64_t bytes) { return (double)bytes / 1e6; }

static bool can_run(const wtl_file_info *info) { return info->arch_supported && !*info->obstacle; }

// KV bytes of a full context: window layers keep the window only.
static uint64_t kv_bytes_full(const wtl_file_info *info) {
    if (!info->n_layers) return 0;
    uint64_t per_layer = info->kv_bytes_per_token / info->n_layers;
    uint64_t n_window = info->window && info->window < info->n_ctx_train ? info->n_window_layers : 0;
    return per_layer * ((info->n_layers - n_window) * (uint64_t)info->n_ctx_train + n_window * info->window);
}

// "134.5 M", "7.24 B"
static const char *short_count(uint64_t n, char text[24]) {
    double v = (double)n;
    if (v >= 1e9)
        snprintf(text, 24, "%.2f B", v / 1e9);
    else if (v >= 1e6)
        snprintf(text, 24, "%.1f M", v / 1e6);
    else if (v >= 1e4)
        snprintf(text, 24, "%.1f k", v / 1e3);
    else
        snprintf(text, 24, "%" PRIu64, n);
    return text;
}

// ---- Words ------------------------------------------------------------------------------------------------------

static void print_model(const wtl_file_info *info) {
    char count[24];
    cli_printf("  %-16s%s\n", "architecture", *info->arch ? info->arch : "not named");
    cli_printf("  %-16s%s%s\n", "runs in wattle", can_run(info) ? "yes" : "no: ", info->obstacle);
    if (*info->name) cli_printf("  %-16s%s\n", "name", info->name);
    if (info->n_params)
        cli_printf("  %-16s%s, %.2f bits each\n", "parameters", short_count(info->n_params, count),
                   8 * (double)info->tensor_bytes / (double)info->n_params);
    if (info->n_ctx_train) cli_printf("  %-16s%" PRIu32 " tokens\n", "context", info->n_ctx_train);
    if (info->n_layers) cli_printf("  %-16s%" PRIu32 "\n", "layers", info->n_layers);
    if (info->n_embd) {
        cli_printf("  %-16s%" PRIu32, "width", info->n_embd);
        if (info->n_ff) cli_printf(", feed-forward %" PRIu32, info->n_ff);
        cli_printf("\n");
    }
    if (info->n_heads)
        cli_printf("  %-16s%" PRIu32 " heads, %" PRIu32 " for keys and values, %" PRIu32 " dimensions each\n",
                   "attention", info->n_heads, info->n_heads_kv, info->head_dim);
    if (info->window && info->n_window_layers)
        cli_printf("  %-16s%" PRIu32 " of %" PRIu32 " layers see the last %" PRIu32 " tokens only\n", "window",
                   info->n_window_layers, info->n_layers, info->window);
    else if (info->window)
        cli_printf("  %-16ssome layers see the last %" PRIu32 " tokens only\n", "window", info->window);
}

static void print_vocab(const wtl_file_info *info) {
    if (info->has_vocab) {
        cli_printf("  %-16s%s", "tokenizer", *info->vocab_model ? info->vocab_model : "of no named kind");
        if (*info->vocab_pre) cli_printf(", pre-tokenizer %s", info->vocab_pre);
        cli_printf(", %" PRIu32 " tokens\n", info->n_vocab);
    } else {
        cli_printf("  %-16snone\n", "tokenizer");
    }
    cli_printf("  %-16s%s\n", "chat template", info->has_template ? "yes" : "no");
}

static void print_costs(const wtl_file_info *info) {
    if (info->decode_bytes)
        cli_printf("  %-16s%.1f MB of weights are read per decoded token\n", "decode", megabytes(info->decode_bytes));
    if (info->kv_bytes_per_token) {
        cli_printf("  %-16s%.1f kB per token (f16)", "KV cache", (double)info->kv_bytes_per_token / 1e3);
        if (info->n_ctx_train)
            cli_printf(", %.1f MB for %" PRIu32 " tokens", megabytes(kv_bytes_full(info)), info->n_ctx_train);
        if (info->kv_bytes_per_token_q8_0) cli_printf("; with --kv q8_0 %.1f kB", (double)info->kv_bytes_per_token_q8_0 / 1e3);
        cli_printf("\n");
    }
}

static void print_groups(const wtl_file_info *info, const tensor_group groups[GROUPS]) {
    cli_printf("\n  %-16s%7s %10s  %s\n", "tensors", "count", "MB", "types");
    for (int i = 0; i < GROUPS; i++) {
        const tensor_group *g = &groups[i];
        if (i == GROUP_OUTPUT && !g->n && groups[GROUP_EMBEDDING].n) {
            cli_printf("  %-16s%7s %10s  the embedding serves as output\n", group_names[i], "-", "-");
            continue;
        }
        if (!g->n) continue;
        cli_printf("  %-16s%7" PRIu64 " %10.1f  ", group_names[i], g->n, megabytes(g->bytes));
        for (size_t k = 0; k < g->n_types; k++) {
            cli_printf("%s%s", k ? ", " : "", g->types[k].name);
            if (g->n_types > 1) cli_printf(" %.1f", megabytes(g->types[k].bytes));
        }
        cli_printf("\n");
    }
    cli_printf("  %-16s%7" PRIu64 " %10.1f\n", "all", info->n_tensors, megabytes(info->tensor_bytes));
}

static void print_tensors(const wtl_file *file, uint64_t n) {
    cli_printf("\n  %14s %12s  %-8s %-24s %s\n", "offset", "bytes", "type", "shape", "tensor");
    for (uint64_t i = 0; i < n; i++) {
        wtl_tensor_info t = wtl_file_tensor(file, i);
        char shape[4 * 24] = "";
        size_t len = 0;
        for (uint32_t d = 0; d < t.n_dims; d++)
            len += (size_t)snprintf(shape + len, sizeof shape - len, "%s%" PRIu64, d ? " x " : "", t.dims[d]);
        cli_printf("  %14" PRIu64 " %12" PRIu64 "  %-8s %-24s %s\n", t.file_offset, t.bytes, t.dtype, shape, t.name);
    }
}

// ---- JSON -------------------------------------------------------------------------------------------------------

static json_t *json_count(uint64_t n) { return json_integer((json_int_t)n); }

static json_t *json_groups(const tensor_group groups[GROUPS]) {
    json_t *list = json_array();
    for (int i = 0; i < GROUPS; i++) {
        if (!groups[i].n) continue;
        json_t *types = json_object();
        for (size_t k = 0; k < groups[i].n_types; k++)
            json_object_set_new(types, groups[i].types[k].name, json_count(groups[i].types[k].bytes));
        json_array_append_new(list,
                              json_pack("{s:s, s:o, s:o, s:o}", "name", group_names[i], "tensors",
                                        json_count(groups[i].n), "bytes", json_count(groups[i].bytes), "types", types));
    }
    return list;
}

static json_t *json_tensors(const wtl_file *file, uint64_t n) {
    json_t *list = json_array();
    for (uint64_t i = 0; i < n; i++) {
        wtl_tensor_info t = wtl_file_tensor(file, i);
        json_t *shape = json_array();
        for (uint32_t d = 0; d < t.n_dims; d++) json_array_append_new(shape, json_count(t.dims[d]));
        json_array_append_new(list,
                              json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", t.name, "type", t.dtype, "shape", shape,
                                        "bytes", json_count(t.bytes), "offset", json_count(t.file_offset)));
    }
    return list;
}

static json_t *json_info(const wtl_file_info *info, const char *path) {
    json_t *object = json_object();
    const struct {
        const char *key;
        uint64_t value;
    } counts[] = {
        {"gguf_version", info->version},
        {"file_bytes", info->file_bytes},
        {"n_params", info->n_params},
        {"n_tensors", info->n_tensors},
        {"tensor_bytes", info->tensor_bytes},
        {"n_ctx_train", info->n_ctx_train},
        {"n_layers", info->n_layers},
        {"n_embd", info->n_embd},
        {"n_ff", info->n_ff},
        {"n_heads", info->n_heads},
        {"n_heads_kv", info->n_heads_kv},
        {"head_dim", info->head_dim},
        {"window_tok", info->window},
        {"n_window_layers", info->n_window_layers},
        {"n_vocab", info->n_vocab},
        {"decode_bytes", info->decode_bytes},
        {"kv_bytes_per_token", info->kv_bytes_per_token},
        {"kv_bytes_per_token_q8_0", info->kv_bytes_per_token_q8_0},
        {"kv_bytes_full", kv_bytes_full(info)},
    };
    json_t *file_name = json_string(path); // NULL when the name is no UTF-8
    json_object_set_new(object, "file", file_name ? file_name : json_null());
    json_object_set_new(object, "arch", json_string(info->arch));
    json_object_set_new(object, "name", json_string(info->name));
    json_object_set_new(object, "runs", json_boolean(can_run(info)));
    json_object_set_new(object, "obstacle", *info->obstacle ? json_string(info->obstacle) : json_null());
    for (size_t i = 0; i < CLI_COUNT(counts); i++)
        json_object_set_new(object, counts[i].key, json_count(counts[i].value));
    json_object_set_new(object, "has_vocab", json_boolean(info->has_vocab));
    json_object_set_new(object, "vocab_model", json_string(info->vocab_model));
    json_object_set_new(object, "vocab_pre", json_string(info->vocab_pre));
    json_object_set_new(object, "has_template", json_boolean(info->has_template));
    return object;
}

// ---- Command ----------------------------------------------------------------------------------------------------

int cmd_info(int argc, char **argv) {
    bool tensors = false, json = false;
    const cli_option options[] = {
        {.name = "tensors", .kind = CLI_FLAG, .value = &tensors, .help = "also list every tensor"},
        CLI_OPTION_JSON(&json),
    };
    const cli_command command = {.name = "info",
                                 .summary = "say what a model file holds",
                                 .operands = "FILE",
                                 .options = options,
                                 .n_options = CLI_COUNT(options)};
    const char *path = NULL;
    int n_paths = 0, code = cli_parse(&command, argc, argv, &path, 1, &n_paths);
    if (code != CLI_GO) return code;
    if (!n_paths) return cli_wrong("info: which file? usage: wattle info FILE");

    wtl_file *file = NULL;
    wtl_error err;
    if (wtl_file_open(path, &file, &err)) return cli_fail("%s", err.message);
    wtl_file_info info = wtl_file_describe(file);
    tensor_group groups[GROUPS] = {0};
    group_tensors(file, info.n_tensors, groups);
    if (json) {
        json_t *object = json_info(&info, path);
        json_object_set_new(object, "groups", json_groups(groups));
        if (tensors) json_object_set_new(object, "tensors", json_tensors(file, info.n_tensors));
        cli_put_json(object);
        json_decref(object);
    } else {
        cli_printf("%s\n  %-16sGGUF version %" PRIu32 ", %.1f MB\n", path, "format", info.version,
                   megabytes(info.file_bytes));
        print_model(&info);
        print_vocab(&info);
        print_costs(&info);
        if (info.n_tensors) print_groups(&info, groups);
        if (tensors && info.n_tensors) print_tensors(file, info.n_tensors);
    }
    wtl_file_close(&file);
    return cli_finish(CLI_OK);
}
