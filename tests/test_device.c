/* See test_device.h. */
#include "test_device.h"

#include "device.h"
#include "emulate.h"

#include <stdlib.h>

void lq_emulate_reversed(bool reversed) __attribute__((weak));   /* of tests that emulate */

bool test_device_is_emulated(void) { return lq_emulate_reversed != NULL; }

/* A process may not use CUDA after a fork if it did before. */
bool test_has_device(void) {
    lq_dev *dev = NULL;
    const bool has = lq_dev_open(&dev, "cuda", false) == LQ_OK;
    if (has && !test_device_is_emulated()) setenv("CK_FORK", "no", 1);
    lq_dev_close(dev);
    return has;
}

void test_reverse_device(bool reversed) {
    if (lq_emulate_reversed) lq_emulate_reversed(reversed);
}
