/* An outsider's program, for check_install.sh: knows only loquat.h, trains a few steps and prints
 * the loss.
 *   install_client MODEL.gguf DATA.jsonl OUTPUT_DIR */
#include <loquat.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct client {
    int64_t steps;
    double first_loss, last_loss;   /* of the evaluations */
} client;

static void progress(void *ctx, const loquat_progress *p) {
    client *c = ctx;
    c->steps = p->step;
    if (isnan(p->eval_loss)) return;
    if (isnan(c->first_loss)) c->first_loss = p->eval_loss;
    c->last_loss = p->eval_loss;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    const loquat_setting settings[] = {
        {"base_model", argv[1]},      {"data", argv[2]},         {"output_dir", argv[3]},
        {"max_steps", "4"},           {"learning_rate", "0.01"}, {"val_set_size", "0.25"},
        {"qat.weight_dtype", "q4_0"}, {"threads", "1"},
    };
    client c = {0, NAN, NAN};
    const loquat_callbacks callbacks = {&c, progress, NULL};
    char *record = NULL;
    const loquat_status status =
        loquat_train(NULL, settings, sizeof settings / sizeof *settings, &callbacks, &record);
    if (status != LOQUAT_OK) fprintf(stderr, "loquat %s: %s\n", loquat_version(), loquat_error());
    const int good = status == LOQUAT_OK && c.steps == 4 && c.last_loss < c.first_loss &&
                     strstr(record, "\"merged\"");
    loquat_free(record);
    printf("%.17g\n", c.last_loss);
    return good ? 0 : 1;
}
