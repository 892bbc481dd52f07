// A schema and texts walked through it.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_SCHEMA_WALK_RIG_H
#define WTL_TESTS_SCHEMA_WALK_RIG_H

#include <gtest/gtest.h>
#include <jansson.h>

#include <random>
#include <string>
extern "C" {
#include "tools/schema/json_schema.h"
}

enum Verdict { NO, BEGINNING, MAY_END, COMPLETE };

class Schema {
  public:
    explicit Schema(const std::string &text) {
        json_t *value = json_loads(text.c_str(), JSON_DECODE_ANY, nullptr);
        EXPECT_NE(value, nullptr) << "the test's schema is no JSON: " << text;
        schema_ = json_schema_compile(value, &error);
        json_decref(value);
    }
    ~Schema() { json_schema_free(schema_); }
    Schema(const Schema &) = delete;
    bool ok() const { return schema_ != nullptr; }
    const json_schema *get() const { return schema_; }

    Verdict judge(const std::string &text) const { // byte by byte and in one piece
        json_walk *bytes = json_walk_new(schema_), *whole = json_walk_new(schema_);
        bool on = true;
        for (size_t i = 0; i < text.size() && on; i++) {
            const bool allowed = json_walk_allows(bytes, &text[i], 1, nullptr);
            on = json_walk_push(bytes, &text[i], 1, nullptr);
            EXPECT_EQ(allowed, on) << text.substr(0, i + 1);
        }
        EXPECT_EQ(json_walk_allows(whole, text.data(), text.size(), nullptr), on) << text;
        EXPECT_EQ(json_walk_push(whole, text.data(), text.size(), nullptr), on) << text;
        const Verdict v = !on ? NO : json_walk_complete(bytes) ? COMPLETE : json_walk_may_end(bytes) ? MAY_END : BEGINNING;
        json_walk_free(bytes);
        json_walk_free(whole);
        return v;
    }
    // A document made of random bytes that are allowed; "" when a dead end was met, which must never happen.
    std::string random_document(uint64_t seed) const {
        std::mt19937_64 random(seed);
        json_walk *walk = json_walk_new(schema_);
        std::string text, liked = "\"}],:{[0123456789.-aetrufnslA";
        while (!json_walk_complete(walk) && text.size() < 3000) {
            if (json_walk_may_end(walk) && random() % 3 == 0) break;
            std::string allowed, likely;
            for (int c = 0; c < 256; c++) {
                const char byte = (char)c;
                if (!json_walk_allows(walk, &byte, 1, nullptr)) continue;
                allowed += byte;
                if (liked.find(byte) != std::string::npos && c) likely += byte;
            }
            if (allowed.empty()) { // only the end is left
                if (!json_walk_may_end(walk)) text.clear();
                break;
            }
            const bool close = text.size() > 300; // long ones come to an end
            const std::string ends = "\"}]";
            std::string closing;
            for (char c : ends)
                if (allowed.find(c) != std::string::npos) closing += c;
            const std::string &from = close && !closing.empty() && random() % 4 ? closing : !likely.empty() && random() % 8 ? likely : allowed;
            const char byte = from[random() % from.size()];
            json_walk_push(walk, &byte, 1, nullptr);
            text += byte;
        }
        json_walk_free(walk);
        return text;
    }
    json_schema_error error{};

  private:
    json_schema *schema_ = nullptr;
};

#endif
