// `wattle meters`: which power and energy sources this machine has, what they say, and how far that can be trusted.
//
// Opens one meter and hands it to the list, the check, or the watch; `calibrate` and `audit` are commands of their own behind the same word.
// SPDX-License-Identifier: Apache-2.0
#include <string.h>
#include <unistd.h>

#include "tools/cli.h"
#include "tools/meter_options.h"
#include "tools/meters.h"

static const char notes[] =
    "commands behind the same word (each with its own --help):\n"
    "  wattle meters calibrate   gain and offset of a sensor, from a wall meter or from recordings\n"
    "  wattle meters audit       how often the stated bound held in a recording with a better meter beside it\n\n"
    "The bound is what the true value lies within in at least 99 % of windows of that length. A modelled domain has no counter behind it:\n"
    "its true value lies between the two factors times the value shown, and it is never added to a measured one.\n\n"
    "--check says in one sentence whether energy is measured here and exits 0 if so, 1 if not (2 is wrong usage).\n"
    "--watch and --record end with totals after --seconds or on Ctrl-C, with exit code 0 either way. With --json they print an object per line.\n\n"
    "examples:\n"
    "  wattle meters\n"
    "  wattle meters --watch --interval 0.5\n"
    "  wattle meters --record idle.csv --seconds 60\n"
    "  wattle meters --meter replay:idle.csv\n";

// One way of running at a time, and a file that is not lost by mistake.
static int check_words(bool check, const meters_run *run, bool force) {
    if (check && (run->watch || run->record || run->json)) return cli_wrong("meters: --check goes with no --watch, --record or --json");
    if (run->record && !force && access(run->record, F_OK) == 0)
        return cli_wrong("meters: %s is there already: another name, or --force to replace it", run->record);
    if (run->seconds > 0 && run->watch && run->interval_s > run->seconds)
        return cli_wrong("meters: --interval %g is longer than --seconds %g", run->interval_s, run->seconds);
    return CLI_GO;
}

int cmd_meters(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "calibrate") == 0) return meters_calibrate(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], "audit") == 0) return meters_audit(argc - 1, argv + 1);
    bool check = false, force = false;
    meters_run run = {.interval_s = 1};
    cli_meter given = {0};
    const cli_option options[] = {
        {.name = "check", .kind = CLI_FLAG, .value = &check, .help = "only say whether energy is measured here: exit code 0 yes, 1 no"},
        {.name = "watch", .letter = 'w', .kind = CLI_FLAG, .value = &run.watch, .help = "show the watts of each domain until Ctrl-C"},
        {.name = "interval", .letter = 'i', .kind = CLI_FLOAT, .value = &run.interval_s, .arg = "S", .min = 0.05, .max = 3600,
         .help = "--watch: seconds between two lines (default 1)"},
        {.name = "record", .kind = CLI_STRING, .value = &run.record, .arg = "FILE", .help = "write all readings to a CSV file that can be replayed"},
        {.name = "seconds", .letter = 's', .kind = CLI_FLOAT, .value = &run.seconds, .arg = "S", .min = 0.05, .max = 1e7,
         .help = "how long to watch, record (default: until Ctrl-C) or sample for the list (default 1.2)"},
        {.name = "force", .kind = CLI_FLAG, .value = &force, .help = "--record: replace a file that is there"},
        CLI_OPTION_JSON(&run.json),
        CLI_OPTIONS_METER(&given),
    };
    const cli_command command = {.name = "meters",
                                 .summary = "say which energy sources this machine has, and how far to trust them",
                                 .operands = "[calibrate|audit]",
                                 .notes = notes,
                                 .options = options,
                                 .n_options = CLI_COUNT(options)};
    const char *word = NULL;
    int n_words = 0, code = cli_parse(&command, argc, argv, &word, 1, &n_words);
    if (code != CLI_GO) return code;
    if (n_words && (strcmp(word, "calibrate") == 0 || strcmp(word, "audit") == 0))
        return cli_wrong("meters: `%s` comes first: wattle meters %s [options]", word, word);
    if (n_words) return cli_wrong("meters: unexpected word '%s'; try `wattle meters --help`", word);
    if ((code = check_words(check, &run, force)) != CLI_GO) return code;

    tel_meter *meter = NULL;
    if ((code = cli_meter_open("meters", &given, &meter)) != CLI_GO) return code;
    cli_catch_interrupt();
    if (check) code = meters_check(meter);
    else if (run.watch || run.record) code = meters_watch(meter, &run);
    else code = meters_list(meter, run.seconds > 0 ? run.seconds : 1.2, run.json);
    tel_meter_close(&meter);
    return cli_finish(code);
}
