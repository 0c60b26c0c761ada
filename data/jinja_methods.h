/* Method tables of the Jinja interpreter; each ends with a NULL name. */
#ifndef LOQUAT_JINJA_METHODS_H
#define LOQUAT_JINJA_METHODS_H

#include "jinja.h"

extern const jbuiltin lq_jstr_methods[];

#endif
