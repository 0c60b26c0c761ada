/* The emulated device's queue (emulate.h). EMULATED_WAITS names a file that the number of waits is
 * written to when the program ends. */
#include "emulate.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct entry {
    void (*run)(void *ctx);
    void *ctx;
} entry;

static entry *list;                       /* entry i of the queue is list[i - n_dropped] */
static int64_t n_list, cap_list, n_dropped;
static int64_t n_done, n_waits;

void lq_emulated_queue(void (*run)(void *ctx), void *ctx) {
    if (n_list == cap_list) {
        cap_list = cap_list ? 2 * cap_list : 1024;
        list = realloc(list, (size_t)cap_list * sizeof *list);
    }
    if (!ctx || !list) lq_emulated_die("no memory for the queue");
    list[n_list++] = (entry){run, ctx};
}

int64_t lq_emulated_queued(void) { return n_dropped + n_list; }

void lq_emulated_reach(int64_t n) {
    n_waits += n > n_done;
    while (n_done < n) {
        const entry e = list[n_done++ - n_dropped];
        e.run(e.ctx);
    }
    if (n_done < lq_emulated_queued()) return;
    n_dropped = n_done;
    n_list = 0;
}

__attribute__((destructor)) static void write_waits(void) {
    const char *const path = getenv("EMULATED_WAITS");
    FILE *const f = path ? fopen(path, "w") : NULL;
    if (!f) return;
    fprintf(f, "%lld\n", (long long)n_waits);
    fclose(f);
}
