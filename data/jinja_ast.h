/* Tokens, syntax tree and parser of the Jinja interpreter. */
#ifndef LOQUAT_JINJA_AST_H
#define LOQUAT_JINJA_AST_H

#include "jinja_value.h"

/* ---- tokens ---- */
typedef enum jtoken_type {
    T_TEXT,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_PRINT_BEGIN,
    T_PRINT_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_OP,
    T_END
} jtoken_type;

typedef struct jtoken {
    jtoken_type type;
    int line;
    int op;           /* T_OP: the character; 'P' ** , 'D' //, 'E' ==, 'N' !=, 'G' >=, 'L' <= */
    const char *text; /* T_NAME: NUL-terminated */
    jvalue value;     /* T_TEXT, T_STRING, T_INT, T_FLOAT */
} jtoken;

jtoken *lq_jinja_lex(jmem *m, const char *source); /* ends with T_END */

/* ---- syntax tree ---- */
typedef enum jnode_type {
    /* expressions */
    N_CONST,
    N_NAME,
    N_LIST,
    N_TUPLE,
    N_DICT,
    N_ATTR,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_FILTER,
    N_TEST,
    N_NOT,
    N_NEGATE,
    N_PLUS,
    N_AND,
    N_OR,
    N_ARITH,
    N_CONCAT,
    N_COMPARE,
    N_IF_ELSE,
    N_NAMESPACE_ATTR,
    /* parts of them */
    N_ARG,
    N_KEYWORD,
    N_SPREAD,
    N_SPREAD_DICT,
    N_PAIR,
    N_OPERAND,
    /* statements */
    N_TEXT,
    N_PRINT,
    N_IF,
    N_FOR,
    N_SET,
    N_SET_BLOCK,
    N_MACRO,
    N_CALL_BLOCK,
    N_FILTER_BLOCK,
    N_WITH,
    N_GENERATION,
    N_BREAK,
    N_CONTINUE
} jnode_type;

typedef struct jnode jnode;
struct jnode {
    jnode_type type;
    int line;
    int op; /* N_ARITH, N_OPERAND: operator; N_MACRO, N_CALL_BLOCK: J_USES_*; N_IF: J_ELIF */
    const char *name;
    jvalue value;        /* N_CONST, N_TEXT */
    jnode *a, *b, *c;    /* operands */
    jnode *list;         /* first item, argument or parameter */
    jnode *body, *other; /* statements; else branch */
    jnode *next;         /* sibling */
};

enum { J_USES_CALLER = 1, J_USES_VARARGS = 2, J_USES_KWARGS = 4, J_ELIF = 8 };

typedef struct jparser {
    jmem *m;
    const jtoken *at;
    int uses;  /* J_USES_* of the macro being parsed */
    int loops; /* enclosing for loops of the same macro */
} jparser;

jnode *lq_jparse_expression(jparser *p, bool with_if_else);
jnode *lq_jparse_tuple(jparser *p, bool with_if_else, const char *end_name);
jnode *lq_jparse_target(jparser *p, const char *end_name, bool namespaces);
jnode *lq_jparse_filters(jparser *p, jnode *node, bool first_without_pipe);
jnode *lq_jparse_primary(jparser *p, bool namespaces); /* a name, a literal, (...), [...], {...} */
jnode *lq_jparse_args(jparser *p);                     /* "(a, *b, c=d)" */
const char *lq_jdotted_name(jparser *p);
jnode *lq_jnode(jparser *p, jnode_type type);
jnode *lq_jbinary(jparser *p, jnode_type type, int op, jnode *a, jnode *b);
bool lq_jis_op(const jparser *p, int op);
bool lq_jis_name(const jparser *p, const char *name);
bool lq_jskip_op(jparser *p, int op);
bool lq_jskip_name(jparser *p, const char *name);
void lq_jexpect_op(jparser *p, int op);
const char *lq_jexpect_name(jparser *p);
_Noreturn void lq_jsyntax(jparser *p, const char *what); /* "expected WHAT, found TOKEN" */

#endif
