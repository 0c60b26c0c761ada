/* What tests may ask of an emulated device, and need not know whether there is one. */
#ifndef LOQUAT_TEST_DEVICE_H
#define LOQUAT_TEST_DEVICE_H

#include <stdbool.h>

/* Is there a device 'cuda', emulated or real? Prints why not. */
bool test_has_device(void);
bool test_device_is_emulated(void);
void test_reverse_device(bool reversed);   /* threads and blocks run in descending order */

#endif
