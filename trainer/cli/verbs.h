/* The verbs: one function each, in verb_*.c; main.c lists them. */
#ifndef LOQUAT_VERBS_H
#define LOQUAT_VERBS_H

#include "args.h"

int verb_train(const arg_verb *verb, int argc, char **argv);
int verb_preprocess(const arg_verb *verb, int argc, char **argv);
int verb_plan(const arg_verb *verb, int argc, char **argv);
int verb_evaluate(const arg_verb *verb, int argc, char **argv);
int verb_compare(const arg_verb *verb, int argc, char **argv);
int verb_chat(const arg_verb *verb, int argc, char **argv);
int verb_tokenize(const arg_verb *verb, int argc, char **argv);
int verb_logits(const arg_verb *verb, int argc, char **argv);
int verb_merge(const arg_verb *verb, int argc, char **argv);
int verb_export(const arg_verb *verb, int argc, char **argv);
int verb_quantize(const arg_verb *verb, int argc, char **argv);
int verb_imatrix(const arg_verb *verb, int argc, char **argv);
int verb_inspect(const arg_verb *verb, int argc, char **argv);

/* Adapters of repeated --lora FILE[=SCALE]. */
typedef struct lora_args { loquat_lora *v; size_t n; } lora_args;
bool lora_args_parse(lora_args *out, const arg_list *list);
void lora_args_clear(lora_args *l);

#endif
