/* Pieces of SQL text. Pure; any thread. */
#ifndef DOVETAIL_SQL_TEXT_H
#define DOVETAIL_SQL_TEXT_H

#include <stdio.h>

/* A text as a literal, whatever is in it and whatever standard_conforming_strings says. */
void sql_put_literal(FILE *out, const char *text);

#endif
