// Which sources are opened and which of their domains count: the rules of choose.h, one pass each.
//
// Domains without `contains` are decided first, by key; then the wholes around them, the smallest first, so that a whole only
// counts when none of its parts does; the model last. A key's kind is its text before the colon: two of one kind
// ("battery:BAT0", "battery:BAT1") are neighbours and never inside each other.
// SPDX-License-Identifier: Apache-2.0
#include "telemetry/choose.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "telemetry/sysfs.h"

#define WATTS_MAX 1e6 // a simulated device beyond a megawatt is a typing error

// ---- The plan -----------------------------------------------------------------------------------------------------

static const tel_source *const all_sources[] = {&tel_source_perf,  &tel_source_powercap, &tel_source_nvml,
                                                &tel_source_hwmon, &tel_source_battery,  &tel_source_model};
enum { N_SOURCES = sizeof all_sources / sizeof all_sources[0], N_REAL = N_SOURCES - 1 };

static void plan_take(tel_plan *plan, const tel_source *const *sources, size_t n) {
    for (size_t i = 0; i < n; i++) plan->sources[plan->n_sources++] = sources[i];
}

// The text after "name:", or NULL.
static const char *argument_of(const char *option, const char *name) {
    size_t n = strlen(name);
    return strncmp(option, name, n) == 0 && option[n] == ':' ? option + n + 1 : NULL;
}

tel_result tel_plan_make(const char *option, tel_plan *out, tel_error *err) {
    const char *asked = option ? option : "auto";
    *out = (tel_plan){.asked = asked, .replay_path = "", .required = true};
    const char *argument;
    if (strcmp(asked, "auto") == 0) {
        out->required = false;
        plan_take(out, all_sources, N_SOURCES);
    } else if (strcmp(asked, "require") == 0) {
        plan_take(out, all_sources, N_REAL);
    } else if (strcmp(asked, "none") == 0) {
        out->required = false;
    } else if ((argument = argument_of(asked, "replay"))) {
        if (!*argument) return tel_fail(err, TEL_ERR_INVALID, "replay: which file? replay:FILE.csv");
        out->replay_path = argument;
        out->sources[out->n_sources++] = &tel_source_replay;
    } else if ((argument = argument_of(asked, "simulated"))) {
        if (!tel_parse_double(argument, &out->simulated_w) || out->simulated_w < 0 || out->simulated_w > WATTS_MAX)
            return tel_fail(err, TEL_ERR_INVALID, "simulated: '%.40s' is not a power of 0 to 1000000 watts, as in simulated:100", argument);
        out->sources[out->n_sources++] = &tel_source_simulated;
    } else {
        for (size_t i = 0; i < N_SOURCES; i++)
            if (strcmp(asked, all_sources[i]->name) == 0) out->sources[out->n_sources++] = all_sources[i];
    }
    if (out->n_sources || strcmp(asked, "none") == 0) return TEL_OK;
    return tel_fail(
        err, TEL_ERR_INVALID,
        "there is no energy source '%.40s': auto, require, none, perf, powercap, nvml, hwmon, battery, model, replay:FILE.csv, "
        "simulated:WATTS",
        asked);
}

// ---- Keys ---------------------------------------------------------------------------------------------------------

// Whether a list of keys with "*" at the end of some ("cpu_package:* node") names this key.
static bool list_has(const char *list, const char *key) {
    while (*list) {
        list += strspn(list, " ");
        size_t n = strcspn(list, " ");
        bool open_end = n && list[n - 1] == '*';
        if (n && (open_end ? strncmp(list, key, n - 1) == 0 : strlen(key) == n && strncmp(list, key, n) == 0)) return true;
        list += n;
    }
    return false;
}

static bool same_kind(const char *a, const char *b) {
    size_t n = strcspn(a, ":");
    return n == strcspn(b, ":") && strncmp(a, b, n) == 0;
}

static bool contains(const tel_domain *whole, const tel_domain *part) {
    return list_has(whole->contains, part->key) && !same_kind(whole->key, part->key);
}

// ---- The choice ---------------------------------------------------------------------------------------------------

static bool undecided(const tel_candidate *c) { return c->readable && !c->counts && !c->domain->reason[0]; }

