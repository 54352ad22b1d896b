/* A wall clock that is ahead: for an agent whose trail is to be old. Only this clock: what has to be waited for does not change. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long ahead_s;

__attribute__((constructor)) static void look(void)
{
    const char *path = getenv("PGWARD_TEST_AHEAD");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (file) {
        if (fscanf(file, "%ld", &ahead_s) != 1)
            ahead_s = 0;
        fclose(file);
    }
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead_s;
    return result;
}
