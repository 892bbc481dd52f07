// Opening and closing GGUF files: mapping, header, and a plain word for files that are something else.
//
// The mapping is read-only and private. Everything after the 24-byte header is gguf_parse.c; reading from an open file
// is gguf_query.c. A file that another process shortens while it is mapped raises SIGBUS on access, as with any
// mapping. SPDX-License-Identifier: Apache-2.0
#include "models/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "models/gguf_private.h"
#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"

#define SHOWN_PATH_BYTES 160

typedef struct foreign_format {
    const char *prefix;
    size_t len;
    const char *what;
} foreign_format;

#define FOREIGN(prefix, what) \
    { prefix, sizeof prefix - 1, what }
static const foreign_format foreign_formats[] = {
    FOREIGN("version https://git-lfs",
            "a Git LFS pointer: the file itself was not downloaded (git lfs pull fetches it)"),
    FOREIGN("<!DOCTYPE", "an HTML page: the download gave a web page, not the model"),
    FOREIGN("<!doctype", "an HTML page: the download gave a web page, not the model"),
    FOREIGN("<html", "an HTML page: the download gave a web page, not the model"),
    FOREIGN("<HTML", "an HTML page: the download gave a web page, not the model"),
    FOREIGN("<?xml", "an XML document, perhaps the error answer of a download"),
    FOREIGN("PK\x03\x04",
            "a ZIP archive, perhaps a PyTorch checkpoint or a Python package; the model must be converted or unpacked"),
    FOREIGN("\x80\x02", "a Python pickle, perhaps a PyTorch checkpoint; the model must be converted to GGUF"),
    FOREIGN("\x80\x03", "a Python pickle, perhaps a PyTorch checkpoint; the model must be converted to GGUF"),
    FOREIGN("\x80\x04", "a Python pickle, perhaps a PyTorch checkpoint; the model must be converted to GGUF"),
    FOREIGN("\x80\x05", "a Python pickle, perhaps a PyTorch checkpoint; the model must be converted to GGUF"),
    FOREIGN("lmgg", "a GGML file, the format before GGUF; the model must be converted"),
    FOREIGN("fmgg", "a GGML file, the format before GGUF; the model must be converted"),
    FOREIGN("tjgg", "a GGML file, the format before GGUF; the model must be converted"),
    FOREIGN("\x1f\x8b", "a gzip archive; it must be unpacked"),
    FOREIGN("\x28\xb5\x2f\xfd", "a zstd archive; it must be unpacked"),
    FOREIGN("\xfd"
            "7zXZ",
            "an xz archive; it must be unpacked"),
    FOREIGN("\x89HDF", "an HDF5 file; the model must be converted to GGUF"),
    FOREIGN("\x7f"
            "ELF",
            "a program"),
    FOREIGN("{", "a JSON document, perhaps the error answer of a download"),
};

// What a file that is no GGUF seems to be, or NULL.
static const char *foreign_name(const uint8_t *base, size_t bytes) {
    for (size_t i = 0; i < sizeof foreign_formats / sizeof foreign_formats[0]; i++) {
        const foreign_format *f = &foreign_formats[i];
        if (bytes >= f->len && memcmp(base, f->prefix, f->len) == 0) return f->what;
    }
    // safetensors: the length of a JSON header, then the header.
    if (bytes > 8 && base[8] == '{' && gguf_load_u64(base) <= bytes - 8)
        return "a safetensors file; the model must be converted to GGUF";
    return NULL;
}

static wtl_status refuse_magic(const gguf_file *file, wtl_error *err) {
    const uint8_t *b = file->base;
    if (memcmp(b, "FUGG", 4) == 0)
        return wtl_fail(err, WTL_ERR_UNSUPPORTED,
                        "%s: a big-endian GGUF file (magic FUGG at offset 0); only little-endian files can be read",
                        file->shown_path);
    const char *what = foreign_name(b, file->bytes);
    char ascii[5] = "....";
    for (int i = 0; i < 4; i++)
        if (b[i] > 0x20 && b[i] < 0x7F) ascii[i] = (char)b[i];
    return wtl_fail(err, WTL_ERR_FORMAT,
                    "%s: not a GGUF file: offset 0 holds %02x %02x %02x %02x (\"%s\") where \"GGUF\" belongs%s%s",
                    file->shown_path, b[0], b[1], b[2], b[3], ascii, what ? "; it looks like " : "", what ? what : "");
}

static wtl_status refuse_version(const gguf_file *file, uint32_t version, wtl_error *err) {
    if ((version & 0xFFFFu) == 0 && version != 0)
        return wtl_fail(err, WTL_ERR_UNSUPPORTED,
                        "%s: a big-endian GGUF file (version field 0x%08" PRIx32
                        " at offset 4); only little-endian files can be read",
                        file->shown_path, version);
    if (version == 1)
        return wtl_fail(
            err, WTL_ERR_UNSUPPORTED,
            "%s: GGUF version 1 (offset 4) was in use for a few days in 2023 and cannot be read; versions 2 and 3 can",
            file->shown_path);
    return wtl_fail(err, WTL_ERR_UNSUPPORTED,
                    "%s: GGUF version %" PRIu32 " (offset 4) is unknown; versions 2 and 3 can be read",
                    file->shown_path, version);
}

