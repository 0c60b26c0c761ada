/* The Jinja interpreter's own interface: render state, built-ins, entry points. Used by jinja_*.c
 * and template*.c only. Parsing and rendering fail by lq_jthrow (jinja_value.h); lq_jinja_parse and
 * lq_jinja_render are the entry points that turn it into a status. */
#ifndef LOQUAT_JINJA_H
#define LOQUAT_JINJA_H

#include "jinja_ast.h"
#include "jinja_text.h"
#include "template.h"

/* ---- rendering ---- */
typedef struct jvar jvar;
typedef struct jscope jscope;
struct jscope {
    jscope *parent;
    jvar *vars;
};

typedef struct jx {
    jmem m;
    jscope *scope;
    jbuf *out;           /* what statements print into */
    jbuf text;           /* the rendered text; `out` points elsewhere inside macros and captures */
    lq_spans generation; /* {% generation %} blocks: byte ranges of `text` (memory in the arena) */
    int64_t now;
} jx;

typedef struct jargs {
    jvalue *v;
    int64_t n, cap;
    jdict *keywords; /* NULL: none */
} jargs;

enum { J_MAX_PARAMS = 5 };

/* A built-in filter, test, method or global: arguments bound by the names in `params`. */
typedef struct jcall {
    jvalue self;              /* the value filtered, tested or owning the method */
    jvalue arg[J_MAX_PARAMS]; /* J_MISSING when not given */
    const jargs *raw;         /* for params "*", which takes anything */
    const char *name;
} jcall;

typedef struct jbuiltin {
    const char *name;
    jvalue (*fn)(jx *x, const jcall *c);
    const char *params; /* "d attribute"; "*": any */
} jbuiltin;

struct jfunction {
    const jbuiltin *builtin;
    jvalue self;
};

struct jmacro {
    const jnode *node;
    jscope *scope; /* where it was defined */
};

struct jloop {
    const jseq *items;
    int64_t index0;
    jvalue changed; /* arguments of the last loop.changed() */
};

jvalue lq_jeval(jx *x, const jnode *node);
void lq_jexec(jx *x, const jnode *statements);
void lq_jdefine(jx *x, const char *name, jvalue value); /* in the current scope */
jvalue lq_jlookup(jx *x, const char *name);
jvalue lq_jcall(jx *x, jvalue callee, const jargs *args);
void lq_jeval_args(jx *x, const jnode *list, jargs *args);
jvalue lq_jcall_builtin(jx *x, const jbuiltin *b, jvalue self, const jargs *args);
jvalue lq_jget_attr(jx *x, jvalue object, const char *name); /* object.name */
jvalue lq_jget_item(jx *x, jvalue object, jvalue key);       /* object[key] */
/* object.a.b[0] for "a.b.0" as filters take it; `otherwise` (NULL: none) replaces what is undefined
 * on the way. */
jvalue lq_jget_path(jx *x, jvalue object, jvalue path, const jvalue *otherwise);
jvalue lq_jcapture(jx *x, const jnode *statements, jscope *scope);

const jbuiltin *lq_jfind_global(const char *name);
const jbuiltin *lq_jfind_method(jvalue object, const char *name); /* NULL: none */
bool lq_jmethod_changes(jvalue object, const char *name);         /* list.append and its like */
jvalue lq_japply_filter(jx *x, const char *name, jvalue self, const jargs *args);
bool lq_japply_test(jx *x, const char *name, jvalue self, const jargs *args);

extern const jbuiltin lq_jseq_filters[], lq_jtext_filters[]; /* end with a NULL name */

/* Arguments of built-ins with defaults. */
bool lq_jgiven(jvalue v); /* neither missing nor none */
int64_t lq_jarg_int(jx *x, const jcall *c, int i, int64_t otherwise);
bool lq_jarg_bool(const jcall *c, int i, bool otherwise);
const jstr *lq_jarg_str(jx *x, const jcall *c, int i, const jstr *otherwise);
const jstr *lq_jself_str(jx *x, const jcall *c); /* str(self) */

/* ---- entry points ---- */
typedef struct jtemplate {
    jmem m;
    jnode *body;
    bool has_generation;
} jtemplate;

lq_status lq_jinja_parse(jtemplate *t, const char *source); /* clear with lq_jmem_clear(&t->m) */

/* Renders with the variables of `messages` and `options`; the spans are those of generation blocks
 * (appended, relative to the start of this rendering; NULL: not wanted). */
lq_status lq_jinja_render(const jtemplate *t, json_t *messages, const lq_template_options *options,
                          lq_str *out, lq_spans *generation);

#endif
