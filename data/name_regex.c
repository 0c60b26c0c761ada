/* See name_regex.h. PCRE2 understands what std::regex's default grammar does. */
#include "name_regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

static lq_status search(const pcre2_code *code, const char *regex, const char *text, bool *found) {
    pcre2_match_data *match = pcre2_match_data_create(1, NULL);
    if (!match) return lq_fail(LQ_EMEM, "out of memory");
    const int rc = pcre2_match(code, (PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, 0, 0, match, NULL);
    pcre2_match_data_free(match);
    *found = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return LQ_OK;
    return lq_fail(LQ_EVALUE, "pattern '%s': matching '%s' failed (PCRE2 error %d)", regex, text,
                   rc);
}

lq_status lq_regex_found(const char *regex, const char *text, bool *found) {
    int error;
    PCRE2_SIZE at;
    *found = false;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, 0, &error, &at, NULL);
    if (!code && error == PCRE2_ERROR_HEAP_FAILED) return lq_fail(LQ_EMEM, "out of memory");
    if (!code) {
        PCRE2_UCHAR message[128] = "";
        pcre2_get_error_message(error, message, sizeof message);
        return lq_fail(LQ_EVALUE, "pattern '%s': %s at byte %zu", regex, (const char *)message,
                       (size_t)at);
    }
    const lq_status status = search(code, regex, text, found);
    pcre2_code_free(code);
    return status;
}
