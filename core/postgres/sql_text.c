/* Pieces of SQL text: see core/postgres/sql_text.h. */
#include "core/postgres/sql_text.h"

void sql_put_literal(FILE *out, const char *text)
{
    fputs("E'", out);
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\')
            fputc(*text, out);
        fputc(*text, out);
    }
    fputc('\'', out);
}
