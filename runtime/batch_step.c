// A step: every decoding choice gives one row, prompts fill up what the target for the time between tokens leaves. All or nothing like the
// session's step; when it fails, the requests in it end and the others go on.
// SPDX-License-Identifier: Apache-2.0
#include <math.h>
#include <string.h>

#include "runtime/base/alloc.h"
#include "runtime/base/clock.h"
#include "runtime/batch_private.h"

enum {
    PROGRESS_TOK = 16,   // rows of prompt in a step, whatever the target says
    ALONE_TOK = 128,     // the same in a step without decodes: fewer would read the weights too often
};
static const double TARGET_FRAC = 0.9;          // of max_itl_ns: what a step is planned for
static const double ALONE_NS = 5e8;             // of a step in which nothing decodes: who cancels, or comes newly, waits no longer
static const double FADE = 0.95;                // of a speed's past with every step
static const uint64_t BUDGET_EVERY_NS = 20000000; // asking for joules costs a lock and some arithmetic

static int32_t min_int(int32_t a, int32_t b) { return a < b ? a : b; }
static int32_t max_int(int32_t a, int32_t b) { return a > b ? a : b; }

// ---- Ends before the step -------------------------------------------------------------------------------------------------
// Under the mutex. NULL: there is none.
static batch_request *find_cancelled(wtl_batch *b) {
    for (int32_t i = 0; i < b->n_running; i++)
        if (b->running[i]->cancelled) return b->running[i];
    for (batch_request *r = b->paused; r; r = r->next)
        if (r->cancelled) return r;
    for (batch_user *u = b->users; u; u = u->next)
        for (batch_request *r = u->first; r; r = r->next)
            if (r->cancelled) return r;
    return NULL;
}

// Takes every cancelled request out and tells its owner. Returns whether there was one.
static bool end_cancelled(wtl_batch *b) {
    for (bool any = false;; any = true) {
        batch_lock(b);
        batch_request *r = b->n_cancelled ? find_cancelled(b) : NULL;
        if (!r) b->n_cancelled = 0;
        batch_unlock(b);
        if (!r) return any;
        batch_end_request(b, r, WTL_FINISH_CANCELLED, NULL);
        batch_retire(b, r);
    }
}

// ---- Putting the step together ---------------------------------------------------------------------------------------------
uint64_t batch_positions(const wtl_batch *b, int32_t n_past, int32_t n_new) {
    if (n_new < 1) return 0;
    wtl_seq_work q = {.n_past_tok = n_past, .n_new_tok = n_new};
    work_count_seq(&b->work, &q);
    return q.kv_positions;
}

static int32_t spare_logits(const wtl_batch *b) {
    return min_int(BATCH_PROMPT_LOGITS, b->options.n_batch - b->options.n_parallel) - b->n_more_logits;
}

// Rows of the choices that decode: the token that each chose last, and guesses at those behind it.
static void add_choices(wtl_batch *b, batch_load *load) {
    int32_t drafts[BATCH_DRAFT_MAX];
    for (int32_t i = 0; i < b->n_parts; i++) {
        batch_part *p = &b->parts[i];
        const batch_choice *c = p->choice;
        const int32_t n = batch_draft(b, p->choice, load, min_int(spare_logits(b), BATCH_DRAFT_MAX), drafts);
        p->entry = p->logits = b->n_entries;
        p->n_rows = 1 + n;
        const int32_t n_top = batch_n_top(c);
        b->entries[b->n_entries++] = (wtl_entry){batch_last_token(c), c->seq, true, n_top};
        for (int32_t j = 0; j < n; j++) b->entries[b->n_entries++] = (wtl_entry){drafts[j], c->seq, true, n_top};
        b->n_more_logits += n;
        load->n_decode += n;
        load->kv_positions += batch_positions(b, p->request->n_prompt + c->n_decoded, n);
    }
}

static bool any_decodes(const batch_request *r) {
    for (int32_t c = 0; c < r->n_choices; c++)
        if (r->choices[c].decodes) return true;
    return false;
}

// Tokens that nobody takes are not made at the cost of those that somebody waits for.
static bool leave_out_held(wtl_batch *b) {
    bool others = false;
    batch_lock(b);
    for (int32_t i = 0; i < b->n_running; i++) {
        batch_request *r = b->running[i];
        r->left_out = r->held;
        others |= !r->held && any_decodes(r);
    }
    batch_unlock(b);
    return others;
}

