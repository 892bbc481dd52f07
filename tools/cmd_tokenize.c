// `wattle tokenize`: text to token ids, as lines, with their pieces, or as one JSON object.
//
// Works on any GGUF file with a vocabulary, tensors or not. Pieces are shown with_special, so that they add up to the text
// plus what the model puts around it. A piece that is only a part of a character cannot be a JSON string: it is an array of
// its bytes there, and \xNN in the quoted form.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>

#include "runtime/wattle.h"
#include "tools/cli.h"

typedef struct tokenize {
    const char *model, *prompt, *file;
    bool json, pieces, no_special;

    char *model_path;
    cli_text text;
    wtl_vocab *vocab;
    int32_t *ids; // [n]
    size_t n;
} tokenize;

static void close_all(tokenize *t) {
    wtl_vocab_close(&t->vocab);
    cli_text_free(&t->text);
    free(t->model_path);
    free(t->ids);
}

static int parse(tokenize *t, int argc, char **argv) {
    const cli_option options[] = {
        CLI_OPTION_MODEL(&t->model),
        CLI_OPTION_PROMPT(&t->prompt),
        CLI_OPTION_FILE(&t->file),
        CLI_OPTION_JSON(&t->json),
        {.name = "pieces", .kind = CLI_FLAG, .value = &t->pieces, .help = "one token a line: its id, a tab, its text in quotes"},
        {.name = "no-special", .kind = CLI_FLAG, .value = &t->no_special,
         .help = "add no BOS or EOS, and leave names of control tokens in the text what they are: text"},
    };
    const cli_command command = {
        .name = "tokenize",
        .summary = "turn text into tokens",
        .operands = "",
        .notes = "examples:\n  wattle tokenize -p \"Hello world\"\n  wattle tokenize -m vocab.gguf -f text.txt --pieces\n",
        .options = options,
        .n_options = CLI_COUNT(options),
    };
    int n_operands = 0;
    return cli_parse(&command, argc, argv, NULL, 0, &n_operands);
}

static int encode(tokenize *t) {
    wtl_error err;
    if (wtl_vocab_open(t->model_path, &t->vocab, &err)) return cli_fail("%s", err.message);
    unsigned flags = t->no_special ? 0 : WTL_ADD_SPECIAL | WTL_PARSE_SPECIAL;
    size_t cap = t->text.len / 3 + 64; // most texts need no second call
    for (;;) {
        t->ids = malloc(cap * sizeof *t->ids);
        if (!t->ids) return cli_fail("out of memory for %zu tokens", cap);
        if (wtl_tokenize(t->vocab, t->text.bytes, t->text.len, flags, t->ids, cap, &t->n, &err))
            return cli_fail("%s", err.message);
        if (t->n <= cap) return CLI_GO;
        free(t->ids);
        cap = t->n;
    }
}

static void put_quoted(const char *piece, size_t len) {
    wtl_text_stream state = {0};
    char out[3 * (4 + 4)];
    cli_put("\"", 1);
    for (size_t i = 0; i < len;) {
        // The longest whole character at i, found by feeding bytes until one comes out.
        unsigned char c = (unsigned char)piece[i];
        size_t n = 0, take = 0;
        state.n_pending = 0;
        while (n == 0 && take < 4 && i + take < len) n = wtl_text_push(&state, piece + i + take++, 1, out, sizeof out);
        bool whole = n == take && n > 0 && memcmp(out, piece + i, n) == 0;
        if (c == '"' || c == '\\') cli_printf("\\%c", c);
        else if (c == '\n') cli_put("\\n", 2);
        else if (c == '\t') cli_put("\\t", 2);
        else if (c == '\r') cli_put("\\r", 2);
        else if (c < 0x20 || c == 0x7F || !whole) cli_printf("\\x%02X", c);
        else cli_put(piece + i, n);
        i += whole ? n : 1;
    }
    cli_put("\"", 1);
}

static void print_pieces(const tokenize *t) {
    for (size_t i = 0; i < t->n; i++) {
        size_t len;
        const char *piece = wtl_token_bytes(t->vocab, t->ids[i], true, &len);
        if (!cli_printf("%d\t", (int)t->ids[i])) return;
        put_quoted(piece, len);
        cli_put("\n", 1);
    }
}

static void print_ids(const tokenize *t) {
    for (size_t i = 0; i < t->n; i++)
        if (!cli_printf(i ? " %d" : "%d", (int)t->ids[i])) return;
    cli_put("\n", 1);
}

static json_t *piece_json(const char *piece, size_t len) {
    json_t *string = json_stringn(piece, len); // refuses what is no UTF-8
    if (string) return string;
    json_t *bytes = json_array();
    for (size_t i = 0; i < len; i++) json_array_append_new(bytes, json_integer((unsigned char)piece[i]));
    return bytes;
}

static int print_json(const tokenize *t) {
    json_t *object = json_object(), *ids = json_array();
    int failed = json_object_set_new(object, "n", json_integer((json_int_t)t->n));
    failed |= json_object_set_new(object, "ids", ids);
    for (size_t i = 0; i < t->n; i++) failed |= json_array_append_new(ids, json_integer(t->ids[i]));
    if (t->pieces) {
        json_t *pieces = json_array();
        failed |= json_object_set_new(object, "pieces", pieces);
        for (size_t i = 0; i < t->n; i++) {
            size_t len;
            const char *piece = wtl_token_bytes(t->vocab, t->ids[i], true, &len);
            failed |= json_array_append_new(pieces, piece_json(piece, len));
        }
    }
    if (!failed) cli_put_json(object);
    json_decref(object);
    return failed ? cli_fail("out of memory for %zu tokens as JSON", t->n) : CLI_OK;
}

int cmd_tokenize(int argc, char **argv) {
    tokenize t = {0};
    int code = parse(&t, argc, argv);
    if (code == CLI_GO) code = cli_text_read(t.prompt, t.file, &t.text);
    if (code == CLI_GO) code = cli_model_path(t.model, &t.model_path);
    if (code == CLI_GO) code = encode(&t);
    if (code == CLI_GO) {
        code = CLI_OK;
        if (t.json) code = print_json(&t);
        else if (t.pieces) print_pieces(&t);
        else print_ids(&t);
        code = cli_finish(code);
    }
    close_all(&t);
    return code;
}
