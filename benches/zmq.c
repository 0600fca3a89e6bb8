/* The peer: one libzmq socket over TCP.
   zmq push ADDRESS:PORT SIZE: binds, and sends until it is killed. zmq pull ADDRESS:PORT: prints messages a second, then ends;
   nothing is acknowledged. zmq pub ADDRESS:PORT SIZE N: as push, for N subscribers, for which it waits first, and of which
   each gets every message. zmq sub ADDRESS:PORT: as pull. zmq rep ADDRESS:PORT: binds, and sends back what it gets until it is
   killed. zmq req ADDRESS:PORT SIZE: prints the median of its round trips in microseconds, then ends. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int rep(void *socket) {
    zmq_msg_t message;
    zmq_msg_init(&message);
    for (;;)
        if (zmq_msg_recv(&message, socket, 0) < 0 || zmq_msg_send(&message, socket, 0) < 0) return 1;
}

static int req(void *socket, size_t size) {
    double begun = now() + atof(getenv("BENCH_WARM")), end = begun + atof(getenv("BENCH_SECONDS"));
    size_t count = 0, room = 1 << 20;
    double *took = malloc(room * sizeof *took);
    char *body = calloc(1, size);
    for (double asked = now(); asked < end; asked = now()) {
        if (zmq_send(socket, body, size, 0) < 0 || zmq_recv(socket, body, size, 0) != (int)size) return 1;
        if (asked >= begun && count < room) took[count++] = now() - asked;
    }
    qsort(took, count, sizeof *took, ascending);
    printf("%.3f\n", took[count / 2] * 1e6);
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    char address[64];
    snprintf(address, sizeof address, "tcp://%s", argv[2]);
    void *context = zmq_ctx_new();
    if (!strcmp(argv[1], "rep")) {
        void *socket = zmq_socket(context, ZMQ_REP);
        return zmq_bind(socket, address) ? 1 : rep(socket);
    }
    if (!strcmp(argv[1], "req") && argc > 3) {
        void *socket = zmq_socket(context, ZMQ_REQ);
        return zmq_connect(socket, address) ? 1 : req(socket, strtoul(argv[3], NULL, 10));
    }
    if (!strcmp(argv[1], "push") && argc > 3) {
        size_t size = strtoul(argv[3], NULL, 10);
        char *body = calloc(1, size);
        void *socket = zmq_socket(context, ZMQ_PUSH);
        if (zmq_bind(socket, address)) return 1;
        for (;;)
            if (zmq_send(socket, body, size, 0) < 0) return 1;
    }
    if (!strcmp(argv[1], "pub") && argc > 4) {
        size_t size = strtoul(argv[3], NULL, 10);
        char *body = calloc(1, size), subscription[8];
        int lossless = 1;
        void *socket = zmq_socket(context, ZMQ_XPUB);
        zmq_setsockopt(socket, ZMQ_XPUB_VERBOSE, &lossless, sizeof lossless);
        zmq_setsockopt(socket, ZMQ_XPUB_NODROP, &lossless, sizeof lossless);
        if (zmq_bind(socket, address)) return 1;
        for (long left = strtol(argv[4], NULL, 10); left; left--)
            if (zmq_recv(socket, subscription, sizeof subscription, 0) < 0) return 1;
        for (;;)
            if (zmq_send(socket, body, size, 0) < 0) return 1;
    }
    int subscribes = !strcmp(argv[1], "sub");
    void *socket = zmq_socket(context, subscribes ? ZMQ_SUB : ZMQ_PULL);
    if (subscribes) zmq_setsockopt(socket, ZMQ_SUBSCRIBE, "", 0);
    if (zmq_connect(socket, address)) return 1;
    double warm = atof(getenv("BENCH_WARM")), length = atof(getenv("BENCH_SECONDS"));
    long count = 0, first = 0;
    double begun = 0, end = 0;
    zmq_msg_t message;
    zmq_msg_init(&message);
    while (zmq_msg_recv(&message, socket, 0) >= 0) {
        if (count++ % 64) continue;
        double t = now();
        if (!end) begun = t + warm, end = begun + length;
        if (!first && t >= begun) first = count, begun = t;
        if (t >= end) {
            printf("%.0f\n", (count - first) / (t - begun));
            return 0;
        }
    }
    return 1;
}
