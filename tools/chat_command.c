// Commands of a chat. See chat_command.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/chat_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/energy_json.h"
#include "tools/joules.h"

// ---- Settings -----------------------------------------------------------------------------------------------------
typedef struct setting {
    const char *name, *help;
    int64_t *integer; // one of the two
    double *real;
    double min, max;
} setting;

enum { N_SETTINGS = 11 };

static void settings_of(chat_desk *desk, setting out[N_SETTINGS]) {
    cli_sampling *s = &desk->options.sampling;
    const setting table[N_SETTINGS] = {
        {"temp", "temperature; 0: always the likeliest token", NULL, &s->temp, 0, 100},
        {"top-k", "keep the N likeliest tokens; 0: all", &s->top_k, NULL, 0, 2147483647},
        {"top-p", "keep the likeliest that together reach X; 1: all", NULL, &s->top_p, 1e-6, 1},
        {"min-p", "drop tokens below X times the likeliest; 0: none", NULL, &s->min_p, 0, 1},
        {"repeat-penalty", "divides the logit of recent tokens; 1: off", NULL, &s->repeat_penalty, 0.01, 100},
        {"presence-penalty", "taken off the logit of recent tokens", NULL, &s->presence_penalty, -100, 100},
        {"frequency-penalty", "taken off once per recent occurrence", NULL, &s->frequency_penalty, -100, 100},
        {"repeat-last-n", "tokens that count as recent; -1: all, 0: none", &s->last_n, NULL, -1, 1 << 20},
        {"seed", "of the next answer; it moves on by one with each", &s->seed, NULL, 0, CLI_SEED_MAX},
        {"n-predict", "tokens of an answer at most; -1: until the model ends", &desk->options.n_predict, NULL, -1, 2147483647},
        {"max-joules", "energy of an answer at most; 0: no limit", NULL, &desk->options.max_joules, 0, 1e9},
    };
    memcpy(out, table, sizeof table);
}

static void say_settings(chat_desk *desk) {
    setting settings[N_SETTINGS];
    settings_of(desk, settings);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        char value[32];
        if (settings[i].integer) snprintf(value, sizeof value, "%lld", (long long)*settings[i].integer);
        else snprintf(value, sizeof value, "%g", *settings[i].real);
        cli_note("  %-18s%-12s%s", settings[i].name, value, settings[i].help);
    }
}

static void change_setting(chat_desk *desk, const char *words) {
    setting settings[N_SETTINGS];
    settings_of(desk, settings);
    char name[32] = "", value[64] = "", rest[2] = "", *end;
    const int n = sscanf(words, "%31s %63s %1s", name, value, rest);
    const setting *s = NULL;
    for (size_t i = 0; i < N_SETTINGS; i++)
        if (strcmp(name, settings[i].name) == 0) s = &settings[i];
    if (!s) {
        cli_warn("/set: there is no setting \"%s\"; /set alone lists them", name);
        return;
    }
    if (n != 2) {
        cli_warn("/set %s needs one value, such as /set %s %g", name, name, s->max < 10 ? s->max : 10.0);
        return;
    }
    const double x = strtod(value, &end);
    if (*end || !(x >= s->min && x <= s->max) || (s->integer && x != (double)(int64_t)x)) {
        cli_warn("/set %s: %s is no %s from %g to %g", name, value, s->integer ? "whole number" : "number", s->min, s->max);
        return;
    }
    if (s->integer) *s->integer = (int64_t)x;
    else *s->real = x;
    cli_note("%s is now %s", name, value);
}

// ---- Energy -------------------------------------------------------------------------------------------------------
static bool known(const tel_energy *e) { return e->status != TEL_UNAVAILABLE; }

static void say_energy(const chat_desk *desk) {
    if (!desk->has_last) {
        cli_note("no answer yet");
        return;
    }
    cli_note("the last answer:");
    energy_summary(&desk->last, desk->scopes);
    char sum[256] = "", joules[JOULES_TEXT];
    size_t n = 0;
    if (desk->n_measured) n += (size_t)snprintf(sum, sizeof sum, "; %s measured in %llu", format_joules(desk->measured_uj, joules), (unsigned long long)desk->n_measured);
    if (desk->n_modelled) n += (size_t)snprintf(sum + n, sizeof sum - n, "; ~%s modelled in %llu", format_joules(desk->modelled_uj, joules), (unsigned long long)desk->n_modelled);
    if (desk->n_unknown) snprintf(sum + n, sizeof sum - n, "; unknown in %llu", (unsigned long long)desk->n_unknown);
    cli_note("this conversation: %llu answer%s%s", (unsigned long long)desk->n_answers, desk->n_answers == 1 ? "" : "s", sum);
}

