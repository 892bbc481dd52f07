// What a session's prefix cache holds, to a file and back (wtl_session_save, wtl_session_load).
//
// The file: a header that says whose KV this is, one record per node of the prefix tree (parents before children, most recently used
// first) with the blocks behind it, and a checksum over all checksums. KV is only right for the weights and the arithmetic it was
// computed with, so the header holds a hash of the whole model file, the instruction set and the version: another one is refused.
// The model's file is hashed once, at the first save or load, through a descriptor kept since it was opened; if it was written to in
// between, that is refused too. Numbers are in this machine's byte order, which is checked. A file from outside is not trusted: sizes
// are held against its length, and nothing is findable before the last byte was right.
// SPDX-License-Identifier: Apache-2.0
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/alloc.h"
#include "runtime/base/checked.h"
#include "runtime/base/xxh64.h"
#include "runtime/session.h"

#define KV_MAGIC "WTLKV\r\n\x1a"
enum { KV_VERSION = 2, KV_BYTE_ORDER = 0x01020304, HASH_CHUNK_BYTES = 1 << 20 };

typedef struct kv_header {
    char magic[8];
    uint32_t version, byte_order;
    uint64_t model_hash, model_bytes;
    char engine[96]; // version, instruction set, BLAS or not; zero-filled
    uint32_t kv_type, block_tok, n_groups, n_vocab, n_heads_kv, head_dim;
    uint32_t n_layers[WTL_KV_GROUPS_MAX], window[WTL_KV_GROUPS_MAX];
    uint64_t block_bytes[WTL_KV_GROUPS_MAX];
    uint64_t n_records;
    uint64_t checksum; // of all fields before
} kv_header;

typedef struct kv_record {
    int32_t parent; // number of an earlier record, or -1
    int32_t n_tok;
    uint32_t groups; // bit g: the block of group g follows
    uint32_t zero;
    int32_t tokens[WTL_KV_BLOCK]; // unused ones 0
    uint64_t checksum;            // of the fields before and the blocks behind
} kv_record;

static_assert(sizeof(kv_header) == 8 + 8 + 16 + 96 + 24 + 16 + 16 + 16, "no padding in files");
static_assert(sizeof(kv_record) == 16 + 4 * WTL_KV_BLOCK + 8, "no padding in files");

static size_t record_bytes(const wtl_session *s, uint32_t groups) {
    size_t bytes = sizeof(kv_record);
    for (int32_t g = 0; g < s->plan.kv.n_groups; g++)
        if (groups >> g & 1) bytes += s->plan.block_bytes[g];
    return bytes;
}

static uint64_t record_checksum(const uint8_t *record, size_t bytes) {
    xxh64 h;
    xxh64_start(&h, 0);
    xxh64_add(&h, record, offsetof(kv_record, checksum));
    xxh64_add(&h, record + sizeof(kv_record), bytes - sizeof(kv_record));
    return xxh64_value(&h);
}

// ---- Whose KV this is ---------------------------------------------------------------------------------------------------

static wtl_status model_hash(wtl_session *s, wtl_error *err) {
    if (s->model_hash) return WTL_OK;
    const wtl_engine *e = s->engine;
    struct stat now;
    if (e->model_fd < 0 || fstat(e->model_fd, &now))
        return wtl_fail(err, WTL_ERR_IO, "the model's file cannot be read again, so the KV cache cannot be bound to it");
    uint8_t *chunk = wtl_malloc(HASH_CHUNK_BYTES);
    if (!chunk) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for hashing the model's file");
    xxh64 h;
    xxh64_start(&h, 0);
    uint64_t done = 0;
    while (done < e->file_bytes) {
        const ssize_t got = pread(e->model_fd, chunk, HASH_CHUNK_BYTES, (off_t)done);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) break;
        xxh64_add(&h, chunk, (size_t)got);
        done += (uint64_t)got;
    }
    wtl_free(chunk);
    const struct stat before = now;
    if (fstat(e->model_fd, &now) || done != e->file_bytes || (uint64_t)now.st_size != e->file_bytes || before.st_mtim.tv_sec != e->modified.tv_sec ||
        before.st_mtim.tv_nsec != e->modified.tv_nsec || now.st_mtim.tv_sec != e->modified.tv_sec || now.st_mtim.tv_nsec != e->modified.tv_nsec)
        return wtl_fail(err, WTL_ERR_IO, "the model's file was written to since it was loaded, so the KV cache cannot be bound to it");
    s->model_hash = xxh64_value(&h) | 1; // 0 means not computed
    return WTL_OK;
}

