/* A client that only sends requests and reads answers, as fast as one core can: the peer of a crawl.
 *
 *     load PORT CONNECTIONS ACCEPT < REQUESTS
 *
 * REQUESTS has a line "METHOD PATH" each. Prints seconds, answers and how many of them were of a status of 400 or more.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD = 65536, CHUNK = 65536, LINES = 1 << 21 };
enum { IN_HEAD, IN_BODY, IN_SIZE, IN_DATA, IN_END, IN_TRAILER };

typedef struct { int file, state, head_only; char head[HEAD]; size_t used; long left; } Connection;

static char **lines, *accept_types;
static long count, next, done, failed;

static void fail(const char *what) { perror(what); exit(1); }

static int ask(Connection *c) {
    if (next == count) { close(c->file); return 0; }
    char text[4096], *line = lines[next++], *space = strchr(line, ' ');
    int size = snprintf(text, sizeof text, "%.*s %s HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: %s\r\n\r\n", (int)(space - line), line,
                        space + 1, accept_types);
    if (size >= (int)sizeof text || send(c->file, text, size, MSG_NOSIGNAL) != size) fail("send");
    c->head_only = !strncmp(line, "HEAD ", 5);
    c->state = IN_HEAD;
    c->used = 0;
    return 1;
}

static int answered(Connection *c) { done++; return ask(c); }

/* Take what came; 0 where this connection has nothing more to do. */
static int take(Connection *c, const char *at, size_t size) {
    while (size) {
        if (c->state == IN_BODY || c->state == IN_DATA) {
            size_t part = (long)size < c->left ? size : (size_t)c->left;
            at += part; size -= part; c->left -= part;
            if (c->left) return 1;
            if (c->state == IN_BODY) return answered(c);
            c->state = IN_END; c->used = 0;
            continue;
        }
        if (c->used == HEAD - 1) fail("a head is too long");
        c->head[c->used++] = *at++; size--;
        c->head[c->used] = 0;
        if (*(at - 1) != '\n') continue;
        if (c->state == IN_END) { c->state = IN_SIZE; c->used = 0; }
        else if (c->state == IN_SIZE) {
            c->left = strtol(c->head, NULL, 16);
            c->state = c->left ? IN_DATA : IN_TRAILER; c->used = 0;
        } else if (c->state == IN_TRAILER) {
            if (c->used == 2) return answered(c);
            c->used = 0;
        } else if (c->used >= 4 && !memcmp(c->head + c->used - 4, "\r\n\r\n", 4)) {
            int status = atoi(c->head + 9);
            failed += status >= 400;
            char *length = strcasestr(c->head, "\r\ncontent-length:"), *chunked = strcasestr(c->head, "\r\ntransfer-encoding: chunked");
            c->left = length ? atol(length + 17) : 0;
            c->used = 0;
            if (c->head_only || (!chunked && !c->left)) return answered(c);
            c->state = chunked ? IN_SIZE : IN_BODY;
        }
    }
    return 1;
}

int main(int words, char **word) {
    if (words != 4) return 2;
    static char line[4096], got[CHUNK];
    lines = malloc(LINES * sizeof *lines);
    while (count < LINES && fgets(line, sizeof line, stdin)) { line[strcspn(line, "\n")] = 0; lines[count++] = strdup(line); }
    accept_types = word[3];
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons(atoi(word[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timespec began, ended;
    clock_gettime(CLOCK_MONOTONIC, &began);
    int epoll = epoll_create1(0), one = 1, open = 0;
    for (int at = 0; at < atoi(word[2]) && at < count; at++) {
        Connection *c = calloc(1, sizeof *c);
        c->file = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(c->file, (struct sockaddr *)&where, sizeof where)) fail("connect");
        setsockopt(c->file, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, c->file, &event);
        open += ask(c);
    }
    while (open) {
        struct epoll_event events[256];
        int ready = epoll_wait(epoll, events, 256, 30000);
        if (ready <= 0) fail("no answer");
        for (int at = 0; at < ready; at++) {
            Connection *c = events[at].data.ptr;
            ssize_t size = recv(c->file, got, CHUNK, 0);
            if (size <= 0) fail("the connection was closed");
            if (!take(c, got, size)) open--;
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("{\"seconds\": %.6f, \"requests\": %ld, \"failed\": %ld, \"cpu\": %.6f}\n",
           (ended.tv_sec - began.tv_sec) + (ended.tv_nsec - began.tv_nsec) / 1e9, done, failed,
           used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    return 0;
}
