/* Memory: clean-up attributes, allocation that cannot fail, arenas and shared bytes.
 *
 * Programs abort when memory is out (the store survives, the restarted process converges), so
 * ordinary allocation has no error path. Every size a stranger chooses is checked against a limit
 * before it reaches these functions.
 *
 * An arena belongs to one unit of work (a request, a reconcile) and one thread; all it gave out
 * ends with fl_arena_reset or fl_arena_destroy. With FL_ARENA_DEBUG (sanitizer builds) each object
 * is a malloc of its own, so that a use after the end is seen.
 *
 * struct fl_bytes is an immutable, reference-counted block, shared between threads. */
#ifndef FL_LIB_MEM_H
#define FL_LIB_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define FL_CLEANUP(fn) __attribute__((cleanup(fn)))

/* Hands an owned pointer over: the variable becomes NULL, so its clean-up does nothing. */
#define FL_TAKE(ptr)                                                                               \
    ({                                                                                             \
        __typeof__(ptr) fl_take_ = (ptr);                                                          \
        (ptr) = NULL;                                                                              \
        fl_take_;                                                                                  \
    })

/* Makes the cleanup form `name##p` of a destructor that takes a pointer. */
#define FL_DEFINE_CLEANUP(type, destroy)                                                           \
    static inline void destroy##p(type **ptr)                                                      \
    {                                                                                              \
        destroy(*ptr);                                                                             \
    }

/* Of a function that allocates and never returns NULL: what frees it. gcc's analyser then sees
 * leaks and double frees. */
#ifdef __clang__
#define FL_FREED_BY(destroy) __attribute__((returns_nonnull))
#else
#define FL_FREED_BY(destroy) __attribute__((returns_nonnull, malloc(destroy, 1)))
#endif

#define FL_COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

FL_FREED_BY(free) void *fl_malloc(size_t size);               /* not zeroed; never NULL */
FL_FREED_BY(free) void *fl_calloc(size_t count, size_t size); /* zeroed; aborts on overflow */
void *fl_realloc(void *ptr, size_t size);
FL_FREED_BY(free) char *fl_strdup(const char *text);
FL_FREED_BY(free) char *fl_strndup(const char *text, size_t len);
FL_FREED_BY(free) char *fl_asprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void fl_freep(void *ptr_to_ptr); /* for FL_CLEANUP on plain heap pointers */

struct fl_arena;

struct fl_arena *fl_arena_create(void);
void fl_arena_destroy(struct fl_arena *arena);
void fl_arena_reset(struct fl_arena *arena);
FL_DEFINE_CLEANUP(struct fl_arena, fl_arena_destroy)

void *fl_alloc(struct fl_arena *arena, size_t size); /* zeroed, aligned for any type; never NULL */
char *fl_arena_strdup(struct fl_arena *arena, const char *text);
char *fl_arena_copy(struct fl_arena *arena, const char *text); /* NULL stays NULL */
char *fl_arena_strndup(struct fl_arena *arena, const char *text, size_t len);
char *fl_arena_printf(struct fl_arena *arena, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
#define fl_new(arena, type)              ((type *)fl_alloc(arena, sizeof(type)))
#define fl_new_array(arena, type, count) ((type *)fl_alloc_array(arena, count, sizeof(type)))
void *fl_alloc_array(struct fl_arena *arena, size_t count, size_t size);

/* `fn(user)` runs at the next reset or destroy, last added first: for foreign objects (json_t …)
 * that shall live as long as the arena. */
void fl_arena_on_reset(struct fl_arena *arena, void (*fn)(void *user), void *user);
size_t fl_arena_size_bytes(const struct fl_arena *arena);

struct fl_bytes {
    int refs; /* atomic; only fl_bytes_ref and fl_bytes_unref touch it */
    size_t len;
    char data[]; /* len bytes and a NUL behind them */
};

struct fl_bytes *fl_bytes_new(const void *data, size_t len); /* data NULL: uninitialised */
struct fl_bytes *fl_bytes_ref(struct fl_bytes *bytes);
void fl_bytes_unref(struct fl_bytes *bytes);
FL_DEFINE_CLEANUP(struct fl_bytes, fl_bytes_unref)

#endif
