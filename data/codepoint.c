/* See codepoint.h. */
#include "codepoint.h"

#include "tokenizer.h"

enum { REPLACEMENT = 0xFFFD, LAST_CODE = 0x10FFFF };

size_t lq_codepoint_length(char first) {
    const uint8_t c = (uint8_t)first;
    return c < 0xC0 ? 1 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : 4;
}

size_t lq_codepoint_read(const char *s, size_t n, uint32_t *code) {
    static const uint8_t first_mask[] = {0, 0x7F, 0x1F, 0x0F, 0x07};
    const uint8_t first = (uint8_t)s[0];
    const size_t len = lq_codepoint_length(s[0]);
    uint32_t value = first & first_mask[len];
    *code = REPLACEMENT;
    if ((len == 1 && first >= 0x80) || first >= 0xF8 || len > n) return 1;
    for (size_t i = 1; i < len; i++) {
        if (((uint8_t)s[i] & 0xC0) != 0x80) return 1;
        value = value << 6 | ((uint8_t)s[i] & 0x3F);
    }
    if (value > LAST_CODE) return 1;
    *code = value;
    return len;
}

size_t lq_codepoint_write(uint32_t code, char out[4]) {
    static const uint8_t first_bits[] = {0, 0, 0xC0, 0xE0, 0xF0};
    const size_t len = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)(first_bits[len] | code);
    return len;
}

/* Printable bytes stand for themselves; the other 68 are numbered from U+0100 on. */
enum { N_LOW = 0x21, HIGH_FIRST = 0x7F, HIGH_LAST = 0xA0, SOFT_HYPHEN = 0xAD, SHIFTED = 0x100,
       N_HIGH = HIGH_LAST - HIGH_FIRST + 1, SHIFTED_SOFT_HYPHEN = SHIFTED + N_LOW + N_HIGH };

uint32_t lq_byte_char(uint8_t byte) {
    if (byte < N_LOW) return SHIFTED + byte;
    if (byte >= HIGH_FIRST && byte <= HIGH_LAST)
        return SHIFTED + N_LOW + (uint32_t)(byte - HIGH_FIRST);
    return byte == SOFT_HYPHEN ? SHIFTED_SOFT_HYPHEN : byte;
}

int lq_char_byte(uint32_t code) {
    if (code < SHIFTED) return lq_byte_char((uint8_t)code) == code ? (int)code : -1;
    if (code > SHIFTED_SOFT_HYPHEN) return -1;
    const int number = (int)code - SHIFTED;
    if (number < N_LOW) return number;
    return code == SHIFTED_SOFT_HYPHEN ? SOFT_HYPHEN : HIGH_FIRST + number - N_LOW;
}

/* Can these first bytes of a character (`n` of them, fewer than it has) still become one? */
static bool may_become_one(const char *s, size_t n) {
    const uint8_t first = (uint8_t)s[0];
    if (first < 0xC2 || first > 0xF4) return false;
    const uint8_t second = n > 1 ? (uint8_t)s[1] : first == 0xE0 || first == 0xF0 ? 0xBF : 0x80;
    switch (first) {
    case 0xE0: return second >= 0xA0; /* overlong */
    case 0xED: return second < 0xA0;  /* surrogates */
    case 0xF0: return second >= 0x90; /* overlong */
    case 0xF4: return second < 0x90;  /* beyond U+10FFFF */
    default: return true;
    }
}

/* Only the last character can be unfinished, so at most three bytes have to be looked at. */
size_t lq_utf8_complete(const char *s, size_t n) {
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const char *last = s + n - back;
        if (((uint8_t)*last & 0xC0) == 0x80) continue;
        return lq_codepoint_length(*last) > back && may_become_one(last, back) ? n - back : n;
    }
    return n;
}