// The header that a file for this session has, but for n_records and checksum.
static wtl_status header_for(wtl_session *s, kv_header *h, wtl_error *err) {
    memset(h, 0, sizeof *h);
    if (!s->plan.kv.keep_prefixes) return wtl_fail(err, WTL_ERR_INVALID, "this session keeps no prefixes: there is nothing to save or load");
    const wtl_status status = model_hash(s, err);
    if (status) return status;
    const wtl_engine *e = s->engine;
    const char *backend = e->be->ops->describe(e->be); // "cpu avx2, 2 threads": the number of threads changes no bit
    const int isa_len = (int)strcspn(backend, ",");
    memcpy(h->magic, KV_MAGIC, sizeof h->magic);
    h->version = KV_VERSION;
    h->byte_order = KV_BYTE_ORDER;
    h->model_hash = s->model_hash;
    h->model_bytes = e->file_bytes;
    snprintf(h->engine, sizeof h->engine, "wattle %s, %.*s%s", wtl_version(), isa_len, backend, e->deterministic ? "" : ", blas");
    h->kv_type = (uint32_t)s->plan.o.kv_type;
    h->block_tok = WTL_KV_BLOCK;
    h->n_groups = (uint32_t)s->plan.kv.n_groups;
    h->n_vocab = (uint32_t)e->model->config.n_vocab;
    h->n_heads_kv = (uint32_t)s->plan.kv_shape.n_heads_kv;
    h->head_dim = (uint32_t)s->plan.kv_shape.head_dim;
    for (int32_t g = 0; g < s->plan.kv.n_groups; g++) {
        h->n_layers[g] = (uint32_t)e->model->kv_group[g].n_layers;
        h->window[g] = (uint32_t)s->plan.kv.window[g];
        h->block_bytes[g] = s->plan.block_bytes[g];
    }
    return WTL_OK;
}

static wtl_status refuse(wtl_error *err, const char *path, const char *why) { return wtl_fail(err, WTL_ERR_FORMAT, "%s: %s", path, why); }

// Holds a file's header against what this session's would be.
static wtl_status check_header(const kv_header *h, const kv_header *mine, uint64_t file_bytes, size_t record_min, const char *path, wtl_error *err) {
    if (memcmp(h->magic, mine->magic, sizeof h->magic) != 0) return refuse(err, path, "this is no file of saved KV");
    if (h->byte_order != mine->byte_order) return refuse(err, path, "the KV was saved on a machine with another byte order");
    if (h->version != mine->version) return wtl_fail(err, WTL_ERR_FORMAT, "%s: version %u of saved KV; this is version %u", path, h->version, mine->version);
    if (h->checksum != xxh64_of(h, offsetof(kv_header, checksum))) return refuse(err, path, "the header is damaged");
    if (h->model_hash != mine->model_hash || h->model_bytes != mine->model_bytes) return refuse(err, path, "the KV is of another model file");
    if (memcmp(h->engine, mine->engine, sizeof h->engine) != 0)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: the KV was computed by \"%.95s\", this is \"%s\": not the same bits", path, h->engine, mine->engine);
    if (h->kv_type != mine->kv_type) return refuse(err, path, "the KV is of another number type (f16, f32 or q8_0)");
    if (memcmp(&h->block_tok, &mine->block_tok, offsetof(kv_header, n_records) - offsetof(kv_header, block_tok)) != 0)
        return refuse(err, path, "the KV is of another shape");
    if (file_bytes < sizeof *h + sizeof(uint64_t) || h->n_records > (file_bytes - sizeof *h - sizeof(uint64_t)) / record_min ||
        h->n_records > INT32_MAX)
        return wtl_fail(err, WTL_ERR_FORMAT, "%s: %llu bytes cannot hold %llu blocks: the file is cut short", path, (unsigned long long)file_bytes,
                        (unsigned long long)h->n_records);
    return WTL_OK;
}

// ---- Saving -------------------------------------------------------------------------------------------------------------

