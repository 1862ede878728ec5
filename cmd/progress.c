#include "cmd/progress.h"

#include <stdio.h>
#include <unistd.h>

#define SHOW_AFTER_MS 1000 /* what is done sooner needs no progress */
#define SHOW_LIVE_MS  200
#define SHOW_LINE_MS  5000

struct fl_progress fl_progress_begin(const struct fl_env *env, const char *what, int64_t all)
{
    int64_t now_ms = fl_monotonic_ms(env);

    return (struct fl_progress){.env = env,
                                .what = what,
                                .all = all,
                                .began_ms = now_ms,
                                .shown_ms = now_ms + SHOW_AFTER_MS - SHOW_LIVE_MS,
                                .live = isatty(STDERR_FILENO) != 0};
}

static void show(struct fl_progress *progress, int64_t now_ms)
{
    double seconds = (double)(now_ms - progress->began_ms) / 1000;
    double speed = seconds > 0 ? (double)progress->done / 1e6 / seconds : 0;

    if (progress->all > 0)
        (void)fprintf(stderr, "%s%s %3.0f %% of %.1f MB, %.1f MB/s%s", progress->live ? "\r" : "",
                      progress->what, 100.0 * (double)progress->done / (double)progress->all,
                      (double)progress->all / 1e6, speed, progress->live ? "   " : "\n");
    else
        (void)fprintf(stderr, "%s%s %.1f MB, %.1f MB/s%s", progress->live ? "\r" : "",
                      progress->what, (double)progress->done / 1e6, speed,
                      progress->live ? "   " : "\n");
    progress->shown = true;
    progress->shown_ms = now_ms;
}

void fl_progress_tell(struct fl_progress *progress, int64_t done)
{
    int64_t now_ms = fl_monotonic_ms(progress->env);

    progress->done = done;
    if (now_ms - progress->shown_ms >= (progress->live ? SHOW_LIVE_MS : SHOW_LINE_MS))
        show(progress, now_ms);
}

void fl_progress_end(struct fl_progress *progress)
{
    if (!progress->live || !progress->shown)
        return;
    show(progress, fl_monotonic_ms(progress->env)); /* how far it came */
    (void)fputc('\n', stderr);
}
