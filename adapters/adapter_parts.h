/* What the files of this folder share about lq_adapter: making one in steps. */
#ifndef LOQUAT_ADAPTER_PARTS_H
#define LOQUAT_ADAPTER_PARTS_H

#include "adapter.h"
#include "merge.h"
#include "type_plan.h"

/* An adapter without items, options all zero. */
lq_status lq_adapter_alloc(lq_adapter **out, const lq_model *m);
/* From items with weight, rank and scale: offsets, the span (zero), the patches. */
lq_status lq_adapter_lay_out(lq_adapter *a);
/* Default, gaussian, or (full) the base's weights. */
void lq_adapter_initialise(lq_adapter *a);
/* With magnitudes they start as the lengths of the rows of W + s B A: nothing changes. */
lq_status lq_adapter_start_magnitudes(lq_adapter *a);
/* The merge that computes these lengths alone, for adapters beside their weights; of these patches,
 * the adapter's or its device's. */
lq_status lq_adapter_measure(lq_merge **out, const lq_adapter *a, lq_dev *dev,
                             const lq_patch *patch);
/* ---- scales.c: `adapter: scales` ---- */
lq_status lq_scales_check(const lq_weight *w);
int64_t lq_scales_count(const lq_weight *w);
void lq_scales_start(const lq_adapter *a, const lq_adapted *item);
void lq_scales_copy_codes(const lq_adapter *a);
lq_status lq_scales_rebuild(const lq_adapter *a);
void lq_scales_rebuild_on(const lq_adapter *a);   /* on its device */

/* Formats of the effective weights, their memory (not when plan_only), their first values. */
lq_status lq_adapter_pack(lq_adapter *a, bool plan_only);
/* The merge that a rebuild runs, on a device: of patches that point to its memory. */
lq_status lq_adapter_make_merge(lq_merge **out, const lq_adapter *a, lq_dev *dev,
                                const lq_patch *patch);
/* ---- adapter_device.c ---- */
lq_dev *lq_adapter_dev(const lq_adapter *a);
lq_merge *lq_adapter_merge(const lq_adapter *a);   /* what a rebuild runs; NULL: nothing */
void lq_adapter_leave(lq_adapter *a);              /* gives the device's memory back */
/* ---- init_svd.c: parts of a singular value decomposition as A and B ---- */
/* pissa: of W, which it is taken from; before the first packing. */
lq_status lq_adapter_start_as_weight(lq_adapter *a);
/* loftq and qera: of the error that quantization made. */
lq_status lq_adapter_start_as_error(lq_adapter *a, const lq_planned *plan);
/* An adapter that took part of W as one beside all of W, of twice the rank; see difference.c. */
lq_status lq_adapter_difference(lq_adapter **out, const lq_adapter *a);
/* Weight i as its patch, the adapter's or its device's, trains it, in `fmt` at `out`: W, the trained
 * W, or W + s B A. */
lq_merge_job lq_adapter_job(const lq_adapter *a, int i, const lq_patch *patch,
                            const lq_format *fmt, const lq_planned *planned, void *out);

#endif
