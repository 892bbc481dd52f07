// GET / and the files of the chat page. The files lie in page/, are embedded at build and answered by page_files.c; no model is needed, so the
// page is there while the server still loads and can say so.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/page_files.h"
#include "tools/serve/server.h"

void route_page(server *s, http_call *call) {
    if (!s->options.no_webui && page_answer(call)) return;
    server_error(call, 404, "not_found_error", s->options.no_webui ? "the page is switched off (--no-webui)" : "the page has no such file", NULL, "not_found");
}