// "package-0" of the same source, else "package-0 of perf".
static void refuse(tel_candidate *c, const char *why, const tel_candidate *other) {
    if (!other)
        tel_text(c->domain->reason, sizeof c->domain->reason, "%s", why);
    else if (other->source == c->source)
        tel_text(c->domain->reason, sizeof c->domain->reason, "%s %s", why, other->domain->name);
    else
        tel_text(c->domain->reason, sizeof c->domain->reason, "%s %s of %s", why, other->domain->name, other->source->name);
}

// The counting domain that a part's joules are inside of, by the key before the slash; NULL: it does not count.
static const tel_candidate *owner_of(const tel_candidate *list, size_t n, const char *key) {
    size_t length = strcspn(key, "/");
    for (size_t i = 0; i < n; i++)
        if (list[i].counts && strlen(list[i].domain->key) == length && strncmp(list[i].domain->key, key, length) == 0)
            return &list[i];
    return NULL;
}

static void choose_by_key(tel_candidate *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        const tel_domain *d = list[i].domain;
        if (!undecided(&list[i]) || d->contains[0] || d->method == TEL_METHOD_MODELLED || strchr(d->key, '/') || !d->key[0])
            continue;
        size_t best = i;
        for (size_t k = 0; k < n; k++)
            if (undecided(&list[k]) && !list[k].domain->contains[0] && list[k].domain->method != TEL_METHOD_MODELLED &&
                strcmp(list[k].domain->key, d->key) == 0 && list[k].source->rank < list[best].source->rank)
                best = k;
        list[best].counts = true;
        for (size_t k = 0; k < n; k++)
            if (undecided(&list[k]) && !list[k].domain->contains[0] && strcmp(list[k].domain->key, list[best].domain->key) == 0)
                refuse(&list[k], "the same joules as", &list[best]);
    }
}

// What stands in the way of a whole: a counting part, a counting whole around it, or the same key.
static void choose_whole(tel_candidate *list, size_t n, tel_candidate *whole) {
    for (size_t i = 0; i < n; i++) {
        const tel_candidate *c = &list[i];
        if (!c->counts) continue;
        const char *why = strcmp(c->domain->key, whole->domain->key) == 0 ? "the same joules as"
                          : contains(whole->domain, c->domain)              ? "contains the joules of"
                          : contains(c->domain, whole->domain)              ? "its joules are inside"
                                                                            : NULL;
        if (why) {
            refuse(whole, why, c);
            return;
        }
    }
    whole->counts = true;
}

// Smaller first; of one size, what names its parts before what contains everything.
static int whole_order(const tel_candidate *c) {
    return 1000 * (2 * (int)c->domain->scope + list_has(c->domain->contains, "*")) + c->source->rank;
}

static void choose_wholes(tel_candidate *list, size_t n) {
    while (true) {
        tel_candidate *next = NULL;
        for (size_t i = 0; i < n; i++) {
            const tel_domain *d = list[i].domain;
            if (!undecided(&list[i]) || !d->contains[0] || !d->key[0] || strchr(d->key, '/') || d->method == TEL_METHOD_MODELLED)
                continue;
            if (!next || whole_order(&list[i]) < whole_order(next)) next = &list[i];
        }
        if (!next) return;
        choose_whole(list, n, next);
    }
}

static void choose_model(tel_candidate *list, size_t n) {
    const tel_candidate *counting = NULL;
    for (size_t i = 0; i < n && !counting; i++)
        if (list[i].counts) counting = &list[i];
    for (size_t i = 0; i < n; i++) {
        const tel_domain *d = list[i].domain;
        if (!undecided(&list[i]) || d->method != TEL_METHOD_MODELLED || !d->key[0] || strchr(d->key, '/')) continue;
        if (counting)
            refuse(&list[i], "a model is not added to what is measured by", counting);
        else
            choose_whole(list, n, &list[i]);
    }
}

static void explain_rest(tel_candidate *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!undecided(&list[i])) continue;
        const char *key = list[i].domain->key;
        const tel_candidate *owner = owner_of(list, n, key);
        if (!*key)
            refuse(&list[i], "it is not known what this sensor covers", NULL);
        else if (owner)
            refuse(&list[i], "its joules are inside", owner);
        else
            refuse(&list[i], "covers only a part of a domain that does not count itself", NULL);
    }
}