// "+-" of plain text becomes the character; ascii keeps it.
static void append(char *out, size_t cap, bool ascii, const char *text) {
    size_t n = strlen(out);
    for (; *text && n + 3 < cap; text++) {
        if (!ascii && text[0] == '+' && text[1] == '-' && text[2] == ' ') {
            memcpy(out + n, "\xC2\xB1", 2);
            n += 2;
            text += 2; // "± 0.7" is written "±0.7"
        } else {
            out[n++] = *text;
        }
    }
    out[n] = '\0';
}

void chat_energy_line(const chat_answer *a, bool ascii, char *out, size_t cap) {
    const char *between = ascii ? " | " : " \xC2\xB7 ";
    const wtl_energy_report *r = &a->energy;
    char part[ENERGY_TEXT + 64], text[ENERGY_TEXT], rate[JOULES_TEXT];
    snprintf(out, cap, "%d token%s", a->n_tokens, a->n_tokens == 1 ? "" : "s");
    append(out, cap, ascii, between);
    if (known(&r->total)) append(out, cap, ascii, format_energy(&r->total, text));
    else {
        snprintf(part, sizeof part, "no joules: %s%s%s", r->total.reason, r->total.fix ? "; to mend it: " : "", r->total.fix ? r->total.fix : "");
        append(out, cap, ascii, part);
    }
    if (a->n_cached > 0) {
        append(out, cap, ascii, between);
        if (known(&r->avoided)) snprintf(part, sizeof part, "%d cached tokens saved %s", a->n_cached, format_energy(&r->avoided, text));
        else snprintf(part, sizeof part, "%d cached tokens", a->n_cached);
        append(out, cap, ascii, part);
    }
    if (known(&r->total) && a->n_tokens > 0 && *format_rate(&r->total, (uint64_t)a->n_tokens, rate) != '-') {
        append(out, cap, ascii, between);
        snprintf(part, sizeof part, "%s tok/J", rate);
        append(out, cap, ascii, part);
    }
    if (a->decode_steps > 0 && a->decode_ns > 0) {
        append(out, cap, ascii, between);
        snprintf(part, sizeof part, "%.3g tok/s", (double)a->decode_steps * 1e9 / (double)a->decode_ns);
        append(out, cap, ascii, part);
    }
}

void chat_account(chat_desk *desk, const chat_answer *a) {
    const tel_energy *e = &a->energy.total;
    desk->n_answers++;
    desk->last = a->energy;
    desk->has_last = true;
    if (!known(e)) {
        desk->n_unknown++;
    } else if (e->status == TEL_MODELLED) {
        desk->n_modelled++;
        desk->modelled_uj += e->energy_uj;
    } else {
        desk->n_measured++;
        desk->measured_uj += e->energy_uj;
    }
    const char *ended = strcmp(a->stop_reason, "length") == 0      ? "the answer was cut at n-predict tokens"
                        : strcmp(a->stop_reason, "context") == 0   ? "the context is full: /new begins another conversation"
                        : strcmp(a->stop_reason, "energy") == 0    ? "the answer was cut at max-joules"
                                                                   : NULL;
    if (ended) cli_note("%s", ended);
}

// ---- Commands -----------------------------------------------------------------------------------------------------
static chat_next cmd_help(chat_desk *desk, const char *rest);

static chat_next cmd_new(chat_desk *desk, const char *rest) {
    (void)rest;
    chat_talk_clear(&desk->talk);
    desk->n_answers = desk->n_measured = desk->n_modelled = desk->n_unknown = desk->measured_uj = desk->modelled_uj = 0;
    desk->has_last = false;
    cli_note("a new conversation%s", *chat_talk_system(&desk->talk) ? " with the same system prompt" : "");
    return CHAT_GO_ON;
}

static chat_next cmd_save(chat_desk *desk, const char *rest) {
    char err[CHAT_TALK_ERR];
    if (!*rest) cli_warn("/save needs a file, such as /save talk.json");
    else if (!chat_talk_save(&desk->talk, rest, desk->model, err)) cli_warn("/save: %s", err);
    else cli_note("%zu question%s saved in %s", chat_talk_turns(&desk->talk), chat_talk_turns(&desk->talk) == 1 ? "" : "s", rest);
    return CHAT_GO_ON;
}

