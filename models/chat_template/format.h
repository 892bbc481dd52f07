// One value by a format specification: what "%" and str.format() have in common.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_CHAT_TEMPLATE_FORMAT_H
#define WTL_MODELS_CHAT_TEMPLATE_FORMAT_H

#include "models/chat_template/value.h"

#define FORMAT_WIDTH_MAX (1 << 20)

typedef struct format_spec {
    const jstr *fill; // NULL: a space
    char align;       // < > ^ = or '\0'
    char sign;        // + - space or '\0'
    bool alternate, zero;
    int width, precision; // precision -1: not given
    char grouping;    // , _ or '\0'
    char type;
} format_spec;

void format_pad(jbuild *b, const format_spec *spec, const jstr *s);    // to the width; text goes left in braces, right behind %
void format_text(jbuild *b, const format_spec *spec, const jstr *s);   // cut to the precision, padded
void format_number(jbuild *b, const format_spec *spec, jval v);        // d x X o b e E f F g G % n
jstr *format_ascii(jctx *c, const jstr *s);                            // other characters as escapes

#endif
