/* What is left after a crash: a child writes from several threads and says what was acknowledged;
 * it is killed at a random moment, and what the store then holds is compared with what it said.
 * Then the same for logs whose end was torn.
 *
 * FLOPS_CRASH_ROUNDS sets how often (50), FLOPS_CRASH_SEED what comes out of chance. */
#include "controller/store/store_testing.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define THREADS  4
#define KEYS     6
#define TEXT_MAX 4000
#define ACKS_MAX 200000

static unsigned seed_from_environment(void)
{
    const char *text = getenv("FLOPS_CRASH_SEED");
    unsigned seed = text ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);

    print_message("FLOPS_CRASH_SEED=%u\n", seed);
    return seed;
}

static int rounds_from_environment(void)
{
    const char *text = getenv("FLOPS_CRASH_ROUNDS");

    return text ? atoi(text) : 50;
}

/* A text that only this writer can have written whole. */
static void make_text(unsigned writer, unsigned number, char out[TEXT_MAX])
{
    int used = snprintf(out, TEXT_MAX, "%u:%u:", writer, number);
    unsigned state = writer * 7919 + number, len = state * 2654435761u % (TEXT_MAX - 64);

    for (unsigned i = 0; i < len; i++) {
        state = state * 1103515245u + 12345;
        out[used++] = (char)('a' + (state >> 16) % 26);
    }
    out[used] = '\0';
}

static void assert_text_is_whole(const struct fl_object *object)
{
    FL_JSON value = fl_object_parse(object);
    const char *text = fl_json_str(value, "spec.text");
    unsigned writer = 0, number = 0;
    static char expected[TEXT_MAX];

    assert_non_null(text);
    assert_int_equal(sscanf(text, "%u:%u:", &writer, &number), 2);
    make_text(writer, number, expected);
    assert_string_equal(text, expected);
    assert_string_equal(fl_json_str(value, "metadata.name"), object->name);
    assert_int_equal(strtoull(fl_json_str(value, "metadata.resourceVersion"), NULL, 10),
                     object->revision);
}

/* What the child reports of a write that was acknowledged: one atomic write to the pipe. */
struct ack {
    uint64_t revision;
    enum fl_store_op op;
    unsigned writer, number; /* of the text; a deletion's says nothing */
    char ns[8], name[8];
};

struct writer {
    pthread_t thread;
    struct fl_store *store;
    unsigned id, seed;
    int pipe;
};

static void choose(struct writer *writer, struct ack *ack)
{
    bool shared = rand_r(&writer->seed) % 4 == 0;

    (void)snprintf(ack->ns, sizeof(ack->ns), shared ? "all" : "w%u", writer->id % 100);
    (void)snprintf(ack->name, sizeof(ack->name), "k%d", rand_r(&writer->seed) % KEYS);
    ack->op = (enum fl_store_op)(rand_r(&writer->seed) % 3);
    ack->writer = writer->id;
}

static void *write_until_killed(void *user)
{
    struct writer *writer = user;
    struct ack ack = {0};
    static _Thread_local char text[TEXT_MAX];

    for (ack.number = 1;; ack.number++) {
        int64_t r;

        choose(writer, &ack);
        make_text(writer->id, ack.number, text);
        r = put(writer->store, ack.op, PROJECTS, ack.ns, ack.name,
                ack.op == FL_STORE_DELETE ? NULL : text, 0);
        if (r < 0)
            continue; /* exists, or does not */
        ack.revision = (uint64_t)r;
        if (write(writer->pipe, &ack, sizeof(ack)) != sizeof(ack))
            _exit(1);
    }
    return NULL;
}

static void run_child(struct fixture *f, int pipe, unsigned seed)
{
    struct writer writers[THREADS];
    uint64_t base;

    fixture_open(f);
    base = fl_store_revision(f->store);
    for (unsigned i = 0; i < THREADS; i++) {
        writers[i] = (struct writer){0, f->store, i, seed + i, pipe};
        (void)pthread_create(&writers[i].thread, NULL, write_until_killed, &writers[i]);
    }
    /* Compaction goes on meanwhile, of what was there before. */
    for (uint64_t up_to = fl_store_compacted_revision(f->store); up_to < base;) {
        up_to = base - up_to > 100 ? up_to + (base - up_to) / 2 : base;
        (void)fl_store_compact(f->store, up_to, NULL);
        (void)nanosleep(&(struct timespec){0, 3000000}, NULL);
    }
    (void)pthread_join(writers[0].thread, NULL);
    _exit(1);
}

