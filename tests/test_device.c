/* See test_device.h. */
#include "test_device.h"

#include "emulate.h"

void lq_emulate_reversed(bool reversed) __attribute__((weak));   /* of tests that emulate */

void test_reverse_device(bool reversed) {
    if (lq_emulate_reversed) lq_emulate_reversed(reversed);
}
