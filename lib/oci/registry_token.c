/* Credentials: what a registry asks for, where it may have it, and tokens that are kept. */
#include "lib/oci/registry_internal.h"
#include "lib/str.h"

#include <strings.h>

#define TOKEN_SECONDS_MIN 10

static void wipe(char *text)
{
    if (text)
        explicit_bzero(text, strlen(text));
    free(text);
}

void fl_registry_forget_tokens(struct fl_registry *registry)
{
    for (size_t i = 0; i < FL_REGISTRY_TOKENS_MAX; i++) {
        free(registry->tokens[i].scope);
        wipe(registry->tokens[i].text);
        registry->tokens[i] = (struct fl_registry_cached_token){0};
    }
}

static struct fl_registry_cached_token *find_token(struct fl_registry *registry, const char *scope)
{
    for (size_t i = 0; i < FL_REGISTRY_TOKENS_MAX; i++)
        if (registry->tokens[i].text && fl_streq(registry->tokens[i].scope, scope))
            return &registry->tokens[i];
    return NULL;
}

static void keep_token(struct fl_registry *registry, const char *scope,
                       const struct fl_registry_token *token)
{
    struct fl_registry_cached_token *slot = find_token(registry, scope);
    int64_t seconds =
        token->valid_seconds > TOKEN_SECONDS_MIN ? token->valid_seconds : TOKEN_SECONDS_MIN;

    if (!slot)
        slot = &registry->tokens[registry->next_token++ % FL_REGISTRY_TOKENS_MAX];
    free(slot->scope);
    wipe(slot->text);
    slot->scope = fl_strdup(scope);
    slot->text = fl_strdup(token->text);
    /* A tenth earlier, so that none ends on its way. */
    slot->until_ms = fl_monotonic_ms(registry->env) + seconds * 900;
}

static const char *basic(struct fl_registry_job *job)
{
    const struct fl_registry *registry = job->registry;
    const char *pair = fl_arena_printf(job->arena, "%s:%s", registry->username, registry->password);

    return fl_arena_printf(job->arena, "Authorization: Basic %s",
                           fl_base64_encode(job->arena, pair, strlen(pair)));
}

const char *fl_registry_authorization(struct fl_registry_job *job, const char *scope)
{
    struct fl_registry *registry = job->registry;
    const struct fl_registry_cached_token *token = find_token(registry, scope);

    if (registry->bearer)
        return fl_arena_printf(job->arena, "Authorization: Bearer %s", registry->bearer);
    if (registry->wants_basic)
        return basic(job);
    if (!token || token->until_ms <= fl_monotonic_ms(registry->env))
        return NULL;
    return fl_arena_printf(job->arena, "Authorization: Bearer %s", token->text);
}

/* The registry itself, or who was named by the caller. */
static bool may_have_password(const struct fl_registry_job *job, const struct fl_registry_url *url)
{
    const struct fl_registry *registry = job->registry;
    struct fl_registry_url named;

    if (!registry->username)
        return false;
    if (fl_registry_url_same_origin(url, &registry->base))
        return true;
    if (!registry->token_host)
        return false;
    return fl_registry_url_parse(job->arena,
                                 fl_arena_printf(job->arena, "%s://%s",
                                                 registry->base.https ? "https" : "http",
                                                 registry->token_host),
                                 &named) &&
           fl_registry_url_same_origin(url, &named);
}

/* What is asked for is what this call needs. What the registry would have asked for is asked for
 * too only where no password gives it weight. */
static const char *token_target(struct fl_registry_job *job, const struct fl_registry_url *realm,
                                const struct fl_challenge *challenge, const char *scope,
                                bool password)
{
    const char *target = realm->target, *rest = scope, *one;

    if (challenge->service)
        target = fl_registry_query(job->arena, target, "service", challenge->service);
    while (rest && (one = fl_str_next(job->arena, &rest, ' ')))
        if (*one)
            target = fl_registry_query(job->arena, target, "scope", one);
    if (challenge->scope && !password && !fl_streq(challenge->scope, scope))
        target = fl_registry_query(job->arena, target, "scope", challenge->scope);
    return target;
}

static int token_refused(struct fl_registry_job *job, const struct fl_registry_answer *answer,
                         const struct fl_registry_url *realm, bool password, struct fl_error *err)
{
    if (fl_registry_status_may_pass(answer->status))
        return fl_registry_refused(job, answer, err);
    if (!password && job->registry->username)
        return fl_error_set(err, FL_E_UNAUTHORIZED,
                            "its tokens come from %s:%u, which is another host and is not given "
                            "the password unless it is named as the token host",
                            realm->host, (unsigned)realm->port);
    return fl_error_set(err, FL_E_UNAUTHORIZED, "%s answers %d",
                        password ? "user name and password are refused: its token service"
                                 : "it wants credentials: its token service",
                        answer->status);
}

static int ask_token(struct fl_registry_job *job, const struct fl_registry_url *realm,
                     const struct fl_challenge *challenge, const char *scope, struct fl_error *err)
{
    const bool password = may_have_password(job, realm);
    struct fl_registry_request request = {.method = "GET", .url = *realm};
    FL_CLEANUP(fl_registry_answer_finish) struct fl_registry_answer answer = {0};
    struct fl_registry_token token;
    int r;

    request.url.target = token_target(job, realm, challenge, scope, password);
    fl_registry_add_header(&request, "Accept: application/json");
    r = fl_registry_exchange(job, &request, password ? basic(job) : NULL, &answer, err);
    if (r < 0) {
        (void)fl_error_wrap(err, "token service");
        return r;
    }
    if (answer.status != 200)
        return token_refused(job, &answer, realm, password, err);
    r = fl_registry_token_parse(job->arena, answer.body->data, answer.body->len, &token, err);
    if (r < 0) {
        (void)fl_error_wrap(err, "token service");
        return r;
    }
    keep_token(job->registry, scope, &token);
    return 0;
}

static int learn_bearer(struct fl_registry_job *job, const struct fl_challenge *challenge,
                        const char *scope, struct fl_error *err)
{
    struct fl_registry_url realm;

    if (!challenge->realm || !fl_registry_url_parse(job->arena, challenge->realm, &realm))
        return fl_error_set(err, FL_E_UNAUTHORIZED, "it wants a token, from nowhere");
    if (job->registry->base.https && !realm.https)
        return fl_error_set(err, FL_E_UNAUTHORIZED,
                            "it wants a token from a service without encryption");
    return ask_token(job, &realm, challenge, scope, err);
}

static int learn_basic(struct fl_registry *registry, struct fl_error *err)
{
    if (!registry->username)
        return fl_error_set(err, FL_E_UNAUTHORIZED, "it wants a user name and a password");
    if (registry->wants_basic)
        return fl_error_set(err, FL_E_UNAUTHORIZED, "user name and password are refused");
    registry->wants_basic = true;
    return 0;
}

int fl_registry_learn(struct fl_registry_job *job, const struct fl_registry_answer *answer,
                      const char *scope, struct fl_error *err)
{
    struct fl_challenges challenges;
    const struct fl_challenge *challenge;

    if (job->registry->bearer)
        return fl_error_set(err, FL_E_UNAUTHORIZED, "the token is refused");
    fl_challenges_find(job->arena, answer->headers, &challenges);
    challenge = fl_challenge_of(&challenges, "bearer");
    if (challenge)
        return learn_bearer(job, challenge, scope, err);
    if (fl_challenge_of(&challenges, "basic"))
        return learn_basic(job->registry, err);
    return fl_error_set(err, FL_E_UNAUTHORIZED,
                        "it wants credentials of a kind that is not known here");
}
