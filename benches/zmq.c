/* The peer: one libzmq PUSH or PULL over TCP, without acknowledgements.
   zmq push ADDRESS:PORT SIZE: binds, and sends until it is killed. zmq pull ADDRESS:PORT: prints messages a second, then ends. */
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

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    char address[64];
    snprintf(address, sizeof address, "tcp://%s", argv[2]);
    void *context = zmq_ctx_new();
    if (!strcmp(argv[1], "push") && argc > 3) {
        size_t size = strtoul(argv[3], NULL, 10);
        char *body = calloc(1, size);
        void *socket = zmq_socket(context, ZMQ_PUSH);
        if (zmq_bind(socket, address)) return 1;
        for (;;)
            if (zmq_send(socket, body, size, 0) < 0) return 1;
    }
    void *socket = zmq_socket(context, ZMQ_PULL);
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
