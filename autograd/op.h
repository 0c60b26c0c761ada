/* What an operation is (lq_op, one row per op in LQ_OPS) and a use of it in a tape (lq_node).
 *
 * Rules without exception: forward overwrites `out` (and `saved`); backward adds into
 * `in[i]->grad`, or writes it where `fresh` says so, and skips it when absent. Kernels allocate
 * nothing; they get `scratch` bytes. Token rows are dim[0] of activations. Same input and thread
 * count give the same bits. */
#ifndef LOQUAT_OP_H
#define LOQUAT_OP_H

#include "device.h"
#include "tensor.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { LQ_MAX_IN = 12 };

typedef struct lq_op lq_op;

typedef struct lq_node {
    const lq_op *op;
    lq_tensor *in[LQ_MAX_IN];  /* NULL: an optional input that is absent */
    lq_tensor *out;
    lq_tensor *saved;          /* written by forward for backward; NULL if the op keeps nothing */
    const void *attr;          /* the op's own options struct (ops.h), copied into the tape */
    unsigned fresh;            /* LQ_IN(i) bits of gradients that hold nothing yet (lq_kernels) */
    int segment;               /* checkpointing segment (a layer), or -1 */
    uint32_t id;               /* the same in a recomputed clone; keys random numbers */
} lq_node;

/* What a kernel may know besides its tensors. */
typedef struct lq_run {
    lq_dev *dev;        /* where all memory here lies; kernels go into its queue */
    void *scratch;      /* 64-byte aligned; shared by all nodes, contents undefined on entry */
    bool training;      /* dropout and noise are on; what backward needs is saved */
    uint64_t key;       /* of this micro-batch's random numbers, forward, recomputed and backward */
    int64_t n_past;     /* attention with a key/value cache: rows that it already holds */
} lq_run;

typedef void (*lq_kernel_fn)(const lq_node *node, const lq_run *run);

/* One device's side of an op. */
typedef struct lq_kernels {
    lq_kernel_fn fwd, bwd;
    size_t (*scratch)(const lq_node *node, bool backward);  /* bytes at full capacity; NULL: none */
    lq_status (*accepts)(const lq_node *node);   /* asked when compiled; NULL: whatever shape does */
    unsigned writes;   /* LQ_IN(i) bits of gradients that bwd writes if fresh; others are cleared */
} lq_kernels;

#define LQ_IN(i) (1u << (i))
#define LQ_OUT (1u << LQ_MAX_IN)

struct lq_op {
    const char *name;
    int n_in;            /* including optional ones */
    size_t attr_bytes;
    unsigned nograd;     /* LQ_IN(i) bits of inputs that never get a gradient (ids, labels) */
    /* LQ_IN(i) bits of weights that kernels read through wtile alone, given this node. NULL: none. */
    unsigned (*products)(const lq_node *node);
    bool out_f32;        /* out stays F32 whatever the device keeps activations in (a loss) */
    /* LQ_IN(i) | LQ_OUT bits whose *data* backward reads, given this node (it may depend on which
     * inputs have gradients: a linear reads X only if W is trained). From this the planner learns
     * lifetimes. NULL: none. */
    unsigned (*bwd_reads)(const lq_node *node);
    /* Checks the inputs and sets the shapes and formats of out and of saved (saved stays
     * NULL-shaped, ndim 0, when nothing is kept). Called once, when the node is recorded; an out
     * of F32 then becomes what the device keeps activations in (lq_dev), saved does not. */
    lq_status (*shape)(lq_node *node);
    const lq_kernels *kernel[LQ_N_DEV];  /* NULL: not on this device */
};

static inline unsigned lq_bwd_reads(const lq_node *node) {
    return node->op->bwd_reads ? node->op->bwd_reads(node) : 0;
}

/* What a sum into the gradient of input i starts from: 0 or what is there, times beta. */
static inline float lq_grad_beta(const lq_node *node, int i) {
    return node->fresh & LQ_IN(i) ? 0 : 1;
}

static inline unsigned lq_products(const lq_node *node) {
    return node->op->products ? node->op->products(node) : 0;
}

/* The one list. Declares lq_op_<name>; tests and the op table loop over it. */
#define LQ_OPS(X) \
    X(embed) X(rmsnorm) X(layernorm) X(linear) X(lora_linear) X(scaled_linear) X(rope) \
    X(attention) X(glu) X(add) X(scale) X(clamp) X(columns) X(softcap) X(row_gate) X(route) \
    X(experts) X(ce_head) X(kd_head) X(fakequant)

#define LQ_OP_DECLARE(name) extern const lq_op lq_op_##name;
LQ_OPS(LQ_OP_DECLARE)
#undef LQ_OP_DECLARE

extern const lq_op *const lq_op_table[];  /* NULL-terminated */

/* LQ_CUDA_ROW(name) in an op's row: its kernels for CUDA, lq_cuda_<name> in ops/<name>.cu. */
#ifdef LOQUAT_CUDA
#define LQ_CUDA_ROW(name) [LQ_CUDA] = &lq_cuda_##name
#define LQ_CUDA_DECLARE(name) extern const lq_kernels lq_cuda_##name;
LQ_OPS(LQ_CUDA_DECLARE)
#undef LQ_CUDA_DECLARE
#else
#define LQ_CUDA_ROW(name) [LQ_CUDA] = NULL
#endif

#ifdef __cplusplus
}
#endif
#endif