static bool goes_before(const tel_candidate *a, const tel_candidate *b) {
    if (a->counts != b->counts) return a->counts;
    if (!a->counts) return false;
    if (a->domain->scope != b->domain->scope) return a->domain->scope < b->domain->scope;
    size_t la = strlen(a->domain->key), lb = strlen(b->domain->key); // "cpu_package:2" before "cpu_package:10"
    return la != lb && same_kind(a->domain->key, b->domain->key) ? la < lb : strcmp(a->domain->key, b->domain->key) < 0;
}

size_t tel_choose(tel_candidate *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        list[i].readable = !list[i].domain->reason[0];
        list[i].counts = false;
    }
    choose_by_key(list, n);
    choose_wholes(list, n);
    choose_model(list, n);
    explain_rest(list, n);

    size_t n_counting = 0;
    for (size_t i = 0; i < n; i++) { // stable insertion: few domains
        tel_candidate moving = list[i];
        n_counting += moving.counts;
        size_t k = i;
        for (; k > 0 && goes_before(&moving, &list[k - 1]); k--) list[k] = list[k - 1];
        list[k] = moving;
    }
    return n_counting;
}

// ---- Words --------------------------------------------------------------------------------------------------------

typedef struct writer {
    char *text;
    size_t cap, n;
    bool full;
} writer;

// Appends one piece as a whole, or none of it and nothing afterwards.
static void put(writer *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(writer *w, const char *format, ...) {
    if (w->full) return;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->text + w->n, w->cap - w->n, format, args);
    va_end(args);
    w->full = n < 0 || (size_t)n >= w->cap - w->n;
    if (w->full)
        w->text[w->n] = '\0';
    else
        w->n += (size_t)n;
}

static void put_counting(writer *w, const tel_candidate *list, size_t n) {
    put(w, "counting: ");
    for (size_t i = 0; i < n && list[i].counts; i++) {
        bool last_of_source = i + 1 == n || !list[i + 1].counts || list[i + 1].source != list[i].source;
        put(w, "%s%s", i ? ", " : "", list[i].domain->name);
        if (last_of_source) put(w, " (%s)", list[i].source->name);
    }
}

void tel_choose_explain(const tel_plan *plan, const tel_candidate *list, size_t n, char *text, size_t cap) {
    if (!cap) return;
    text[0] = '\0';
    writer w = {.text = text, .cap = cap};
    if (!plan->n_sources) {
        put(&w, "no energy source was asked for (%s)", plan->asked);
        return;
    }
    size_t n_counting = 0;
    while (n_counting < n && list[n_counting].counts) n_counting++;
    if (n_counting)
        put_counting(&w, list, n);
    else
        put(&w, "no domain counts");
    for (size_t i = n_counting; i < n; i++)
        put(&w, "%s%s (%s): %s",
            i > n_counting ? "; "
            : n_counting   ? "; not used: "
                           : ": ",
            list[i].domain->name, list[i].source->name, list[i].domain->reason);
}

// The reason worth telling: one that a command mends, else the first.
static const tel_candidate *telling(const tel_candidate *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (list[i].domain->fix[0]) return &list[i];
    return n ? list : NULL;
}

// What a source that found nothing at all was looking for.
static const char *absent(const char *source) {
    if (strcmp(source, "nvml") == 0) return "there is no NVIDIA driver library (libnvidia-ml.so.1) and no NVIDIA card";
    if (strcmp(source, "hwmon") == 0) return "no sensor in /sys/class/hwmon gives power or energy";
    if (strcmp(source, "battery") == 0) return "there is no battery in /sys/class/power_supply";
    return "nothing on this machine gives it";
}

tel_result tel_choose_check(const tel_plan *plan, const tel_candidate *list, size_t n, tel_error *err) {
    if (!plan->required || (n && list[0].counts)) return TEL_OK;
    const tel_candidate *c = telling(list, n);
    if (!c) return tel_fail(err, TEL_ERR_UNAVAILABLE, "no energy can be read (source %.40s): %s", plan->asked, absent(plan->asked));
    return tel_fail(err, TEL_ERR_UNAVAILABLE, "no energy can be read (source %.40s): %s of %s: %s%s%s", plan->asked, c->domain->name,
                    c->source->name, c->domain->reason, c->domain->fix[0] ? "; to mend it: " : "", c->domain->fix);
}
