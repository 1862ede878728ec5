/* A source for tests and the simulation: remotes by script, in the virtual time of env.
 *
 * A remote (by its URL) has a history of commits and a head, which may go back; it can be
 * unreachable, slow, and its head unsigned. A fetch takes the remote's time and sees it as it is at
 * the end. Nothing happens by itself: the owner moves the clock and steps. The remotes are the
 * world's and survive a crash, and so does the last good snapshot of each key, as if on a disk;
 * what else was fetched is the process' and does not. One thread. */
#ifndef FL_CONTROLLER_SOURCE_FAKE_H
#define FL_CONTROLLER_SOURCE_FAKE_H

#include "controller/source/source.h"

struct fl_source_fake;

/* `env` is lent. The fake owns the source that fl_source_fake_source lends. */
struct fl_source_fake *fl_source_fake_create(const struct fl_env *env);
void fl_source_fake_destroy(struct fl_source_fake *fake);
/* Its `destroy` does nothing, so that it can be handed to who destroys its sources. */
struct fl_source *fl_source_fake_source(struct fl_source_fake *fake);
void fl_source_fake_on_change(struct fl_source_fake *fake, fl_source_changed_fn *changed,
                              void *user);

/* A new head: what files there are from now on (copied; ended by one without a path). `commit`
 * NULL: a fresh one, "c1", "c2" …; that of an earlier one: the head goes back to it, files are not
 * looked at. Revisions are "main@COMMIT". */
struct fl_source_fake_file {
    const char *path, *text;
};
const char *fl_source_fake_commit(struct fl_source_fake *fake, const char *url, const char *commit,
                                  const struct fl_source_fake_file *files);
/* Who signed the head, as a line of allowed_signers; NULL: nobody. */
void fl_source_fake_sign(struct fl_source_fake *fake, const char *url, const char *signer);
void fl_source_fake_reach(struct fl_source_fake *fake, const char *url, bool reachable);
void fl_source_fake_slow(struct fl_source_fake *fake, const char *url, int64_t delay_ms);
/* Somebody who watches it hears of it: as a watched folder does. */
void fl_source_fake_announce(struct fl_source_fake *fake, const char *url);

/* Ends the fetches that are due, and tells; how many. */
size_t fl_source_fake_step(struct fl_source_fake *fake);
int64_t fl_source_fake_next_due_ms(const struct fl_source_fake *fake); /* INT64_MAX: none runs */
void fl_source_fake_crash(struct fl_source_fake *fake);                /* forgets all fetches */
size_t fl_source_fake_fetches(const struct fl_source_fake *fake);      /* begun so far */
bool fl_source_fake_knows(const struct fl_source_fake *fake, const char *key);
/* The request of the key's last fetch as it was understood: "URL REF PATH username password". */
const char *fl_source_fake_asked(const struct fl_source_fake *fake, const char *key);

#endif