static wtl_status read_header(gguf_file *file, uint64_t *n_kv, uint64_t *n_tensors, wtl_error *err) {
    if (file->bytes == 0) return wtl_fail(err, WTL_ERR_FORMAT, "%s: the file is empty", file->shown_path);
    if (file->bytes >= 4 && memcmp(file->base, "GGUF", 4) != 0) return refuse_magic(file, err);
    if (file->bytes >= 8) {
        file->version = gguf_load_u32(file->base + 4);
        if (file->version != 2 && file->version != 3) return refuse_version(file, file->version, err);
    }
    if (file->bytes < GGUF_HEADER_BYTES)
        return wtl_fail(
            err, WTL_ERR_FORMAT,
            "%s: the file has %zu bytes, a GGUF header alone takes %d (offset 0); it is truncated or no GGUF file",
            file->shown_path, file->bytes, GGUF_HEADER_BYTES);
    *n_tensors = gguf_load_u64(file->base + 8);
    *n_kv = gguf_load_u64(file->base + 16);
    return WTL_OK;
}

// A new file object that knows its name and nothing else.
static wtl_status file_new(const char *path, gguf_file **out, wtl_error *err) {
    size_t len = strlen(path);
    gguf_file *file = wtl_calloc(1, sizeof *file);
    if (!file) goto no_memory;
    *out = file;
    file->path = wtl_strndup(path, len);
    const char *tail = path;
    if (len > SHOWN_PATH_BYTES) {
        tail = path + len - SHOWN_PATH_BYTES;
        while (((unsigned char)*tail & 0xC0) == 0x80) tail++; // to the start of a character
    }
    size_t tail_len = strlen(tail), dots = len > SHOWN_PATH_BYTES ? 3 : 0;
    file->shown_path = wtl_malloc(dots + tail_len + 1);
    if (!file->path || !file->shown_path) goto no_memory;
    memcpy(file->shown_path, "...", dots);
    memcpy(file->shown_path + dots, tail, tail_len + 1);
    file->hash_seed = wtl_clock_ns() ^ (uint64_t)(uintptr_t)file;
    return WTL_OK;
no_memory:
    return wtl_fail(err, WTL_ERR_NO_MEMORY, "%.*s: out of memory while opening the file", SHOWN_PATH_BYTES, path);
}

static wtl_status refuse_open(const gguf_file *file, int error, wtl_error *err) {
    wtl_status status = error == ENOENT || error == ENOTDIR ? WTL_ERR_NOT_FOUND
                        : error == ENOMEM                   ? WTL_ERR_NO_MEMORY
                                                            : WTL_ERR_IO;
    if (status == WTL_ERR_NOT_FOUND) return wtl_fail(err, status, "%s: no such file", file->shown_path);
    char text[96];
    // The GNU variant may return a static string instead of filling the buffer.
    const char *reason = strerror_r(error, text, sizeof text);
    return wtl_fail(err, status, "%s: cannot be opened: %s", file->shown_path, reason);
}

static wtl_status map_file(gguf_file *file, wtl_error *err) {
    wtl_status status = WTL_OK;
    struct stat st;
    // O_NONBLOCK: opening a pipe must not wait for a writer.
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return refuse_open(file, errno, err);
    if (fstat(fd, &st) != 0) {
        status = refuse_open(file, errno, err);
        goto done;
    }
    if (!S_ISREG(st.st_mode)) {
        status = wtl_fail(err, WTL_ERR_FORMAT, "%s: is %s, not a GGUF file", file->shown_path,
                          S_ISDIR(st.st_mode) ? "a directory" : "a device or pipe");
        goto done;
    }
    if ((uintmax_t)st.st_size > SIZE_MAX / 2) {
        status = wtl_fail(err, WTL_ERR_LIMIT, "%s: %" PRIuMAX " bytes do not fit into this machine's address space",
                          file->shown_path, (uintmax_t)st.st_size);
        goto done;
    }
    if (st.st_size > 0) {
        void *base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (base == MAP_FAILED) {
            status = refuse_open(file, errno, err);
            goto done;
        }
        file->base = base;
        file->bytes = (size_t)st.st_size;
        file->mapped = true;
    }
done:
    close(fd);
    return status;
}

static wtl_status index_file(gguf_file *file, wtl_error *err) {
    uint64_t n_kv = 0, n_tensors = 0;
    wtl_status status = read_header(file, &n_kv, &n_tensors, err);
    return status ? status : gguf_parse(file, n_kv, n_tensors, err);
}

wtl_status gguf_open(const char *path, gguf_file **out, wtl_error *err) {
    if (out) *out = NULL;
    if (!path || !out) return wtl_fail(err, WTL_ERR_INVALID, "gguf_open: path and out must not be NULL");
    gguf_file *file = NULL;
    wtl_status status = file_new(path, &file, err);
    if (!status) status = map_file(file, err);
    if (!status) status = index_file(file, err);
    if (status) gguf_close(&file);
    *out = file;
    return status;
}

wtl_status gguf_open_memory(const void *data, size_t bytes, const char *name, gguf_file **out, wtl_error *err) {
    if (out) *out = NULL;
    if ((!data && bytes) || !name || !out)
        return wtl_fail(err, WTL_ERR_INVALID, "gguf_open_memory: data, name and out must not be NULL");
    gguf_file *file = NULL;
    wtl_status status = file_new(name, &file, err);
    if (!status) {
        file->base = data;
        file->bytes = bytes;
        status = index_file(file, err);
    }
    if (status) gguf_close(&file);
    *out = file;
    return status;
}

void gguf_close(gguf_file **handle) {
    if (!handle || !*handle) return;
    gguf_file *file = *handle;
    *handle = NULL;
    if (file->mapped) munmap((void *)file->base, file->bytes);
    wtl_free(file->kv);
    wtl_free(file->kv_table.slots);
    wtl_free(file->tensors);
    wtl_free(file->tensor_table.slots);
    wtl_free(file->path);
    wtl_free(file->shown_path);
    wtl_free(file);
}
