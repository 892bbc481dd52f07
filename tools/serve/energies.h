// Energy objects of recent answers by response id, for GET /v1/energy/{id}: the last so many of them, oldest out first.
//
// A figure that has not settled is kept by its number in runtime/energy.h and asked anew each time; a settled one is kept as the text that was
// made of it then, since the meter forgets. Thread: any, for all of it.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TOOLS_SERVE_ENERGIES_H
#define WTL_TOOLS_SERVE_ENERGIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct server_energies server_energies;

enum { SERVER_ENERGIES_MAX = 1024 }; // a few kilobytes each

server_energies *server_energies_open(void); // NULL: no memory
void server_energies_close(server_energies **energies);
// text: the finished object, taken over (malloc'ed); NULL: not settled, `request` can be asked. A second call for an id replaces the first.
void server_energies_put(server_energies *energies, const char *id, uint64_t request, char *text);
// False: no such id. *text: a malloc'ed copy, or NULL and *request.
bool server_energies_get(server_energies *energies, const char *id, uint64_t *request, char **text);

#endif
