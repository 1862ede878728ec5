#include "lib/terminal.h"

#include "lib/str.h"

#include <assert.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#define DEFAULT_COLUMNS 80
#define DEFAULT_ROWS    24
#define KEYS_BYTES      256

/* The alternate screen without a cursor, and back. */
static const char enter[] = "\033[?1049h\033[?25l\033[2J";
static const char leave[] = "\033[0m\033[?25h\033[?1049l";

static const int crashes[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};

struct fl_terminal {
    bool has_keys, taken;
    struct termios before;
    struct sigaction courses[FL_COUNT_OF(crashes)]; /* what a crash did before us */
    struct fl_buf shown, out;
};

/* What a crash gives back: a signal's handler knows nothing but what is static. */
static struct fl_terminal *volatile at_crash;

static void write_all(const char *text, size_t len)
{
    while (len > 0) {
        const ssize_t n = write(STDOUT_FILENO, text, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* nobody looks any more */
        text += n;
        len -= (size_t)n;
    }
}

/* May be called from a signal's handler. */
static void give_back(struct fl_terminal *terminal)
{
    if (!terminal->taken)
        return;
    terminal->taken = false;
    write_all(leave, strlen(leave));
    if (terminal->has_keys)
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &terminal->before);
}

/* The signal comes again when this returns, and takes the course that was set before. */
static void on_crash(int signum)
{
    struct fl_terminal *terminal = at_crash;

    if (!terminal)
        return;
    give_back(terminal);
    for (size_t i = 0; i < FL_COUNT_OF(crashes); i++)
        if (crashes[i] == signum)
            (void)sigaction(signum, &terminal->courses[i], NULL);
    (void)raise(signum);
}

static void take(struct fl_terminal *terminal)
{
    struct termios raw = terminal->before;

    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    if (terminal->has_keys)
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    terminal->taken = true;
    write_all(enter, strlen(enter));
    fl_buf_clear(&terminal->shown);
}

int fl_terminal_open(struct fl_terminal **ret_terminal, struct fl_error *err)
{
    const struct sigaction action = {.sa_handler = on_crash};
    struct fl_terminal *terminal;

    assert(!at_crash);

    if (!fl_terminal_can_draw(STDOUT_FILENO))
        return fl_error_set(err, FL_E_UNAVAILABLE, "standard output is no terminal to draw on");
    terminal = fl_calloc(1, sizeof(*terminal));
    terminal->has_keys = tcgetattr(STDIN_FILENO, &terminal->before) == 0;
    at_crash = terminal;
    for (size_t i = 0; i < FL_COUNT_OF(crashes); i++)
        (void)sigaction(crashes[i], &action, &terminal->courses[i]);
    take(terminal);
    *ret_terminal = terminal;
    return 0;
}

void fl_terminal_close(struct fl_terminal *terminal)
{
    if (!terminal)
        return;
    give_back(terminal);
    for (size_t i = 0; i < FL_COUNT_OF(crashes); i++)
        (void)sigaction(crashes[i], &terminal->courses[i], NULL);
    at_crash = NULL;
    fl_buf_finish(&terminal->shown);
    fl_buf_finish(&terminal->out);
    free(terminal);
}

void fl_terminal_suspend(struct fl_terminal *terminal)
{
    give_back(terminal);
    (void)raise(SIGSTOP); /* the others of the job stop by themselves */
    take(terminal);
}

/* Drawing */

/* The next line of what is left, without its newline. False at the end. */
static bool next_line(const char **rest, const char **ret_line, size_t *ret_len)
{
    const char *end;

    if (!**rest)
        return false;
    end = strchrnul(*rest, '\n');
    *ret_line = *rest;
    *ret_len = (size_t)(end - *rest);
    *rest = *end ? end + 1 : end;
    return true;
}

