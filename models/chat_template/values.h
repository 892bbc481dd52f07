// What a rendering takes from the builder of values.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_MODELS_CHAT_TEMPLATE_VALUES_H
#define WTL_MODELS_CHAT_TEMPLATE_VALUES_H

#include "models/chat_template/chat_template.h"
#include "models/chat_template/value.h"

// The root map as a dict of the rendering's arena; texts stay borrowed from the builder.
jval values_load(jctx *c, const jinja_values *v);

#endif
