// See thread_profile.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/thread_profile.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/bench_machine.h"
#include "tools/folders.h"

static char *profile_path(void) {
    char *folder = folder_state(), *path = NULL;
    if (folder && asprintf(&path, "%s/threads.json", folder) < 0) path = NULL;
    free(folder);
    return path;
}

// ---- Saving -----------------------------------------------------------------------------------------------------------
static bool write_profile(const char *path, json_t *object) {
    char *fresh = NULL;
    if (asprintf(&fresh, "%s.%ld", path, (long)getpid()) < 0) return false;
    bool good = json_dump_file(object, fresh, JSON_INDENT(1)) == 0;
    if (good && rename(fresh, path) != 0) good = false;
    const int kept = errno;
    if (!good) unlink(fresh);
    free(fresh);
    errno = kept;
    return good;
}

int thread_profile_save(const thread_profile *p, char **path) {
    char failed[512] = "", *folder = folder_state();
    if (!folder) return cli_fail("no home directory to keep the thread counts in");
    const int trouble = folder_make(folder, 0700, failed, sizeof failed);
    free(folder);
    if (trouble) return cli_fail("%s: %s", failed, strerror(trouble));
    *path = profile_path();
    json_t *object = json_pack("{s:s, s:i, s:i, s:i, s:s, s:s}", "cpu", p->cpu, "cores", (int)p->n_cores, "prefill_threads", (int)p->n_prefill, "decode_threads",
                               (int)p->n_decode, "time", p->time, "reason", p->reason);
    int code = *path && object ? CLI_GO : cli_fail("out of memory for the thread counts");
    if (code == CLI_GO && !write_profile(*path, object)) code = cli_fail("%s: %s", *path, strerror(errno));
    json_decref(object);
    return code;
}

// ---- Loading ----------------------------------------------------------------------------------------------------------
static bool take_text(const json_t *object, const char *name, char *out, size_t cap) {
    const char *text = json_string_value(json_object_get(object, name));
    if (!text) return false;
    snprintf(out, cap, "%s", text);
    return true;
}

static bool take_count(const json_t *object, const char *name, int32_t max, int32_t *out) {
    const json_int_t value = json_integer_value(json_object_get(object, name));
    *out = (int32_t)(value < 1 || value > max ? 0 : value);
    return *out > 0;
}

static bool read_profile(const json_t *o, thread_profile *p) {
    return take_text(o, "cpu", p->cpu, sizeof p->cpu) && take_text(o, "time", p->time, sizeof p->time) && take_text(o, "reason", p->reason, sizeof p->reason) &&
           take_count(o, "cores", 1024, &p->n_cores) && take_count(o, "prefill_threads", p->n_cores, &p->n_prefill) &&
           take_count(o, "decode_threads", p->n_cores, &p->n_decode);
}

bool thread_profile_load(thread_profile *out, char *why, size_t cap) {
    char nothing[1], cpu[128], *path = profile_path();
    if (!why) why = nothing, cap = sizeof nothing;
    *why = '\0';
    if (!path || access(path, F_OK) != 0) {
        free(path);
        return false;
    }
    json_t *object = json_load_file(path, 0, NULL);
    const bool good = object && read_profile(object, out);
    json_decref(object);
    const bool here = good && strcmp(out->cpu, bench_cpu_name(cpu, sizeof cpu)) == 0 && out->n_cores == wtl_cpu_threads();
    if (!good) snprintf(why, cap, "%s is damaged", path);
    else if (!here) snprintf(why, cap, "%s is of a machine with %d cores of another kind or number", path, out->n_cores);
    free(path);
    return here;
}

void thread_profile_apply(int64_t asked, wtl_engine_options *engine, char reason[THREADS_REASON]) {
    thread_profile p;
    char why[320];
    engine->n_threads = (int32_t)asked;
    if (asked) {
        snprintf(reason, THREADS_REASON, "-t says so");
    } else if (thread_profile_load(&p, why, sizeof why)) {
        engine->n_threads = p.n_prefill > p.n_decode ? p.n_prefill : p.n_decode;
        engine->n_threads_decode = p.n_decode;
        snprintf(reason, THREADS_REASON, "calibrated here on %.10s: %s", p.time, p.reason);
    } else {
        snprintf(reason, THREADS_REASON, "physical cores that this process may use%s%s", *why ? "; " : "", why);
    }
}

json_t *thread_profile_json(const wtl_engine *engine, const char *reason) {
    const wtl_engine_info info = wtl_engine_describe(engine);
    return json_pack("{s:i, s:i, s:s}", "prefill", (int)info.n_threads, "decode", (int)info.n_threads_decode, "reason", reason);
}
