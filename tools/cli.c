// Options from a table over getopt_long; messages; time and signals. See cli.h; input and output are in cli_io.c.
// SPDX-License-Identifier: Apache-2.0
#include "tools/cli.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// ---- Messages ----------------------------------------------------------------------------------------------------
static void print_message(const char *format, va_list args) {
    fputs("wattle: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

int cli_fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_message(format, args);
    va_end(args);
    return CLI_FAILED;
}

int cli_wrong(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_message(format, args);
    va_end(args);
    return CLI_USAGE;
}

void cli_warn(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_message(format, args);
    va_end(args);
}

bool cli_draws(int fd) {
    const char *term = getenv("TERM");
    return isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

bool cli_dims(int fd) {
    const char *plain = getenv("NO_COLOR"); // no-color.org: set to anything but the empty text
    return cli_draws(fd) && !(plain && *plain);
}

void cli_note(const char *format, ...) {
    const bool dim = cli_dims(STDERR_FILENO);
    va_list args;
    va_start(args, format);
    if (dim) fputs("\033[2m", stderr);
    vfprintf(stderr, format, args);
    fputs(dim ? "\033[0m\n" : "\n", stderr);
    va_end(args);
}

// ---- Options -----------------------------------------------------------------------------------------------------
enum { MAX_OPTIONS = 48, LONG_BASE = 256, HELP_COLUMN = 26, HELP_WIDTH = 100 }; // getopt_long returns LONG_BASE + index

// "top-k" -> "WTL_TOP_K"
static void env_name(const char *name, char *out, size_t cap) {
    size_t n = (size_t)snprintf(out, cap, "WTL_");
    for (; *name && n + 1 < cap; name++) out[n++] = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
    out[n] = '\0';
}

// Where a value came from, as the person wrote it: "--top-k 0" or "WTL_TOP_K=0".
typedef struct origin {
    const char *env; // NULL: the command line
    const cli_command *command;
} origin;

static int refuse(const origin *from, const cli_option *option, const char *text, const char *rule) {
    if (from->env) return cli_wrong("environment variable %s=%s: %s", from->env, text, rule);
    return cli_wrong("%s: --%s %s: %s", from->command->name, option->name, text, rule);
}

static int set_number(const origin *from, const cli_option *option, const char *text) {
    char rule[128], *end = NULL;
    errno = 0;
    bool integer = option->kind == CLI_INT, whole = true;
    double value = 0;
    long long exact = 0;
    if (integer) {
        exact = strtoll(text, &end, 10);
        value = (double)exact;
    } else {
        value = strtod(text, &end);
    }
    whole = *text && end && !*end && !isspace((unsigned char)*text) && (errno == 0 || !integer);
    if (whole && value >= option->min && value <= option->max) {
        if (integer) *(int64_t *)option->value = exact;
        else *(double *)option->value = value;
        return CLI_GO;
    }
    snprintf(rule, sizeof rule, "must be %s%.16g to %.16g", whole ? "" : integer ? "a whole number, " : "a number, ", option->min,
             option->max);
    return refuse(from, option, text, rule);
}

static int set_flag(const origin *from, const cli_option *option, const char *text) {
    static const char *const yes[] = {"1", "true", "yes", "on"}, *const no[] = {"0", "false", "no", "off"};
    for (size_t i = 0; i < CLI_COUNT(yes); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *(bool *)option->value = strcmp(text, yes[i]) == 0;
            return CLI_GO;
        }
    }
    return refuse(from, option, text, "must be 1 or 0");
}

static int set_string(const origin *from, const cli_option *option, const char *text) {
    const char *choice = option->choices;
    while (choice) {
        size_t len = strcspn(choice, "|");
        if (strlen(text) == len && strncmp(text, choice, len) == 0) break;
        choice = choice[len] ? choice + len + 1 : NULL;
    }
    if (option->choices && !choice) {
        char rule[128] = "must be ";
        size_t n = strlen(rule);
        for (const char *c = option->choices; *c && n + 5 < sizeof rule; c++) {
            if (*c == '|') n += (size_t)snprintf(rule + n, sizeof rule - n, " or ");
            else rule[n++] = *c;
        }
        rule[n] = '\0';
        return refuse(from, option, text, rule);
    }
    *(const char **)option->value = text;
    return CLI_GO;
}

static int set_option(const origin *from, const cli_option *option, const char *text) {
    switch (option->kind) {
    case CLI_FLAG: return set_flag(from, option, text);
    case CLI_INT:
    case CLI_FLOAT: return set_number(from, option, text);
    case CLI_STRING: return set_string(from, option, text);
    case CLI_LIST: break;
    }
    cli_list *list = option->value;
    if (list->n == CLI_COUNT(list->items)) return refuse(from, option, text, "given more than 32 times");
    list->items[list->n++] = text;
    return CLI_GO;
}

static int options_from_environment(const cli_command *command) {
    for (size_t i = 0; i < command->n_options; i++) {
        char name[64];
        env_name(command->options[i].name, name, sizeof name);
        const char *text = getenv(name);
        if (!text || !*text) continue; // an empty variable counts as unset
        origin from = {.env = name, .command = command};
        int code = set_option(&from, &command->options[i], text);
        if (code != CLI_GO) return code;
    }
    return CLI_GO;
}

// Broken between words, every line after the first below the column's head. `indent` is what the first line still lacks.
static void print_help_text(const char *help, const char *env, int indent) {
    int at = HELP_COLUMN;
    cli_printf("%*s", indent, "");
    while (*help) {
        int n = (int)strcspn(help, " ");
        bool first = at == HELP_COLUMN;
        if (!first && at + 1 + n > HELP_WIDTH) {
            cli_printf("\n%*s", HELP_COLUMN, "");
            at = HELP_COLUMN;
            first = true;
        }
        cli_printf("%s%.*s", first ? "" : " ", n, help);
        at += n + !first;
        help += n;
        help += strspn(help, " ");
    }
    if (at + 3 + (int)strlen(env) > HELP_WIDTH) cli_printf("\n%*s[%s]\n", HELP_COLUMN, "", env);
    else cli_printf(" [%s]\n", env);
}

static void print_help(const cli_command *command) {
    cli_printf("wattle %s: %s\n\nusage: wattle %s [options]%s%s\n\noptions:\n", command->name, command->summary, command->name,
               *command->operands ? " " : "", command->operands);
    for (size_t i = 0; i < command->n_options; i++) {
        const cli_option *o = &command->options[i];
        char left[64], env[64];
        env_name(o->name, env, sizeof env);
        int n = o->letter ? snprintf(left, sizeof left, "  -%c, --%s", o->letter, o->name)
                : o->also ? snprintf(left, sizeof left, "  -%s, --%s", o->also, o->name)
                          : snprintf(left, sizeof left, "      --%s", o->name);
        if (o->arg) n += snprintf(left + n, sizeof left - (size_t)n, " %s", o->arg);
        if (n + 2 > HELP_COLUMN) cli_printf("%s\n", left);
        else cli_printf("%s%*s", left, HELP_COLUMN - n, "");
        print_help_text(o->help, env, n + 2 > HELP_COLUMN ? HELP_COLUMN : 0);
    }
    cli_printf("      --help%*sthis text\n\nThe name in brackets is the environment variable that does the same.\n", HELP_COLUMN - 12, "");
    if (!command->notes) return;
    size_t len = strlen(command->notes);
    cli_printf("\n%s%s", command->notes, len && command->notes[len - 1] == '\n' ? "" : "\n");
}

// What getopt_long did not understand. argv[optind - 1] is the culprit for long options.
static int refuse_unknown(const cli_command *command, int result, char **argv) {
    const char *word = argv[optind - 1];
    if (optopt >= LONG_BASE || (optopt && result == ':')) {
        for (size_t i = 0; i < command->n_options; i++) {
            const cli_option *o = &command->options[i];
            if (optopt != LONG_BASE + (int)i && optopt != o->letter) continue;
            if (result == ':') return cli_wrong("%s: --%s needs a value (%s); try `wattle %s --help`", command->name, o->name, o->arg, command->name);
            return cli_wrong("%s: --%s takes no value; try `wattle %s --help`", command->name, o->name, command->name);
        }
    }
    if (optopt > 0 && optopt < LONG_BASE) return cli_wrong("%s: no option -%c; try `wattle %s --help`", command->name, optopt, command->name);
    return cli_wrong("%s: no option %s; try `wattle %s --help`", command->name, word, command->name);
}

static const cli_option *option_of_word(const cli_command *command, const char *word) {
    for (size_t i = 0; i < command->n_options && word[0] == '-'; i++) {
        const cli_option *o = &command->options[i];
        if (o->letter && word[1] == o->letter && !word[2]) return o;
        if (o->also && strcmp(word + 1, o->also) == 0) return o;
        if (word[1] == '-' && strcmp(word + 2, o->name) == 0) return o;
    }
    return NULL;
}

// getopt_long reads -np as -n p. The words that are such names, and not the values of other options, become the long ones.
static void spell_out(const cli_command *command, int argc, char **argv, char spelled[MAX_OPTIONS][64]) {
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        const cli_option *o = option_of_word(command, argv[i]);
        if (!o) continue;
        char *name = spelled[o - command->options];
        if (o->also && strcmp(argv[i] + 1, o->also) == 0) {
            snprintf(name, 64, "--%s", o->name);
            argv[i] = name;
        }
        if (o->kind != CLI_FLAG) i++;
    }
}

