// Energy in words: the examples of the interface, and that what is shown always contains what is meant.
// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <random>

#include "tests/tools/ledger_rig.h"
extern "C" {
#include "tools/joules.h"
}

namespace {

using std::string;

string words(const tel_energy &e) {
    char text[ENERGY_TEXT];
    return format_energy(&e, text);
}

string plain(uint64_t uj) {
    char text[JOULES_TEXT];
    return format_joules(uj, text);
}

TEST(Joules, Words) {
    EXPECT_EQ(words(joules_of(12300000, 800000)), "12.3 J +- 0.8");
    EXPECT_EQ(words(joules_of(1204000, 12000)), "1.204 J +- 0.012");
    EXPECT_EQ(words(joules_of(1500000000, 20000000)), "1.500 kJ +- 0.020");
    EXPECT_EQ(words(joules_of(500000, 400000, TEL_BELOW_RESOLUTION)), "500 mJ (100 to 900 mJ), below resolution");
    EXPECT_EQ(words(joules_of(5000000, 0, TEL_MEASURED, TEL_METHOD_SIMULATED)), "5.000 J +- 0, simulated");
    EXPECT_EQ(words(modelled(12000000)), "~12 J, modelled: 4.0 to 36 J");
    EXPECT_EQ(words(tel_energy_unavailable("no counter can be read", nullptr)), "unavailable - no counter can be read");
    EXPECT_EQ(words(tel_energy{}), "unavailable - no reason was given");
    char text[ENERGY_TEXT];
    tel_energy e = joules_of(12300000, 800000);
    EXPECT_STREQ(format_energy_per(&e, 0, text), "-");
    EXPECT_STREQ(format_energy_per(&e, 10, text), "1.23 J +- 0.08");
}

TEST(Joules, BelowTheResolutionTheIntervalIsShown) {
    auto below = [](uint64_t uj, uint64_t low, uint64_t high, tel_method method = TEL_METHOD_COUNTER) {
        tel_energy e = joules_of(uj, high - uj, TEL_BELOW_RESOLUTION, method);
        e.low_uj = low;
        e.high_uj = high;
        return words(e);
    };
    EXPECT_EQ(below(300000, 0, 1390000), "0.3 J (0 to 1.4 J), below resolution");
    EXPECT_EQ(below(31000, 0, 1390000), "0.03 J (0 to 1.4 J), below resolution");
    EXPECT_EQ(below(0, 0, 1390000), "0.0 J (0 to 1.4 J), below resolution");
    EXPECT_EQ(below(11000000, 0, 12000000000), "0.01 kJ (0 to 12 kJ), below resolution");
    EXPECT_EQ(below(1440000, 380000, 2410000, TEL_METHOD_SIMULATED), "1.4 J (0.3 to 2.5 J), simulated, below resolution");
    EXPECT_EQ(below(5, 0, 12), "5 uJ (0 to 12 uJ), below resolution");
    tel_energy sides_unknown = joules_of(500000, 400000, TEL_BELOW_RESOLUTION);
    sides_unknown.low_uj = sides_unknown.high_uj = 0;
    EXPECT_EQ(words(sides_unknown), "500 mJ +- 400, below resolution");
    tel_energy e = joules_of(500000, 400000, TEL_BELOW_RESOLUTION);
    char text[ENERGY_TEXT];
    EXPECT_STREQ(format_energy_per(&e, 10, text), "50 mJ (10 to 90 mJ), below resolution");
}

TEST(Joules, ALowerEndOfNothingIsPlainZero) {
    tel_energy e = modelled(110000);
    e.low_uj = 0;
    EXPECT_EQ(words(e), "~110 mJ, modelled: 0 to 330 mJ");
    e.low_uj = 3; // no six decimals of next to nothing
    EXPECT_EQ(words(e), "~110 mJ, modelled: 0 to 330 mJ");
    e.low_uj = 480;
    EXPECT_EQ(words(e), "~110 mJ, modelled: 0.4 to 330 mJ");
}

TEST(Joules, RatesHaveTheDigitsThatTheBoundAllows) {
    char text[JOULES_TEXT];
    tel_energy e = modelled(440000), exact = joules_of(1000000, 1000), wide = joules_of(1000000, 100000);
    EXPECT_STREQ(format_rate(&e, 15, text), "~34");
    e.energy_uj = 22000; // never 7e+02
    EXPECT_STREQ(format_rate(&e, 15, text), "~680");
    EXPECT_STREQ(format_rate(&exact, 12345, text), "12300");
    EXPECT_STREQ(format_rate(&exact, 5, text), "5.00");
    EXPECT_STREQ(format_rate(&wide, 5, text), "5.0");
    wide.status = TEL_BELOW_RESOLUTION;
    EXPECT_STREQ(format_rate(&wide, 5, text), "-");
    EXPECT_STREQ(format_rate(&exact, 0, text), "-");
    tel_energy unknown = tel_energy_unavailable("no counter", nullptr);
    EXPECT_STREQ(format_rate(&unknown, 5, text), "-");
}

TEST(Joules, PlainNumbers) {
    EXPECT_EQ(plain(0), "0 J");
    EXPECT_EQ(plain(950), "950 uJ");
    EXPECT_EQ(plain(12345), "12.3 mJ");
    EXPECT_EQ(plain(999999), "1.00 J");
    EXPECT_EQ(plain(1500000000), "1.50 kJ");
    char text[JOULES_TEXT];
    EXPECT_STREQ(format_joules_exact(1234567890, text), "1234.567890 J");
    EXPECT_STREQ(format_joules_exact(7, text), "0.000007 J");
}

TEST(Joules, TheShownIntervalContainsTheTrueOne) {
    printf("seed 5\n");
    std::mt19937_64 random(5);
    std::uniform_real_distribution<double> digits(0, 12), share(-4, 1);
    for (int i = 0; i < 20000; i++) {
        const double value = std::floor(std::pow(10, digits(random))), bound = std::floor(value * std::pow(10, share(random)));
        const string text = words(joules_of((uint64_t)value, (uint64_t)bound));
        double shown, wide;
        char unit[8];
        ASSERT_EQ(sscanf(text.c_str(), "%lf %7s +- %lf", &shown, unit, &wide), 3) << text;
        const string u = unit;
        const double scale = u == "uJ" ? 1 : u == "mJ" ? 1e3 : u == "J" ? 1e6 : u == "kJ" ? 1e9 : 1e12, slack = 1e-6 * (value + 1);
        if (bound == 0) continue; // four digits, no interval
        EXPECT_LE((shown - wide) * scale, value - bound + slack) << text << " for " << value << " " << bound;
        EXPECT_GE((shown + wide) * scale, value + bound - slack) << text << " for " << value << " " << bound;
        EXPECT_LE(wide * scale, 1.6 * bound + 2) << "too wide: " << text << " for " << value << " " << bound;
    }
}

} // namespace
