#include "cmd/screen.h"

#include "cmd/paint.h"
#include "lib/str.h"
#include "lib/terminal.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define REDRAW_MS   250
#define TICK_MS     1000 /* what tells how long something lasts goes on */
#define KEYS_MAX    64
#define COLUMNS_MIN 20
#define ROWS_MIN    4
#define BY_SIGNAL   128

struct fl_screen {
    struct fl_screen_options options;
    struct fl_terminal *terminal;
    struct fl_loop_fd *keys;
    struct fl_timer *redraw, *tick;
    int64_t drawn_ms;
    bool waiting;                /* for the redraw */
    bool anew;                   /* nothing that is on the screen counts */
    size_t first, lines, window; /* of the body: the first that is shown, how many there are, fit */
};

size_t fl_screen_first(size_t first, size_t lines, size_t window)
{
    const size_t last = lines > window ? lines - window : 0;

    return first < last ? first : last;
}

/* Drawing */

static size_t count_lines(const struct fl_buf *text)
{
    size_t count = 0;

    for (size_t i = 0; i < text->len; i++)
        count += text->data[i] == '\n';
    return count;
}

/* Appends so many lines from the given one on. */
static void add_lines(struct fl_buf *out, const struct fl_buf *text, size_t first, size_t count)
{
    const char *at = fl_buf_text(text), *newline;

    for (; first > 0 && (newline = strchr(at, '\n')); first--)
        at = newline + 1;
    for (; count > 0 && (newline = strchr(at, '\n')); count--) {
        fl_buf_append(out, at, (size_t)(newline - at) + 1);
        at = newline + 1;
    }
}

static void add_footer(struct fl_screen *screen, struct fl_buf *out, size_t columns)
{
    struct fl_paint paint = {.out = out,
                             .width = columns,
                             .utf8 = screen->options.utf8,
                             .colors = screen->options.colors};
    char place[64];

    fl_paint_text(&paint, FL_PAINT_DIM, "%s", screen->options.hint);
    if (screen->lines > screen->window) {
        (void)snprintf(place, sizeof(place), "%zu-%zu of %zu", screen->first + 1,
                       screen->first + screen->window, screen->lines);
        fl_paint_right(&paint, FL_PAINT_DIM, place);
    }
    fl_paint_end_line(&paint);
    out->len--; /* a newline at the last line would scroll */
    out->data[out->len] = '\0';
}

static void draw(struct fl_screen *screen)
{
    FL_CLEANUP(fl_buf_finish) struct fl_buf header = {0};
    FL_CLEANUP(fl_buf_finish) struct fl_buf body = {0};
    FL_CLEANUP(fl_buf_finish) struct fl_buf all = {0};
    size_t columns, rows, top;

    (void)fl_terminal_size(STDOUT_FILENO, &columns, &rows);
    columns = columns < COLUMNS_MIN ? COLUMNS_MIN : columns;
    rows = rows < ROWS_MIN ? ROWS_MIN : rows;
    screen->options.paint(screen->options.user, columns, &header, &body);
    top = count_lines(&header);
    top = top < rows - 2 ? top : rows - 2;
    screen->lines = count_lines(&body);
    screen->window = rows - top - 1;
    screen->first = fl_screen_first(screen->first, screen->lines, screen->window);
    add_lines(&all, &header, 0, top);
    add_lines(&all, &body, screen->first, screen->window);
    for (size_t i = screen->lines; i < screen->window; i++)
        fl_buf_putc(&all, '\n');
    add_footer(screen, &all, columns);
    fl_terminal_draw(screen->terminal, &all, screen->anew);
    screen->anew = false;
    screen->drawn_ms = fl_monotonic_ms(screen->options.env);
}

static void on_redraw(void *user)
{
    struct fl_screen *screen = user;

    screen->waiting = false;
    draw(screen);
}

void fl_screen_changed(struct fl_screen *screen)
{
    const int64_t since_ms = fl_monotonic_ms(screen->options.env) - screen->drawn_ms;

    if (screen->waiting)
        return;
    screen->waiting = true;
    fl_timer_arm(screen->redraw, since_ms < REDRAW_MS ? REDRAW_MS - since_ms : 0);
}

static void on_tick(void *user)
{
    fl_screen_changed(user);
}

/* Keys */

