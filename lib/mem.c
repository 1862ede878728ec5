#include "lib/mem.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *check(void *ptr)
{
    if (!ptr)
        abort();
    return ptr;
}

void *fl_malloc(size_t size)
{
    return check(malloc(size ? size : 1));
}

void *fl_calloc(size_t count, size_t size)
{
    return check(calloc(count ? count : 1, size ? size : 1));
}

void *fl_realloc(void *ptr, size_t size)
{
    return check(realloc(ptr, size ? size : 1));
}

char *fl_strdup(const char *text)
{
    return check(strdup(text));
}

char *fl_strndup(const char *text, size_t len)
{
    return check(strndup(text, len));
}

char *fl_asprintf(const char *fmt, ...)
{
    char *text = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort();
    va_end(ap);
    return text;
}

void fl_freep(void *ptr_to_ptr)
{
    void **ptr = ptr_to_ptr;

    free(*ptr);
    *ptr = NULL;
}

/* Arenas: a list of blocks, the newest first. A block holds many objects in the ordinary form and
 * one in the debug form. Blocks grow, so that a small arena that lives long (a watch) stays small.
 */

#define FIRST_BLOCK_BYTES ((size_t)4 * 1024)
#define BLOCK_BYTES       ((size_t)16 * 1024)
#define ALIGNMENT         _Alignof(max_align_t)

struct block {
    struct block *next;
    size_t size, used;
    max_align_t data[];
};

struct reset_hook {
    struct reset_hook *next;
    void (*fn)(void *user);
    void *user;
};

struct fl_arena {
    struct block *blocks;
    struct reset_hook *hooks;
    size_t total;
    size_t next_block; /* bytes of the next one that many objects share */
};

#ifdef FL_ARENA_DEBUG
static const bool one_malloc_per_object = true;
#else
static const bool one_malloc_per_object = false;
#endif

struct fl_arena *fl_arena_create(void)
{
    struct fl_arena *arena = fl_calloc(1, sizeof(*arena));

    arena->next_block = FIRST_BLOCK_BYTES;
    return arena;
}

static void run_hooks(struct fl_arena *arena)
{
    /* A hook may add another one, which runs next. */
    while (arena->hooks) {
        struct reset_hook *hook = arena->hooks;

        arena->hooks = hook->next;
        hook->fn(hook->user);
    }
}

static void free_blocks(struct block *block)
{
    while (block) {
        struct block *next = block->next;

        free(block);
        block = next;
    }
}

void fl_arena_reset(struct fl_arena *arena)
{
    struct block *keep = NULL;

    run_hooks(arena);
    if (!one_malloc_per_object && arena->blocks && arena->blocks->size <= BLOCK_BYTES) {
        keep = arena->blocks;
        arena->blocks = keep->next;
        keep->next = NULL;
        keep->used = 0;
    }
    free_blocks(arena->blocks);
    arena->blocks = keep;
    arena->total = 0;
}

void fl_arena_destroy(struct fl_arena *arena)
{
    if (!arena)
        return;
    run_hooks(arena);
    free_blocks(arena->blocks);
    free(arena);
}

static struct block *create_block(size_t size)
{
    struct block *block = fl_malloc(sizeof(*block) + size);

    block->size = size;
    block->used = 0;
    return block;
}

/* For one object alone, or (`size` is small) for it and those that follow. */
static struct block *add_block(struct fl_arena *arena, size_t size)
{
    bool alone = one_malloc_per_object || size > arena->next_block / 4;
    struct block *block = create_block(alone ? size : arena->next_block);

    if (!alone && arena->next_block < BLOCK_BYTES)
        arena->next_block *= 2;
    /* A large object's own block goes behind the current one, which stays in use. */
    if (arena->blocks && alone && !one_malloc_per_object) {
        block->next = arena->blocks->next;
        arena->blocks->next = block;
    } else {
        block->next = arena->blocks;
        arena->blocks = block;
    }
    return block;
}

void *fl_alloc(struct fl_arena *arena, size_t size)
{
    struct block *block = arena->blocks;
    void *ptr;

    if (size > SIZE_MAX / 2)
        abort();
    size = (size + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    if (size == 0)
        size = ALIGNMENT;
    if (one_malloc_per_object || !block || block->size - block->used < size)
        block = add_block(arena, size);
    ptr = (char *)block->data + block->used;
    block->used += size;
    arena->total += size;
    return memset(ptr, 0, size);
}

void *fl_alloc_array(struct fl_arena *arena, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        abort();
    return fl_alloc(arena, total);
}

char *fl_arena_copy(struct fl_arena *arena, const char *text)
{
    return text ? fl_arena_strdup(arena, text) : NULL;
}

char *fl_arena_strndup(struct fl_arena *arena, const char *text, size_t len)
{
    char *copy = fl_alloc(arena, len + 1);

    memcpy(copy, text, len);
    return copy;
}

char *fl_arena_strdup(struct fl_arena *arena, const char *text)
{
    return fl_arena_strndup(arena, text, strlen(text));
}

char *fl_arena_printf(struct fl_arena *arena, const char *fmt, ...)
{
    va_list ap, again;
    char *text;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    text = fl_alloc(arena, (size_t)n + 1);
    (void)vsnprintf(text, (size_t)n + 1, fmt, again);
    va_end(again);
    return text;
}

void fl_arena_on_reset(struct fl_arena *arena, void (*fn)(void *user), void *user)
{
    struct reset_hook *hook = fl_new(arena, struct reset_hook);

    hook->fn = fn;
    hook->user = user;
    hook->next = arena->hooks;
    arena->hooks = hook;
}

size_t fl_arena_size_bytes(const struct fl_arena *arena)
{
    return arena->total;
}

struct fl_bytes *fl_bytes_new(const void *data, size_t len)
{
    struct fl_bytes *bytes = fl_malloc(sizeof(*bytes) + len + 1);

    bytes->refs = 1;
    bytes->len = len;
    if (data)
        memcpy(bytes->data, data, len);
    bytes->data[len] = '\0';
    return bytes;
}

struct fl_bytes *fl_bytes_ref(struct fl_bytes *bytes)
{
    __atomic_add_fetch(&bytes->refs, 1, __ATOMIC_RELAXED);
    return bytes;
}

void fl_bytes_unref(struct fl_bytes *bytes)
{
    if (bytes && __atomic_sub_fetch(&bytes->refs, 1, __ATOMIC_ACQ_REL) == 0)
        free(bytes);
}