int cli_parse(const cli_command *command, int argc, char **argv, const char **operands, int max_operands, int *n_operands) {
    struct option longs[MAX_OPTIONS + 2] = {0};
    char letters[2 * MAX_OPTIONS + 4] = ":"; // leading colon: a missing value is reported as ':'
    size_t n_letters = 1, n = command->n_options;
    if (n > MAX_OPTIONS) abort();
    for (size_t i = 0; i < n; i++) {
        const cli_option *o = &command->options[i];
        longs[i] = (struct option){o->name, o->kind == CLI_FLAG ? no_argument : required_argument, NULL, LONG_BASE + (int)i};
        if (!o->letter) continue;
        letters[n_letters++] = o->letter;
        if (o->kind != CLI_FLAG) letters[n_letters++] = ':';
    }
    longs[n] = (struct option){"help", no_argument, NULL, 'h'};
    letters[n_letters++] = 'h';
    letters[n_letters] = '\0';

    bool list_reset[MAX_OPTIONS] = {0};
    char spelled[MAX_OPTIONS][64]; // argv points into it until this returns
    spell_out(command, argc, argv, spelled);
    int code = options_from_environment(command), result;
    opterr = 0;
    optind = 1;
    while ((result = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (result == 'h') {
            print_help(command);
            return cli_finish(CLI_OK);
        }
        if (result == '?' || result == ':') return refuse_unknown(command, result, argv);
        size_t i = 0;
        while (i < n && result != LONG_BASE + (int)i && result != command->options[i].letter) i++;
        const cli_option *o = &command->options[i];
        if (o->kind == CLI_LIST && !list_reset[i]) ((cli_list *)o->value)->n = 0; // the command line replaces the environment
        list_reset[i] = true;
        origin from = {.command = command};
        int set = set_option(&from, o, o->kind == CLI_FLAG ? "1" : optarg);
        if (set != CLI_GO) return set;
    }
    *n_operands = 0;
    for (int i = optind; i < argc; i++) {
        if (*n_operands == max_operands) return cli_wrong("%s: unexpected word '%s'; try `wattle %s --help`", command->name, argv[i], command->name);
        operands[(*n_operands)++] = argv[i];
    }
    return code;
}

// ---- Time and signals --------------------------------------------------------------------------------------------
static uint64_t start_ns;

int64_t cli_unix_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint64_t cli_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void cli_stamp_start(void) { start_ns = cli_now_ns(); }

uint64_t cli_start_ns(void) { return start_ns; }

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number) {
    interrupted = signal_number;
}

void cli_catch_interrupt(void) {
    // SA_RESETHAND: the second signal meets the default action and kills.
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void) { return interrupted != 0; }

bool cli_resume(void) {
    if (interrupted == SIGTERM) return false;
    interrupted = 0;
    cli_catch_interrupt();
    return true;
}
