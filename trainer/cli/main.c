/* loquat: the command line. A thin client of loquat.h. */
#include "progress.h"
#include "verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* name, usage, summary, takes configuration keys, has --json, runs on --device */
static const arg_verb verbs[] = {
    {"train", "RUN.yaml [--KEY VALUE]...",
     "Fine-tune a frozen base model and export what was validated.", true, true, false, verb_train},
    {"preprocess", "RUN.yaml [--debug [--show N]] [--KEY VALUE]...",
     "Tokenize and cache the data; show what training will see.", true, false, false,
     verb_preprocess},
    {"plan", "RUN.yaml [--memory 4G] [--json] [--KEY VALUE]...",
     "Memory and steps of a run, before anything is loaded, and what would make it fit.", true,
     true, false, verb_plan},
    {"evaluate",
     "MODEL [--lora FILE[=SCALE]]... [--perplexity TEXT] [--data FILE.jsonl [--exact-match]] "
     "[--reference MODEL2]",
     "Perplexity by llama-perplexity's protocol; masked loss and exact match; divergence from a "
     "reference.",
     false, true, true, verb_evaluate},
    {"compare",
     "RUN... --data FILE.jsonl [--quantize TYPE]... [--baseline ROW] [--csv | --markdown | --json]",
     "One table over runs and over quantization of the plain ones; seeds are averaged.", false,
     true, true, verb_compare},
    {"chat", "MODEL [--lora NAME=FILE[=SCALE]]... [--prompt TEXT]",
     "Talk to a model, a merged model, or a base with adapters.", false, false, true, verb_chat},
    {"tokenize", "MODEL [--file F | TEXT] [--ids] | MODEL --messages FILE.jsonl [--json]",
     "Tokens as the model sees them.", false, true, false, verb_tokenize},
    {"logits", "MODEL [--lora FILE[=SCALE]]... --ids \"1 2 3\" --output F.npy",
     "Logits as a NumPy file.", false, false, true, verb_logits},
    {"merge", "MODEL [--lora FILE[=SCALE]]... --output F.gguf [--type Q4_0]",
     "Base and adapters into one GGUF; without adapters a conversion.", false, false, false,
     verb_merge},
    {"export", "RUN_DIR [--quantize TYPE]... [--peft] [--merged-safetensors]",
     "A run's artefacts again, from its best checkpoint.", false, true, false, verb_export},
    {"quantize",
     "IN.gguf OUT.gguf TYPE [--imatrix F] [--tensor-type PATTERN=TYPE]... [--pure]",
     "A GGUF into another type, as llama-quantize does.", false, false, false, verb_quantize},
    {"imatrix",
     "MODEL --file TEXT --output F.gguf [--ctx-size N] [--chunks N] [--process-output]",
     "An importance matrix for quantize, in llama.cpp's format.", false, false, false,
     verb_imatrix},
    {"inspect", "FILE|RUN_DIR [FILE] [--json]",
     "What a model, an adapter or a run really is; of two files, what differs.", false, true,
     false, verb_inspect},
};

static const arg_verb *find_verb(const char *name) {
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(name, verbs[i].name) == 0) return &verbs[i];
    return NULL;
}

static void print_usage(FILE *f) {
    fprintf(f, "usage: loquat VERB ...\n\n");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (verbs[i].run) fprintf(f, "  %-11s %s\n", verbs[i].name, verbs[i].summary);
    fprintf(f, "\nloquat VERB --help says more; loquat --version prints the version.\n");
}

/* OpenMP threads that wait spin for milliseconds by default. Where another process wants the cores
 * as well, the spinning threads keep the working ones from running, and training becomes ten times
 * slower. The runtime reads its settings when it is loaded, so the program starts itself once more
 * with a short spin, some half a millisecond, unless the user has chosen. */
static void wait_briefly(char **argv) {
    if (getenv("OMP_WAIT_POLICY") || getenv("GOMP_SPINCOUNT")) return;
    if (setenv("GOMP_SPINCOUNT", "10000", 1) == 0) execv("/proc/self/exe", argv);
    /* still here: no /proc; go on as things are */
}

int main(int argc, char **argv) {
    wait_briefly(argv);
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("loquat %s\n", loquat_version());
        return EXIT_DONE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_usage(stdout);
        return EXIT_DONE;
    }
    const arg_verb *verb = find_verb(argv[1]);
    if (!verb) {
        fprintf(stderr, "loquat: unknown verb '%s'\n", argv[1]);
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (!verb->run) {
        fprintf(stderr, "loquat: %s is not supported by this version yet\n", verb->name);
        return EXIT_USAGE;
    }
    const int exit_status = verb->run(verb, argc - 2, argv + 2);
    if (fflush(stdout) == 0 && !ferror(stdout)) return exit_status;
    fprintf(stderr, "loquat: standard output could not be written\n");
    return exit_status == EXIT_DONE ? EXIT_FAILED : exit_status;
}