static wtl_status write_all(int fd, const void *data, size_t bytes, const char *path, wtl_error *err) {
    for (const uint8_t *p = data; bytes;) {
        const ssize_t n = write(fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return wtl_fail(err, WTL_ERR_IO, "%s: %s", path, n < 0 ? strerror(errno) : "nothing was written");
        p += n;
        bytes -= (size_t)n;
    }
    return WTL_OK;
}

// Record and blocks of a node, into buffer. number [blocks of group 0]: which record a node became.
static size_t make_record(wtl_session *s, int32_t node, const int32_t *number, uint8_t *buffer, wtl_status *status, wtl_error *err) {
    const kvcache_node n = kvcache_node_at(s->kv, node);
    kv_record r = {.parent = n.parent < 0 ? -1 : number[n.parent], .n_tok = n.n_tok};
    memcpy(r.tokens, n.tokens, (size_t)n.n_tok * sizeof *n.tokens);
    uint8_t *at = buffer + sizeof r;
    for (int32_t g = 0; g < s->plan.kv.n_groups; g++) {
        const size_t bytes = s->plan.block_bytes[g];
        if (n.block[g] < 0) continue;
        r.groups |= 1u << g;
        if (bytes) s->stream->ops->download(s->stream, at, (uint8_t *)s->pool[g] + (size_t)n.block[g] * bytes, bytes);
        at += bytes;
    }
    *status = s->stream->ops->sync(s->stream, err);
    memcpy(buffer, &r, sizeof r);
    r.checksum = record_checksum(buffer, (size_t)(at - buffer));
    memcpy(buffer, &r, sizeof r);
    return (size_t)(at - buffer);
}

static wtl_status write_file(wtl_session *s, kv_header *h, int fd, const char *path, uint64_t *n_tok, wtl_error *err) {
    const size_t n_nodes = (size_t)kvcache_nodes(s->kv, NULL), n_blocks = (size_t)kvcache_group_blocks(&s->plan.kv, 0);
    int32_t *nodes = wtl_malloc((n_nodes + n_blocks) * sizeof *nodes), *number = nodes ? nodes + n_nodes : NULL;
    uint8_t *buffer = wtl_malloc(record_bytes(s, UINT32_MAX));
    wtl_status status = nodes && buffer ? WTL_OK : wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory for saving %zu blocks", path, n_nodes);
    xxh64 all;
    xxh64_start(&all, 0);
    h->n_records = n_nodes;
    h->checksum = xxh64_of(h, offsetof(kv_header, checksum));
    xxh64_add(&all, &h->checksum, sizeof h->checksum);
    if (!status) status = write_all(fd, h, sizeof *h, path, err);
    if (!status) kvcache_nodes(s->kv, nodes);
    *n_tok = 0;
    for (size_t i = 0; !status && i < n_nodes; i++) {
        number[nodes[i]] = (int32_t)i;
        const size_t bytes = make_record(s, nodes[i], number, buffer, &status, err);
        xxh64_add(&all, buffer + offsetof(kv_record, checksum), sizeof(uint64_t));
        if (!status) status = write_all(fd, buffer, bytes, path, err);
        *n_tok += (uint64_t)kvcache_node_at(s->kv, nodes[i]).n_tok;
    }
    const uint64_t total = xxh64_value(&all);
    if (!status) status = write_all(fd, &total, sizeof total, path, err);
    if (!status && fsync(fd)) status = wtl_fail(err, WTL_ERR_IO, "%s: %s", path, strerror(errno));
    wtl_free(nodes);
    wtl_free(buffer);
    return status;
}

// Opens PATH.partial for this process alone. A leftover of one that was killed is written over. *part is the caller's to free.
static wtl_status open_partial(const char *path, char **part, int *fd, wtl_error *err) {
    const size_t len = strlen(path) + sizeof ".partial";
    *part = wtl_malloc(len);
    if (!*part) return wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory", path);
    snprintf(*part, len, "%s.partial", path);
    *fd = open(*part, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600); // what people wrote can be read out of KV
    if (*fd < 0) return wtl_fail(err, WTL_ERR_IO, "%s: %s", *part, strerror(errno));
    struct stat named, held;
    if (flock(*fd, LOCK_EX | LOCK_NB) || stat(*part, &named) || fstat(*fd, &held) || named.st_ino != held.st_ino || named.st_dev != held.st_dev ||
        !S_ISREG(held.st_mode)) {
        close(*fd);
        *fd = -1;
        return wtl_fail(err, WTL_ERR_IO, "%s: another process is writing this file, or it is no file", *part);
    }
    return ftruncate(*fd, 0) || fchmod(*fd, 0600) ? wtl_fail(err, WTL_ERR_IO, "%s: %s", *part, strerror(errno)) : WTL_OK;
}

// Makes the renaming itself last. Best effort: some file systems cannot.
static void sync_folder(char *path) {
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = '\0';
    const int fd = open(slash ? path : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    (void)fsync(fd);
    close(fd);
}

wtl_status wtl_session_save(wtl_session *s, const char *path, uint64_t *n_tok, wtl_error *err) {
    kv_header h;
    char *part = NULL;
    int fd = -1;
    uint64_t n = 0;
    wtl_status status = header_for(s, &h, err);
    if (!status) status = open_partial(path, &part, &fd, err);
    if (!status) status = write_file(s, &h, fd, part, &n, err);
    if (!status && rename(part, path)) status = wtl_fail(err, WTL_ERR_IO, "%s: %s", path, strerror(errno));
    if (!status) sync_folder(part);
    else if (fd >= 0) unlink(part);
    if (fd >= 0) close(fd); // the lock ends here: after the name is gone
    wtl_free(part);
    if (!status && n_tok) *n_tok = n;
    return status;
}

// ---- Loading ------------------------------------------------------------------------------------------------------------

// A record whose blocks are filled but not findable yet, and the node that it becomes.
typedef struct staged {
    int32_t parent, n_tok, depth, node; // parent: record; depth: blocks up to its end; node: -1 while there is none
    int32_t block[WTL_KV_GROUPS_MAX];   // block[0] < 0: did not fit
    int32_t tokens[WTL_KV_BLOCK];
} staged;

typedef struct loader {
    wtl_session *s;
    const char *path;
    wtl_error *err;
    int fd;
    uint64_t left_bytes; // of the file
    size_t n, n_read;    // records in the file; records in list
    staged *list;
    uint8_t *buffer;     // the largest record
} loader;

static wtl_status read_all(loader *l, void *data, size_t bytes) {
    if (bytes > l->left_bytes) return wtl_fail(l->err, WTL_ERR_FORMAT, "%s: the file ends in block %zu of %zu: it is cut short", l->path, l->n_read, l->n);
    l->left_bytes -= bytes;
    for (uint8_t *p = data; bytes;) {
        const ssize_t n = read(l->fd, p, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return wtl_fail(l->err, WTL_ERR_IO, "%s: %s", l->path, strerror(errno));
        if (n == 0) return wtl_fail(l->err, WTL_ERR_FORMAT, "%s: the file became shorter while it was read", l->path);
        p += n;
        bytes -= (size_t)n;
    }
    return WTL_OK;
}

static bool record_fits_tree(const loader *l, const kv_record *r) {
    const uint32_t all = (1u << l->s->plan.kv.n_groups) - 1;
    if (r->parent < -1 || (r->parent >= 0 && (size_t)r->parent >= l->n_read) || r->n_tok < 1 || r->n_tok > WTL_KV_BLOCK || !(r->groups & 1) ||
        (r->groups & ~all) || r->zero)
        return false;
    if (r->parent >= 0 && l->list[r->parent].n_tok != WTL_KV_BLOCK) return false;
    for (int32_t i = 0; i < WTL_KV_BLOCK; i++)
        if (i < r->n_tok ? r->tokens[i] < 0 || r->tokens[i] >= l->s->engine->model->config.n_vocab : r->tokens[i] != 0) return false;
    return true;
}

// Takes free blocks for the record in the buffer and fills them. Where there are none it is left out, and what comes behind it too.
static void stage_record(loader *l, const kv_record *r, staged *to) {
    wtl_session *s = l->s;
    const staged *parent = r->parent < 0 ? NULL : &l->list[r->parent];
    *to = (staged){.parent = r->parent, .n_tok = r->n_tok, .depth = parent ? parent->depth + 1 : 1, .node = -1, .block = {-1, -1}};
    memcpy(to->tokens, r->tokens, sizeof to->tokens);
    const bool wanted = to->depth <= s->plan.max_slots && (!parent || parent->block[0] >= 0);
    const uint8_t *at = l->buffer + sizeof *r;
    for (int32_t g = 0; g < s->plan.kv.n_groups; g++) {
        const size_t bytes = s->plan.block_bytes[g];
        if (!(r->groups >> g & 1)) continue;
        if (wanted && (g == 0 || to->block[0] >= 0)) to->block[g] = kvcache_stage(s->kv, g);
        if (to->block[g] >= 0 && bytes) s->stream->ops->upload(s->stream, (uint8_t *)s->pool[g] + (size_t)to->block[g] * bytes, at, bytes);
        at += bytes;
    }
}

static wtl_status read_records(loader *l, uint64_t header_checksum) {
    xxh64 all;
    xxh64_start(&all, 0);
    xxh64_add(&all, &header_checksum, sizeof header_checksum);
    for (; l->n_read < l->n; l->n_read++) {
        kv_record r;
        wtl_status status = read_all(l, l->buffer, sizeof r);
        if (status) return status;
        memcpy(&r, l->buffer, sizeof r);
        const size_t bytes = record_bytes(l->s, r.groups);
        status = read_all(l, l->buffer + sizeof r, bytes - sizeof r);
        if (status) return status;
        if (record_checksum(l->buffer, bytes) != r.checksum || !record_fits_tree(l, &r))
            return wtl_fail(l->err, WTL_ERR_FORMAT, "%s: block %zu of %zu is damaged", l->path, l->n_read, l->n);
        xxh64_add(&all, &r.checksum, sizeof r.checksum);
        stage_record(l, &r, &l->list[l->n_read]);
    }
    uint64_t total;
    wtl_status status = read_all(l, &total, sizeof total);
    if (!status && total != xxh64_value(&all)) status = refuse(l->err, l->path, "the checksum of the whole file is wrong");
    if (!status && l->left_bytes) status = refuse(l->err, l->path, "there is something behind the end of the saved KV");
    return status ? status : l->s->stream->ops->sync(l->s->stream, l->err);
}

static uint64_t publish_records(loader *l) {
    uint64_t n_tok = 0;
    for (size_t i = 0; i < l->n; i++) {
        staged *r = &l->list[i];
        if (r->block[0] < 0) continue;
        bool added;
        r->node = kvcache_publish(l->s->kv, r->parent < 0 ? -1 : l->list[r->parent].node, r->tokens, r->n_tok, r->block, &added);
        if (added) n_tok += (uint64_t)r->n_tok;
    }
    return n_tok;
}

wtl_status wtl_session_load(wtl_session *s, const char *path, uint64_t *n_tok, wtl_error *err) {
    kv_header mine, h;
    loader l = {.s = s, .path = path, .err = err, .fd = -1};
    struct stat file;
    wtl_status status = header_for(s, &mine, err);
    if (status) return status;
    l.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (l.fd < 0) return wtl_fail(err, errno == ENOENT ? WTL_ERR_NOT_FOUND : WTL_ERR_IO, "%s: %s", path, strerror(errno));
    if (fstat(l.fd, &file)) status = wtl_fail(err, WTL_ERR_IO, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(file.st_mode)) status = refuse(err, path, "this is not a regular file");
    else l.left_bytes = (uint64_t)file.st_size;
    if (!status && l.left_bytes < sizeof h) status = refuse(err, path, "the file is too short for saved KV");
    if (!status) status = read_all(&l, &h, sizeof h);
    if (!status) status = check_header(&h, &mine, (uint64_t)file.st_size, record_bytes(s, 1), path, err);
    if (!status) {
        l.n = (size_t)h.n_records;
        l.list = wtl_calloc(l.n, sizeof *l.list);
        l.buffer = wtl_malloc(record_bytes(s, UINT32_MAX));
        if (!l.list || !l.buffer) status = wtl_fail(err, WTL_ERR_NO_MEMORY, "%s: out of memory for loading %zu blocks", path, l.n);
    }
    if (!status) status = read_records(&l, h.checksum);
    if (!status) {
        const uint64_t n = publish_records(&l);
        if (n_tok) *n_tok = n;
    } else {
        for (size_t i = l.n_read; i-- > 0;)
            for (int32_t g = s->plan.kv.n_groups; g-- > 0;) kvcache_unstage(s->kv, g, l.list[i].block[g]);
    }
    close(l.fd);
    wtl_free(l.list);
    wtl_free(l.buffer);
    return status;
}
