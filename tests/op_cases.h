/* The cases of check_ops: at least one per row of lq_op_table. */
#ifndef LOQUAT_OP_CASES_H
#define LOQUAT_OP_CASES_H

#include "op_bench.h"

extern const op_case op_cases[];   /* ends with op NULL */

#endif
