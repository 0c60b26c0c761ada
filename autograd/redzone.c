/* See redzone.h. The sanitizer's functions are weak references, absent without its runtime. */
#include "redzone.h"

void __asan_poison_memory_region(void const volatile *p, size_t n) __attribute__((weak));
void __asan_unpoison_memory_region(void const volatile *p, size_t n) __attribute__((weak));

size_t lq_redzone_bytes(void) { return __asan_poison_memory_region ? 64 : 0; }

void lq_redzone_close(const void *p, size_t n) {
    if (__asan_poison_memory_region) __asan_poison_memory_region(p, n);
}

void lq_redzone_open(const void *p, size_t n) {
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(p, n);
}
