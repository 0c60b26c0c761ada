/* What the files of this folder share: the table of keys, the kinds of values, and the reader that
 * gathers mistakes. Nothing outside configs (and its tests) includes it.
 *
 * A key is one row: its name ("qat.mode" for a nested one), the field of lq_config it sets, its
 * default as text, bounds and choices. A kind knows how a value of its type is read, written,
 * compared and freed. */
#ifndef LOQUAT_SCHEMA_H
#define LOQUAT_SCHEMA_H

#include "config.h"

typedef struct lq_key lq_key;
typedef struct lq_slot lq_slot;

/* Readers report what is wrong with a value as a mistake and return LQ_OK; they fail only for lack
 * of memory. Lists have `add`, maps `pair`, lists of maps also `begin` and `end` around pairs. */
typedef struct lq_kind {
    const char *wanted;                                     /* "a whole number", for messages */
    const char *placeholder;                                /* "N", for the help */
    lq_status (*from_text)(lq_slot *s, const char *text);
    lq_status (*add)(lq_slot *s, const char *text);
    lq_status (*begin)(lq_slot *s);
    lq_status (*pair)(lq_slot *s, const char *name, const char *text);
    lq_status (*end)(lq_slot *s);
    void (*write)(const void *field, lq_str *out);          /* as YAML, after "key:" */
    void (*clear)(void *field);
    bool (*equal)(const void *a, const void *b);
} lq_kind;

extern const lq_kind lq_kind_bool, lq_kind_int, lq_kind_real, lq_kind_text;
extern const lq_kind lq_kind_texts, lq_kind_ints, lq_kind_map, lq_kind_settings;
extern const lq_kind lq_kind_datasets;

enum {
    LQ_KEY_KEEPS_RESULT = 1, /* does not change a run's numbers, or a fingerprint covers how */
    LQ_KEY_NOT_YET = 2,      /* any value but the default belongs to a later version */
    LQ_KEY_ABOVE_MIN = 4,    /* the lower bound itself is not allowed */
    LQ_KEY_SHARE = 8,        /* below 1 a share, from 1 on a whole count */
};

struct lq_key {
    const char *group;       /* heading in the help and the dump */
    const char *name, *aliases;  /* aliases: separated by spaces; "!x" has the opposite meaning */
    const lq_kind *kind;
    size_t offset;           /* of the field in lq_config */
    const char *init;        /* the default, as text; NULL: nothing */
    double min, max;         /* of a number, or of each number in a list or map */
    const char *choices;     /* "canonical=other=names next"; NULL: any text */
    const char *supported;   /* the choices that this version honours; NULL: all */
    unsigned flags;
    const char *help;
};

extern const lq_key lq_keys[];
extern const int lq_n_keys;
enum { LQ_MAX_KEYS = 128, LQ_NAME_BYTES = 96, LQ_MAX_MISTAKES = 40 };

/* A nested mapping of keys. */
typedef struct lq_section {
    const char *name;
    ptrdiff_t has;           /* offset of the bool that says it was given; -1: none */
} lq_section;
extern const lq_section lq_sections[];
enum { LQ_N_SECTIONS = 3 };

/* Spellings are the same up to '-' and '_'. Returns the index, or -1.
 * *inverted: found by an alias of opposite meaning. */
int lq_key_find(const char *name, bool *inverted);
int lq_section_find(const char *name);
/* The section that the key belongs to, or -1. */
int lq_section_of(const char *key_name);
/* The known name (key or alias, dotted) nearest to `name`; "" when none is near. */
void lq_key_nearest(char nearest[LQ_NAME_BYTES], const char *name);

static inline void *lq_key_field(const lq_key *k, lq_config *c) { return (char *)c + k->offset; }
static inline const void *lq_key_value(const lq_key *k, const lq_config *c) {
    return (const char *)c + k->offset;
}

/* ---- reading --------------------------------------------------------------------------------- */

enum { LQ_LINE_NONE = 0, LQ_LINE_OPTION = -1 }; /* a line of the file otherwise */

typedef struct lq_reader {
    lq_config *config;
    const lq_config *defaults;     /* NULL while the defaults themselves are read */
    const char *file;
    bool in_option;                /* reading the command line, not the file */
    lq_str mistakes;
    int n_mistakes;
    int line[LQ_MAX_KEYS];         /* where the key was given last */
    bool bad[LQ_MAX_KEYS];         /* a mistake was found in its value */
    int section_line[LQ_N_SECTIONS];
} lq_reader;

/* One value being read. */
struct lq_slot { lq_reader *reader; const lq_key *key; void *field; int line; bool inverted; };

/* "FILE:LINE: message" or, from the command line, "--message". */
void lq_mistake(lq_reader *r, int line, const char *fmt, ...) LQ_PRINTF(3, 4);
/* The same with the key's name in front: "FILE:LINE: key: message". */
void lq_slot_mistake(lq_slot *s, const char *fmt, ...) LQ_PRINTF(2, 3);
/* `name` is not a key: with the nearest known one. */
void lq_unknown_key(lq_reader *r, int line, const char *name);

/* Opens the key's slot for a new value; a list is emptied. A key given before in the same source
 * (file or command line) is a mistake. */
lq_slot lq_slot_open(lq_reader *r, int key, bool inverted, int line);
/* After the value: later versions' options are mistakes. */
void lq_slot_close(lq_slot *s);
lq_status lq_slot_default(lq_slot *s);
/* Marks a section as given (or, with `on` false, as not). */
void lq_section_give(lq_reader *r, int section, bool on, int line);

/* lq_config_load of a text: `name` stands for the file in messages. */
lq_status lq_config_read(lq_config **out, const char *yaml, const char *name,
                         const lq_override *overrides, int n_overrides);
lq_status lq_yaml_read(lq_reader *r, const char *text, size_t n);
/* A YAML value for one key: what an override in brackets is. */
lq_status lq_yaml_read_value(lq_slot *s, const char *text);
void lq_config_check(lq_reader *r);

/* ---- values ---------------------------------------------------------------------------------- */

/* Calls `one` for every part of text between commas, without the spaces around it. */
lq_status lq_text_split(lq_slot *s, const char *text, lq_status (*one)(lq_slot *, const char *));
bool lq_text_is_null(const char *text);
bool lq_text_to_bool(const char *text, bool *out);
bool lq_text_to_real(const char *text, double *out);
/* The canonical spelling of `text` among choices (see lq_key), allocated.
 * *out NULL: a mistake was reported. */
lq_status lq_choose(char **out, lq_slot *s, const char *choices, const char *supported,
                    const char *text);
/* Checks a number against the key's bounds; false: a mistake was reported. */
bool lq_within_bounds(lq_slot *s, double value, const char *text);
/* Text that a YAML reader takes for this string, quoted where it must be. */
void lq_write_text(lq_str *out, const char *text);
/* Reads back as the same double, and as a number by readers of YAML 1.1. */
void lq_write_real(lq_str *out, double value);

#endif
