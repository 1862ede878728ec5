/* The outside world that code above lib/ may ask for: what time it is, and chance.
 *
 * A program makes the real one in main; tests and the simulation pass a fake, and everything is
 * repeatable. Passed down explicitly, immutable, shared by threads (a fake belongs to one thread).
 */
#ifndef FL_LIB_ENV_H
#define FL_LIB_ENV_H

#include "lib/mem.h"

#include <stddef.h>
#include <stdint.h>

struct fl_log;

struct fl_env {
    int64_t (*realtime_us)(void *user);  /* microseconds since 1970, UTC */
    int64_t (*monotonic_ms)(void *user); /* never goes back; for deadlines */
    void (*random)(void *user, void *out, size_t len);
    void *user;
    struct fl_log *log;
    /* Told of a step of the work that has a name, by any thread, where a test wants something to
     * happen just there; NULL otherwise. */
    void (*reached)(void *reached_user, const char *step);
    void *reached_user;
};

/* The machine's clocks and libsodium's random generator. `log` is lent. */
struct fl_env fl_env_real(struct fl_log *log);

/* A fake: time stands still until moved, random is a function of the seed. */
struct fl_fake_env {
    struct fl_env env;
    int64_t realtime_us, monotonic_ms;
    uint64_t state;
};
void fl_fake_env_init(struct fl_fake_env *fake, uint64_t seed, struct fl_log *log);
void fl_fake_env_advance(struct fl_fake_env *fake, int64_t ms);

static inline int64_t fl_realtime_us(const struct fl_env *env)
{
    return env->realtime_us(env->user);
}

static inline int64_t fl_monotonic_ms(const struct fl_env *env)
{
    return env->monotonic_ms(env->user);
}

static inline void fl_reached(const struct fl_env *env, const char *step)
{
    if (env->reached)
        env->reached(env->reached_user, step);
}

/* The machine's own monotonic clock, for a thread that really waits (condition variables) and times
 * what it waited for. Nothing that is decided may depend on it: that is env's. */
int64_t fl_machine_monotonic_us(void);

uint64_t fl_random_below(const struct fl_env *env, uint64_t bound); /* 0 … bound-1, unbiased */

#define FL_UUID_SIZE 37
void fl_uuid_v4(const struct fl_env *env, char out[FL_UUID_SIZE]);

/* RFC 3339 in UTC: "2026-01-02T03:04:05Z", and with six decimals (Kubernetes' MicroTime). */
#define FL_TIME_SIZE 32
void fl_time_format(int64_t realtime_us, char out[FL_TIME_SIZE]);
void fl_time_format_micro(int64_t realtime_us, char out[FL_TIME_SIZE]);
/* Accepts fractions and offsets. False where it is no RFC 3339 time. */
_Bool fl_time_parse(const char *text, int64_t *ret_realtime_us);

#endif