static chat_next cmd_load(chat_desk *desk, const char *rest) {
    char err[CHAT_TALK_ERR];
    if (!*rest) cli_warn("/load needs a file that /save has written");
    else if (!chat_talk_load(&desk->talk, rest, err)) cli_warn("/load: %s; the conversation stays as it was", err);
    else cli_note("%zu question%s loaded from %s", chat_talk_turns(&desk->talk), chat_talk_turns(&desk->talk) == 1 ? "" : "s", rest);
    return CHAT_GO_ON;
}

static chat_next cmd_system(chat_desk *desk, const char *rest) {
    if (!*rest && *chat_talk_system(&desk->talk)) {
        cli_note("system prompt: %s", chat_talk_system(&desk->talk));
        cli_note("(/system none removes it)");
    } else if (!*rest) {
        cli_note("there is no system prompt; /system TEXT sets one");
    } else if (!chat_talk_set_system(&desk->talk, strcmp(rest, "none") == 0 ? "" : rest)) {
        cli_warn("/system: out of memory");
    } else {
        cli_note(strcmp(rest, "none") == 0 ? "the system prompt is gone" : "the system prompt is set, from the next question on");
    }
    return CHAT_GO_ON;
}

static chat_next cmd_set(chat_desk *desk, const char *rest) {
    if (*rest) change_setting(desk, rest);
    else say_settings(desk);
    return CHAT_GO_ON;
}

static chat_next cmd_energy(chat_desk *desk, const char *rest) {
    if (strcmp(rest, "on") == 0 || strcmp(rest, "off") == 0) {
        desk->show_energy = rest[1] == 'n';
        cli_note("the line below each answer is %s", rest);
    } else if (*rest) {
        cli_warn("/energy takes on, off, or nothing");
    } else {
        say_energy(desk);
    }
    return CHAT_GO_ON;
}

static chat_next cmd_retry(chat_desk *desk, const char *rest) {
    (void)rest;
    chat_talk_drop(&desk->talk, "assistant");
    if (chat_talk_turns(&desk->talk) > 0) return CHAT_AGAIN;
    cli_warn("/retry: there is no question yet");
    return CHAT_GO_ON;
}

static chat_next cmd_quit(chat_desk *desk, const char *rest) {
    (void)desk, (void)rest;
    return CHAT_QUIT;
}

static const struct {
    const char *name, *arg, *help;
    chat_next (*run)(chat_desk *desk, const char *rest);
} commands[] = {
    {"help", "", "this list", cmd_help},
    {"new", "", "forget the conversation, keep the system prompt", cmd_new},
    {"retry", "", "answer the last question again", cmd_retry},
    {"save", "FILE", "write the conversation to a file (JSON)", cmd_save},
    {"load", "FILE", "go on with a saved conversation", cmd_load},
    {"system", "TEXT", "set the system prompt (none removes it)", cmd_system},
    {"set", "NAME VALUE", "change how tokens are chosen; alone: show all settings", cmd_set},
    {"energy", "on|off", "alone: the joules of the last answer and of this conversation", cmd_energy},
    {"quit", "", "end (also Ctrl-D)", cmd_quit},
};

static chat_next cmd_help(chat_desk *desk, const char *rest) {
    (void)desk, (void)rest;
    for (size_t i = 0; i < CLI_COUNT(commands); i++) {
        char usage[32];
        snprintf(usage, sizeof usage, "/%s %s", commands[i].name, commands[i].arg);
        cli_note("  %-20s%s", usage, commands[i].help);
    }
    cli_note("Enter sends, Alt-Enter begins a new line, a paste stays one message. Ctrl-C stops an answer.");
    cli_note("A message that begins with / is sent with one more in front: //etc/hosts is a file.");
    return CHAT_GO_ON;
}

chat_next chat_command(chat_desk *desk, const char *line) {
    const char *word = line + 1;
    const size_t n = strcspn(word, " \t\n");
    const char *rest = word + n + strspn(word + n, " \t\n");
    char *trimmed = strdup(rest);
    if (!trimmed) return CHAT_GO_ON;
    for (size_t end = strlen(trimmed); end > 0 && strchr(" \t\n", trimmed[end - 1]); end--) trimmed[end - 1] = '\0';
    chat_next next = CHAT_GO_ON;
    bool found = false;
    for (size_t i = 0; i < CLI_COUNT(commands) && !found; i++) {
        if (strlen(commands[i].name) != n || strncmp(word, commands[i].name, n) != 0) continue;
        found = true;
        next = commands[i].run(desk, trimmed);
    }
    if (!found) cli_warn("there is no command /%.*s; /help lists them", (int)n, word);
    free(trimmed);
    return next;
}
