/* Which tokens go to which expert, on the device: "rows", one per token and expert that it has a
 * share of, lie expert after expert, an expert's in the order of its tokens. The products need
 * their numbers on the host, so making the lists waits for the device: once per use of the op. */
#ifndef LOQUAT_EXPERTS_CUDA_H
#define LOQUAT_EXPERTS_CUDA_H

#include "kernels.h"

enum { LQ_CUDA_MAX_EXPERTS = 1024 };

struct lq_expert_lists {
    int32_t *count, *offset;     /* (E): rows of an expert, and of those before it */
    int32_t *token, *expert;     /* of each row; room for N*E */
    int32_t *rank;               /* (N,E): which of its expert's rows a token is */
};

/* Bytes for N tokens and E experts; sets the pointers into base unless that is NULL. */
size_t lq_expert_lists_lay_out(lq_expert_lists *l, int64_t n, int64_t n_experts, char *base);
/* Fills the lists from the shares (N,E), and count (E) on the host. */
lq_status lq_expert_lists_make(lq_dev *dev, const lq_expert_lists *l, const lq_tensor *shares,
                               int32_t *count);

/* A run of experts whose rows are worked on together: rows first .. first + n of the lists. */
struct lq_expert_group { int64_t expert, end, first, n; };

/* to (n,cols) = the rows of x of the group's tokens. */
void lq_expert_gather(lq_dev *dev, const lq_expert_lists *l, const lq_expert_group *g,
                      const lq_format *type, const void *x, int64_t cols, void *to);
/* x (n,cols) times each row's share. */
void lq_expert_weigh(lq_dev *dev, const lq_expert_lists *l, const lq_expert_group *g,
                     const lq_tensor *shares, void *x, int64_t cols);
/* Row t of to (N,cols) += the sum of from (n,cols) over t's rows in the group, times its shares if
 * `weighted`; experts in order. */
void lq_expert_combine(lq_dev *dev, const lq_expert_lists *l, const lq_expert_group *g,
                       const lq_tensor *shares, bool weighted, const void *from, int64_t cols,
                       void *to);

#endif
