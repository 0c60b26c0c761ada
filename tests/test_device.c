/* See test_device.h. */
#include "test_device.h"

#include "device.h"
#include "emulate.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

void lq_emulate_reversed(bool reversed) __attribute__((weak));   /* of tests that emulate */

/* Asked in a process of its own: one that has used CUDA cannot fork tests that do. */
bool test_has_device(void) {
    const pid_t child = fork();
    int status = 1;
    if (child == 0) {
        lq_dev *dev;
        const bool has = lq_dev_open(&dev, "cuda", false) == LQ_OK;
        if (!has) fprintf(stderr, "skipped: %s\n", lq_error());
        _exit(!has);
    }
    return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

bool test_device_is_emulated(void) { return lq_emulate_reversed != NULL; }

void test_reverse_device(bool reversed) {
    if (lq_emulate_reversed) lq_emulate_reversed(reversed);
}
