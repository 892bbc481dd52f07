// Answers the page's files. See page_files.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/page_files.h"

#include <string.h>

#define POLICY                                                                                                                         \
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; " \
    "frame-ancestors 'none'"

static const char folder[] = "/page/";

const page_file *page_file_find(const char *path) {
    const char *name = NULL;
    if (strcmp(path, "/") == 0 || strcmp(path, "/index.html") == 0) name = "index.html";
    else if (strncmp(path, folder, sizeof folder - 1) == 0) name = path + sizeof folder - 1;
    for (size_t i = 0; name && i < n_page_files; i++)
        if (strcmp(page_files[i].name, name) == 0) return &page_files[i];
    return NULL;
}

static const char *type_of(const char *name) {
    static const char *const types[][2] = {{".html", "text/html; charset=utf-8"},
                                           {".css", "text/css; charset=utf-8"},
                                           {".js", "text/javascript; charset=utf-8"},
                                           {".svg", "image/svg+xml"}};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(dot, types[i][0]) == 0) return types[i][1];
    return "application/octet-stream";
}

// A list of tags and W/ tags, or *. Ours are hashes in quotes, so one that stands in the list is one that is in it.
bool page_etag_matches(const char *header, const char *etag) {
    if (!header) return false;
    header += strspn(header, " \t");
    return strcmp(header, "*") == 0 || strstr(header, etag) != NULL;
}

bool page_answer(http_call *call) {
    const page_file *file = page_file_find(http_path(call));
    if (!file) return false;
    http_set_header(call, "Content-Security-Policy", POLICY);
    http_set_header(call, "X-Content-Type-Options", "nosniff");
    http_set_header(call, "Referrer-Policy", "no-referrer");
    http_set_header(call, "Cache-Control", "no-cache"); // ask each time: a new binary brings a new page
    http_set_header(call, "ETag", file->etag);
    if (page_etag_matches(http_header(call, "If-None-Match"), file->etag)) http_reply(call, 304, type_of(file->name), "", 0);
    else http_reply(call, 200, type_of(file->name), file->bytes, file->len);
    return true;
}
