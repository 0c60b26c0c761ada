/* See peft_fixture.h. */
#include "peft_fixture.h"

#include "atomic_file.h"
#include "safetensors.h"
#include "test_util.h"

#include <string.h>

enum { MAX_TENSORS = 24, MAX_ELEMENTS = 1024 };

float peft_fixture_value(int n, int64_t i) { return (float)((n * 7 + i * 3) % 17 - 8) / 8; }

const char *peft_fixture(const char *name, const char *config, const peft_tensor *tensor, int max) {
    static float data[MAX_TENSORS][MAX_ELEMENTS];
    lq_st_tensor t[MAX_TENSORS];
    const char *dir = test_path(name);
    int n = 0;
    for (; n < max && tensor[n].name; n++) {
        const int64_t count = tensor[n].rows * tensor[n].cols;
        ck_assert(n < MAX_TENSORS && count <= MAX_ELEMENTS);
        for (int64_t k = 0; k < count; k++) data[n][k] = peft_fixture_value(n, k);
        t[n] = (lq_st_tensor){.name = (char *)tensor[n].name, .fmt = &lq_f32, .ndim = 2,
                              .dim = {tensor[n].rows, tensor[n].cols}, .data = data[n],
                              .bytes = (uint64_t)count * sizeof(float)};
    }
    char *config_path = lq_path_join(dir, "adapter_config.json");
    char *weights = lq_path_join(dir, "adapter_model.safetensors");
    ck_ok(lq_make_dirs(dir));
    ck_ok(lq_write_file(config_path, config, strlen(config)));
    ck_ok(lq_safetensors_write(weights, t, n));
    lq_free(config_path);
    lq_free(weights);
    return dir;
}
