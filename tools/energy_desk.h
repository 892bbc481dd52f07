// Everything a command needs to account for the joules of its requests: meter, attribution and ledger, opened together.
//
//     energy_desk desk = {0};
//     energy_desk_begin(&desk, "run", &options);          // the meter opens on a thread of its own, while the model loads
//     energy_desk_open(&desk, engine);                     // attribution and ledger
//     uint64_t id = wtl_energy_begin(desk.energy, ...);    // a request: see runtime/energy.h
//     ...
//     energy_desk_book(&desk, &entry, &report);            // into the ledger
//     energy_desk_close(&desk);
//
// Trouble with energy never stops a request: it becomes the reason in the records. Only a wrong option and --meter require end the command.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_ENERGY_DESK_H
#define WTL_TOOLS_ENERGY_DESK_H

#include <pthread.h>

#include "runtime/energy.h"
#include "tools/ledger.h"
#include "tools/meter_options.h"

typedef struct energy_desk_options {
    cli_meter meter;
    const char *ledger; // file, "none", or NULL: the default one
    const char *user;   // label in the ledger, or NULL
} energy_desk_options;

#define CLI_OPTIONS_ENERGY(o) \
    CLI_OPTIONS_METER(&(o)->meter), \
    CLI_OPTION_LEDGER(&(o)->ledger), \
    {.name = "user", .kind = CLI_STRING, .value = &(o)->user, .arg = "LABEL", .help = "label of this request in the ledger"}

typedef struct energy_desk {
    wtl_energy *energy;  // never NULL after energy_desk_open
    tel_meter *meter;    // NULL: --meter none, or it could not be opened
    char *fit_path;      // NULL: no home directory
    ledger *book;        // NULL: off
    // Inside.
    tel_options options;
    tel_error error;
    tel_result result;
    pthread_t opener;
    bool opening, off;
    const char *ledger;
    char trouble[LEDGER_ERR]; // with the ledger, said once the model is loaded
    bool troubled;
    const char *command, *user;
    wtl_energy_totals booked[WTL_ENERGY_DOMAINS_MAX];
    int64_t booked_ms;
    char *sources, *scopes; // of the counting domains, comma separated
} energy_desk;

// CLI_GO, or CLI_USAGE after a message. The option strings must live until energy_desk_close.
int energy_desk_begin(energy_desk *desk, const char *command, const energy_desk_options *options);
// CLI_GO; CLI_FAILED after a message when --meter require finds nothing, a named source cannot be read, or memory is short.
int energy_desk_open(energy_desk *desk, const wtl_engine *engine);
// Without an idle baseline nothing can be said of dynamic joules: measures one for `ns` when there is none or it is older than a day,
// and can be kept for later runs.
// The machine should be idle but for the loaded model. Ends early when interrupted.
void energy_desk_baseline(energy_desk *desk, uint64_t ns, bool tell); // tell: say that it takes a moment

// What the ledger wants to know besides the report.
typedef struct energy_desk_entry {
    const char *kind, *model, *backend, *outcome, *conversation;
    const char *id;     // unique in the ledger; NULL: a random one
    const char *user;   // label of whom it was for; NULL: that of the options
    int64_t arrived_ms; // Unix time
} energy_desk_entry;
void energy_desk_book(energy_desk *desk, const energy_desk_entry *entry, const wtl_energy_report *report);

// Books what is left, closes all. Says so when entries were lost.
void energy_desk_close(energy_desk *desk);

// One word for where the energy was measured: "cpu package, dram". Borrowed from the desk; "" without a meter.
const char *energy_desk_scopes(const energy_desk *desk);

#endif
