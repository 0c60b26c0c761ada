/* Which keys queries in the lanes of an AVX-512 vector see, of a block of scores (cpu.h). */
#ifndef LOQUAT_SCORES_AVX512_H
#define LOQUAT_SCORES_AVX512_H

#include "cpu.h"
#include "vector_avx512.h"

/* Of 16 queries: what each sees, the keys [first, stop) that any of them sees, and among those the
 * keys [all_begin, all_end) that all of them see. */
typedef struct seen { __m512i begin, end; int64_t first, stop, all_begin, all_end; } seen;

static inline seen seen_by(const lq_scores *s, int64_t query) {
    seen by = {_mm512_loadu_si512(s->begin + query), _mm512_loadu_si512(s->end + query),
               .first = s->m, .all_end = s->m};
    for (int64_t i = query; i < query + LANES; i++) {
        by.all_begin = lq_max64(by.all_begin, s->begin[i]);
        by.all_end = lq_min64(by.all_end, s->end[i]);
        if (s->begin[i] >= s->end[i]) continue;
        if (s->begin[i] < by.first) by.first = s->begin[i];
        if (s->end[i] > by.stop) by.stop = s->end[i];
    }
    by.all_begin = lq_min64(lq_max64(by.all_begin, by.first), lq_max64(by.stop, by.first));
    by.all_end = lq_max64(by.all_begin, lq_min64(by.all_end, by.stop));
    return by;
}

/* The lanes of the queries that see a key. */
static inline __mmask16 who_sees(const seen *by, int64_t key) {
    const __m512i k = _mm512_set1_epi32((int)key);
    return _mm512_mask_cmplt_epi32_mask(_mm512_cmpge_epi32_mask(k, by->begin), k, by->end);
}

#endif