/* Reads acknowledgements for so long, then kills, then reads the rest. */
static size_t collect(pid_t child, int pipe, int life_ms, struct ack *acks)
{
    struct fl_env env = fl_env_real(NULL);
    int64_t end = fl_monotonic_ms(&env) + life_ms;
    size_t len = 0, room = ACKS_MAX * sizeof(*acks);
    bool killed = false;
    ssize_t n;

    for (;;) {
        int64_t left = end - fl_monotonic_ms(&env);
        struct pollfd fd = {pipe, POLLIN, 0};

        if (left <= 0 && !killed) {
            assert_int_equal(kill(child, SIGKILL), 0);
            killed = true;
        }
        if (!killed && poll(&fd, 1, (int)left) == 0)
            continue;
        n = read(pipe, (char *)acks + len, room - len);
        assert_true(n >= 0 && len < room);
        if (n == 0)
            break;
        len += (size_t)n;
    }
    assert_int_equal(len % sizeof(*acks), 0);
    assert_true(killed);
    return len / sizeof(*acks);
}

static int compare_acks(const void *left, const void *right)
{
    const struct ack *a = left, *b = right;

    return (a->revision > b->revision) - (a->revision < b->revision);
}

/* What is there, by key, as the history tells it. */
struct state {
    uint64_t revisions[THREADS + 1][KEYS];
    uint64_t last;
};

static uint64_t *slot(struct state *state, const char *ns, const char *name)
{
    size_t row = ns[0] == 'a' ? THREADS : (size_t)(ns[1] - '0');

    return &state->revisions[row][name[1] - '0'];
}

static void replay(struct state *state, const struct fl_event *event)
{
    uint64_t *revision = slot(state, event->object->ns, event->object->name);

    assert_true(event->revision > state->last);
    assert_int_equal(event->object->revision, event->revision);
    assert_true((event->type == FL_EVENT_ADDED) == (*revision == 0));
    assert_int_equal(event->previous ? event->previous->revision : 0, *revision);
    assert_text_is_whole(event->object);
    *revision = event->type == FL_EVENT_DELETED ? 0 : event->revision;
    state->last = event->revision;
}

static void assert_acknowledged(const struct ack *ack, const struct fl_event *event)
{
    static const enum fl_event_type types[] = {FL_EVENT_ADDED, FL_EVENT_MODIFIED, FL_EVENT_DELETED};
    FL_JSON value = fl_object_parse(event->object);
    char prefix[32];

    assert_int_equal(event->type, types[ack->op]);
    assert_string_equal(event->object->ns, ack->ns);
    assert_string_equal(event->object->name, ack->name);
    (void)snprintf(prefix, sizeof(prefix), "%u:%u:", ack->writer, ack->number);
    assert_true(ack->op == FL_STORE_DELETE ||
                fl_str_has_prefix(fl_json_str(value, "spec.text"), prefix));
}

static void assert_state(struct fl_store *store, struct state *state)
{
    struct fl_list_query query = {.resource = PROJECTS};
    struct fl_list list;
    size_t there = 0;

    for (size_t i = 0; i < (THREADS + 1) * KEYS; i++)
        there += state->revisions[i / KEYS][i % KEYS] != 0;
    assert_int_equal(fl_store_list(store, &query, &list, NULL), 0);
    assert_int_equal(list.count, there);
    for (size_t i = 0; i < list.count; i++) {
        const struct fl_object *object = list.objects[i];

        assert_int_equal(object->revision, *slot(state, object->ns, object->name));
        assert_text_is_whole(object);
    }
    fl_list_finish(&list);
}

/* Replays the history since the last round over what was there then, and finds every
 * acknowledgement in it. */
static void check(struct fl_store *store, struct state *state, struct ack *acks, size_t count)
{
    struct fl_watch *watch = NULL;
    struct fl_event event;
    size_t found = 0, unacknowledged = 0;
    int r;

    qsort(acks, count, sizeof(*acks), compare_acks);
    assert_true(count == 0 || acks[0].revision > state->last);
    assert_int_equal(fl_store_watch(store, PROJECTS, NULL, state->last, &watch, NULL), 0);
    while ((r = fl_watch_next(watch, &event, NULL)) == 1) {
        replay(state, &event);
        if (found < count && acks[found].revision == event.revision)
            assert_acknowledged(&acks[found++], &event);
        else
            unacknowledged++;
    }
    assert_int_equal(r, 0);
    fl_watch_close(watch);
    assert_int_equal(found, count);
    assert_true(unacknowledged <= THREADS);
    assert_true(fl_store_revision(store) >= state->last);
    state->last = fl_store_revision(store);
    assert_state(store, state);
}

