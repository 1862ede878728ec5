#include "controller/apiserver/auth_internal.h"

#include "lib/file.h"
#include "lib/log.h"
#include "lib/str.h"

#include <sodium.h>
#include <stdlib.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES  ((size_t)4 * 1024 * 1024)
#define TOKEN_MAX_BYTES 4096
#define GROUPS_MAX      32
#define LOOK_AGAIN_MS   1000

struct fl_tokens {
    const struct fl_env *env;
    char *path;
    struct fl_arena *arena; /* holds the entries */
    struct fl_map *by_hash; /* → struct fl_user */
    struct stat known;      /* of the file that was read */
    int64_t looked_ms;
};

struct fl_tokens *fl_tokens_create(const struct fl_env *env, const char *path)
{
    struct fl_tokens *tokens = fl_calloc(1, sizeof(*tokens));

    tokens->env = env;
    tokens->path = fl_strdup(path);
    tokens->arena = fl_arena_create();
    tokens->by_hash = fl_map_create(NULL);
    tokens->looked_ms = fl_monotonic_ms(env) - LOOK_AGAIN_MS;
    return tokens;
}

void fl_tokens_destroy(struct fl_tokens *tokens)
{
    if (!tokens)
        return;
    fl_map_destroy(tokens->by_hash);
    fl_arena_destroy(tokens->arena);
    free(tokens->path);
    free(tokens);
}

/* The next field of a line of comma-separated values; quotes keep commas together. */
static char *next_field(struct fl_arena *arena, const char **rest)
{
    const char *start = *rest, *end;

    if (!start)
        return fl_arena_strdup(arena, "");
    if (*start == '"') {
        end = strchr(++start, '"');
        if (!end)
            end = start + strlen(start);
        *rest = *end && end[1] == ',' ? end + 2 : NULL;
        return fl_arena_strndup(arena, start, (size_t)(end - start));
    }
    return fl_str_next(arena, rest, ',');
}

static void read_line(struct fl_tokens *tokens, const char *line)
{
    const char *groups[GROUPS_MAX], *rest = line, *group_rest;
    char *hash, *name, *uid, *group;
    size_t count = 0;

    if (*line == '#' || !*line)
        return;
    hash = next_field(tokens->arena, &rest);
    name = next_field(tokens->arena, &rest);
    uid = next_field(tokens->arena, &rest);
    group_rest = next_field(tokens->arena, &rest);
    if (strlen(hash) != 2 * crypto_hash_sha256_BYTES || !*name)
        return;
    while (count < GROUPS_MAX && (group = fl_str_next(tokens->arena, &group_rest, ',')))
        if (*group)
            groups[count++] = group;
    fl_map_put(tokens->by_hash, hash, fl_user_new(tokens->arena, name, uid, groups, count));
}

static bool read_file(struct fl_tokens *tokens)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    struct fl_error err = {0};
    const char *rest;
    char *line;

    if (fl_file_read(tokens->path, FILE_MAX_BYTES, &text, &err) < 0) {
        fl_log_warn(tokens->env->log, "tokens not read", FL_STR("error", err.msg));
        return false; /* what was known stays known */
    }
    fl_map_destroy(tokens->by_hash);
    fl_arena_reset(tokens->arena);
    tokens->by_hash = fl_map_create(NULL);
    rest = text->data;
    while ((line = fl_str_next(tokens->arena, &rest, '\n')))
        read_line(tokens, line);
    return true;
}

/* A clock of some milliseconds is too coarse to tell two writes apart: a file that takes another's
 * place is another one, too. */
static bool is_known(const struct fl_tokens *tokens, const struct stat *st)
{
    const struct stat *known = &tokens->known;

    return st->st_mtim.tv_sec == known->st_mtim.tv_sec &&
           st->st_mtim.tv_nsec == known->st_mtim.tv_nsec && st->st_size == known->st_size &&
           st->st_ino == known->st_ino && st->st_dev == known->st_dev;
}

static void look_again(struct fl_tokens *tokens)
{
    int64_t now = fl_monotonic_ms(tokens->env);
    struct stat st;

    if (now - tokens->looked_ms < LOOK_AGAIN_MS)
        return;
    tokens->looked_ms = now;
    if (stat(tokens->path, &st) == 0 && !is_known(tokens, &st) && read_file(tokens))
        tokens->known = st;
}

struct fl_user *fl_tokens_find(struct fl_tokens *tokens, struct fl_arena *arena, const char *token)
{
    unsigned char hash[crypto_hash_sha256_BYTES];
    char hex[2 * crypto_hash_sha256_BYTES + 1];
    const struct fl_user *user;
    size_t len = strlen(token);

    if (!tokens || !len || len > TOKEN_MAX_BYTES)
        return NULL;
    look_again(tokens);
    (void)crypto_hash_sha256(hash, (const unsigned char *)token, len);
    fl_hex_encode(hash, sizeof(hash), hex);
    user = fl_map_get(tokens->by_hash, hex);
    return user ? fl_user_new(arena, user->name, user->uid, user->groups, user->group_count) : NULL;
}
