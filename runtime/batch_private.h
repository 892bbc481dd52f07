// Inside of the batch: what a request, its choices and its user are, and which file does what with them.
//
//   batch.c        the object: opening, sizes, submitting, cancelling, what others may ask
//   batch_queue.c  users and their waiting requests; how long a newcomer would wait
//   batch_turn.c   whose prompt goes on next; what is set aside in the KV memory
//   batch_hold.c   requests that give up their place for a while (their reader lags, or another user has fewer places), and go on
//   batch_step.c   which rows a step carries, running it, accounting for it
//   batch_reply.c  tokens from logits, events, ends
//   batch_draft.c  guesses at the next tokens, to be checked by the step that chooses them
//   batch_pace.c   how long a step takes
//
// One mutex guards the queue, the table of running requests and every figure that another thread may ask for. Only the stepping thread
// changes a running request (under the mutex, where others look), so it reads without. It never holds the mutex while it runs a step,
// asks the energy object or calls back.
// SPDX-License-Identifier: Apache-2.0
#ifndef WTL_RUNTIME_BATCH_PRIVATE_H
#define WTL_RUNTIME_BATCH_PRIVATE_H

#include <pthread.h>

#include "runtime/batch.h"
#include "runtime/batch_pace.h"
#include "runtime/work.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    BATCH_TOP_MAX = 20,
    BATCH_PROMPT_LOGITS = 32, // rows of prompts with logits in a step, beyond one of each request
    BATCH_TURN_TOK = 64, // rows of prompt that a turn gives at most
    BATCH_DRAFT_MAX = 15,   // guesses behind one token: rewinding them must stay inside what window layers keep
    BATCH_DRAFT_MATCH = 4,  // tokens that an ending is compared by
};

typedef struct batch_request batch_request;

// What a request, or the first to go of a user's requests, would have done next.
typedef struct batch_wish {
    batch_request *request; // whose prompt is to go on: itself, or the one whose prefix it waits for; NULL: nothing
    uint64_t id;            // of the request that wishes
    int32_t n_left;         // rows until its own prompt is read
    bool starts;            // it would leave the queue
    bool passes;            // an older request of the user's could go on as well
} batch_wish;

typedef struct batch_user {
    struct batch_user *next;     // of all users with a request alive
    batch_request *first, *last; // waiting, oldest first
    int32_t n_alive;
    double served_tok;           // rows that ran for this user; a newcomer starts level with the one served least
    int32_t passed_tok;          // rows by which younger prompts of this user have passed its oldest one, less what that got for them
    uint64_t turn;               // the larger, the later this user was served
    batch_wish wish;             // valid while a turn is given, like
    int32_t n_places;            // choices of its requests that run
    char key[];
} batch_user;

// How often a guess was right of late, by the tokens that its ending had in common with the text.
typedef struct batch_draft_trust {
    double hit[BATCH_DRAFT_MATCH + 1];
} batch_draft_trust;

typedef struct batch_choice {
    batch_request *request;
    wtl_sampler *sampler;
    int32_t *text;     // [n_prompt + n_reply_max] prompt, then the tokens chosen; NULL before the request starts
    int32_t index;
    int32_t seq;       // -1: not open (yet, for now, or any more)
    int32_t n_decoded; // tokens chosen
    int32_t n_held;    // tokens of seq that are prompt and reply, once the prompt is whole; what lies behind are guesses to forget
    int32_t n_match;   // of the guesses in the step
    int32_t n_wrong;   // guesses forgotten
    batch_draft_trust trust;
    bool decodes;      // its sequence holds the text but for the last token, which the next step feeds
    bool ended;
} batch_choice;

