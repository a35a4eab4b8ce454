/* A registry in memory, as cheap as one can be: whoever is measured against it is measured alone.
 *
 *     memory TABLE [DELAY] [MOST]
 *
 * TABLE holds answers: a line "PATH STATUS LENGTH", the head's lines, an empty line, and LENGTH bytes. Every answer is
 * DELAY milliseconds late. More than MOST requests at once are answered with 429. Prints its port, and for each line of
 * its standard input, and at its end, what it was asked since the last one.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FILES = 4096, INPUT = 16384, EVENTS = 256 };

typedef struct { const char *path; size_t path_size; char *bytes; size_t head, size; } Answer;
typedef struct { char in[INPUT]; size_t used; const char *out; size_t left; unsigned born; int open; } Connection;
typedef struct { long due; int file; unsigned born; const char *bytes; size_t size; int counted; } Late;

static Answer *table;
static size_t slots, answers;
static Connection *connections[FILES];
static Late *queue;
static size_t first, last, room = 1 << 16;
static long delay, most, requests, limited, busy, busiest, accepted;
static int epoll;
static const char missing[] = "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 19\r\n\r\n404 page not found\n";
static const char enough[] = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 47\r\n\r\n"
                             "{\"errors\":[{\"code\":\"TOOMANYREQUESTS\",\"m\":\"\"}]}\n";

static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000L + t.tv_nsec / 1000;
}

static size_t hash(const char *path, size_t size) {
    size_t found = 1469598103934665603UL;
    for (size_t at = 0; at < size; at++) found = (found ^ (unsigned char)path[at]) * 1099511628211UL;
    return found & (slots - 1);
}

static Answer *look(const char *path, size_t size) {
    size_t at = hash(path, size);
    while (table[at].path && (table[at].path_size != size || memcmp(table[at].path, path, size))) at = (at + 1) & (slots - 1);
    return &table[at];
}

static void load(const char *name) {
    FILE *file = fopen(name, "rb");
    if (!file) { perror(name); exit(1); }
    fseek(file, 0, SEEK_END);
    size_t size = ftell(file);
    rewind(file);
    char *text = malloc(size + 1);
    if (fread(text, 1, size, file) != size) exit(1);
    text[size] = 0;
    fclose(file);
    for (slots = 1024; slots < size / 64; slots *= 2) {}
    table = calloc(slots, sizeof *table);
    for (char *at = text; at < text + size;) {
        char *end = strchr(at, '\n'), *space = memchr(at, ' ', end - at), *blank;
        size_t length = strtoul(strchr(space + 1, ' ') + 1, NULL, 10);
        int status = atoi(space + 1);
        blank = strstr(end, "\n\n") + 2;
        Answer *answer = look(at, space - at);
        answer->path = at;
        answer->path_size = space - at;
        answer->bytes = malloc((blank - end) * 2 + 64 + length);
        char *to = answer->bytes + sprintf(answer->bytes, "HTTP/1.1 %d OK\r\nContent-Length: %zu\r\n", status, length);
        for (char *from = end + 1; from < blank; from++) {
            if (*from == '\n') *to++ = '\r';
            *to++ = *from;
        }
        answer->head = to - answer->bytes;
        memcpy(to, blank, length);
        answer->size = answer->head + length;
        at = blank + length;
        answers++;
    }
}

static void drop(int file) {
    if (connections[file] && connections[file]->open) { connections[file]->open = 0; connections[file]->born++; close(file); }
}

static void flush(int file) {
    Connection *c = connections[file];
    while (c->left) {
        ssize_t sent = send(file, c->out, c->left, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) { drop(file); return; }
            struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.fd = file};
            epoll_ctl(epoll, EPOLL_CTL_MOD, file, &event);
            return;
        }
        c->out += sent;
        c->left -= sent;
    }
}

static void answer(int file, const char *bytes, size_t size) {
    connections[file]->out = bytes;
    connections[file]->left = size;
    flush(file);
}

static void late(int file, const char *bytes, size_t size, int counted) {
    if (!delay) { answer(file, bytes, size); return; }
    busy += counted;
    if (busy > busiest) busiest = busy;
    queue[last] = (Late){now() + delay, file, connections[file]->born, bytes, size, counted};
    last = (last + 1) % room;
}

static void take(int file, char *request, size_t size) {
    int head = !strncmp(request, "HEAD ", 5);
    char *path = memchr(request, ' ', size), *end = path ? strpbrk(path + 1, " ?") : NULL;
    requests++;
    if (most && busy >= most) { limited++; late(file, enough, sizeof enough - 1, 0); return; }
    Answer *found = end ? look(path + 1, end - path - 1) : NULL;
    if (found && found->path) late(file, found->bytes, head ? found->head : found->size, 1);
    else late(file, missing, head ? sizeof missing - 20 : sizeof missing - 1, 1);
}

static void readable(int file) {
    Connection *c = connections[file];
    ssize_t got = recv(file, c->in + c->used, INPUT - c->used - 1, 0);
    if (got <= 0) { if (!got || errno != EAGAIN) drop(file); return; }
    c->used += got;
    c->in[c->used] = 0;
    char *end;
    while (c->open && (end = strstr(c->in, "\r\n\r\n"))) {
        size_t size = end + 4 - c->in;
        take(file, c->in, size);
        memmove(c->in, c->in + size, c->used - size + 1);
        c->used -= size;
    }
}

int main(int count, char **words) {
    load(words[1]);
    delay = count > 2 ? 1000 * atol(words[2]) : 0;
    most = count > 3 ? atol(words[3]) : 0;
    queue = malloc(room * sizeof *queue);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof where;
    if (bind(listener, (struct sockaddr *)&where, length) || listen(listener, 1024)) { perror("listen"); return 1; }
    getsockname(listener, (struct sockaddr *)&where, &length);
    printf("%d\n", ntohs(where.sin_port));
    fflush(stdout);
    epoll = epoll_create1(0);
    int watched[] = {listener, STDIN_FILENO};
    for (int at = 0; at < 2; at++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = watched[at]};
        epoll_ctl(epoll, EPOLL_CTL_ADD, watched[at], &event);
    }
    for (;;) {
        struct epoll_event events[EVENTS];
        int wait = first == last ? -1 : (int)((queue[first].due - now() + 999) / 1000);
        int ready = epoll_wait(epoll, events, EVENTS, first != last && wait < 0 ? 0 : wait);
        for (int at = 0; at < ready; at++) {
            int file = events[at].data.fd;
            if (file == STDIN_FILENO) {
                char line[64];
                ssize_t got = read(STDIN_FILENO, line, sizeof line);
                struct rusage used;
                getrusage(RUSAGE_SELF, &used);
                printf("{\"requests\": %ld, \"limited\": %ld, \"busiest\": %ld, \"connections\": %ld, \"cpu\": %.6f}\n", requests, limited,
                       busiest, accepted, used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
                fflush(stdout);
                if (got <= 0) return 0;
                requests = limited = busiest = accepted = 0;
                continue;
            }
            if (file == listener) {
                int made = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (made < 0) continue;
                if (made >= FILES) { close(made); continue; }
                setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                if (!connections[made]) connections[made] = calloc(1, sizeof **connections);
                connections[made]->used = connections[made]->left = 0;
                connections[made]->open = 1;
                accepted++;
                struct epoll_event event = {.events = EPOLLIN, .data.fd = made};
                epoll_ctl(epoll, EPOLL_CTL_ADD, made, &event);
                continue;
            }
            if (events[at].events & EPOLLOUT) {
                flush(file);
                if (!connections[file]->left && connections[file]->open) {
                    struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
                    epoll_ctl(epoll, EPOLL_CTL_MOD, file, &event);
                }
            }
            if (connections[file]->open && events[at].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(file);
        }
        for (long time = now(); first != last && queue[first].due <= time; first = (first + 1) % room) {
            Late *each = &queue[first];
            busy -= each->counted;
            if (connections[each->file]->open && connections[each->file]->born == each->born) answer(each->file, each->bytes, each->size);
        }
    }
}
