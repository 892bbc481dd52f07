// Entry of the one binary: `wattle <command> ...`. Knows the list of commands and nothing of what they do.
// SPDX-License-Identifier: Apache-2.0
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "runtime/wattle.h"
#include "tools/cli.h"

typedef struct command {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *summary;
} command;

static const command commands[] = {
    {"run", cmd_run, "write text with a model"},
    {"chat", cmd_chat, "talk with a model, and see what each answer takes"},
    {"serve", cmd_serve, "answer HTTP requests: chat, completions, energy"},
    {"fetch", cmd_fetch, "get a model file, verified"},
    {"info", cmd_info, "say what a model file holds"},
    {"tokenize", cmd_tokenize, "turn text into tokens"},
    {"bench", cmd_bench, "measure speed and joules of a model on this machine"},
    {"ledger", cmd_ledger, "say what requests have cost, in joules"},
    {"perplexity", cmd_perplexity, "measure how well a model predicts a text"},
    {"meters", cmd_meters, "say which energy sources this machine has, and how far to trust them"},
};

static void print_help(void) {
    cli_printf("wattle: run GGUF language models on this machine\n\nusage: wattle <command> [options]\n\ncommands:\n");
    for (size_t i = 0; i < CLI_COUNT(commands); i++) cli_printf("  %-12s%s\n", commands[i].name, commands[i].summary);
    cli_printf("\n`wattle <command> --help` lists the options of a command.\n\nexamples:\n"
               "  wattle fetch smollm2\n"
               "  wattle run -p \"The capital of France is\" -n 16\n");
}

// Letters to insert, delete or replace to turn a into b; for words of at most 15 letters.
static int edit_distance(const char *a, const char *b) {
    int row[16], len = (int)strlen(b);
    if (len > 15) return 99;
    for (int j = 0; j <= len; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= len; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[len];
}

static int refuse_command(const char *word) {
    const char *nearest = NULL;
    int best = 4; // further away than three letters is no typing mistake
    for (size_t i = 0; i < CLI_COUNT(commands); i++) {
        int distance = edit_distance(word, commands[i].name);
        if (distance < best) {
            best = distance;
            nearest = commands[i].name;
        }
    }
    if (nearest) return cli_wrong("no command '%s'. Did you mean `wattle %s`? `wattle --help` lists all commands", word, nearest);
    return cli_wrong("no command '%s'. `wattle --help` lists all commands", word);
}

int main(int argc, char **argv) {
    cli_stamp_start();
    signal(SIGPIPE, SIG_IGN); // a reader that leaves shows as EPIPE
    signal(SIGXFSZ, SIG_IGN); // a file over the limit (ulimit -f) shows as EFBIG: no ledger costs anybody the reply
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--version") == 0) {
        char sets[128];
        wtl_cpu_list(sets, sizeof sets);
        cli_printf("wattle %s\nCPU kernels for this machine: %s (WTL_CPU_MASK=NAME takes an earlier one)\n", wtl_version(), sets);
        return cli_finish(CLI_OK);
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0) {
        print_help();
        return cli_finish(CLI_OK);
    }
    if (!*word) return cli_wrong("no command given. `wattle --help` lists them");
    for (size_t i = 0; i < CLI_COUNT(commands); i++)
        if (strcmp(word, commands[i].name) == 0) return commands[i].main(argc - 1, argv + 1);
    return refuse_command(word);
}