struct batch_request {
    batch_request *next; // waiting behind this one; paused beside it
    batch_user *owner;
    wtl_batch_request ask; // tokens and bias are copies
    int32_t *tokens;       // [n_prompt]
    wtl_logit_bias *bias;
    uint64_t id;
    int32_t n_prompt, n_choices, n_reply_max; // n_reply_max: tokens of each choice that fit behind the prompt
    // What is read now, or when it starts: the prompt; after a pause the text of each open choice, one after the other.
    batch_choice *reader;
    int32_t n_text;     // tokens of it
    int32_t n_done;     // of these, held: cached and read
    int32_t n_granted;  // rows of it in the step being put together
    int32_t n_open;     // choices that have not ended
    int32_t n_cached_seen; // while it waits: prompt tokens found cached when they were last looked for
    int32_t n_overtaken; // requests younger than this one that started while it did not fit
    int32_t n_passed;    // younger ones of the same user that started while this was the user's oldest that waits
    bool waiting, looked_for, cancelled, gone, energy_ended;
    bool held;           // its owner takes no tokens for now
    bool left_out;       // held when the step was put together
    bool paused;         // it has given up its place, and waits for its owner
    bool resumed;        // it was paused once
    uint64_t budget_checked_ns;
    wtl_batch_facts facts;
    batch_choice choices[]; // [n_choices]
};

// A sequence of the step being put together.
typedef struct batch_part {
    batch_request *request;
    batch_choice *choice; // NULL: a chunk of the prompt
    int32_t n_rows;       // of a choice: its last token, and the guesses behind it
    int32_t logits;       // index of its logits; -1: none
    int32_t entry;        // of its first row
} batch_part;

// Speeds of late: sums that fade.
typedef struct batch_speed {
    double n, ns;
} batch_speed;

struct wtl_batch {
    // Constant after opening.
    wtl_batch_options options; // defaults filled in
    const wtl_vocab *vocab;
    wtl_session *session;
    work_shape work;
    int32_t n_ctx, n_vocab;
    int64_t n_blocks; // of KV that running requests may set aside

    pthread_mutex_t mutex;
    pthread_cond_t changed;
    // Under the mutex.
    batch_user *users;
    batch_request **running; // [n_parallel], oldest first
    batch_request *paused;
    int32_t n_running, n_waiting, n_paused;
    uint64_t last_id, last_turn;
    int32_t n_cancelled; // flags that no step has seen
    bool woken, closing;
    wtl_batch_state totals;
    batch_speed prompt_speed, reply_speed, itl;
    double reply_tok; // mean length of replies that ended

    // The stepping thread's.
    batch_pace pace;
    wtl_entry *entries;   // [n_batch]
    batch_part *parts;    // [n_parallel]
    int32_t n_parts, n_entries;
    int32_t n_more_logits; // beyond one of each request: of prompts and of guesses; BATCH_PROMPT_LOGITS at most
    batch_draft_trust trust; // of all replies: what a new one begins with
    uint64_t *energy_ids; // [n_parallel]
    uint64_t last_step_end_ns; // 0: nothing ran just before
    wtl_token_logprob top[BATCH_TOP_MAX];
};

// ---- batch_queue.c: all under the mutex ----------------------------------------------------------------------------------
// Blocks that a request with so many open choices may come to hold.
int64_t batch_blocks(const batch_request *request, int32_t n_open);
int64_t batch_blocks_apart(const batch_request *request, int32_t n_open); // when the choices share nothing
batch_user *batch_user_get(wtl_batch *batch, const char *key); // NULL: no memory
void batch_user_drop(wtl_batch *batch, batch_user *user);      // one request less
void batch_enqueue(wtl_batch *batch, batch_request *request); // among its user's by age
void batch_unqueue(wtl_batch *batch, batch_request *request);
void batch_unrun(wtl_batch *batch, batch_request *request);
batch_request *batch_find(wtl_batch *batch, uint64_t id); // alive; NULL
uint64_t batch_wait_estimate(const wtl_batch *batch);

