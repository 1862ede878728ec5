/* What the files of the fake share.
 *
 * federation_fake_roots.c  the world: roots and their rounds
 * federation_fake.c        a control plane's door to it */
#ifndef FL_RECONCILERS_FEDERATION_FAKE_INTERNAL_H
#define FL_RECONCILERS_FEDERATION_FAKE_INTERNAL_H

#include "lib/map.h"
#include "reconcilers/federation/federation_fake.h"

#include <sys/queue.h>

struct model {
    char digest[FL_DIGEST_SIZE];
    struct fl_bytes *bytes;
};

struct root {
    TAILQ_ENTRY(root) all;
    struct fl_fake_roots *roots;
    char *uid;
    int64_t life, members, version, status_version, committed;
    char model[FL_DIGEST_SIZE];
    struct fl_map *models; /* digest -> struct model */
    /* its round */
    struct fl_arena *arena; /* NULL: none */
    struct fl_round_order order;
    struct fl_bytes *order_text;
    struct fl_round_report report;
    struct fl_fake_round plan;
    int64_t due_ms; /* of its next phase; INT64_MAX: none */
    int64_t failures;
};

struct committed {
    char *uid;
    char base[FL_DIGEST_SIZE], model[FL_DIGEST_SIZE];
    int64_t round, run;
    TAILQ_ENTRY(committed) all;
};

struct fl_fake_roots {
    const struct fl_env *env;
    TAILQ_HEAD(, root) all;
    TAILQ_HEAD(, committed) committed;
    struct fl_map *uris; /* uri -> struct fl_bytes */
    bool reachable;
    fl_fake_round_fn *plan;
    void *plan_user;
    fl_fake_federation_fault_fn *fault;
    void *fault_user;
    struct driver *driver;
    struct fl_fake_roots_counts counts;
};

enum errand_kind { ERRAND_LOOK = 1, ERRAND_WATCH, ERRAND_START, ERRAND_ABORT, ERRAND_MOVE };

/* What the driver has said or asked, and was not answered yet. */
struct errand {
    TAILQ_ENTRY(errand) all;
    enum errand_kind kind;
    int64_t due_ms;
    char *uid;
    int64_t round;
    char *key; /* MOVE: of the transfer */
};

struct seen_round {
    char *uid;
    int64_t number;
    enum fl_federation_known known;
    struct fl_arena *arena;
    struct fl_round_report report;
    struct fl_bytes *order;
    bool starting, followed;
    int refused;
    int64_t refused_ms;
    char message[160];
};

struct seen_status {
    char *ns, *name;
    enum fl_federation_known known;
    struct fl_status status;
    char model[FL_DIGEST_SIZE];
};

enum move_kind { MOVE_PUT = 1, MOVE_GET, MOVE_IMPORT };
struct move {
    enum move_kind kind;
    char *uid, *what, *ns, *name;
    bool over;
    int failed;
    int64_t size;
    char digest[FL_DIGEST_SIZE];
};

struct driver {
    struct fl_federation_driver base;
    struct fl_fake_roots *roots;
    struct fl_blobs *content;
    fl_federation_changed_fn *changed;
    void *user;
    bool dead;
    TAILQ_HEAD(, errand) errands;
    struct fl_map *rounds;   /* "uid N" -> struct seen_round */
    struct fl_map *statuses; /* uid -> struct seen_status */
    struct fl_map *moves;    /* key -> struct move */
};

static inline int64_t fl_fake_now_ms(const struct fl_fake_roots *roots)
{
    return fl_monotonic_ms(roots->env);
}

static inline bool fl_fake_is_over(const struct fl_round_report *report)
{
    return report->phase == FL_ROUND_COMMITTED || report->phase == FL_ROUND_FAILED ||
           report->phase == FL_ROUND_ABORTED;
}

/* The world */
struct root *fl_fake_root_of(struct fl_fake_roots *roots, const char *uid); /* made if need be */
int fl_fake_root_start(struct root *root, struct fl_bytes *text, struct fl_error *err);
void fl_fake_root_abort(struct root *root, int64_t round);
void fl_fake_model_free(void *value);

/* The door */
void fl_fake_driver_follow(struct root *root); /* something happened there: it is seen soon */
void fl_fake_driver_doubt(struct driver *driver, const char *uid); /* all is asked for again */
size_t fl_fake_driver_run(struct driver *driver);                  /* what is due */

#endif
