// Small text files under a root: bounded reads, strict numbers, sorted listings.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/sysfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// More entries than any class directory has; a bound for trees made by others.
#define LIST_MAX 4096

tel_sysfs tel_sysfs_from_errno(int error) {
    switch (error) {
    case 0: return TEL_SYSFS_OK;
    case ENOENT: case ENODEV: case ENXIO: case ENOTDIR: return TEL_SYSFS_NOT_FOUND;
    case EACCES: case EPERM: return TEL_SYSFS_PERMISSION;
    default: return TEL_SYSFS_IO;
    }
}

const char *tel_sysfs_phrase(tel_sysfs result) {
    switch (result) {
    case TEL_SYSFS_OK: return "can be read";
    case TEL_SYSFS_NOT_FOUND: return "is not there";
    case TEL_SYSFS_PERMISSION: return "may not be read by this user";
    case TEL_SYSFS_IO: return "gives an error when read";
    case TEL_SYSFS_FORMAT: return "does not hold a number";
    }
    return "cannot be read";
}

bool tel_sysfs_path(char out[TEL_SYSFS_PATH], const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(out, TEL_SYSFS_PATH, format, args);
    va_end(args);
    if (n >= 0 && n < TEL_SYSFS_PATH) return true;
    out[0] = '\0';
    return false;
}

void tel_text(char *out, size_t cap, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (vsnprintf(out, cap, format, args) < 0) out[0] = '\0';
    va_end(args);
}

// ---- Reading ------------------------------------------------------------------------------------------------------

// O_NONBLOCK: a FIFO put in place of a file must not stop the sampling thread.
tel_sysfs tel_sysfs_whole(const char *path, char *text, size_t cap, size_t *n) {
    text[0] = '\0';
    if (n) *n = 0;
    if (!*path) return TEL_SYSFS_IO;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return tel_sysfs_from_errno(errno);
    size_t used = 0;
    tel_sysfs result = TEL_SYSFS_FORMAT;
    while (used < cap) {
        ssize_t got = read(fd, text + used, cap - used);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) result = tel_sysfs_from_errno(errno);
        if (got == 0) result = TEL_SYSFS_OK;
        if (got <= 0) break;
        used += (size_t)got;
    }
    close(fd);
    if (result || used == cap) {
        text[0] = '\0';
        return result ? result : TEL_SYSFS_FORMAT;
    }
    text[used] = '\0';
    if (n) *n = used;
    return TEL_SYSFS_OK;
}

tel_sysfs tel_sysfs_line(const char *path, char text[TEL_SYSFS_TEXT]) {
    char whole[4096];
    text[0] = '\0';
    size_t n;
    tel_sysfs result = tel_sysfs_whole(path, whole, sizeof whole, &n);
    if (result) return result;
    if (strlen(whole) != n) return TEL_SYSFS_FORMAT; // a zero byte inside
    char *end = strchr(whole, '\n');
    if (!end) end = whole + n;
    char *first = whole;
    while (first < end && isspace((unsigned char)*first)) first++;
    while (end > first && isspace((unsigned char)end[-1])) end--;
    size_t length = (size_t)(end - first);
    if (length >= TEL_SYSFS_TEXT) return TEL_SYSFS_FORMAT;
    memcpy(text, first, length);
    text[length] = '\0';
    return TEL_SYSFS_OK;
}

tel_sysfs tel_sysfs_u64(const char *path, uint64_t *value) {
    char text[TEL_SYSFS_TEXT];
    tel_sysfs result = tel_sysfs_line(path, text);
    return result ? result : tel_parse_u64(text, value) ? TEL_SYSFS_OK : TEL_SYSFS_FORMAT;
}

tel_sysfs tel_sysfs_i64(const char *path, int64_t *value) {
    char text[TEL_SYSFS_TEXT];
    tel_sysfs result = tel_sysfs_line(path, text);
    return result ? result : tel_parse_i64(text, value) ? TEL_SYSFS_OK : TEL_SYSFS_FORMAT;
}

tel_sysfs tel_sysfs_double(const char *path, double *value) {
    char text[TEL_SYSFS_TEXT];
    tel_sysfs result = tel_sysfs_line(path, text);
    return result ? result : tel_parse_double(text, value) ? TEL_SYSFS_OK : TEL_SYSFS_FORMAT;
}

bool tel_sysfs_exists(const char *path) {
    struct stat info;
    return *path && (stat(path, &info) == 0 || tel_sysfs_from_errno(errno) != TEL_SYSFS_NOT_FOUND);
}

tel_sysfs tel_sysfs_link_name(const char *path, char name[TEL_SYSFS_NAME]) {
    char target[TEL_SYSFS_PATH];
    name[0] = '\0';
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n < 0) return tel_sysfs_from_errno(errno);
    while (n > 0 && target[n - 1] == '/') n--;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    const char *last = slash ? slash + 1 : target;
    if (!*last || strlen(last) >= TEL_SYSFS_NAME) return TEL_SYSFS_FORMAT;
    memcpy(name, last, strlen(last) + 1);
    return TEL_SYSFS_OK;
}

