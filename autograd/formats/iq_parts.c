/* From entries of the IQ code books to numbers. */
#include "iq_parts.h"

#include "iq_scalar.h"

unsigned lq_iq_signs(unsigned seven_bits) { return iq_signs(seven_bits); }

void lq_iq1_put(float *out, unsigned entry, float scale, bool down) {
    iq1_put(out, entry, scale, down);
}

void lq_iq2_put(float *out, unsigned entry, float scale, unsigned signs) {
    iq2_put(out, entry, scale, signs);
}

void lq_iq3_put(float *out, unsigned entry, const uint8_t values[8], float scale, unsigned signs) {
    iq3_put(out, entry, values, scale, signs);
}
