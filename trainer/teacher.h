/* The model that a run learns from besides its labels (`kd:`): the unquantized base with the
 * adapter that the run starts from, on the same mapped weights, or another GGUF with the same
 * vocabulary. It runs forward only, on a tape of its own, before the model sees the batch; or, with
 * top_k, once over all data, and its most likely tokens are kept in a file. */
#ifndef LOQUAT_TEACHER_H
#define LOQUAT_TEACHER_H

#include "base_hash.h"
#include "config.h"
#include "net.h"
#include "prepare.h"

typedef struct lq_teacher lq_teacher;

/* Opens what config->kd names; `student` is borrowed. A vocabulary that is not the student's is
 * refused, with the first difference. */
lq_status lq_teacher_open(lq_teacher **out, lq_dev *dev, const lq_config *c,
                          const lq_model *student);
void lq_teacher_free(lq_teacher *t);
/* For lq_build_options; NULL for no teacher. */
const lq_distil *lq_teacher_distil(const lq_teacher *t);
/* What it is, up to the student's base: a hash of its file and adapter. Waits for the file's. */
const char *lq_teacher_key(lq_teacher *t);

/* Makes it ready for batches of so many rows. With top_k its file under `dir` is read, or written
 * first when it is not there; base: the student's hash. */
lq_status lq_teacher_prepare(lq_teacher *t, lq_base_hash *base, const lq_prepared *data,
                             const char *dir, int64_t capacity);
/* What prepare would take, in bytes. */
lq_status lq_teacher_plan(const lq_teacher *t, const lq_prepared *data, int64_t capacity,
                          size_t *out_bytes);
/* After lq_net_load of the same batch: fills the inputs that the distilling head has. */
lq_status lq_teacher_load(lq_teacher *t, const lq_batch *b, lq_net *student);

#endif
