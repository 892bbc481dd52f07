// The listening socket of the server: names to addresses, and one sentence when it cannot be had.
// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tools/serve/http_internal.h"

static int listen_at(const struct addrinfo *at) {
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    int on = 1, off = 0;
    // Connections of a server that has just ended do not keep its port; a second live server still gets EADDRINUSE.
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (at->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off); // "::" takes IPv4 too
    if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, 511) == 0) return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

static const char *reason(int error) {
    switch (error) {
    case EADDRINUSE: return "the port is in use by another program";
    case EACCES: return "no permission for this port (below 1024 only root may listen)";
    case EADDRNOTAVAIL: return "no interface of this machine has this address";
    case EAFNOSUPPORT: return "this machine has no such kind of address";
    default: return strerror(error);
    }
}

int http_listen(const char *host, uint16_t port, uint16_t *actual, char err[HTTP_ERR]) {
    char service[8];
    snprintf(service, sizeof service, "%u", (unsigned)port);
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found = NULL;
    int failure = getaddrinfo(host, service, &hints, &found);
    if (failure != 0) {
        snprintf(err, HTTP_ERR, "cannot listen on %.100s: no such address (%s)", host, gai_strerror(failure));
        return -1;
    }
    // IPv4 first: for "localhost" most clients try 127.0.0.1.
    int fd = -1, error = EADDRNOTAVAIL;
    for (int pass = 0; pass < 2 && fd < 0; pass++)
        for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
            if ((at->ai_family == AF_INET) != (pass == 0)) continue;
            fd = listen_at(at);
            if (fd < 0 && !(pass == 1 && error == EADDRINUSE)) error = errno;
        }
    freeaddrinfo(found);
    if (fd < 0) {
        snprintf(err, HTTP_ERR, "cannot listen on %.100s port %u: %s", host, (unsigned)port, reason(error));
        return -1;
    }
    struct sockaddr_storage bound;
    socklen_t len = sizeof bound;
    getsockname(fd, (struct sockaddr *)&bound, &len);
    *actual = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port : ((struct sockaddr_in *)&bound)->sin_port);
    return fd;
}
