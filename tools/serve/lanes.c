// See lanes.h. A call that waits is not told when its client leaves: the lane looks when its turn comes, and routes look when they submit.
// SPDX-License-Identifier: Apache-2.0
#include "tools/serve/lanes.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { SMALL, LARGE, N_LANES, LARGE_NICE = 5 };

typedef struct lane_item {
    http_call *call;
    void (*route)(server *s, http_call *call);
} lane_item;

typedef struct lane {
    server *s;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t news;
    lane_item items[SERVER_LANE_MAX]; // a ring
    size_t first, n;
    bool stop, lowly;
} lane;

struct server_lanes {
    lane of[N_LANES];
};

static bool next_item(lane *l, lane_item *out) {
    pthread_mutex_lock(&l->mutex);
    while (l->n == 0 && !l->stop) pthread_cond_wait(&l->news, &l->mutex);
    const bool some = l->n > 0;
    if (some) {
        *out = l->items[l->first];
        l->first = (l->first + 1) % SERVER_LANE_MAX;
        l->n--;
    }
    pthread_mutex_unlock(&l->mutex);
    return some;
}

static bool is_empty(lane *l) {
    pthread_mutex_lock(&l->mutex);
    const bool empty = l->n == 0;
    pthread_mutex_unlock(&l->mutex);
    return empty;
}

// A megabyte of JSON becomes many small pieces, and the C library keeps their pages for the next one.
static void give_back_memory(void) {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

static void *lane_main(void *user) {
    lane *l = user;
    if (l->lowly) setpriority(PRIO_PROCESS, 0, LARGE_NICE); // Linux: of this thread
    for (lane_item item; next_item(l, &item);) {
        if (http_is_gone(item.call)) http_reply(item.call, 503, NULL, "", 0); // nobody reads it
        else item.route(l->s, item.call);
        if (l->lowly && is_empty(l)) give_back_memory();
    }
    return NULL;
}

static bool lane_open(lane *l, server *s, bool lowly) {
    l->s = s;
    l->lowly = lowly;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->news, NULL);
    if (pthread_create(&l->thread, NULL, lane_main, l) == 0) return true;
    pthread_cond_destroy(&l->news);
    pthread_mutex_destroy(&l->mutex);
    return false;
}

static void lane_close(lane *l) {
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_signal(&l->news);
    pthread_mutex_unlock(&l->mutex);
    pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->news);
    pthread_mutex_destroy(&l->mutex);
}

bool server_lanes_open(server *s) {
    struct server_lanes *lanes = calloc(1, sizeof *lanes);
    if (!lanes) return false;
    if (lane_open(&lanes->of[SMALL], s, false)) {
        if (lane_open(&lanes->of[LARGE], s, true)) {
            s->lanes = lanes;
            return true;
        }
        lane_close(&lanes->of[SMALL]);
    }
    free(lanes);
    return false;
}

void server_lanes_close(server *s) {
    if (!s->lanes) return;
    for (size_t i = 0; i < N_LANES; i++) lane_close(&s->lanes->of[i]);
    free(s->lanes);
    s->lanes = NULL;
}

void server_lanes_run(server *s, http_call *call, void (*route)(server *s, http_call *call)) {
    size_t len;
    http_body(call, &len);
    lane *l = &s->lanes->of[len <= SERVER_SMALL_BODY_BYTES ? SMALL : LARGE];
    pthread_mutex_lock(&l->mutex);
    const bool room = l->n < SERVER_LANE_MAX;
    if (room) {
        l->items[(l->first + l->n++) % SERVER_LANE_MAX] = (lane_item){call, route};
        pthread_cond_signal(&l->news);
    }
    pthread_mutex_unlock(&l->mutex);
    if (room) return;
    http_set_header(call, "Retry-After", "2");
    server_error(call, 503, "overloaded_error", "too many requests wait to be read", NULL, "queue_full");
}
