// See energies.h. A ring of entries; ids are found by walking it, which is microseconds, and asked for rarely.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/energies.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct entry {
    char id[40]; // "": empty
    uint64_t request;
    char *text;
} entry;

struct server_energies {
    pthread_mutex_t mutex;
    size_t next;
    entry entries[SERVER_ENERGIES_MAX];
};

server_energies *server_energies_open(void) {
    server_energies *e = calloc(1, sizeof *e);
    if (e) pthread_mutex_init(&e->mutex, NULL);
    return e;
}

void server_energies_close(server_energies **energies) {
    server_energies *e = *energies;
    if (!e) return;
    for (size_t i = 0; i < SERVER_ENERGIES_MAX; i++) free(e->entries[i].text);
    pthread_mutex_destroy(&e->mutex);
    free(e);
    *energies = NULL;
}

static entry *find(server_energies *e, const char *id) {
    for (size_t back = 1; back <= SERVER_ENERGIES_MAX; back++) { // the newest first
        entry *one = &e->entries[(e->next + SERVER_ENERGIES_MAX - back) % SERVER_ENERGIES_MAX];
        if (!one->id[0]) return NULL;
        if (strcmp(one->id, id) == 0) return one;
    }
    return NULL;
}

void server_energies_put(server_energies *e, const char *id, uint64_t request, char *text) {
    if (!id[0]) {
        free(text);
        return;
    }
    pthread_mutex_lock(&e->mutex);
    entry *one = find(e, id);
    if (!one) {
        one = &e->entries[e->next];
        e->next = (e->next + 1) % SERVER_ENERGIES_MAX;
        snprintf(one->id, sizeof one->id, "%s", id);
    }
    char *old = one->text;
    one->request = request;
    one->text = text;
    pthread_mutex_unlock(&e->mutex);
    free(old);
}

bool server_energies_get(server_energies *e, const char *id, uint64_t *request, char **text) {
    pthread_mutex_lock(&e->mutex);
    const entry *one = id[0] ? find(e, id) : NULL;
    *request = one ? one->request : 0;
    *text = one && one->text ? strdup(one->text) : NULL;
    pthread_mutex_unlock(&e->mutex);
    return one != NULL;
}
