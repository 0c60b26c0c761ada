/* loquat: the command line. A thin client of loquat.h. */
#include "progress.h"
#include "verbs.h"

#include <stdio.h>
#include <string.h>

static const arg_verb verbs[] = {
    {"train", "RUN.yaml [--KEY VALUE]...", "Fine-tune a frozen base model and export what was validated.", true, verb_train},
    {"preprocess", "RUN.yaml [--debug [N]] [--KEY VALUE]...", "Tokenize and cache the data; show what training will see.", true,
     verb_preprocess},
    {"plan", "RUN.yaml [--json] [--KEY VALUE]...", "Memory and steps of a run, before anything is loaded.", true, verb_plan},
    {"evaluate", "MODEL [--lora FILE[=SCALE]]... [--perplexity TEXT] [--data FILE.jsonl [--exact-match]]",
     "Perplexity by llama-perplexity's protocol; masked loss and exact match; divergence from a reference.", false,
     verb_evaluate},
    {"chat", "MODEL [--lora NAME=FILE[=SCALE]]... [--prompt TEXT]", "Talk to a model, a merged model, or a base with adapters.",
     false, verb_chat},
    {"tokenize", "MODEL [--file F | TEXT] [--ids] | MODEL --messages FILE.jsonl [--json]", "Tokens as the model sees them.",
     false, verb_tokenize},
    {"logits", "MODEL [--lora FILE[=SCALE]]... --ids \"1 2 3\" --output F.npy", "Logits as a NumPy file.", false, verb_logits},
    {"merge", "MODEL --lora FILE[=SCALE]... --output F.gguf [--type Q4_0]", "Base and adapters into one GGUF.", false, verb_merge},
    {"export", "RUN_DIR [--quantize TYPE]...", "A run's artefacts again, from its best checkpoint.", false, verb_export},
    {"inspect", "FILE [--json]", "What a model or adapter really is.", false, verb_inspect},
};

static void print_usage(FILE *f) {
    fprintf(f, "usage: loquat VERB ...\n\n");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        fprintf(f, "  %-11s %s\n", verbs[i].name, verbs[i].summary);
    fprintf(f, "\nloquat VERB --help says more; loquat --version prints the version.\n");
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("loquat %s\n", loquat_version());
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(argv[1], verbs[i].name) == 0) return verbs[i].run(&verbs[i], argc - 2, argv + 2);
    fprintf(stderr, "loquat: unknown verb '%s'\n", argv[1]);
    print_usage(stderr);
    return EXIT_USAGE;
}
