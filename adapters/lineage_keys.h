/* The general.* keys of exported files: what a file is and where it comes from. */
#ifndef LOQUAT_LINEAGE_KEYS_H
#define LOQUAT_LINEAGE_KEYS_H

#include "export.h"
#include "export_file.h"

typedef struct lq_lineage_keys {
    const lq_lineage *lineage;
    const char *finetune;    /* general.finetune; NULL: the base itself, only quantized */
    const char *qat_mode;    /* loquat.qat.mode; NULL: none */
    const lq_mix_request *types;   /* of the file; NULL: an adapter, which has none */
} lq_lineage_keys;

lq_status lq_lineage_write(lq_export *e, const lq_adapter *a, const lq_lineage_keys *keys);

#endif
