// Inside telemetry: small text files under a root, as /sys and /proc have them. The one place where sources open such files.
//
// Nothing in a file is trusted: numbers are checked to their last character and their range, names are cut at TEL_SYSFS_TEXT,
// paths that do not fit are an error instead of another path. A read says why there is no value, because "not there", "not
// allowed" and "not a number" have different remedies. No state, any thread.
// SPDX-License-Identifier: Apache-2.0
#ifndef TEL_SYSFS_H
#define TEL_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TEL_SYSFS_PATH = 512, TEL_SYSFS_TEXT = 128, TEL_SYSFS_NAME = 64 };

typedef enum tel_sysfs {
    TEL_SYSFS_OK = 0,
    TEL_SYSFS_NOT_FOUND,
    TEL_SYSFS_PERMISSION,
    TEL_SYSFS_IO,     // also: a path that does not fit, a directory where a file should be
    TEL_SYSFS_FORMAT, // read, but it is not what was asked for: not a number, out of range, empty
} tel_sysfs;

tel_sysfs tel_sysfs_from_errno(int error);
// "is not there", "may not be read by this user", "gives an error when read", "does not hold a number": follows the file's name
// in a sentence.
const char *tel_sysfs_phrase(tel_sysfs result);

// Formats a path; false when it does not fit (out is then "").
bool tel_sysfs_path(char out[TEL_SYSFS_PATH], const char *format, ...) __attribute__((format(printf, 2, 3)));

// Formats text, cut at cap: for names and sentences, where a cut does no harm.
void tel_text(char *out, size_t cap, const char *format, ...) __attribute__((format(printf, 3, 4)));

// First line without its end and without blanks around it. Longer lines are FORMAT. On failure text is "".
tel_sysfs tel_sysfs_line(const char *path, char text[TEL_SYSFS_TEXT]);
// The whole file, at most cap - 1 bytes, terminated; *n may be NULL. For files of many lines (/proc/stat). A file that does not
// fit is FORMAT.
tel_sysfs tel_sysfs_whole(const char *path, char *text, size_t cap, size_t *n);
// One decimal integer and nothing else.
tel_sysfs tel_sysfs_u64(const char *path, uint64_t *value);
tel_sysfs tel_sysfs_i64(const char *path, int64_t *value);
// One finite decimal fraction ("2.3283064365386962890625e-10") whatever the locale.
tel_sysfs tel_sysfs_double(const char *path, double *value);
// The same checks on text that is already there.
bool tel_parse_u64(const char *text, uint64_t *value);
bool tel_parse_i64(const char *text, int64_t *value);
bool tel_parse_double(const char *text, double *value);

// Whether the path is there; also true when it may not be read.
bool tel_sysfs_exists(const char *path);
// Last component of what a symbolic link points to. On failure name is "".
tel_sysfs tel_sysfs_link_name(const char *path, char name[TEL_SYSFS_NAME]);

// Names in a directory, sorted with numbers by value (hwmon2 before hwmon10), without "." and "..". Names of TEL_SYSFS_NAME
// bytes or more are left out, as is what comes after 4096 names in directory order. prefix: only names that begin so; NULL:
// all.
typedef struct tel_sysfs_names {
    char (*name)[TEL_SYSFS_NAME]; // [n]
    size_t n;
} tel_sysfs_names;
tel_sysfs tel_sysfs_list(const char *path, const char *prefix,
                         tel_sysfs_names *out); // NOT_FOUND, PERMISSION, IO (also: no memory)
void tel_sysfs_names_free(tel_sysfs_names *names);

// A list of CPU numbers: "0", "0-3,8". Fills cpus with at most cap numbers in the order written, *n how many. False: not such a
// list, or more than cap.
bool tel_parse_cpus(const char *text, int *cpus, size_t cap, size_t *n);

#endif
