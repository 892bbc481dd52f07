// The chat page's files, embedded at build by page/embed.cmake, and how they are answered: type, ETag, and headers that let the page run
// nothing and load nothing but its own files. What a model writes is untrusted; the headers are the second wall behind the page's own care.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_PAGE_FILES_H
#define WTL_TOOLS_SERVE_PAGE_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "tools/serve/http.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct page_file {
    const char *name; // "index.html"
    const char *bytes;
    size_t len;
    const char *etag; // quoted
} page_file;
extern const page_file page_files[];
extern const size_t n_page_files;

// The file of "/", "/index.html" or "/page/NAME"; NULL: there is none.
const page_file *page_file_find(const char *path);
// True: an If-None-Match header names this tag (weak tags, as proxies make them, too). header may be NULL.
bool page_etag_matches(const char *header, const char *etag);
// Answers 200 or 304 and ends the call. False: no such file, nothing was answered.
bool page_answer(http_call *call);

#ifdef __cplusplus
}
#endif
#endif
