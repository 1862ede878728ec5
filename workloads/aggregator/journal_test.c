/* Journals: what lines amount to, what is torn, damaged or out of place, and compacting. */
#include "workloads/aggregator/journal.h"

#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>
/* cmocka wants these first */
#include <cmocka.h>

#define D1 "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define D2 "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define SPEC(round, mode)                                                                          \
    "{\"kind\":\"Spec\",\"round\":" #round ",\"spec\":{\"project\":\"p\",\"round\":" #round        \
    ",\"model\":\"" D1 "\",\"modelSize\":9,\"mode\":\"" mode                                       \
    "\",\"strategy\":{\"name\":\"FedAvg\"}}}\n"
#define START(life)   "{\"kind\":\"Start\",\"life\":" #life "}\n"
#define ATTEMPT(r, a) "{\"kind\":\"Attempt\",\"round\":" #r ",\"attempt\":" #a "}\n"
#define ACCEPT(r, l, w)                                                                            \
    "{\"kind\":\"Accept\",\"round\":" #r ",\"learner\":\"" l "\",\"workRound\":" #w "}\n"
#define COMMIT(r, phase)                                                                           \
    "{\"kind\":\"Commit\",\"round\":" #r ",\"model\":\"" D2                                        \
    "\",\"modelSize\":9,\"status\":{\"phase\":\"" phase "\",\"round\":" #r ",\"model\":\"" D2      \
    "\"}}\n"
#define EVALUATE(r)                                                                                \
    "{\"kind\":\"Evaluate\",\"round\":" #r ",\"status\":{\"phase\":\"Committed\"}}\n"
#define FAIL(r) "{\"kind\":\"Fail\",\"round\":" #r ",\"status\":{\"phase\":\"Failed\"}}\n"

/* Lines with their checks. */
static void checked(struct fl_buf *buf, const char *text)
{
    while (*text) {
        size_t len = strcspn(text, "\n");

        fl_buf_printf(buf, "%08lx ", crc32(0, (const unsigned char *)text, (unsigned)len));
        fl_buf_append(buf, text, len);
        fl_buf_putc(buf, '\n');
        text += len + (text[len] == '\n');
    }
}

static int replay(struct fl_arena *arena, const char *text, struct fl_journal_state *state,
                  struct fl_error *err)
{
    struct fl_buf buf;
    int r;

    fl_buf_init(&buf, 0);
    checked(&buf, text);
    r = fl_journal_replay(arena, buf.data, buf.len, state, err);
    fl_buf_finish(&buf);
    return r;
}

static void test_what_lines_amount_to(void **state)
{
    static const struct {
        const char *text;
        int64_t committed, attempt;
        bool done, evaluated, failed;
        size_t holders, counted;
    } cases[] = {
        {"", 0, 0, false, false, false, 0, 0},
        {START(1) SPEC(1, "Sync"), 0, 0, false, false, false, 0, 0},
        {START(1) SPEC(1, "Sync") ATTEMPT(1, 1) ACCEPT(1, "a", 1), 0, 1, false, false, false, 1, 0},
        {START(1) SPEC(1, "Sync") ATTEMPT(1, 1) ACCEPT(1, "a", 1) COMMIT(1, "Committed"), 1, 1,
         true, true, false, 1, 0},
        {START(1) SPEC(1, "Sync") ATTEMPT(1, 1) COMMIT(1, "Evaluating"), 1, 1, true, false, false,
         0, 0},
        {START(1) SPEC(1, "Sync") ATTEMPT(1, 1) COMMIT(1, "Evaluating") EVALUATE(1), 1, 1, true,
         true, false, 0, 0},
        {START(1) SPEC(1, "Sync") ATTEMPT(1, 1) ACCEPT(1, "a", 1) FAIL(1), 0, 1, false, false, true,
         1, 0},
        /* what was accepted in an attempt that is void counts nowhere */
        {START(1) SPEC(1, "SemiSync") ATTEMPT(1, 1) ACCEPT(1, "a", 1) START(2) ATTEMPT(1, 2)
             ACCEPT(1, "b", 1) COMMIT(1, "Committed"),
         1, 2, true, true, false, 2, 1},
        /* the number of a round of a tier comes again */
        {START(1) SPEC(1, "Sync") ATTEMPT(1, 1) COMMIT(1, "Committed") SPEC(1, "Sync"), 1, 0, false,
         false, false, 0, 0},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_journal_state is;

        assert_int_equal(replay(arena, cases[i].text, &is, NULL), 0);
        assert_int_equal(is.committed, cases[i].committed);
        assert_int_equal(is.attempt, cases[i].attempt);
        assert_int_equal(is.done, cases[i].done);
        assert_int_equal(is.evaluated, cases[i].evaluated);
        assert_int_equal(is.failed, cases[i].failed);
        assert_int_equal(is.holders.count, cases[i].holders);
        assert_int_equal(is.counted_count, cases[i].counted);
    }
}

