/* The aggregator's journal: what it must not forget, as lines of bytes, and what they mean.
 *
 * Pure functions over bytes: who writes them appends what it is given and makes it durable.
 * A line is a CRC-32 in 8 hex digits, a space, JSON, a newline. A tail that was cut off or does not
 * match is a write that never happened, and is dropped; a bad line followed by good ones is
 * INVALID, since then the disk lies, and so is a line that could not stand where it stands (the end
 * of a round that did not begin).
 *
 * Rule of recovery: a committed model stays committed. A round that was started and not committed
 * begins its next attempt; what was accepted in the old one is void (learners keep their updates
 * and offer them again). An acceptance counts where the commit of its attempt is there. */
#ifndef FL_WORKLOADS_AGGREGATOR_JOURNAL_H
#define FL_WORKLOADS_AGGREGATOR_JOURNAL_H

#include "lib/buf.h"
#include "workloads/protocol/protocol.h"

enum fl_record_kind {
    FL_RECORD_START = 1, /* of the program: a new life */
    FL_RECORD_SPEC,      /* a round was started */
    FL_RECORD_ATTEMPT,
    FL_RECORD_ACCEPT, /* folded into the attempt's sum */
    FL_RECORD_COMMIT, /* the model (or partial sum) is the round's result */
    FL_RECORD_EVALUATE,
    FL_RECORD_FAIL,    /* the round is given up, or aborted */
    FL_RECORD_STOP,    /* training is over */
    FL_RECORD_COUNTED, /* in a compacted journal: a work that a committed round has counted */
    FL_RECORD_HOLDS,   /* in a compacted journal: who was accepted in an attempt of the round */
    FL_RECORD_BASE,    /* model, of a round that was started without: a learner made it */
};

struct fl_record {
    enum fl_record_kind kind;
    int64_t life;               /* START */
    int64_t round, attempt;     /* all others */
    struct fl_round_order spec; /* SPEC */
    struct fl_tier_spec tier;   /* SPEC, below a parent */
    const char *origin, *work;  /* SPEC, below a parent: the parent's task */
    /* ACCEPT */
    const char *learner, *digest;
    int64_t work_round; /* the task's: below `round` where it came late */
    int64_t examples, steps;
    struct fl_texts contributors; /* of a partial sum; also COMMIT below a parent: of the whole */
    /* COMMIT */
    const char *model, *state; /* digests; state NULL: the strategy has none */
    const char *rule;          /* digest of the strategy and its parameters; with a state */
    int64_t model_size;
    struct fl_round_report status; /* COMMIT, EVALUATE, FAIL: as it is from then on */
};

/* Appends one line. */
void fl_journal_write(struct fl_buf *buf, const struct fl_record *record);

/* A work that counts in a committed model and might be offered again. */
struct fl_counted {
    const char *learner;
    int64_t work_round;
};

/* What the lines amount to. */
struct fl_journal_state {
    int64_t life;      /* of the last START; 0: none */
    int64_t committed; /* last round with a COMMIT; 0: none */
    const char *model, *state, *rule;
    int64_t model_size;
    struct fl_texts contributors; /* of that commit */
    bool has_round;               /* a round was started: */
    struct fl_round_order spec;
    struct fl_tier_spec tier;
    const char *origin, *work;
    const char *base; /* BASE; NULL: there is none, or the spec has one */
    int64_t base_size;
    int64_t attempt;               /* the last that began; 0: none */
    bool done, evaluated, failed;  /* that round: is committed; and then; or not */
    struct fl_round_report status; /* the last that was written; phase 0: none */
    struct fl_texts holders;       /* whose update was accepted in the round: they still have it */
    struct fl_counted *counted;    /* of committed rounds, the oldest first */
    size_t counted_count;
    bool stopped;
    size_t good_bytes; /* of the text: the rest was a torn write, and is to be cut off */
};
/* INVALID: with the line's number. All is in the arena. */
int fl_journal_replay(struct fl_arena *arena, const void *data, size_t len,
                      struct fl_journal_state *ret_state, struct fl_error *err);
/* The same state in fewer lines, to begin a new file with. What was accepted in an attempt that is
 * not committed is void by then and not in it. */
void fl_journal_compact(struct fl_buf *buf, const struct fl_journal_state *state);

#endif
