// Whether a sanitizer watches this build: it is several times slower, and freed memory is not given back.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_CHECKED_BUILD_H
#define WTL_TESTS_CHECKED_BUILD_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kChecked = true;
#else
constexpr bool kChecked = false;
#endif

#endif