static void add_decodes(wtl_batch *b, batch_load *load) {
    const bool leave_out = leave_out_held(b);
    for (int32_t i = 0; i < b->n_running; i++) {
        batch_request *r = b->running[i];
        r->n_granted = 0;
        for (int32_t c = 0; c < r->n_choices; c++) {
            batch_choice *choice = &r->choices[c];
            if (!choice->decodes || (leave_out && r->left_out)) continue;
            b->parts[b->n_parts++] = (batch_part){r, choice, 1, -1, -1};
            load->n_decode++;
            load->kv_positions += batch_positions(b, r->n_prompt + choice->n_decoded - 1, 1);
        }
    }
    add_choices(b, load);
}

static wtl_status open_choices(wtl_batch *b, batch_request *r, wtl_error *err) {
    wtl_sampler_options options = r->ask.sampling;
    const size_t n_prompt = (size_t)r->n_prompt, n_most = n_prompt + (size_t)r->n_reply_max;
    for (int32_t i = 0; i < r->n_choices; i++) {
        batch_choice *c = &r->choices[i];
        c->text = wtl_malloc(n_most * sizeof *c->text);
        if (!c->text) return wtl_fail(err, WTL_ERR_NO_MEMORY, "out of memory for a reply of up to %d tokens", r->n_reply_max);
        memcpy(c->text, r->tokens, n_prompt * sizeof *c->text);
        options.seed = r->ask.sampling.seed + (uint64_t)i;
        wtl_status status = wtl_sampler_open(&options, b->n_vocab, &c->sampler, err);
        if (status) return status;
        for (int32_t t = 0; t < r->n_prompt; t++) wtl_sampler_accept(c->sampler, r->tokens[t]);
    }
    return WTL_OK;
}

// The request has left the queue, not for the first time. False: it has ended with an error.
static bool go_on(wtl_batch *b, batch_request *r) {
    wtl_error err = {0};
    if (batch_reopen(b, r, &err) == WTL_OK) return true;
    batch_end_request(b, r, WTL_FINISH_ERROR, &err);
    return false;
}

// The request has left the queue: looks its prefix up, and what else it needs to run. False: it has ended with an error.
static bool begin(wtl_batch *b, batch_request *r) {
    wtl_error err = {0};
    int32_t n_cached = 0;
    wtl_status status = open_choices(b, r, &err);
    if (!status && r->ask.on_prompt) status = wtl_seq_open(b->session, &r->choices[0].seq, &err); // what is cached has no logits
    else if (!status) status = wtl_seq_open_prefix(b->session, r->tokens, (size_t)r->n_prompt, &r->choices[0].seq, &n_cached, &err);
    if (status) {
        batch_end_request(b, r, WTL_FINISH_ERROR, &err);
        return false;
    }
    uint64_t energy = 0;
    if (b->options.energy) {
        const wtl_energy_request facts = {.n_prompt_tok = r->n_prompt, .n_cached_tok = n_cached, .arrived_ns = r->facts.arrived_ns};
        energy = wtl_energy_begin(b->options.energy, &facts);
    }
    batch_lock(b);
    r->n_done = n_cached;
    r->facts.n_cached_tok = n_cached;
    r->facts.energy = energy;
    r->facts.started_ns = wtl_clock_ns();
    b->totals.n_cached_tok += (uint64_t)n_cached;
    const wtl_batch_facts facts = r->facts;
    batch_unlock(b);
    if (r->ask.on_progress) r->ask.on_progress(r->ask.user, r->id, &facts);
    return true;
}

static double step_limit_ns(const wtl_batch *b, const batch_load *decodes) {
    const double target_ns = TARGET_FRAC * (double)b->options.max_itl_ns;
    return decodes->n_decode ? batch_pace_limit_ns(&b->pace, decodes, target_ns) : fmax(target_ns, ALONE_NS);
}

// The most rows behind what the request has been granted that keep the step's time under the limit.
static int32_t rows_in_time(const wtl_batch *b, const batch_request *r, const batch_load *load, double limit_ns, int32_t most) {
    const int32_t tried = load->n_decode ? batch_pace_most_rows(&b->pace) : b->options.n_batch;
    int32_t low = 0, high = min_int(most, max_int(tried - load->n_prompt, 0));
    while (low < high) {
        const int32_t rows = high - (high - low) / 2;
        batch_load with = *load;
        with.n_prompt += rows;
        with.kv_positions += batch_positions(b, r->n_done + r->n_granted, rows);
        if (batch_pace_ns(&b->pace, &with) <= limit_ns) low = rows;
        else high = rows - 1;
    }
    return low;
}

