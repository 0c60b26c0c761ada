/* loquat_inspect and loquat_inspect_two: reports on files, and on a run's directory through its
 * run.json. */
#include "hf.h"
#include "inspect.h"
#include "json_file.h"
#include "loquat.h"
#include "session.h"

#include <sys/stat.h>

static bool is_directory(const char *path) {
    struct stat found;
    return stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/* The report on one exported file; a file that is gone or no GGUF is said to be so. */
static lq_status add_artifact(json_t *files, const char *dir, const json_t *artifact) {
    const char *recorded = json_string_value(json_object_get(artifact, "path"));
    json_t *report = NULL;
    char *path = recorded ? lq_run_path(dir, recorded) : NULL;
    if (!recorded) return LQ_OK;
    if (!path) return LQ_EMEM;
    lq_status status = is_directory(path) ? LQ_OK : lq_inspect_report(&report, path);
    if (status != LQ_OK && status != LQ_EMEM) {
        report = json_pack("{s:s, s:s}", "file", path, "problem", lq_error());
        status = LQ_OK;
    }
    if (report && json_object_set_new(files, path, report) != 0) status = LQ_EMEM;
    lq_free(path);
    return status;
}

static lq_status inspect_run(json_t **out, const char *dir) {
    json_t *record = NULL, *artifact;
    size_t i;
    LQ_TRY(lq_json_read(&record, dir, "run.json", true));
    json_t *files = json_object();
    json_t *report = json_pack("{s:s, s:s, s:o, s:o}", "directory", dir, "kind", "run", "record",
                               record, "files", files);
    lq_status status = report ? LQ_OK : lq_fail(LQ_EMEM, "%s: out of memory while inspecting", dir);
    json_array_foreach(json_object_get(record, "artifacts"), i, artifact) {
        if (status == LQ_OK) status = add_artifact(files, dir, artifact);
    }
    if (status == LQ_OK) *out = report;
    else
        json_decref(report);
    return status;
}

static loquat_status finish(lq_status status, json_t *report, bool json, char **out_text) {
    if (status == LQ_OK) status = lq_inspect_text(out_text, report, json);
    json_decref(report);
    return (loquat_status)status;
}

loquat_status loquat_inspect(const char *path, bool json, char **out_text) {
    json_t *report = NULL;
    *out_text = NULL;
    const bool is_run = is_directory(path) && !lq_hf_is_dir(path);
    const lq_status status =
        is_run ? inspect_run(&report, path) : lq_inspect_report(&report, path);
    return finish(status, report, json, out_text);
}

loquat_status loquat_inspect_two(const char *a, const char *b, bool json, char **out_text) {
    json_t *report = NULL;
    *out_text = NULL;
    const lq_status status = lq_inspect_compare(&report, a, b);
    return finish(status, report, json, out_text);
}
