/* What the files about safetensors share. */
#ifndef LOQUAT_SAFETENSORS_PARTS_H
#define LOQUAT_SAFETENSORS_PARTS_H

#include "mapped_file.h"
#include "safetensors.h"

struct lq_safetensors {
    lq_st_tensor *tensor;   /* sorted by name */
    int64_t n, cap;
    lq_mapped *map;
    int n_maps;
};

/* Maps `path` and adds its tensors to s, unsorted. */
lq_status lq_safetensors_add_file(lq_safetensors *s, const char *path);
void lq_safetensors_sort(lq_safetensors *s);

#endif