static void test_what_is_out_of_place_is_refused(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {START(2) START(1), "journal: line 2: a life that is over begins again"},
        {ATTEMPT(1, 1), "journal: line 1: an attempt without its round"},
        {SPEC(1, "Sync") ATTEMPT(2, 1), "journal: line 2: an attempt without its round"},
        {SPEC(1, "Sync") ACCEPT(2, "a", 1), "journal: line 2: an update without its round"},
        {"{\"kind\":\"Commit\",\"round\":1,\"status\":{}}\n",
         "journal: line 1: a commit without a model"},
        {SPEC(1, "Sync") COMMIT(2, "Committed"), "journal: line 2: a commit without its round"},
        {SPEC(1, "Sync") COMMIT(1, "Committed") COMMIT(1, "Committed"),
         "journal: line 3: a commit without its round"},
        {SPEC(1, "Sync") EVALUATE(1), "journal: line 2: an evaluation without its model"},
        {SPEC(1, "Sync") COMMIT(1, "Committed") FAIL(1),
         "journal: line 3: an end without its round"},
        {"{\"kind\":\"Holds\"}\n", "journal: line 1: nobody's update"},
        {"{\"kind\":\"Other\"}\n", "journal: line 1: record.kind: there is no such word"},
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_journal_state is;
        struct fl_error err = {0};

        assert_int_equal(replay(arena, cases[i].text, &is, &err), FL_E_INVALID);
        assert_string_equal(err.msg, cases[i].message);
    }
}

/* Cut anywhere, it is what its whole lines say. */
static void test_a_torn_tail_never_happened(void **state)
{
    struct fl_buf buf;
    size_t lines = 0;

    (void)state;
    fl_buf_init(&buf, 0);
    checked(&buf, START(1) SPEC(1, "Sync") ATTEMPT(1, 1) COMMIT(1, "Committed"));
    for (size_t len = 0; len <= buf.len; len++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_journal_state is;

        lines += len > 0 && buf.data[len - 1] == '\n';
        assert_int_equal(fl_journal_replay(arena, buf.data, len, &is, NULL), 0);
        assert_int_equal(is.life, lines > 0);
        assert_int_equal(is.has_round, lines > 1);
        assert_int_equal(is.attempt, lines > 2);
        assert_int_equal(is.committed, lines > 3);
        assert_true(is.good_bytes <= len && (is.good_bytes == len || buf.data[len - 1] != '\n'));
    }
    fl_buf_finish(&buf);
}

static void test_damage_in_the_middle_is_told(void **state)
{
    struct fl_buf buf;

    (void)state;
    fl_buf_init(&buf, 0);
    checked(&buf, START(1) SPEC(1, "Sync") ATTEMPT(1, 1));
    for (size_t i = 0; i + 1 < buf.len; i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_journal_state is;
        struct fl_error err = {0};
        int r;

        buf.data[i] ^= 1;
        r = fl_journal_replay(arena, buf.data, buf.len, &is, &err);
        /* a bad last line is a torn one; one before a good line is not */
        assert_true(r == FL_E_INVALID || (r == 0 && is.attempt == 0));
        buf.data[i] ^= 1;
    }
    fl_buf_finish(&buf);
}

static void test_compacting_means_the_same(void **state)
{
    static const char *const texts[] = {
        START(3) SPEC(1, "SemiSync") ATTEMPT(1, 1) ACCEPT(1, "a", 1) ACCEPT(1, "b", 1)
            COMMIT(1, "Committed") SPEC(2, "SemiSync") ATTEMPT(2, 1) ACCEPT(2, "a", 2),
        START(1) SPEC(1, "Sync") ATTEMPT(1, 1) ACCEPT(1, "a", 1) FAIL(1),
        START(1) SPEC(1, "Sync") ATTEMPT(1, 1) COMMIT(1, "Evaluating")
            START(2) "{\"kind\":\"Stop\"}\n",
        START(1) SPEC(1, "Sync") ATTEMPT(1, 1) COMMIT(1, "Committed") SPEC(1, "Sync") ATTEMPT(1, 2),
    };

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++) {
        FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
        struct fl_journal_state is, again;
        struct fl_buf compact;

        fl_buf_init(&compact, 0);
        assert_int_equal(replay(arena, texts[i], &is, NULL), 0);
        fl_journal_compact(&compact, &is);
        assert_int_equal(fl_journal_replay(arena, compact.data, compact.len, &again, NULL), 0);
        is.good_bytes = again.good_bytes;
        assert_int_equal(again.life, is.life);
        assert_int_equal(again.committed, is.committed);
        assert_int_equal(again.attempt, is.attempt);
        assert_int_equal(again.done, is.done);
        assert_int_equal(again.evaluated, is.evaluated);
        assert_int_equal(again.failed, is.failed);
        assert_int_equal(again.stopped, is.stopped);
        assert_int_equal(again.counted_count, is.counted_count);
        assert_int_equal(again.holders.count, is.holders.count);
        assert_int_equal(again.spec.round, is.spec.round);
        assert_int_equal(again.status.phase, is.status.phase);
        fl_buf_finish(&compact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_lines_amount_to),
        cmocka_unit_test(test_what_is_out_of_place_is_refused),
        cmocka_unit_test(test_a_torn_tail_never_happened),
        cmocka_unit_test(test_damage_in_the_middle_is_told),
        cmocka_unit_test(test_compacting_means_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
