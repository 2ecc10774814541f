/* libmodbus polls Modbus TCP slaves round robin on one thread, the way its users do: a peer of run_bench.py.
 * usage: libmodbus_poller HOST PORT CONNECTIONS WARM_S SECONDS; prints one line of JSON.
 * cc -O2 libmodbus_poller.c $(pkg-config --cflags --libs libmodbus) -o libmodbus_poller */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define REGISTERS 24

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: %s HOST PORT CONNECTIONS WARM_S SECONDS\n", argv[0]);
        return 2;
    }
    int count = atoi(argv[3]);
    modbus_t **slaves = calloc(count, sizeof *slaves);
    for (int i = 0; i < count; i++) {
        slaves[i] = modbus_new_tcp(argv[1], atoi(argv[2]));
        if (!slaves[i]) {
            fprintf(stderr, "connection %d: no memory\n", i);
            return 1;
        }
        modbus_set_slave(slaves[i], 1);
        /* of a connect, too: on a busy host the default of half a second is short for a thousand of them */
        modbus_set_response_timeout(slaves[i], 10, 0);
        if (modbus_connect(slaves[i])) {
            fprintf(stderr, "connection %d: %s\n", i, modbus_strerror(errno));
            return 1;
        }
    }
    double begin = now() + atof(argv[4]), end = begin + atof(argv[5]), spent = -1;
    unsigned long done = 0;
    uint16_t registers[REGISTERS];
    while (now() < end) {
        if (spent < 0 && now() >= begin) {
            spent = cpu();
            begin = now();
            done = 0;
        }
        for (int i = 0; i < count; i++) {
            if (modbus_read_registers(slaves[i], 0, REGISTERS, registers) != REGISTERS) {
                fprintf(stderr, "read: %s\n", modbus_strerror(errno));
                return 1;
            }
            done++;
        }
    }
    printf("{\"round_trips\":%lu,\"seconds\":%.3f,\"cpu_s\":%.3f}\n", done, now() - begin, cpu() - spent);
    return 0;
}
