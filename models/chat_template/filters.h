// The filters, between the files that have them and the table.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_CHAT_TEMPLATE_FILTERS_H
#define WTL_MODELS_CHAT_TEMPLATE_FILTERS_H

#include "models/chat_template/value.h"

// X(function): one per filter; the names in templates stand in filters.c.
#define FILTER_LIST(X)                                                                                                                     \
    X(f_abs) X(f_attr) X(f_batch) X(f_capitalize) X(f_center) X(f_default) X(f_dictsort) X(f_escape) X(f_first) X(f_float) X(f_forceescape) \
    X(f_format) X(f_groupby) X(f_indent) X(f_int) X(f_items) X(f_join) X(f_last) X(f_length) X(f_list) X(f_lower) X(f_map) X(f_max) X(f_min) \
    X(f_reject) X(f_rejectattr) X(f_replace) X(f_reverse) X(f_round) X(f_safe) X(f_select) X(f_selectattr) X(f_slice) X(f_sort) X(f_string) \
    X(f_sum) X(f_title) X(f_tojson) X(f_trim) X(f_truncate) X(f_unique) X(f_upper) X(f_urlencode) X(f_wordcount)
#define FILTER_DECLARE(function) jval function(jctx *c, jval v, const jargs *args);
FILTER_LIST(FILTER_DECLARE)
#undef FILTER_DECLARE

// Binds the named arguments into `out`, an array of the function; what is missing is V_MISSING.
#define FILTER_BIND(what, required, ...)                                                                                                  \
    static const char *const names_of_arguments[] = {__VA_ARGS__};                                                                       \
    jval out[sizeof names_of_arguments / sizeof *names_of_arguments];                                                                    \
    args_bind(c, what, args, names_of_arguments, sizeof names_of_arguments / sizeof *names_of_arguments, required, out)

static inline bool arg_flag(jctx *c, jval v) { return val_given(v) && val_true(c, v); }
static inline jval arg_or_none(jval v) { return val_given(v) ? v : val_none(); }
jval fold_case(jctx *c, jval v, bool case_sensitive); // lower case of texts, other values as they are

#endif
