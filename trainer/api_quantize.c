/* The public interface: quantizing files, and importance matrices to quantize with. */
#include "atomic_file.h"
#include "importance.h"
#include "loquat.h"
#include "quantize_file.h"
#include "types.h"

static lq_status report_text(char **out, const lq_quantize_report *r, const char *output,
                             const char *label) {
    *out = lq_sprintf("%s: %s, %.2f MB of tensors from %.2f MB\n", output, label,
                      1e-6 * (double)r->bytes_out, 1e-6 * (double)r->bytes_in);
    return *out ? LQ_OK : LQ_EMEM;
}

loquat_status loquat_quantize(const char *input, const char *output, const char *type,
                              const loquat_quantize_options *options, char **out_text) {
    const loquat_quantize_options o = options ? *options : (loquat_quantize_options){0};
    const lq_types_text text = {
        .what = "TYPE", .type = type,
        .embedding = o.token_embedding_type, .output = o.output_tensor_type,
        .tensor_type = o.tensor_type, .n_tensor_type = (int)o.n_tensor_type,
        .imatrix = o.imatrix,
    };
    lq_quantize_report report;
    lq_types types;
    *out_text = NULL;
    lq_status status = lq_types_open(&types, &text);
    types.request.pure = o.pure;
    types.request.leave_output = o.leave_output_tensor;
    if (status == LQ_OK)
        status = lq_quantize_file(input, output, &types.request, o.allow_requantize, &report);
    if (status == LQ_OK)
        status = report_text(out_text, &report, output, lq_mix_label(&types.request));
    lq_types_clear(&types);
    return (loquat_status)status;
}

loquat_status loquat_imatrix(const char *model, const char *output,
                             const loquat_imatrix_options *options, char **out_text) {
    const lq_importance_text text = {
        .path = options->text,
        .n_ctx = options->ctx_size > 0 ? options->ctx_size : 512,
        .chunks = options->chunks,
        .process_output = options->process_output,
    };
    lq_model *m = NULL;
    lq_imatrix *im = NULL;
    lq_status status = LQ_OK;
    *out_text = NULL;
    if (lq_is_same_file(output, model))
        return (loquat_status)lq_fail(LQ_EVALUE, "%s: is the model itself", output);
    LQ_GOTO(status, lq_model_open(&m, model, true));
    LQ_GOTO(status, lq_importance_of_text(&im, m, &text));
    LQ_GOTO(status, lq_imatrix_write(im, output));
    *out_text = lq_sprintf("%s: %lld weights over %u chunks of %lld tokens\n", output,
                           (long long)im->n, (unsigned)im->n_chunks, (long long)text.n_ctx);
    if (!*out_text) status = LQ_EMEM;
done:
    lq_imatrix_free(im);
    lq_model_close(m);
    return (loquat_status)status;
}
