/* Code points as llama.cpp reads them: UTF-8 by structure only (overlong forms and surrogates
 * pass), and every byte that starts nothing is U+FFFD of its own. And the byte <-> character table
 * of GPT-2's BPE. */
#ifndef LOQUAT_CODEPOINT_H
#define LOQUAT_CODEPOINT_H

#include <stddef.h>
#include <stdint.h>

/* The code point at s[0..n), n > 0; returns how many bytes it takes. */
size_t lq_codepoint_read(const char *s, size_t n, uint32_t *code);
/* Writes code (at most 0x10FFFF) as UTF-8; returns how many bytes. */
size_t lq_codepoint_write(uint32_t code, char out[4]);
/* How many bytes a character has, by its first byte alone: 1 to 4. */
size_t lq_codepoint_length(char first);

/* The printable character that stands for a byte in a byte-level vocabulary. */
uint32_t lq_byte_char(uint8_t byte);
/* The byte that it stands for, or -1. */
int lq_char_byte(uint32_t code);

#endif