// Rows of a prompt whose tokens' logprobs are wanted: as many as there is room for their logits.
static int32_t rows_with_logits(wtl_batch *b, const batch_request *r, int32_t rows) {
    if (!batch_tells_prompt(r) || rows < 1) return rows;
    const int32_t own = r->n_granted == 0;
    rows = min_int(rows, own + spare_logits(b));
    b->n_more_logits += max_int(rows - own, 0);
    return rows;
}

// Hands out prompt rows, turn by turn, until the step is full or long enough.
static void grant_prompts(wtl_batch *b, batch_load *load) {
    const int32_t room = b->options.n_batch - b->n_entries, least = load->n_decode ? PROGRESS_TOK : ALONE_TOK;
    const double limit_ns = step_limit_ns(b, load);
    batch_lock(b);
    batch_look_for_prefixes(b);
    batch_unlock(b);
    while (load->n_prompt < room) {
        if (load->n_prompt >= least && batch_pace_ns(&b->pace, load) >= limit_ns) return;
        batch_lock(b);
        const batch_turn turn = batch_next_turn(b);
        batch_unlock(b);
        batch_request *r = turn.request;
        if (!r) return;
        if (turn.starts && !(r->resumed ? go_on(b, r) : begin(b, r))) {
            batch_retire(b, r);
            continue;
        }
        const int32_t want = min_int(min_int(r->n_text - r->n_done - r->n_granted, BATCH_TURN_TOK), room - load->n_prompt);
        const int32_t rows = rows_with_logits(b, r, min_int(want, max_int(rows_in_time(b, r, load, limit_ns, want), least - load->n_prompt)));
        if (rows < 1) return;
        load->kv_positions += batch_positions(b, r->n_done + r->n_granted, rows);
        load->n_prompt += rows;
        r->n_granted += rows;
        batch_lock(b);
        batch_charge(&turn, rows);
        batch_unlock(b);
        if (rows < want) return;
    }
}

static void add_prompts(wtl_batch *b) {
    int32_t n_logits = b->n_entries; // every row so far decodes
    for (int32_t i = 0; i < b->n_running; i++) {
        batch_request *r = b->running[i];
        if (!r->n_granted) continue;
        const bool whole = r->n_done + r->n_granted == r->n_text, all = batch_tells_prompt(r);
        const int32_t *rows = batch_text(r) + r->n_done, entry = b->n_entries;
        const int32_t n_top = all || r->resumed ? 0 : batch_n_top(&r->choices[0]); // all choices sample alike
        for (int32_t t = 0; t < r->n_granted; t++)
            b->entries[b->n_entries++] = (wtl_entry){rows[t], r->reader->seq, all || (whole && t + 1 == r->n_granted), n_top};
        b->parts[b->n_parts++] = (batch_part){r, NULL, r->n_granted, all || whole ? n_logits : -1, entry};
        n_logits += all ? r->n_granted : whole;
    }
}

// ---- Running it ------------------------------------------------------------------------------------------------------------
static wtl_status run(wtl_batch *b, uint64_t *cpu_ns, wtl_error *err) {
    wtl_energy *energy = b->options.energy;
    const uint64_t cpu = wtl_cpu_time_ns();
    if (energy) wtl_energy_step_begin(energy);
    const wtl_status status = wtl_session_step(b->session, b->entries, b->n_entries, err);
    if (energy) {
        for (int32_t i = 0; i < b->n_parts; i++) b->energy_ids[i] = b->parts[i].request->facts.energy;
        const wtl_step_work work = wtl_session_work(b->session);
        wtl_energy_step(energy, &work, b->energy_ids);
    }
    *cpu_ns = wtl_cpu_time_ns() - cpu;
    return status;
}

static void fade_in(batch_speed *s, double n, double ns) {
    s->n = FADE * s->n + n;
    s->ns = FADE * s->ns + ns;
}

// Rows that ran of a text. After a pause the last one of them is the token that would have been fed without it.
static void count_rows(wtl_batch *b, batch_request *r, int32_t n_rows) {
    r->n_done += n_rows;
    if (!r->resumed) {
        r->facts.n_prefilled_tok += n_rows;
        b->totals.n_prompt_tok += (uint64_t)n_rows;
        return;
    }
    const int32_t n_again = n_rows - !batch_is_reading(r);
    r->facts.n_reread_tok += n_again;
    b->totals.n_reread_tok += (uint64_t)n_again;
}

