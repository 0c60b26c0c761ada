/* The one shape that chat templates take, made from the records that people have: messages with
 * role and content, tools, and which messages are to be trained. */
#ifndef LOQUAT_CONVERSATION_H
#define LOQUAT_CONVERSATION_H

#include "base.h"

#include <jansson.h>

typedef struct lq_conversation {
    json_t *messages;    /* array of {role, content, ...}; owned */
    json_t *tools;       /* array or NULL; owned */
} lq_conversation;

void lq_conversation_clear(lq_conversation *c);

/* {messages: [{role, content, ...}], tools?}: taken as it is, unknown roles and fields included. */
lq_status lq_conversation_from_messages(lq_conversation *out, json_t *record);
/* {conversations: [{from, value}], system?, tools?}: roles renamed; a function_call {name,
 * arguments} becomes the tool_calls of an assistant message, bare tools become {type: function,
 * function: ...}. */
lq_status lq_conversation_from_sharegpt(lq_conversation *out, json_t *record);
/* One question and its answer. system "": none. */
lq_status lq_conversation_from_turn(lq_conversation *out, const char *system, const char *user,
                                    const char *assistant);

/* train[i]: message i's role is among `roles` (NULL: assistant; NULL-terminated; sharegpt's names
 * count as what they stand for), or `all`; a message's own "train" (bool) or "weight" (0 or not)
 * decides before that. */
lq_status lq_conversation_choose(bool *train, const lq_conversation *c, const char *const *roles,
                                 bool all);

/* A string field of a record, borrowed. Absent or null: LQ_EFORMAT if required, else *out = "". */
lq_status lq_record_string(const char **out, const json_t *record, const char *field,
                           bool required);

#endif
