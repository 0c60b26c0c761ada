/* Values of the Jinja interpreter: Python's semantics for the types that templates see.
 *
 * Everything lives in one arena per parse or render; nothing is freed singly. Functions of this
 * interpreter do not return a status: lq_jthrow records the message and jumps back to the entry
 * point (jinja.h), which frees the arena. No function below therefore returns after a failure. */
#ifndef LOQUAT_JINJA_VALUE_H
#define LOQUAT_JINJA_VALUE_H

#include "str.h"

#include <setjmp.h>

/* ---- memory and failure ---- */
typedef struct jchunk jchunk;
typedef struct jmem {
    jchunk *chunks;
    char *next, *end;    /* free bytes of the newest chunk */
    size_t total, limit; /* bytes taken, bytes allowed */
    int64_t steps;       /* work left before the template counts as endless */
    int depth;           /* of recursive walks */
    int line;            /* of the template, for messages */
    lq_status status;
    jmp_buf jump;
} jmem;

enum { J_MAX_DEPTH = 1000 };

_Noreturn void lq_jthrow(jmem *m, lq_status status, const char *fmt, ...) LQ_PRINTF(3, 4);
void *lq_jalloc(jmem *m, size_t bytes);                       /* zeroed */
void *lq_jalloc_array(jmem *m, int64_t n, size_t elem_bytes); /* zeroed */
void lq_jmem_clear(jmem *m);
void lq_jstep(jmem *m, int64_t n); /* n units of work */
void lq_jenter(jmem *m);           /* one level of recursion */
void lq_jleave(jmem *m);

/* A growing byte string in the arena. */
typedef struct jbuf {
    char *s;
    size_t n, cap;
} jbuf;
void lq_jbuf_add(jmem *m, jbuf *b, const char *s, size_t n);
void lq_jbuf_puts(jmem *m, jbuf *b, const char *s);
void lq_jbuf_printf(jmem *m, jbuf *b, const char *fmt, ...) LQ_PRINTF(3, 4);

/* ---- values ---- */
typedef enum jtype {
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STR,
    J_LIST,
    J_TUPLE,
    J_RANGE,
    J_VIEW,
    J_ITER, /* all are jseq; a J_ITER can be walked once */
    J_DICT,
    J_NAMESPACE,
    J_FUNCTION,
    J_MACRO,
    J_LOOP,
    J_CYCLER,
    J_JOINER,
    J_MISSING /* an argument that was not given; never seen by templates */
} jtype;

typedef struct jstr {
    const char *s; /* UTF-8, NUL-terminated */
    int64_t n;     /* bytes */
    int64_t chars; /* code points */
} jstr;

typedef struct jseq jseq;
typedef struct jdict jdict;
typedef struct jfunction jfunction;
typedef struct jmacro jmacro;
typedef struct jloop jloop;
typedef struct jcycler jcycler;

typedef struct jvalue {
    jtype type;
    bool markup; /* J_STR: came from |safe or |escape */
    union {
        bool b;
        int64_t i;
        double f;
        const jstr *str;
        jseq *seq;
        jdict *dict; /* also J_NAMESPACE */
        jfunction *function;
        jmacro *macro;
        jloop *loop;
        jcycler *cycler; /* also J_JOINER */
        const char *why; /* J_UNDEFINED: "'x' is undefined" */
    } u;
} jvalue;

struct jseq {
    jvalue *v;
    int64_t n, cap;
    const char *repr; /* J_RANGE: "range(0, 3)"; J_VIEW: "dict_keys" */
};

typedef struct jpair {
    jvalue key, value;
} jpair;

struct jdict {
    jpair *v;
    int64_t n, cap;
};

/* An object that hands out values in turn: cycler(...) and joiner(sep). */
struct jcycler {
    jseq *items;
    int64_t at;
};

jvalue lq_jundefined(jmem *m, const char *fmt, ...) LQ_PRINTF(2, 3);
jvalue lq_jnone(void);
jvalue lq_jbool(bool b);
jvalue lq_jint(int64_t i);
jvalue lq_jfloat(double f);
jvalue lq_jstr(jmem *m, const char *s, int64_t n); /* copies */
jvalue lq_jtext(jmem *m, const char *s);
jvalue lq_jbuf_value(jmem *m, jbuf *b); /* takes the bytes over */
jvalue lq_jseq(jmem *m, jtype type, int64_t capacity);
void lq_jpush(jmem *m, jvalue seq, jvalue item);
jvalue lq_jpair(jmem *m, jvalue a, jvalue b); /* tuple of two */
jvalue lq_jdict(jmem *m, int64_t capacity);
void lq_jput(jmem *m, jdict *d, jvalue key, jvalue value);
const jvalue *lq_jfind(jmem *m, const jdict *d, jvalue key); /* NULL: absent */
const jvalue *lq_jfind_text(const jdict *d, const char *key);
void lq_jappend_pair(jmem *m, jdict *d, jvalue key, jvalue value); /* the key is known to be new */

bool lq_jis_text(jvalue v, const char *text);
bool lq_jis_seq(jvalue v);    /* any jseq type */
bool lq_jis_number(jvalue v); /* bool, int, float */
double lq_jnumber(jvalue v);
const char *lq_jtype_name(jvalue v); /* as Python names it */

/* ---- Python's operations ---- */
bool lq_jtruth(jvalue v);
bool lq_jequal(jmem *m, jvalue a, jvalue b);
int lq_jcompare(jmem *m, jvalue a, jvalue b); /* ordering; TypeError for mixed types */
bool lq_jcontains(jmem *m, jvalue item, jvalue in);
jvalue lq_jarith(jmem *m, int op, jvalue a,
                 jvalue b); /* op: '+' '-' '*' '/' '%', 'D' for //, 'P' for ** */
jvalue lq_jnegate(jmem *m, jvalue v);
int64_t lq_jlength(jmem *m, jvalue v);
jvalue lq_jiterate(jmem *m, jvalue v); /* as a jseq; TypeError if it is none */
jvalue lq_jslice(jmem *m, jvalue v, jvalue start, jvalue stop, jvalue step);
jvalue lq_jindex(jmem *m, jvalue v,
                 jvalue key);             /* v[key] without attributes; J_MISSING if absent */
void lq_jneed_defined(jmem *m, jvalue v); /* UndefinedError */

#endif