// Books a step that ran: positions, totals, charges.
static void commit(wtl_batch *b, const batch_load *load, uint64_t cpu_ns) {
    const double prompt_share = (double)load->n_prompt / b->n_entries;
    batch_lock(b);
    for (int32_t i = 0; i < b->n_parts; i++) {
        const batch_part *p = &b->parts[i];
        if (p->choice) {
            p->request->owner->served_tok += p->n_rows;
            p->choice->n_held++;
        } else {
            count_rows(b, p->request, p->n_rows);
        }
    }
    b->totals.n_steps++;
    const uint64_t cpu_prefill_ns = (uint64_t)(prompt_share * (double)cpu_ns);
    b->totals.cpu_prefill_ns += cpu_prefill_ns;
    b->totals.cpu_decode_ns += cpu_ns - cpu_prefill_ns;
    batch_unlock(b);
}

static void count_speed(wtl_batch *b, const batch_load *load, uint64_t n_chosen, uint64_t start_ns) {
    const uint64_t end_ns = wtl_clock_ns();
    const double took_ns = (double)(end_ns - start_ns), prompt_share = (double)load->n_prompt / (load->n_prompt + load->n_decode);
    batch_pace_learn(&b->pace, load, end_ns - start_ns);
    batch_lock(b);
    b->totals.busy_ns += end_ns - start_ns;
    if (load->n_prompt) fade_in(&b->prompt_speed, load->n_prompt, took_ns * prompt_share);
    if (load->n_decode) {
        fade_in(&b->reply_speed, (double)n_chosen, took_ns);
        fade_in(&b->itl, 1, (double)(end_ns - (b->last_step_end_ns ? b->last_step_end_ns : start_ns)));
    }
    batch_unlock(b);
    b->last_step_end_ns = end_ns;
}

// ---- After it --------------------------------------------------------------------------------------------------------------
static bool over_budget(wtl_batch *b, batch_request *r, uint64_t now_ns) {
    if (r->ask.max_uj <= 0 || now_ns - r->budget_checked_ns < BUDGET_EVERY_NS) return false;
    r->budget_checked_ns = now_ns;
    wtl_energy_report report;
    return wtl_energy_report_of(b->options.energy, r->facts.energy, &report) && report.total.status != TEL_UNAVAILABLE &&
           (double)report.total.energy_uj >= r->ask.max_uj;
}

// The prompt is whole: the other choices begin where it ends.
static void fork_choices(wtl_batch *b, batch_request *r, const float *logits, uint64_t now_ns) {
    wtl_error err = {0};
    for (int32_t i = 1; i < r->n_choices; i++) {
        if (wtl_seq_fork(b->session, r->choices[0].seq, r->n_prompt, &r->choices[i].seq, &err) == WTL_OK) continue;
        batch_end_request(b, r, WTL_FINISH_ERROR, &err);
        return;
    }
    batch_lock(b);
    for (int32_t i = 0; i < r->n_choices; i++) {
        r->choices[i].n_held = r->n_prompt;
        r->choices[i].trust = b->trust;
        r->choices[i].decodes = true;
    }
    batch_unlock(b);
    for (int32_t i = 0; i < r->n_choices; i++) batch_choose(b, &r->choices[i], logits, now_ns);
}

// A text was read again: its choice goes on, and the next one's is read.
static void after_reread(wtl_batch *b, batch_request *r, const float *logits, uint64_t now_ns) {
    wtl_error err = {0};
    batch_choice *c = r->reader;
    batch_lock(b);
    c->decodes = true;
    c->n_held = r->n_text;
    const bool more = batch_read_next(r);
    batch_unlock(b);
    batch_choose(b, c, logits, now_ns);
    if (more && !r->gone && batch_reopen(b, r, &err) != WTL_OK) batch_end_request(b, r, WTL_FINISH_ERROR, &err);
}

// Every row's logits are about the token behind it.
static void tell_prompt(wtl_batch *b, const batch_part *p) {
    const int32_t first = p->request->n_done - p->n_rows + 1;
    for (int32_t i = 0; i < p->n_rows && first + i < p->request->n_prompt; i++)
        batch_tell_prompt(b, p->request, first + i, wtl_session_logits(b->session, p->logits + i));
}

