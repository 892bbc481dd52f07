// `wattle ledger`: what requests have cost. Options and the choice between table, JSON and export; reads only, in one transaction,
// so that all figures of one run are of one moment while others go on writing.
// SPDX-License-Identifier: Apache-2.0
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tools/cli.h"
#include "tools/ledger_export.h"
#include "tools/ledger_report.h"

static const char *const by_names[] = {"day", "model", "user", "source", "phase", "conversation"}; // in the order of ledger_by

typedef struct ledger_args {
    const char *file, *by, *since, *until, *model, *user, *format, *table; // table: NULL, requests
    bool json;
} ledger_args;

static int make_view(const ledger_args *args, ledger_view *view) {
    *view = (ledger_view){.by_name = args->by, .since = args->since, .until = args->until,
                          .filter = {.model = args->model, .user = args->user}};
    for (size_t i = 0; i < CLI_COUNT(by_names); i++)
        if (strcmp(args->by, by_names[i]) == 0) view->by = (ledger_by)i;
    if (args->json && args->format) return cli_wrong("ledger: --json and --export exclude each other");
    if (args->table && !args->format) return cli_wrong("ledger: --table %s needs --export csv or jsonl", args->table);
    if (!ledger_parse_since(args->since, (int64_t)time(NULL) * 1000, &view->filter.from_ms))
        return cli_wrong("ledger: --since %s: must be a day (2026-03-01), a number of days (7d) or all", args->since);
    if (!ledger_parse_until(args->until, &view->filter.to_ms))
        return cli_wrong("ledger: --until %s: must be a day (2026-03-01) or all", args->until);
    if (view->filter.from_ms >= view->filter.to_ms) return cli_wrong("ledger: --until %s lies before --since %s", args->until, args->since);
    return CLI_GO;
}

static bool show(ledger_db *db, const ledger_args *args, const ledger_view *view, char err[LEDGER_ERR]) {
    const ledger_table which = args->table && strcmp(args->table, "domains") == 0 ? LEDGER_DOMAINS : LEDGER_REQUESTS;
    if (args->format) return ledger_export(db, which, &view->filter, strcmp(args->format, "jsonl") == 0, err);
    return args->json ? ledger_report_json(db, view, err) : ledger_report_table(db, view, err);
}

int cmd_ledger(int argc, char **argv) {
    ledger_args args = {.by = "day", .since = "7d"};
    const cli_option options[] = {
        {.name = "by", .kind = CLI_STRING, .value = &args.by, .arg = "WHAT", .choices = "day|model|phase|user|source|conversation",
         .help = "one group for each day, model, phase, user, source or conversation (default day)"},
        {.name = "since", .kind = CLI_STRING, .value = &args.since, .arg = "DAY", .help = "2026-03-01, 7d (default: today and six days before) or all"},
        {.name = "until", .kind = CLI_STRING, .value = &args.until, .arg = "DAY", .help = "last day that counts (default: today)"},
        {.name = "model", .letter = 'm', .kind = CLI_STRING, .value = &args.model, .arg = "NAME", .help = "only requests to this model"},
        {.name = "user", .kind = CLI_STRING, .value = &args.user, .arg = "LABEL", .help = "only requests with this user label"},
        {.name = "export", .kind = CLI_STRING, .value = &args.format, .arg = "FORMAT", .choices = "csv|jsonl", .help = "csv or jsonl: every row, for other programs"},
        {.name = "table", .kind = CLI_STRING, .value = &args.table, .arg = "NAME", .choices = "requests|domains", .help = "with --export: requests (default), or domains, the intervals of each energy source"},
        CLI_OPTION_JSON(&args.json),
        CLI_OPTION_LEDGER(&args.file),
    };
    const cli_command command = {.name = "ledger",
                                 .summary = "say what requests have cost, in joules",
                                 .operands = "",
                                 .notes = "Days are local days. Measured, modelled, replayed and simulated joules are never added to each other.\n"
                                          "Bounds of many requests add linearly: the true sum lies within +- the sum of the bounds.\n"
                                          "J/decoded tok is the decode phase per decoded token; tok/J is decoded tokens per joule of all phases.\n",
                                 .options = options,
                                 .n_options = CLI_COUNT(options)};
    int n_operands = 0, code = cli_parse(&command, argc, argv, NULL, 0, &n_operands);
    if (code != CLI_GO) return code;
    ledger_view view;
    if ((code = make_view(&args, &view)) != CLI_GO) return code;

    char err[LEDGER_ERR] = "", *path = NULL;
    ledger_db db;
    if (!ledger_path(args.file, &path, err)) return cli_fail("%s", err);
    if (!path) return cli_wrong("ledger: the ledger is switched off (--ledger none)");
    view.path = path;
    int opened = ledger_db_open_read(&db, path, err);
    bool good = opened >= 0;
    if (good && opened) {
        good = sqlite3_exec(db.sql, "BEGIN", NULL, NULL, NULL) == SQLITE_OK;
        if (!good) ledger_db_explain(&db, sqlite3_errcode(db.sql), err);
    }
    if (good) good = show(opened ? &db : NULL, &args, &view, err);
    ledger_db_close(&db);
    free(path);
    return cli_finish(good ? CLI_OK : cli_fail("%s", err));
}
