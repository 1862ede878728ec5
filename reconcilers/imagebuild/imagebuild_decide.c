#include "reconcilers/imagebuild/imagebuild_decide.h"

#define RETRY_FIRST_MS 10000
#define RETRY_MOST_MS  300000

static int64_t retry_after_ms(int64_t attempt)
{
    int64_t ms = RETRY_FIRST_MS;

    for (int64_t i = 1; i < attempt && ms < RETRY_MOST_MS; i++)
        ms *= 2;
    return ms < RETRY_MOST_MS ? ms : RETRY_MOST_MS;
}

/* What the code or the request is to blame for does not get better. */
static bool is_worth_retrying(int code)
{
    return fl_error_is_retryable(code) && code != FL_E_TIMEOUT;
}

static struct fl_imagebuild_decision begin(int64_t attempt)
{
    return (struct fl_imagebuild_decision){.action = FL_IMAGEBUILD_BEGIN, .attempt = attempt};
}

static struct fl_imagebuild_decision only(enum fl_imagebuild_action action)
{
    return (struct fl_imagebuild_decision){.action = action};
}

static struct fl_imagebuild_decision after_failure(const struct fl_imagebuild_facts *facts)
{
    int64_t since_ms = (facts->now_us - facts->ended_us) / 1000;
    int64_t left_ms = retry_after_ms(facts->attempts) - (since_ms > 0 ? since_ms : 0);

    if (!is_worth_retrying(facts->failure) || facts->attempts > facts->retry_limit)
        return only(FL_IMAGEBUILD_GIVE_UP);
    if (left_ms <= 0)
        return begin(facts->attempts + 1);
    return (struct fl_imagebuild_decision){
        .action = FL_IMAGEBUILD_WAIT, .attempt = facts->attempts + 1, .wait_ms = left_ms};
}

struct fl_imagebuild_decision fl_imagebuild_decide(const struct fl_imagebuild_facts *facts)
{
    if (facts->attempts == 0)
        return begin(1);
    switch (facts->state) {
    case FL_BUILDER_WAITING:
    case FL_BUILDER_RUNNING:
        return only(FL_IMAGEBUILD_FOLLOW);
    case FL_BUILDER_DONE:
        return only(FL_IMAGEBUILD_SHOW);
    case FL_BUILDER_FAILED:
        return facts->given_up && facts->edited ? begin(facts->attempts + 1) : after_failure(facts);
    default:
        break;
    }
    if (!facts->given_up)
        return begin(facts->attempts);
    return facts->edited ? begin(facts->attempts + 1) : only(FL_IMAGEBUILD_STAY);
}