// ---- Numbers ------------------------------------------------------------------------------------------------------

bool tel_parse_u64(const char *text, uint64_t *value) {
    if (!isdigit((unsigned char)*text)) return false; // strtoull takes "-1" and blanks
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (*end || errno) return false;
    *value = v;
    return true;
}

bool tel_parse_i64(const char *text, int64_t *value) {
    if (!isdigit((unsigned char)text[*text == '-'])) return false;
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    if (*end || errno) return false;
    *value = v;
    return true;
}

static const char *skip_digits(const char *text, int *n) {
    while (isdigit((unsigned char)*text)) text++, ++*n;
    return text;
}

// Decimal notation only: strtod would also take "nan", "inf" and "0x1p3".
static bool is_decimal(const char *text) {
    int n = 0, n_exponent = 0;
    if (*text == '-' || *text == '+') text++;
    text = skip_digits(text, &n);
    if (*text == '.') text = skip_digits(text + 1, &n);
    if (!n) return false;
    if (*text == 'e' || *text == 'E') {
        text++;
        if (*text == '-' || *text == '+') text++;
        text = skip_digits(text, &n_exponent);
        if (!n_exponent) return false;
    }
    return !*text;
}

bool tel_parse_double(const char *text, double *value) {
    if (!is_decimal(text)) return false;
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain) return false;
    double v = strtod_l(text, NULL, plain);
    freelocale(plain);
    if (!isfinite(v)) return false;
    *value = v;
    return true;
}

// One number of at most 7 digits: no CPU number is longer, and it fits an int.
static const char *cpu_number(const char *text, int *value) {
    int n = 0;
    for (*value = 0; isdigit((unsigned char)*text); text++) {
        if (++n > 7) return NULL;
        *value = *value * 10 + (*text - '0');
    }
    return n ? text : NULL;
}

bool tel_parse_cpus(const char *text, int *cpus, size_t cap, size_t *n) {
    *n = 0;
    while (true) {
        int first, last;
        if (!(text = cpu_number(text, &first))) return false;
        last = first;
        if (*text == '-' && !(text = cpu_number(text + 1, &last))) return false;
        if (last < first || (size_t)(last - first) >= cap - *n) return false;
        for (int cpu = first; cpu <= last; cpu++) cpus[(*n)++] = cpu;
        if (!*text) return true;
        if (*text++ != ',' || *n == cap) return false;
    }
}

// ---- Listing ------------------------------------------------------------------------------------------------------

// Runs of digits compare by value, the rest by character.
static int compare_names(const void *left, const void *right) {
    const char *a = left, *b = right;
    while (*a && *b) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            while (*a == '0' && isdigit((unsigned char)a[1])) a++;
            while (*b == '0' && isdigit((unsigned char)b[1])) b++;
            int na = 0, nb = 0;
            skip_digits(a, &na);
            skip_digits(b, &nb);
            if (na != nb) return na < nb ? -1 : 1;
            int order = strncmp(a, b, (size_t)na);
            if (order) return order;
            a += na;
            b += na;
        } else {
            if (*a != *b) return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
            a++;
            b++;
        }
    }
    if (*a || *b) return *a ? 1 : -1;
    return strcmp(left, right); // "a01" and "a1": any order, but always the same
}

static bool wanted(const char *name, const char *prefix) {
    return strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strlen(name) < TEL_SYSFS_NAME &&
           (!prefix || strncmp(name, prefix, strlen(prefix)) == 0);
}

tel_sysfs tel_sysfs_list(const char *path, const char *prefix, tel_sysfs_names *out) {
    *out = (tel_sysfs_names){0};
    DIR *dir = *path ? opendir(path) : NULL;
    if (!dir) return *path ? tel_sysfs_from_errno(errno) : TEL_SYSFS_IO;
    size_t cap = 0;
    struct dirent *entry;
    while (out->n < LIST_MAX && (entry = readdir(dir))) {
        if (!wanted(entry->d_name, prefix)) continue;
        if (out->n == cap) {
            cap = cap ? 2 * cap : 16;
            void *more = realloc(out->name, cap * sizeof *out->name);
            if (!more) goto no_memory;
            out->name = more;
        }
        memcpy(out->name[out->n++], entry->d_name, strlen(entry->d_name) + 1);
    }
    closedir(dir);
    if (out->n) qsort(out->name, out->n, sizeof *out->name, compare_names);
    return TEL_SYSFS_OK;
no_memory:
    closedir(dir);
    tel_sysfs_names_free(out);
    return TEL_SYSFS_IO;
}

void tel_sysfs_names_free(tel_sysfs_names *names) {
    free(names->name);
    *names = (tel_sysfs_names){0};
}
