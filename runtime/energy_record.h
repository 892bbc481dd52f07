// Inside of the runtime: from an account to a record with a bound. The one place where the terms of a request's bound are computed.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_ENERGY_RECORD_H
#define WTL_RUNTIME_ENERGY_RECORD_H

#include "runtime/energy_book.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum energy_part { ENERGY_TOTAL, ENERGY_DYNAMIC, ENERGY_IDLE } energy_part;

// The record of one account. pending: work that has run but is not booked yet, predicted and added; NULL or empty: none.
// missed: work that ran before the domain's first edge: in the bound only.
tel_energy energy_record_of(const energy_domain *domain, const energy_account *account, energy_part part, const energy_pending *pending,
                            const energy_pending *missed);
// Two parts of a whole: none is more than the whole without the least that the other one is. An absent part is none.
void energy_record_part(const tel_energy *whole, tel_energy *a, tel_energy *b);
// What work would take that never ran: for forecasts and counterfactuals.
tel_energy energy_record_predicted(const energy_domain *domain, const energy_pending *work);
// The model has seen enough to predict from.
bool energy_domain_fitted(const energy_domain *domain);

#ifdef __cplusplus
}
#endif
#endif