// Whether more tokens of this step may come: nobody who cancels in a callback gets another one.
static bool goes_on(wtl_batch *b, const batch_choice *c) {
    batch_lock(b);
    const bool on = !c->ended && !c->request->cancelled;
    batch_unlock(b);
    return on;
}

// Chooses at the choice's rows, one after the other, as long as what was guessed is what is chosen.
static void after_decode(wtl_batch *b, const batch_part *p, uint64_t now_ns) {
    batch_choice *c = p->choice;
    batch_request *r = p->request;
    const int32_t n_tried = p->n_rows - 1;
    int32_t n_right = 0;
    batch_choose(b, c, wtl_session_logits(b->session, p->logits), now_ns);
    while (n_right < n_tried && goes_on(b, c) && batch_last_token(c) == b->entries[p->entry + 1 + n_right].token) {
        n_right++;
        c->n_held++;
        batch_choose(b, c, wtl_session_logits(b->session, p->logits + n_right), now_ns);
    }
    if (!n_tried) return;
    batch_draft_learn(&c->trust, c->n_match, n_tried, n_right);
    batch_draft_learn(&b->trust, c->n_match, n_tried, n_right);
    if (!c->ended) batch_forget_guesses(b, c);
    batch_lock(b);
    r->facts.n_drafted_tok += n_tried;
    r->facts.n_accepted_tok += n_right;
    b->totals.n_drafted_tok += (uint64_t)n_tried;
    b->totals.n_accepted_tok += (uint64_t)n_right;
    batch_unlock(b);
}

static void after_chunk(wtl_batch *b, const batch_part *p, uint64_t now_ns) {
    batch_request *r = p->request;
    if (r->ask.on_progress && !r->resumed) r->ask.on_progress(r->ask.user, r->id, &r->facts);
    if (batch_tells_prompt(r)) tell_prompt(b, p);
    if (batch_is_reading(r)) return;
    if (r->resumed) {
        after_reread(b, r, wtl_session_logits(b->session, p->logits), now_ns);
        return;
    }
    const int32_t last = r->ask.on_prompt ? p->logits + p->n_rows - 1 : p->logits;
    if (r->ask.prompt_only) batch_end_request(b, r, WTL_FINISH_LENGTH, NULL);
    else fork_choices(b, r, wtl_session_logits(b->session, last), now_ns);
}

// A request that ends on the way is freed only when the step is through: other parts may belong to it.
static void after_step(wtl_batch *b, uint64_t now_ns) {
    for (int32_t i = 0; i < b->n_parts; i++) {
        const batch_part *p = &b->parts[i];
        batch_request *r = p->request;
        if (r->gone) continue;
        if (over_budget(b, r, now_ns)) batch_end_request(b, r, WTL_FINISH_ENERGY, NULL);
        else if (p->choice) after_decode(b, p, now_ns);
        else after_chunk(b, p, now_ns);
    }
}

// Frees what has ended, and notes what others may ask about the KV memory.
static void sweep(wtl_batch *b) {
    for (int32_t i = 0; i < b->n_running;)
        if (b->running[i]->gone) batch_retire(b, b->running[i]);
        else i++;
    batch_lock(b);
    b->totals.kv = wtl_session_kv_usage(b->session);
    batch_unlock(b);
}

wtl_status wtl_batch_step(wtl_batch *b, bool *ran, wtl_error *err) {
    const uint64_t start_ns = wtl_clock_ns();
    batch_load load = {0};
    *ran = end_cancelled(b);
    b->n_parts = b->n_entries = b->n_more_logits = 0;
    batch_make_room(b);
    add_decodes(b, &load);
    grant_prompts(b, &load);
    add_prompts(b);
    if (!b->n_entries) {
        b->last_step_end_ns = 0;
        if (*ran) sweep(b);
        return WTL_OK;
    }
    *ran = true;
    wtl_error failure = {0};
    uint64_t cpu_ns;
    const wtl_status status = run(b, &cpu_ns, &failure);
    if (status) {
        for (int32_t i = 0; i < b->n_parts; i++)
            if (!b->parts[i].request->gone) batch_end_request(b, b->parts[i].request, WTL_FINISH_ERROR, &failure);
        b->last_step_end_ns = 0;
        if (err) *err = failure;
    } else {
        const uint64_t n_decoded = b->totals.n_decoded_tok; // only this thread counts
        commit(b, &load, cpu_ns);
        after_step(b, wtl_clock_ns());
        count_speed(b, &load, b->totals.n_decoded_tok - n_decoded, start_ns);
    }
    sweep(b);
    return status;
}
