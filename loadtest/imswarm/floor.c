/* The floor: an echo server on epoll and nothing else, and a client that keeps it busy.
 *
 * It shows what the kernel alone charges for one receive and one send, on this
 * machine and at this moment.
 *
 *   floor serve
 *     listens on a free port of 127.0.0.1 and prints it
 *   floor load PORT CONNECTIONS ACTIVE FRAME_BYTES
 *     keeps one frame under way on each active connection; prints "ready", then,
 *     for every byte on its standard input, how many echoes have come so far
 *
 * Both end when their standard input does, so that they never outlive their parent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 256, CHUNK = 65536, BACKLOG = 4096 };

static char chunk[CHUNK];

static int must(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
    return result;
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    must(getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
    limit.rlim_cur = limit.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
}

static struct sockaddr_in loopback(int port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void watch(int poller, int descriptor)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = descriptor };

    must(epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event), "epoll_ctl");
}

static void send_at_once(int peer)
{
    int one = 1;

    must(setsockopt(peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one), "TCP_NODELAY");
}

/* ---- the server */

static int listen_on_loopback(void)
{
    struct sockaddr_in address = loopback(0);
    socklen_t length = sizeof address;
    int listener = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), "socket");

    must(bind(listener, (struct sockaddr *)&address, sizeof address), "bind");
    must(listen(listener, BACKLOG), "listen");
    must(getsockname(listener, (struct sockaddr *)&address, &length), "getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static void accept_all(int poller, int listener)
{
    int peer;

    while ((peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        send_at_once(peer);
        watch(poller, peer);
    }
}

/* A frame is far smaller than a socket's buffer and at most one is under way on
 * each connection, so a send is never partial. */
static void echo(int peer)
{
    ssize_t got = recv(peer, chunk, sizeof chunk, 0);

    if (got <= 0 || send(peer, chunk, got, MSG_NOSIGNAL) != got)
        close(peer);
}

static int serve(void)
{
    struct epoll_event ready[BATCH];
    int poller = must(epoll_create1(0), "epoll_create1");
    int listener = listen_on_loopback();

    watch(poller, listener);
    watch(poller, STDIN_FILENO);
    for (;;) {
        int count = epoll_wait(poller, ready, BATCH, -1);
        for (int i = 0; i < count; i++) {
            int descriptor = ready[i].data.fd;
            if (descriptor == listener)
                accept_all(poller, listener);
            else if (descriptor == STDIN_FILENO)
                return 0;
            else
                echo(descriptor);
        }
    }
}

/* ---- the client */

static int connect_to(int port)
{
    struct sockaddr_in address = loopback(port);
    int peer = must(socket(AF_INET, SOCK_STREAM, 0), "socket");

    must(connect(peer, (struct sockaddr *)&address, sizeof address), "connect");
    send_at_once(peer);
    return peer;
}

static void send_frame(int peer, int frame_bytes)
{
    must(send(peer, chunk, frame_bytes, MSG_NOSIGNAL), "send");
}

/* The active connections lie evenly among the idle ones. */
static void start_load(int poller, int port, int connections, int active, int frame_bytes)
{
    long begun = 0;

    for (int i = 0; i < connections; i++) {
        int peer = connect_to(port);
        watch(poller, peer);
        if ((long)i * active / connections >= begun && begun < active) {
            begun++;
            send_frame(peer, frame_bytes);
        }
    }
    puts("ready");
    fflush(stdout);
}

static void report(long echoes)
{
    char byte;

    if (read(STDIN_FILENO, &byte, 1) <= 0)
        exit(0);
    printf("%ld\n", echoes);
    fflush(stdout);
}

static _Noreturn void load(int port, int connections, int active, int frame_bytes)
{
    struct epoll_event ready[BATCH];
    int poller = must(epoll_create1(0), "epoll_create1");
    long received = 0;

    start_load(poller, port, connections, active, frame_bytes);
    watch(poller, STDIN_FILENO);
    for (;;) {
        int count = epoll_wait(poller, ready, BATCH, -1);
        for (int i = 0; i < count; i++) {
            int descriptor = ready[i].data.fd;
            if (descriptor == STDIN_FILENO) {
                report(received / frame_bytes);
                continue;
            }
            received += must(recv(descriptor, chunk, frame_bytes, MSG_WAITALL), "recv");
            send_frame(descriptor, frame_bytes);
        }
    }
}

int main(int count, char **arguments)
{
    raise_descriptor_limit();
    if (count == 2 && !strcmp(arguments[1], "serve"))
        return serve();
    if (count == 6 && !strcmp(arguments[1], "load"))
        load(atoi(arguments[2]), atoi(arguments[3]), atoi(arguments[4]), atoi(arguments[5]));
    fputs("usage: floor serve | floor load PORT CONNECTIONS ACTIVE FRAME_BYTES\n", stderr);
    return 2;
}
