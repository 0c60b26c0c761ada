/* What tests may ask of an emulated device, and need not know whether there is one. */
#ifndef LOQUAT_TEST_DEVICE_H
#define LOQUAT_TEST_DEVICE_H

#include <stdbool.h>

bool test_device_is_emulated(void);
/* Is there a device 'cuda'? If it is a GPU, the tests that follow run in this process: main asks. */
bool test_has_device(void);
void test_reverse_device(bool reversed);   /* threads and blocks run in descending order */

#endif
