/* The importance matrix of a run (qat.imatrix): collected from its own training data, or a copy of
 * the file that was given. It lies in the run's directory, so that a resumed run, and an export of
 * it elsewhere, quantize with the very same numbers. */
#include "trainer.h"

#include "atomic_file.h"
#include "importance.h"

#include <string.h>

/* The file's name alone: its folder says more about the machine than about the data. */
static const char *data_name(const lq_config *c) {
    const char *path = c->data ? c->data : c->datasets.n ? c->datasets.e[0].path : "";
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static lq_status make(const lq_trainer *t, const char *path) {
    const lq_config *c = t->config;
    lq_imatrix *im = NULL;
    lq_status status;
    if (strcmp(c->qat.imatrix, "auto") == 0) {
        status = lq_importance_of_data(&im, t->model, &t->data.train, data_name(c));
        if (status == LQ_OK)
            lq_log(LQ_LOG_INFO, "importance matrix: %lld weights, %u chunks of training data",
                   (long long)im->n, (unsigned)im->n_chunks);
    } else {
        status = lq_imatrix_read(&im, c->qat.imatrix);
    }
    if (status == LQ_OK) status = lq_imatrix_write(im, path);
    lq_imatrix_free(im);
    return status;
}

lq_status lq_run_imatrix(const lq_trainer *t) {
    const lq_config *c = t->config;
    const char *from = c->resume_from_checkpoint;
    if (!c->has_qat || !c->qat.imatrix || !*c->qat.imatrix) return LQ_OK;
    char *path = lq_path_join(t->output.dir, LQ_RUN_IMATRIX);
    if (!path) return LQ_EMEM;
    const bool is_there = from && *from && lq_file_exists(path);
    const lq_status status = is_there ? LQ_OK : make(t, path);
    lq_free(path);
    return status;
}
