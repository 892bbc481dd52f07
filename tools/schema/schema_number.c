// Bounds of numbers. A bounded number is written without an exponent and with at most 15 digits, so that its value is exact: a whole multiple of
// 10^-n_frac, and bounds are the first and the last multiple inside.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>

#include "tools/schema/schema_private.h"

static const double LARGEST = 999999999999999.0; // of JSON_WALK_BOUND_DIGITS digits

static int64_t power(int n) {
    int64_t value = 1;
    while (n-- > 0) value *= 10;
    return value;
}

// One bound of the schema: "minimum" and "exclusiveMinimum", or the others. The stricter of the two.
static bool read_limit(schema_compiler *c, const json_t *schema, bool upper, double *limit, bool *exclusive, bool *given) {
    const char *names[2] = {upper ? "maximum" : "minimum", upper ? "exclusiveMaximum" : "exclusiveMinimum"};
    *given = false;
    for (int i = 0; i < 2; i++) {
        const json_t *value = json_object_get(schema, names[i]);
        if (!value) continue;
        if (!json_is_number(value)) return schema_fail(c, names[i], "must be a number");
        const double number = json_number_value(value);
        const bool stricter = !*given || (upper ? number < *limit : number > *limit) || (number == *limit && i == 1);
        if (stricter) *limit = number, *exclusive = i == 1;
        *given = true;
    }
    return true;
}

static int whole_digits(double value) {
    int n = 1;
    for (value = fabs(value); value >= 10; value /= 10) n++;
    return n;
}

// The smallest multiple of 10^-n_frac that is at least `limit` (more than it: exclusive), as the doubles compare that a reader makes of them.
static int64_t first_multiple(double limit, bool exclusive, int n_frac) {
    const double scale = (double)power(n_frac);
    int64_t at = llround(limit * scale);
    for (int i = 0; i < 4 && ((double)at / scale < limit || (exclusive && (double)at / scale == limit)); i++) at++;
    for (int i = 0; i < 4 && ((double)(at - 1) / scale > limit || (!exclusive && (double)(at - 1) / scale == limit)); i++) at--;
    return at;
}

bool schema_read_bounds(schema_compiler *c, const json_t *schema, schema_node *node) {
    double low = 0, high = 0;
    bool low_out = false, high_out = false, has_low, has_high;
    if (!read_limit(c, schema, false, &low, &low_out, &has_low) || !read_limit(c, schema, true, &high, &high_out, &has_high)) return false;
    if (!(node->types & (TYPE_INTEGER | TYPE_NUMBER)) || (!has_low && !has_high)) return true;
    if (!has_low || low < -LARGEST) low = -LARGEST, low_out = false;
    if (!has_high || high > LARGEST) high = LARGEST, high_out = false;
    if (low > LARGEST || high < -LARGEST) return schema_fail(c, has_low ? "minimum" : "maximum", "is beyond what numbers may be here, +-%.0f", LARGEST);
    // Where one side is open, its numbers may be as large as the digits behind the point leave room for.
    const double size = has_low && has_high ? fmax(fabs(low), fabs(high)) : fmin(fmax(has_low ? fabs(low) : 0, has_high ? fabs(high) : 0) * 1e4 + 1e8, LARGEST);
    const int room = JSON_WALK_BOUND_DIGITS - whole_digits(size);
    schema_bounds *b = &node->bounds;
    *b = (schema_bounds){.set = true, .n_frac = (uint8_t)(node->types & TYPE_NUMBER ? (room < 0 ? 0 : room > 12 ? 12 : room) : 0)};
    const double most = LARGEST / (double)power(b->n_frac); // keeps the scaled values exact
    b->low = first_multiple(fmax(low, -most), low_out, b->n_frac);
    b->high = -first_multiple(-fmin(high, most), high_out, b->n_frac);
    if (b->low <= b->high) return true;
    node->types &= (uint8_t)~(TYPE_INTEGER | TYPE_NUMBER);
    return node->types || schema_fail(c, has_low ? "minimum" : "maximum", "leaves no number");
}

bool schema_number_inside(const schema_node *node, double value) {
    const schema_bounds *b = &node->bounds;
    const double scale = (double)power(b->n_frac);
    return !b->set || (value >= (double)b->low / scale && value <= (double)b->high / scale);
}

// ---- Digit by digit ----------------------------------------------------------------------------------------------------------
bool schema_number_is(const schema_bounds *b, bool negative, uint64_t digits, uint8_t n_frac) {
    const int64_t size = (int64_t)digits * power(b->n_frac - n_frac), value = negative ? -size : size;
    return value >= b->low && value <= b->high;
}

bool schema_number_reaches(const schema_bounds *b, bool negative, uint64_t digits, uint8_t n_int, uint8_t n_frac, bool in_fraction) {
    const int64_t low = negative ? -b->high : b->low, high = negative ? -b->low : b->high; // of the size
    if (high < 0) return false;
    const int n_more = in_fraction || (n_int > 0 && digits == 0) ? 0 : JSON_WALK_BOUND_DIGITS - b->n_frac - n_int;
    for (int n = 0; n <= n_more; n++) { // with n more digits in front of the point, and any behind it
        const int64_t unit = power(b->n_frac - n_frac + n), first = (int64_t)digits * unit;
        if (first <= high && first + unit - 1 >= low) return true;
    }
    return false;
}
