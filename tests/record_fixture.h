/* Records written to files and loaded with a tokenizer and a chat template of the tests' own. */
#ifndef LOQUAT_RECORD_FIXTURE_H
#define LOQUAT_RECORD_FIXTURE_H

#include "records.h"

/* The tokenizer of the tiny model; between setup and teardown. */
extern lq_tokenizer *fixture_tok;

void fixture_setup(void);
void fixture_teardown(void);

/* Writes a file below the test's directory and returns its path. */
const char *fixture_data(const char *name, const char *text);
/* A template that prints the beginning-of-sequence token, a header per message, and an end token
 * after each assistant message. */
lq_data_options fixture_chat_options(void);
/* Loads text, written to a file of that name, as the only source. type NULL: guessed. */
lq_status fixture_load(lq_dataset *d, const char *name, const char *text, const char *type,
                       const lq_data_options *options);

#endif