static void test_killed_at_random(void **test_state)
{
    struct ack *acks = fl_calloc(ACKS_MAX, sizeof(*acks));
    struct state state = {0};
    struct fixture f;
    unsigned seed = seed_from_environment();
    size_t total = 0;
    int rounds = rounds_from_environment();

    (void)test_state;
    fixture_init(&f, "sqlite");
    f.options.max_history_events = ACKS_MAX;
    f.options.max_history_bytes = (size_t)1 << 30;
    for (int i = 0; i < rounds; i++) {
        int ends[2];
        size_t count;
        pid_t child;

        assert_int_equal(pipe(ends), 0);
        child = fork();
        assert_true(child >= 0);
        if (child == 0)
            run_child(&f, ends[1], (unsigned)rand_r(&seed));
        (void)close(ends[1]);
        count = collect(child, ends[0], 20 + rand_r(&seed) % 250, acks);
        (void)close(ends[0]);
        assert_int_equal(waitpid(child, NULL, 0), child);
        fixture_open(&f);
        check(f.store, &state, acks, count);
        fixture_close(&f);
        total += count;
    }
    print_message("%d crashes, %zu acknowledged writes, none lost\n", rounds, total);
    assert_true(total > (size_t)rounds);
    free(acks);
    fixture_finish(&f);
}

/* Torn logs. */

struct image {
    char *data;
    size_t len;
};

static struct image read_image(const char *path)
{
    struct image image;
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    assert_true(fd >= 0 && fstat(fd, &status) == 0);
    image.len = (size_t)status.st_size;
    image.data = fl_malloc(image.len);
    assert_int_equal(read(fd, image.data, image.len), image.len);
    (void)close(fd);
    return image;
}

static void write_image(const char *path, const struct image *image, size_t len)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, image->data, len), len);
    (void)close(fd);
}

#define TORN_WRITES 150

static void write_some(struct fl_store *store)
{
    static char text[TEXT_MAX];
    unsigned seed = 3;

    for (unsigned i = 1; fl_store_revision(store) < TORN_WRITES; i++) {
        struct writer writer = {.id = 0, .seed = seed};
        struct ack ack;

        choose(&writer, &ack);
        seed = writer.seed;
        make_text(0, i, text);
        (void)put(store, ack.op, PROJECTS, ack.ns, ack.name,
                  ack.op == FL_STORE_DELETE ? NULL : text, 0);
    }
}

/* Whatever the end of the log, a whole number of the first writes is there. Returns how many. */
static uint64_t count_whole(struct fixture *f)
{
    struct state state = {0};
    struct fl_watch *watch = NULL;
    struct fl_event event;
    uint64_t revision;

    fixture_open(f);
    assert_int_equal(fl_store_watch(f->store, PROJECTS, NULL, 0, &watch, NULL), 0);
    while (fl_watch_next(watch, &event, NULL) == 1) {
        replay(&state, &event);
        assert_true(state.last <= TORN_WRITES);
    }
    fl_watch_close(watch);
    revision = fl_store_revision(f->store);
    assert_int_equal(state.last, revision);
    assert_state(f->store, &state);
    /* And life goes on. */
    assert_true(put(f->store, FL_STORE_CREATE, SECRETS, "ns", "after", "1", 0) > 0);
    fixture_close(f);
    return revision;
}

static void test_torn_log(void **test_state)
{
    struct fixture f;
    struct image file, log;
    char log_path[128];
    uint64_t least = TORN_WRITES, most = 0;
    unsigned seed = seed_from_environment();
    int rounds = 2 * rounds_from_environment();

    (void)test_state;
    fixture_init(&f, "sqlite");
    (void)snprintf(log_path, sizeof(log_path), "%s-wal", f.path);
    fixture_open(&f);
    write_some(f.store);
    file = read_image(f.path);
    log = read_image(log_path);
    fixture_close(&f);
    for (int i = 0; i <= rounds; i++) {
        size_t at = (size_t)((double)rand_r(&seed) / RAND_MAX * (double)(log.len - 1));
        size_t len = i == rounds ? log.len : i % 2 ? at : log.len;
        bool flip = i % 2 == 0 && i < rounds;
        uint64_t whole;

        remove_files(f.path);
        log.data[at] ^= flip ? 0x10 : 0;
        write_image(f.path, &file, file.len);
        write_image(log_path, &log, len);
        log.data[at] ^= flip ? 0x10 : 0;
        whole = count_whole(&f);
        least = whole < least ? whole : least;
        most = whole > most ? whole : most;
    }
    assert_int_equal(most, TORN_WRITES);
    assert_true(least < TORN_WRITES / 2);
    free(file.data);
    free(log.data);
    fixture_finish(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_at_random),
        cmocka_unit_test(test_torn_log),
    };

    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
