// See queries.h.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/queries.h"

#include <pthread.h>
#include <stdlib.h>

struct server_queries {
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    size_t n;
};

typedef struct query {
    server *s;
    void (*work)(server *s, void *user);
    void *user;
} query;

bool server_queries_open(server *s) {
    struct server_queries *q = calloc(1, sizeof *q);
    if (!q) return false;
    pthread_mutex_init(&q->mutex, NULL);
    pthread_cond_init(&q->ended, NULL);
    s->queries = q;
    return true;
}

static void leave(struct server_queries *q) {
    pthread_mutex_lock(&q->mutex);
    q->n--;
    pthread_cond_signal(&q->ended);
    pthread_mutex_unlock(&q->mutex);
}

static void *query_main(void *user) {
    const query one = *(query *)user;
    free(user);
    one.work(one.s, one.user);
    leave(one.s->queries);
    return NULL;
}

bool server_queries_start(server *s, void (*work)(server *s, void *user), void *user) {
    struct server_queries *q = s->queries;
    query *one = malloc(sizeof *one);
    if (!one) return false;
    *one = (query){s, work, user};
    pthread_mutex_lock(&q->mutex);
    const bool room = q->n < SERVER_QUERIES_MAX;
    q->n += room;
    pthread_mutex_unlock(&q->mutex);
    pthread_t thread;
    if (room && pthread_create(&thread, NULL, query_main, one) == 0) {
        pthread_detach(thread);
        return true;
    }
    if (room) leave(q);
    free(one);
    return false;
}

void server_queries_close(server *s) {
    struct server_queries *q = s->queries;
    if (!q) return;
    pthread_mutex_lock(&q->mutex);
    while (q->n) pthread_cond_wait(&q->ended, &q->mutex);
    pthread_mutex_unlock(&q->mutex);
    pthread_cond_destroy(&q->ended);
    pthread_mutex_destroy(&q->mutex);
    free(q);
    s->queries = NULL;
}