/* Where a key moves to; false: it is none that moves. The end is cut when it is drawn. */
static bool move(struct fl_screen *screen, int key)
{
    const size_t page = screen->window > 1 ? screen->window - 1 : 1;
    const size_t first = screen->first;

    switch (key) {
    case FL_KEY_UP:
    case 'k':
        screen->first = first > 0 ? first - 1 : 0;
        return true;
    case FL_KEY_DOWN:
    case 'j':
        screen->first = first + 1;
        return true;
    case FL_KEY_PAGE_UP:
        screen->first = first > page ? first - page : 0;
        return true;
    case FL_KEY_PAGE_DOWN:
    case ' ':
        screen->first = first + page;
        return true;
    case FL_KEY_HOME:
    case 'g':
        screen->first = 0;
        return true;
    case FL_KEY_END:
    case 'G':
        screen->first = screen->lines;
        return true;
    default:
        return false;
    }
}

/* What a user does is answered at once. */
static void press(struct fl_screen *screen, int key)
{
    const struct fl_screen_options *options = &screen->options;

    if (key == 'q')
        options->end(options->user, 0);
    else if (key == '\f') /* Ctrl-L */
        screen->anew = true;
    else if (!move(screen, key) && !(options->key && options->key(options->user, key)))
        return;
    screen->first = fl_screen_first(screen->first, screen->lines, screen->window);
    draw(screen);
}

static void on_keys(void *user, unsigned what)
{
    struct fl_screen *screen = user;
    int keys[KEYS_MAX], count = fl_terminal_read_keys(screen->terminal, keys, KEYS_MAX);

    (void)what;
    for (int i = 0; i < count; i++)
        press(screen, keys[i]);
    if (count < 0) {
        fl_loop_unwatch_fd(FL_TAKE(screen->keys));
        screen->options.end(screen->options.user, BY_SIGNAL + SIGHUP);
    }
}

/* Signals */

static void on_resize(void *user)
{
    struct fl_screen *screen = user;

    screen->anew = true;
    draw(screen);
}

static void on_stop(void *user)
{
    struct fl_screen *screen = user;

    fl_terminal_suspend(screen->terminal);
    screen->anew = true;
    draw(screen);
}

#define ENDED_BY(signum)                                                                           \
    static void ended_by_##signum(void *user)                                                      \
    {                                                                                              \
        struct fl_screen *screen = user;                                                           \
                                                                                                   \
        screen->options.end(screen->options.user, BY_SIGNAL + (signum));                           \
    }
ENDED_BY(SIGINT)
ENDED_BY(SIGTERM)
ENDED_BY(SIGHUP)
ENDED_BY(SIGQUIT)

static int watch_signals(struct fl_screen *screen, struct fl_error *err)
{
    static const struct {
        int signum;
        fl_loop_fn *fn;
    } signals[] = {{SIGWINCH, on_resize},     {SIGTSTP, on_stop},
                   {SIGINT, ended_by_SIGINT}, {SIGTERM, ended_by_SIGTERM},
                   {SIGHUP, ended_by_SIGHUP}, {SIGQUIT, ended_by_SIGQUIT}};
    int r = 0;

    for (size_t i = 0; r == 0 && i < FL_COUNT_OF(signals); i++)
        r = fl_loop_on_signal(screen->options.loop, signals[i].signum, signals[i].fn, screen, err);
    return r;
}

static int watch_keys(struct fl_screen *screen, struct fl_error *err)
{
    const int fd = fl_terminal_keys_fd(screen->terminal);

    return fd < 0 ? 0
                  : fl_loop_watch_fd(screen->options.loop, fd, FL_LOOP_READ, on_keys, screen,
                                     &screen->keys, err);
}

int fl_screen_create(const struct fl_screen_options *options, struct fl_screen **ret_screen,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_screen_destroyp) struct fl_screen *screen = fl_calloc(1, sizeof(*screen));
    int r;

    screen->options = *options;
    screen->redraw = fl_timer_create(options->loop, on_redraw, screen);
    screen->tick = fl_timer_create(options->loop, on_tick, screen);
    r = watch_signals(screen, err); /* before the terminal is taken */
    if (r == 0)
        r = fl_terminal_open(&screen->terminal, err);
    if (r == 0)
        r = watch_keys(screen, err);
    if (r < 0)
        return r;
    fl_timer_repeat(screen->tick, TICK_MS);
    fl_screen_changed(screen);
    *ret_screen = FL_TAKE(screen);
    return 0;
}

void fl_screen_destroy(struct fl_screen *screen)
{
    if (!screen)
        return;
    fl_loop_unwatch_fd(screen->keys);
    fl_timer_destroy(screen->redraw);
    fl_timer_destroy(screen->tick);
    fl_terminal_close(screen->terminal);
    free(screen);
}
