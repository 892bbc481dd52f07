// Which sources are opened and which domains count. The central property on random sets: no two counting domains share a joule.
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>

#include "tests/telemetry/sysfs_tree.h"

namespace {

struct Set {
    std::vector<tel_domain> domains;
    std::vector<const tel_source *> sources;
    std::vector<tel_candidate> list;
    size_t n_counting = 0;

    tel_domain &add(const tel_source &source, const char *name, const char *key, tel_scope scope, const char *contains = "",
                    const char *reason = "") {
        tel_domain d = {};
        snprintf(d.name, sizeof d.name, "%s", name);
        snprintf(d.key, sizeof d.key, "%s", key);
        snprintf(d.contains, sizeof d.contains, "%s", contains);
        snprintf(d.reason, sizeof d.reason, "%s", reason);
        d.scope = scope;
        d.method = TEL_METHOD_COUNTER;
        domains.push_back(d);
        sources.push_back(&source);
        return domains.back();
    }
    void choose() {
        list.clear();
        for (size_t i = 0; i < domains.size(); i++) {
            tel_candidate c = {};
            c.source = sources[i];
            c.domain = &domains[i];
            list.push_back(c);
        }
        n_counting = tel_choose(list.data(), list.size());
    }
    std::string counting() const {
        std::string all;
        for (size_t i = 0; i < n_counting; i++) all += (i ? " " : "") + std::string(list[i].domain->name);
        return all;
    }
    std::string explain(const char *asked = "auto", size_t cap = TEL_EXPLAIN_MAX) const {
        tel_plan plan;
        EXPECT_EQ(tel_plan_make(asked, &plan, nullptr), TEL_OK);
        std::string text(cap, 'x');
        tel_choose_explain(&plan, list.data(), list.size(), text.data(), cap);
        return text.c_str();
    }
};

// ---- The plan -----------------------------------------------------------------------------------------------------

TEST(Plan, WhatEachOptionOpens) {
    tel_plan p;
    ASSERT_EQ(tel_plan_make(nullptr, &p, nullptr), TEL_OK);
    EXPECT_EQ(p.n_sources, 6u);
    EXPECT_FALSE(p.required);
    EXPECT_EQ(p.sources[5], &tel_source_model);
    ASSERT_EQ(tel_plan_make("require", &p, nullptr), TEL_OK);
    EXPECT_EQ(p.n_sources, 5u);
    EXPECT_TRUE(p.required);
    for (size_t i = 0; i < p.n_sources; i++) EXPECT_NE(p.sources[i], &tel_source_model);
    ASSERT_EQ(tel_plan_make("none", &p, nullptr), TEL_OK);
    EXPECT_EQ(p.n_sources, 0u);
    EXPECT_FALSE(p.required);
    ASSERT_EQ(tel_plan_make("powercap", &p, nullptr), TEL_OK);
    ASSERT_EQ(p.n_sources, 1u);
    EXPECT_EQ(p.sources[0], &tel_source_powercap);
    EXPECT_TRUE(p.required);
    ASSERT_EQ(tel_plan_make("replay:a:b.csv", &p, nullptr), TEL_OK);
    EXPECT_STREQ(p.replay_path, "a:b.csv");
    EXPECT_EQ(p.sources[0], &tel_source_replay);
    ASSERT_EQ(tel_plan_make("simulated:12.5", &p, nullptr), TEL_OK);
    EXPECT_EQ(p.simulated_w, 12.5);
    EXPECT_EQ(p.sources[0], &tel_source_simulated);
}

TEST(Plan, WrongOptionsAreInvalidAndListTheNames) {
    for (const char *bad : {"", "rapl", "Powercap", "replay", "replay:", "simulated", "simulated:", "simulated:x", "simulated:-1",
                            "simulated:1e9", "perf,nvml"}) {
        tel_plan p;
        tel_error err = {};
        EXPECT_EQ(tel_plan_make(bad, &p, &err), TEL_ERR_INVALID) << bad;
        EXPECT_EQ(err.code, TEL_ERR_INVALID);
        EXPECT_NE(std::string(err.message), "");
    }
    tel_plan p;
    tel_error err = {};
    tel_plan_make("rapl", &p, &err);
    EXPECT_NE(std::string(err.message).find("powercap"), std::string::npos) << err.message;
    EXPECT_NE(std::string(err.message).find("simulated:WATTS"), std::string::npos) << err.message;
}

// ---- The choice ---------------------------------------------------------------------------------------------------

TEST(Choose, LowestRankWithinAKey) {
    Set s;
    s.add(tel_source_hwmon, "a", "gpu_board:0000:01:00.0", TEL_SCOPE_GPU_BOARD);
    s.add(tel_source_nvml, "b", "gpu_board:0000:01:00.0", TEL_SCOPE_GPU_BOARD);
    s.add(tel_source_hwmon, "c", "gpu_board:0000:02:00.0", TEL_SCOPE_GPU_BOARD);
    s.choose();
    EXPECT_EQ(s.counting(), "b c");
    EXPECT_STREQ(s.domains[0].reason, "the same joules as b of nvml");
    EXPECT_TRUE(s.list[2].readable);
}

TEST(Choose, AnUnreadableBetterSourceDoesNotStandInTheWay) {
    Set s;
    s.add(tel_source_perf, "package-0", "cpu_package:0", TEL_SCOPE_CPU_PACKAGE, "", "paranoid");
    s.add(tel_source_powercap, "package-0", "cpu_package:0", TEL_SCOPE_CPU_PACKAGE);
    s.choose();
    EXPECT_EQ(s.n_counting, 1u);
    EXPECT_EQ(s.list[0].source, &tel_source_powercap);
    EXPECT_STREQ(s.domains[0].reason, "paranoid");
    EXPECT_FALSE(s.list[1].readable);
}

TEST(Choose, PartsNeverCountEvenAlone) {
    Set s;
    s.add(tel_source_perf, "core-0", "cpu_package:0/core", TEL_SCOPE_CPU_PACKAGE);
    s.add(tel_source_hwmon, "odd", "", TEL_SCOPE_NONE);
    s.choose();
    EXPECT_EQ(s.n_counting, 0u);
    EXPECT_STREQ(s.domains[1].reason, "it is not known what this sensor covers");
    EXPECT_STRNE(s.domains[0].reason, "");
}

TEST(Choose, TheModelCountsOnlyAlone) {
    Set s;
    s.add(tel_source_model, "cpu", "cpu_package:*", TEL_SCOPE_CPU_PACKAGE).method = TEL_METHOD_MODELLED;
    s.choose();
    EXPECT_EQ(s.counting(), "cpu");
    s.domains[0].reason[0] = 0;
    s.add(tel_source_nvml, "gpu-0", "gpu_board:0000:01:00.0", TEL_SCOPE_GPU_BOARD);
    s.choose();
    EXPECT_EQ(s.counting(), "gpu-0");
    EXPECT_STREQ(s.domains[0].reason, "a model is not added to what is measured by gpu-0 of nvml");
}

TEST(Choose, WholesOnlyWithoutTheirParts) {
    Set s;
    s.add(tel_source_battery, "BAT0", "battery:BAT0", TEL_SCOPE_BATTERY, "*");
    s.add(tel_source_hwmon, "power_meter", "node", TEL_SCOPE_NODE, "*");
    s.add(tel_source_hwmon, "board", "board", TEL_SCOPE_MODULE, "*");
    s.add(tel_source_hwmon, "apu", "module:0000:04:00.0", TEL_SCOPE_MODULE, "cpu_package:*");
    s.add(tel_source_nvml, "gpu-0", "gpu_board:0000:01:00.0", TEL_SCOPE_GPU_BOARD);
    s.choose();
    EXPECT_EQ(s.counting(), "gpu-0 apu") << "the smallest wholes that hold no counting part";
    s.domains.pop_back();
    s.sources.pop_back();
    s.domains.pop_back();
    s.sources.pop_back();
    for (auto &d : s.domains) d.reason[0] = 0;
    s.choose();
    EXPECT_EQ(s.counting(), "board");
}

TEST(Choose, CountingDomainsAreOrdered) {
    Set s;
    for (const char *key : {"dram:1", "cpu_package:10", "dram:0", "cpu_package:2"})
        s.add(tel_source_perf, key, key, *key == 'd' ? TEL_SCOPE_DRAM : TEL_SCOPE_CPU_PACKAGE);
    s.choose();
    EXPECT_EQ(s.counting(), "cpu_package:2 cpu_package:10 dram:0 dram:1");
}

// The joules behind a key as far as this test's names go: does a contain b, by the rules written out plainly?
bool inside(const tel_domain &whole, const tel_domain &part) {
    std::string kind_a(whole.key, strcspn(whole.key, ":")), kind_b(part.key, strcspn(part.key, ":"));
    if (kind_a == kind_b) return false;
    std::string list = std::string(" ") + whole.contains + " ";
    return list.find(" * ") != std::string::npos || list.find(" " + std::string(part.key) + " ") != std::string::npos ||
           list.find(" " + kind_b + ":* ") != std::string::npos;
}

TEST(Choose, NoTwoCountingDomainsShareAJoule_RandomSets) {
    const unsigned seed = 20240117;
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 rng(seed);
    const tel_source *sources[] = {&tel_source_perf,  &tel_source_powercap, &tel_source_nvml,
                                   &tel_source_hwmon, &tel_source_battery,  &tel_source_model};
    const struct { const char *key, *contains; tel_scope scope;
    } kinds[] = {{"cpu_package:0", "", TEL_SCOPE_CPU_PACKAGE},
                 {"cpu_package:1", "", TEL_SCOPE_CPU_PACKAGE},
                 {"cpu_package:0/core", "", TEL_SCOPE_CPU_PACKAGE},
                 {"dram:0", "", TEL_SCOPE_DRAM},
                 {"gpu_board:0000:01:00.0", "", TEL_SCOPE_GPU_BOARD},
                 {"", "", TEL_SCOPE_NONE},
                 {"module:0000:04:00.0", "cpu_package:*", TEL_SCOPE_MODULE},
                 {"board", "*", TEL_SCOPE_MODULE},
                 {"node", "*", TEL_SCOPE_NODE},
                 {"node", "cpu_package:* dram:0", TEL_SCOPE_NODE},
                 {"battery:BAT0", "*", TEL_SCOPE_BATTERY},
                 {"battery:BAT1", "*", TEL_SCOPE_BATTERY}};
    for (int trial = 0; trial < 5000; trial++) {
        Set s;
        int n = (int)(rng() % 12);
        for (int i = 0; i < n; i++) {
            const auto &k = kinds[rng() % (sizeof kinds / sizeof kinds[0])];
            tel_domain &d = s.add(*sources[rng() % 6], ("d" + std::to_string(i)).c_str(), k.key, k.scope, k.contains,
                                  rng() % 4 ? "" : "broken");
            if (s.sources.back() == &tel_source_model) d.method = TEL_METHOD_MODELLED;
        }
        s.choose();
        bool candidate = false;
        for (size_t i = 0; i < s.list.size(); i++) {
            const tel_domain &a = *s.list[i].domain;
            ASSERT_EQ(s.list[i].counts, i < s.n_counting);
            ASSERT_EQ(s.list[i].counts, !a.reason[0]) << "a reason for each that does not count";
            candidate = candidate || (s.list[i].readable && a.key[0] && !strchr(a.key, '/'));
            for (size_t k = 0; k < s.n_counting && i < s.n_counting; k++) {
                if (k == i) continue;
                const tel_domain &b = *s.list[k].domain;
                ASSERT_STRNE(a.key, b.key);
                ASSERT_FALSE(inside(a, b)) << a.key << " contains " << b.key;
                ASSERT_EQ(a.method == TEL_METHOD_MODELLED, b.method == TEL_METHOD_MODELLED);
            }
        }
        ASSERT_EQ(s.n_counting > 0, candidate) << "something counts when anything could";
    }
}

// ---- Words --------------------------------------------------------------------------------------------------------

TEST(Explain, SaysWhatCountsAndWhyTheRestDoesNot) {
    Set s;
    s.add(tel_source_powercap, "psys", "node", TEL_SCOPE_NODE, "*");
    s.add(tel_source_powercap, "package-0", "cpu_package:0", TEL_SCOPE_CPU_PACKAGE);
    s.add(tel_source_powercap, "dram-0", "dram:0", TEL_SCOPE_DRAM);
    s.add(tel_source_nvml, "nvml", "", TEL_SCOPE_NONE, "", "there is no libnvidia-ml.so.1");
    s.choose();
    EXPECT_EQ(s.explain(), "counting: package-0, dram-0 (powercap); not used: psys (powercap): contains the joules of package-0; "
                           "nvml (nvml): there is no libnvidia-ml.so.1");
    EXPECT_EQ(s.explain("auto", 60), "counting: package-0, dram-0 (powercap)") << "whole pieces only";
    EXPECT_EQ(s.explain("auto", 1), "");
    EXPECT_EQ(Set().explain("none"), "no energy source was asked for (none)");
}

TEST(Explain, RequiredAndNothingCountsTellsTheRemedy) {
    Set s;
    s.add(tel_source_perf, "rapl", "", TEL_SCOPE_NONE, "", "the kernel has no power events here");
    tel_domain &d = s.add(tel_source_powercap, "package-0", "cpu_package:0", TEL_SCOPE_CPU_PACKAGE, "",
                          "intel-rapl:0/energy_uj may not be read by this user");
    snprintf(d.fix, sizeof d.fix, "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj");
    s.choose();
    tel_plan plan;
    tel_error err = {};
    tel_plan_make("require", &plan, nullptr);
    EXPECT_EQ(tel_choose_check(&plan, s.list.data(), s.list.size(), &err), TEL_ERR_UNAVAILABLE);
    EXPECT_NE(std::string(err.message).find("may not be read"), std::string::npos) << err.message;
    EXPECT_NE(std::string(err.message).find("sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"), std::string::npos)
        << err.message;
    EXPECT_EQ(tel_choose_check(&plan, nullptr, 0, &err), TEL_ERR_UNAVAILABLE);
    tel_plan_make("auto", &plan, nullptr);
    EXPECT_EQ(tel_choose_check(&plan, s.list.data(), s.list.size(), &err), TEL_OK);
    s.domains[1].reason[0] = 0;
    s.choose();
    tel_plan_make("powercap", &plan, nullptr);
    EXPECT_EQ(tel_choose_check(&plan, s.list.data(), s.list.size(), &err), TEL_OK);
}

TEST(Explain, TheLongestReasonAndCommandComeWhole) {
    Set s;
    const std::string reason(191, 'r'), fix(191, 'f'), name(47, 'n');
    tel_domain &d = s.add(tel_source_powercap, name.c_str(), "", TEL_SCOPE_NONE, "", reason.c_str());
    snprintf(d.fix, sizeof d.fix, "%s", fix.c_str());
    s.choose();
    tel_plan plan;
    tel_error err = {};
    tel_plan_make("require", &plan, nullptr);
    EXPECT_EQ(tel_choose_check(&plan, s.list.data(), s.list.size(), &err), TEL_ERR_UNAVAILABLE);
    EXPECT_NE(std::string(err.message).find(reason + "; to mend it: " + fix), std::string::npos) << err.message;
}

TEST(Explain, ASourceThatFindsNothingSaysWhatItLookedFor) {
    const char *const words[][2] = {{"nvml", "libnvidia-ml.so.1"}, {"hwmon", "/sys/class/hwmon"}, {"battery", "/sys/class/power_supply"}};
    for (auto &w : words) {
        tel_plan plan;
        tel_error err = {};
        ASSERT_EQ(tel_plan_make(w[0], &plan, nullptr), TEL_OK);
        EXPECT_EQ(tel_choose_check(&plan, nullptr, 0, &err), TEL_ERR_UNAVAILABLE);
        EXPECT_NE(std::string(err.message).find(w[1]), std::string::npos) << err.message;
    }
}

} // namespace
