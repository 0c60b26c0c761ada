/* See test_device.h. */
#include "test_device.h"

#include "emulate.h"

void lq_emulate_reversed(bool reversed) __attribute__((weak));   /* of tests that emulate */

bool test_device_is_emulated(void) { return lq_emulate_reversed != NULL; }

void test_reverse_device(bool reversed) {
    if (lq_emulate_reversed) lq_emulate_reversed(reversed);
}
