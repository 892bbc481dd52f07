// What the ledger's tests share: requests with known figures, and a plain SQLite connection to look at the file from outside.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_TESTS_LEDGER_RIG_H
#define WTL_TESTS_LEDGER_RIG_H

#include <sqlite3.h>

#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tests/e2e/run_binary.h"
#include "tools/ledger.h"

inline tel_energy joules_of(uint64_t uj, uint64_t bound_uj, tel_status status = TEL_MEASURED, tel_method method = TEL_METHOD_COUNTER) {
    tel_energy e{};
    e.status = status;
    e.method = method;
    e.scope = TEL_SCOPE_CPU_PACKAGE;
    e.source = "powercap";
    e.energy_uj = uj;
    e.bound_uj = bound_uj;
    e.low_uj = uj > bound_uj ? uj - bound_uj : 0;
    e.high_uj = uj + bound_uj;
    e.coverage_frac = 1;
    e.resolution_ns = 1000000;
    return e;
}

inline tel_energy modelled(uint64_t uj) {
    tel_energy e = joules_of(uj, 2 * uj, TEL_MODELLED, TEL_METHOD_MODELLED);
    e.source = "model";
    e.low_uj = uj / 3;
    e.high_uj = 3 * uj;
    return e;
}

// 10 new, 4 cached, 20 decoded tokens; decode takes three quarters of the joules. Everything that is not set is unavailable.
inline ledger_request request_of(const tel_energy &total) {
    ledger_request r{};
    r.kind = "run";
    r.model = "tiny.gguf";
    r.backend = "cpu";
    r.outcome = "end";
    r.new_tok = 10;
    r.cached_tok = 4;
    r.decoded_tok = 20;
    r.queue = {0, LEDGER_UNKNOWN, LEDGER_UNKNOWN, LEDGER_UNKNOWN};
    r.prefill = {1000000, 900000, 5000, 60};
    r.decode = {2000000, 1900000, 100000, 700};
    r.energy.total = total;
    if (total.status != TEL_UNAVAILABLE) {
        r.energy.prefill = r.energy.decode = total;
        r.energy.prefill.energy_uj = total.energy_uj / 4;
        r.energy.decode.energy_uj = total.energy_uj - total.energy_uj / 4;
    }
    r.settled = true;
    return r;
}

inline ledger_domain domain_of(uint64_t requests_uj, uint64_t idle_uj, uint64_t unattributed_uj, int64_t from_ms = 1000, int64_t to_ms = 2000) {
    ledger_domain d{};
    d.domain = "package-0";
    d.scope = TEL_SCOPE_CPU_PACKAGE;
    d.status = TEL_MEASURED;
    d.method = TEL_METHOD_COUNTER;
    d.source = "powercap";
    d.from_ms = from_ms;
    d.to_ms = to_ms;
    d.source_uj = requests_uj + idle_uj + unattributed_uj;
    d.requests_uj = requests_uj;
    d.idle_uj = idle_uj;
    d.unattributed_uj = unattributed_uj;
    return d;
}

// An open ledger that goes with the test.
struct Book {
    ledger *book = nullptr;
    char err[LEDGER_ERR] = "";
    bool opened;
    explicit Book(const std::string &path) { opened = ledger_open(path.c_str(), &book, err); }
    ~Book() { close(); }
    Book(const Book &) = delete;
    bool close() { return ledger_close(&book, err); }
};

// Rows of a query as texts; NULL is "NULL". The error as the only cell when there is one.
inline std::vector<std::vector<std::string>> look(const std::string &path, const std::string &query) {
    std::vector<std::vector<std::string>> rows;
    sqlite3 *sql = nullptr;
    sqlite3_stmt *stmt = nullptr;
    int code = sqlite3_open_v2(path.c_str(), &sql, SQLITE_OPEN_READWRITE, nullptr);
    sqlite3_busy_timeout(sql, 5000);
    if (code == SQLITE_OK) code = sqlite3_prepare_v2(sql, query.c_str(), -1, &stmt, nullptr);
    while (code == SQLITE_OK && sqlite3_step(stmt) == SQLITE_ROW) {
        std::vector<std::string> row;
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
            auto text = reinterpret_cast<const char *>(sqlite3_column_text(stmt, i));
            row.push_back(text ? text : "NULL");
        }
        rows.push_back(row);
    }
    if (code == SQLITE_OK) code = sqlite3_errcode(sql) == SQLITE_DONE ? SQLITE_OK : sqlite3_errcode(sql);
    if (code != SQLITE_OK) rows.push_back({sqlite3_errmsg(sql)});
    sqlite3_finalize(stmt);
    sqlite3_close(sql);
    return rows;
}

inline std::string cell(const std::string &path, const std::string &query) {
    auto rows = look(path, query);
    return rows.empty() ? "no row" : rows[0][0];
}

inline void expect_sound(const std::string &path) { EXPECT_EQ(cell(path, "PRAGMA integrity_check"), "ok"); }

#endif