// ---- batch_turn.c: the stepping thread, under the mutex ---------------------------------------------------------------------
// A turn to read some of a prompt.
typedef struct batch_turn {
    batch_request *request; // NULL: nobody can go on
    batch_user *payer;      // to charge for its rows
    bool starts;            // it has just left the queue
    bool passes;            // see batch_wish
} batch_turn;
// Whose turn it is; takes the request out of the queue when it starts.
batch_turn batch_next_turn(wtl_batch *batch);
void batch_charge(const batch_turn *turn, int32_t n_rows);
// Looks for the cached part of requests that wait: of each new one, and of a few others again.
void batch_look_for_prefixes(wtl_batch *batch);
// Whether the request can start beside what runs; without one of these.
bool batch_fits(const wtl_batch *batch, const batch_request *request);
bool batch_fits_without(const wtl_batch *batch, const batch_request *request, const batch_request *leaving);
int32_t batch_places(const wtl_batch *batch, const batch_user *user); // choices of the user's that run
// Whether it waits for a prefix that another request is reading, rather than for a place.
bool batch_waits_for_prefix(const wtl_batch *batch, const batch_request *request);
// Oldest waiting request that did not fit when others passed it, often enough: nothing else may start. NULL: none.
const batch_request *batch_passed_enough(const wtl_batch *batch);

// ---- batch_hold.c: the stepping thread --------------------------------------------------------------------------------------
// Without the mutex: pauses held requests as long as others wait for their places, and one of a user's that has more places than another who waits.
void batch_make_room(wtl_batch *batch);
// Without the mutex: opens the sequence of the reader of a request that goes on, with what is still cached of its text.
wtl_status batch_reopen(wtl_batch *batch, batch_request *request, wtl_error *err);
// Under the mutex: chooses the next reader, an open choice that does not decode. False: there is none.
bool batch_read_next(batch_request *request);
void batch_unpause(wtl_batch *batch, batch_request *request); // under the mutex: out of the table of paused ones

// ---- batch_draft.c: the stepping thread ---------------------------------------------------------------------------------------
void batch_draft_open(batch_draft_trust *trust);
// Writes up to `most` guesses at the tokens behind the choice's last one and returns how many are worth their rows in a step that carries
// load, which has the choice's own row already.
int32_t batch_draft(const wtl_batch *batch, batch_choice *choice, const batch_load *load, int32_t most, int32_t *tokens);
// Of n_tried guesses the first n_right were chosen.
void batch_draft_learn(batch_draft_trust *trust, int32_t n_match, int32_t n_tried, int32_t n_right);

// batch_step.c: positions that attention reads for n_new rows behind n_past, over all layers.
uint64_t batch_positions(const wtl_batch *batch, int32_t n_past, int32_t n_new);

// ---- batch_reply.c: the stepping thread, without the mutex -----------------------------------------------------------------
// Ends what is left of a request with an event for each choice. It is out of sight then, and is to be retired.
void batch_end_request(wtl_batch *batch, batch_request *request, wtl_finish finish, const wtl_error *error);
// Chooses the next token of a choice and tells its owner.
// How many of the largest logits it takes to choose a token and to tell about it; 0: all.
int32_t batch_n_top(const batch_choice *choice);
void batch_choose(wtl_batch *batch, batch_choice *choice, const float *logits, uint64_t now_ns);
// Takes what a step guessed wrong out of the choice's sequence; the choice fails when that cannot be done.
void batch_forget_guesses(wtl_batch *batch, batch_choice *choice);
// Tells the owner about the prompt's token at `position`, from the logits in front of it.
void batch_tell_prompt(wtl_batch *batch, const batch_request *request, int32_t position, const float *logits);
// Takes a request that has ended out of the tables and frees it.
void batch_retire(wtl_batch *batch, batch_request *request);
void batch_request_free(batch_request *request); // accepts NULL

// The tokens to read, [n_text].
static inline const int32_t *batch_text(const batch_request *r) { return r->reader->text ? r->reader->text : r->tokens; }
static inline int32_t batch_last_token(const batch_choice *c) { return c->text[c->request->n_prompt + c->n_decoded - 1]; }
static inline bool batch_is_reading(const batch_request *r) { return r->n_done < r->n_text; }
// Its owner is yet to be told about the tokens of the prompt.
static inline bool batch_tells_prompt(const batch_request *r) { return r->ask.on_prompt && !r->resumed; }

static inline void batch_lock(wtl_batch *b) { pthread_mutex_lock(&b->mutex); }
static inline void batch_unlock(wtl_batch *b) { pthread_mutex_unlock(&b->mutex); }

#ifdef __cplusplus
}
#endif
#endif
