// Text input, the default model's place, and standard output that may be a closed pipe or a full disk. See cli.h.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/fetch_table.h"
#include "tools/folders.h"

// ---- Input -------------------------------------------------------------------------------------------------------
enum { TEXT_LIMIT_BYTES = 1 << 30 };

// Offset of the first byte that is not part of a UTF-8 character (no surrogates, no overlong forms), or len.
static size_t utf8_valid_length(const unsigned char *s, size_t len) {
    size_t i = 0;
    while (i < len) {
        unsigned char c = s[i];
        if (c < 0x80) {
            i++;
            continue;
        }
        size_t n = c >= 0xC2 && c < 0xE0 ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 0;
        if (n == 0 || i + n > len) return i;
        unsigned char low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        if (s[i + 1] < low || s[i + 1] > high) return i;
        for (size_t k = 2; k < n; k++)
            if ((s[i + k] & 0xC0) != 0x80) return i;
        i += n;
    }
    return len;
}

static int read_stream(int fd, const char *name, cli_text *out) {
    size_t cap = 0;
    for (;;) {
        if (out->len + 1 >= cap) {
            cap = cap ? 2 * cap : 65536;
            char *grown = cap <= 2 * (size_t)TEXT_LIMIT_BYTES ? realloc(out->bytes, cap) : NULL;
            if (!grown) return cli_fail("%s: too long to hold in memory (over %zu bytes)", name, out->len);
            out->bytes = grown;
        }
        ssize_t got = read(fd, out->bytes + out->len, cap - out->len - 1);
        if (got < 0 && errno == EINTR && !cli_interrupted()) continue;
        if (got < 0) return cli_fail("%s: cannot be read: %s", name, strerror(errno));
        if (got == 0) break;
        out->len += (size_t)got;
    }
    out->bytes[out->len] = '\0';
    return CLI_GO;
}

int cli_text_read(const char *prompt, const char *file, cli_text *out) {
    *out = (cli_text){0};
    const char *name = "the text of -p";
    int code = CLI_GO, fd = STDIN_FILENO;
    if (prompt && file) return cli_wrong("--prompt and --file exclude each other");
    if (prompt) {
        out->bytes = strdup(prompt);
        if (!out->bytes) return cli_fail("out of memory");
        out->len = strlen(prompt);
    } else {
        name = file ? file : "standard input";
        if (file && strcmp(file, "-") != 0 && (fd = open(file, O_RDONLY | O_CLOEXEC)) < 0)
            return cli_fail("%s: %s", file, strerror(errno));
        if (!file && isatty(fd)) return cli_wrong("no text given: use -p TEXT, -f FILE, or pipe the text in (try --help)");
        code = read_stream(fd, name, out);
        if (fd != STDIN_FILENO) close(fd);
    }
    if (code == CLI_GO) {
        size_t valid = utf8_valid_length((const unsigned char *)out->bytes, out->len);
        if (valid < out->len) code = cli_fail("%s: not UTF-8 at byte %zu (0x%02X)", name, valid, (unsigned char)out->bytes[valid]);
    }
    if (code != CLI_GO) cli_text_free(out);
    return code;
}

void cli_text_free(cli_text *text) {
    free(text->bytes);
    *text = (cli_text){0};
}

int cli_model_path(const char *given, char **path) {
    *path = NULL;
    if (given) {
        *path = strdup(given);
        return *path ? CLI_GO : cli_fail("out of memory");
    }
    char *dir = folder_cache();
    if (!dir) return cli_wrong("no model given and no home directory to look for one: use -m FILE");
    int n = asprintf(path, "%s/%s", dir, fetch_table[0].file);
    free(dir);
    if (n < 0) return cli_fail("out of memory");
    if (access(*path, F_OK) == 0) return CLI_GO;
    int code = cli_fail("no model: %s is not there. Run `wattle fetch %s` once, or name a GGUF file with -m FILE", *path, fetch_table[0].name);
    free(*path);
    *path = NULL;
    return code;
}

// ---- Output ------------------------------------------------------------------------------------------------------
static int output_errno; // of the first failure; later output is dropped

static bool note_output(bool good) {
    if (!good && output_errno == 0) output_errno = errno ? errno : EIO;
    return output_errno == 0;
}

bool cli_put(const char *bytes, size_t len) {
    if (output_errno) return false;
    errno = 0;
    return note_output(fwrite(bytes, 1, len, stdout) == len);
}

bool cli_printf(const char *format, ...) {
    if (output_errno) return false;
    va_list args;
    va_start(args, format);
    errno = 0;
    bool good = vprintf(format, args) >= 0;
    va_end(args);
    return note_output(good);
}

bool cli_flush(void) {
    if (output_errno) return false;
    errno = 0;
    return note_output(fflush(stdout) == 0);
}

static int put_json_bytes(const char *bytes, size_t len, void *user) {
    (void)user;
    return cli_put(bytes, len) ? 0 : -1;
}

json_t *cli_json_text(const char *text) {
    size_t left = strlen(text), n = 0;
    char *clean = malloc(3 * left + 1);
    if (!clean) return NULL;
    while (left) {
        const size_t good = utf8_valid_length((const unsigned char *)text, left), bad = good < left;
        memcpy(clean + n, text, good);
        n += good;
        if (bad) memcpy(clean + n, "\xEF\xBF\xBD", 3);
        n += 3 * bad;
        text += good + bad;
        left -= good + bad;
    }
    json_t *value = json_stringn(clean, n);
    free(clean);
    return value;
}

bool cli_put_json(const json_t *value) {
    if (json_dump_callback(value, put_json_bytes, NULL, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) != 0) {
        errno = ENOMEM;
        return note_output(false);
    }
    return cli_put("\n", 1);
}

int cli_finish(int code) {
    cli_flush();
    if (output_errno == 0 || output_errno == EPIPE) return code; // a reader that left wanted no more
    return cli_fail("standard output cannot be written: %s", strerror(output_errno));
}
