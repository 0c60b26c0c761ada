/* The op table: one row per name in LQ_OPS, in that order. Nothing else knows all ops. */
#include "op.h"

#define LQ_OP_ROW(name) &lq_op_##name,
const lq_op *const lq_op_table[] = {LQ_OPS(LQ_OP_ROW) NULL};
#undef LQ_OP_ROW