void fl_terminal_draw(struct fl_terminal *terminal, const struct fl_buf *lines, bool anew)
{
    const char *old = anew ? "" : fl_buf_text(&terminal->shown), *now = fl_buf_text(lines);
    const char *line, *was = "";
    size_t len, was_len, row = 0;
    struct fl_buf *out = &terminal->out;

    fl_buf_clear(out);
    if (anew)
        fl_buf_puts(out, "\033[2J");
    while (next_line(&now, &line, &len)) {
        const bool had = next_line(&old, &was, &was_len);

        row++;
        if (had && was_len == len && memcmp(was, line, len) == 0)
            continue;
        /* Erased first: behind a full line it would take the last character with it. */
        fl_buf_printf(out, "\033[%zu;1H\033[K", row);
        fl_buf_append(out, line, len);
        fl_buf_puts(out, "\033[0m");
    }
    if (next_line(&old, &was, &was_len))
        fl_buf_printf(out, "\033[%zu;1H\033[J", row + 1);
    write_all(fl_buf_text(out), out->len);
    fl_buf_clear(&terminal->shown);
    fl_buf_puts(&terminal->shown, fl_buf_text(lines));
}

/* Keys */

static const struct sequence {
    const char *text;
    int key;
} sequences[] = {
    {"\033[A", FL_KEY_UP},   {"\033OA", FL_KEY_UP},       {"\033[B", FL_KEY_DOWN},
    {"\033OB", FL_KEY_DOWN}, {"\033[5~", FL_KEY_PAGE_UP}, {"\033[6~", FL_KEY_PAGE_DOWN},
    {"\033[H", FL_KEY_HOME}, {"\033[1~", FL_KEY_HOME},    {"\033OH", FL_KEY_HOME},
    {"\033[F", FL_KEY_END},  {"\033[4~", FL_KEY_END},     {"\033OF", FL_KEY_END},
};

int fl_terminal_keys_fd(const struct fl_terminal *terminal)
{
    return terminal->has_keys ? STDIN_FILENO : -1;
}

/* What a key sent; its length. */
static size_t key_of(const char *text, int *ret_key)
{
    for (size_t i = 0; i < FL_COUNT_OF(sequences); i++)
        if (fl_str_has_prefix(text, sequences[i].text)) {
            *ret_key = sequences[i].key;
            return strlen(sequences[i].text);
        }
    *ret_key = (unsigned char)*text;
    return 1;
}

int fl_terminal_read_keys(struct fl_terminal *terminal, int *keys, size_t max)
{
    char text[KEYS_BYTES + 1];
    const ssize_t n = read(STDIN_FILENO, text, KEYS_BYTES);
    size_t count = 0;

    assert(terminal->has_keys);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n <= 0)
        return -1;
    text[n] = '\0';
    for (const char *at = text; *at && count < max;)
        at += key_of(at, &keys[count++]);
    return (int)count;
}

/* What it is */

bool fl_terminal_size(int fd, size_t *ret_columns, size_t *ret_rows)
{
    struct winsize size = {0};
    const bool known = ioctl(fd, TIOCGWINSZ, &size) == 0;

    *ret_columns = known && size.ws_col > 0 ? size.ws_col : DEFAULT_COLUMNS;
    *ret_rows = known && size.ws_row > 0 ? size.ws_row : DEFAULT_ROWS;
    return known;
}

bool fl_terminal_can_draw(int fd)
{
    const char *term = getenv("TERM");

    return isatty(fd) && term && *term && strcmp(term, "dumb") != 0;
}

/* Where the locale that was asked for is not installed, its name must do. */
static bool names_utf8(void)
{
    static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

    for (size_t i = 0; i < FL_COUNT_OF(names); i++) {
        const char *value = getenv(names[i]);

        if (value && *value)
            return strcasestr(value, "utf-8") || strcasestr(value, "utf8");
    }
    return false;
}

bool fl_terminal_is_utf8(void)
{
    locale_t locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0);
    bool utf8;

    if (!locale)
        return names_utf8();
    utf8 = strcmp(nl_langinfo_l(CODESET, locale), "UTF-8") == 0;
    freelocale(locale);
    return utf8;
}
