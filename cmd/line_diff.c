#include "cmd/line_diff.h"

#include "lib/mem.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define CONTEXT 3

struct lines {
    const char **text;
    size_t *len;
    size_t count;
};

/* One line of the result: of the old text, of the new, or of both. */
struct step {
    char sign;                 /* ' ', '-', '+' */
    size_t old_line, new_line; /* where each text stands before it */
};

struct script {
    struct step *steps;
    size_t count;
};

static struct lines split(struct fl_arena *arena, const char *text)
{
    struct lines lines = {0};
    size_t count = 1;

    for (const char *c = text; *c; c++)
        count += *c == '\n';
    lines.text = fl_new_array(arena, const char *, count);
    lines.len = fl_new_array(arena, size_t, count);
    while (*text) {
        size_t len = strcspn(text, "\n");

        lines.text[lines.count] = text;
        lines.len[lines.count++] = len;
        text += len + (text[len] == '\n');
    }
    return lines;
}

static bool same(const struct lines *a, size_t i, const struct lines *b, size_t j)
{
    return a->len[i] == b->len[j] && memcmp(a->text[i], b->text[j], a->len[i]) == 0;
}

static void add(struct script *script, char sign, size_t old_line, size_t new_line)
{
    script->steps[script->count++] = (struct step){sign, old_line, new_line};
}

/* The part of both texts between `from` and their ends less `tail`. */
struct middle {
    const struct lines *a, *b;
    size_t from, n, m; /* lines from `from` on that may differ */
};

/* How far the best path with d edits got on each diagonal, kept for each d to walk back. */
struct trace {
    int **reached;
    int edits; /* < 0: more than the bound */
};

static int step_to(const int *v, int d, int k)
{
    if (k == -d || (k != d && v[d + k - 1] < v[d + k + 1]))
        return v[d + k + 1]; /* down: a line of the new text */
    return v[d + k - 1] + 1;
}

/* `v` of round d holds 2d+3 entries: diagonals -d-1 … d+1, at index k+d+1. */
static struct trace search(struct fl_arena *arena, const struct middle *middle)
{
    struct trace trace = {.reached = fl_new_array(arena, int *, FL_LINE_DIFF_MAX + 2), .edits = -1};
    int n = (int)middle->n, m = (int)middle->m;

    for (int d = 0; d <= FL_LINE_DIFF_MAX; d++) {
        int *now = fl_new_array(arena, int, (size_t)(2 * d + 3));
        const int *before = d > 0 ? trace.reached[d - 1] : NULL;

        trace.reached[d] = now;
        for (int k = -d; k <= d; k += 2) {
            int x = before ? step_to(before, d, k) : 0, y;

            y = x - k;
            while (x < n && y < m &&
                   same(middle->a, middle->from + (size_t)x, middle->b, middle->from + (size_t)y)) {
                x++;
                y++;
            }
            now[k + d + 1] = x;
            if (x == n && y == m) {
                trace.edits = d;
                return trace;
            }
        }
    }
    return trace;
}

/* Walks the trace back from the end; the steps come last first. */
static void walk_back(const struct middle *middle, const struct trace *trace, struct script *script)
{
    int x = (int)middle->n, y = (int)middle->m;
    size_t first = script->count;

    for (int d = trace->edits; d > 0; d--) {
        const int *before = trace->reached[d - 1];
        int k = x - y;
        bool down = k == -d || (k != d && before[d + k - 1] < before[d + k + 1]);
        int old_k = down ? k + 1 : k - 1, old_x = before[d + old_k], old_y = old_x - old_k;
        int turn_x = down ? old_x : old_x + 1;

        while (x > turn_x) {
            x--;
            y--;
            add(script, ' ', middle->from + (size_t)x, middle->from + (size_t)y);
        }
        add(script, down ? '+' : '-', middle->from + (size_t)old_x, middle->from + (size_t)old_y);
        x = old_x;
        y = old_y;
    }
    while (x > 0) {
        x--;
        y--;
        add(script, ' ', middle->from + (size_t)x, middle->from + (size_t)y);
    }
    for (size_t i = first, j = script->count; i + 1 < j; i++) {
        struct step step = script->steps[i];

        script->steps[i] = script->steps[--j];
        script->steps[j] = step;
    }
}

static void replace_whole(const struct middle *middle, struct script *script)
{
    for (size_t i = 0; i < middle->n; i++)
        add(script, '-', middle->from + i, middle->from);
    for (size_t i = 0; i < middle->m; i++)
        add(script, '+', middle->from + middle->n, middle->from + i);
}

static struct script compare(struct fl_arena *arena, const struct lines *a, const struct lines *b)
{
    struct script script = {.steps = fl_new_array(arena, struct step, a->count + b->count + 1)};
    size_t head = 0, tail = 0;
    struct middle middle;
    struct trace trace;

    while (head < a->count && head < b->count && same(a, head, b, head))
        head++;
    while (tail < a->count - head && tail < b->count - head &&
           same(a, a->count - 1 - tail, b, b->count - 1 - tail))
        tail++;
    for (size_t i = 0; i < head; i++)
        add(&script, ' ', i, i);
    middle = (struct middle){a, b, head, a->count - head - tail, b->count - head - tail};
    trace = search(arena, &middle);
    if (trace.edits < 0)
        replace_whole(&middle, &script);
    else
        walk_back(&middle, &trace, &script);
    for (size_t i = 0; i < tail; i++)
        add(&script, ' ', a->count - tail + i, b->count - tail + i);
    return script;
}

static void print_step(const struct step *step, const struct lines *a, const struct lines *b,
                       bool colors, struct fl_buf *out)
{
    bool is_new = step->sign == '+';
    size_t line = is_new ? step->new_line : step->old_line;
    const struct lines *lines = is_new ? b : a;

    if (colors && step->sign != ' ')
        fl_buf_puts(out, is_new ? "\033[32m" : "\033[31m");
    fl_buf_putc(out, step->sign);
    fl_buf_append(out, lines->text[line], lines->len[line]);
    if (colors && step->sign != ' ')
        fl_buf_puts(out, "\033[0m");
    fl_buf_putc(out, '\n');
}

/* A range of no lines is named by the line before it. */
static void print_range(struct fl_buf *out, char sign, size_t first, size_t count)
{
    fl_buf_printf(out, "%c%zu", sign, count ? first + 1 : first);
    if (count != 1)
        fl_buf_printf(out, ",%zu", count);
}

static void print_hunk(const struct script *script, size_t begin, size_t end, const struct lines *a,
                       const struct lines *b, bool colors, struct fl_buf *out)
{
    size_t old_count = 0, new_count = 0;

    for (size_t i = begin; i < end; i++) {
        old_count += script->steps[i].sign != '+';
        new_count += script->steps[i].sign != '-';
    }
    fl_buf_puts(out, "@@ ");
    print_range(out, '-', script->steps[begin].old_line, old_count);
    fl_buf_putc(out, ' ');
    print_range(out, '+', script->steps[begin].new_line, new_count);
    fl_buf_puts(out, " @@\n");
    for (size_t i = begin; i < end; i++)
        print_step(&script->steps[i], a, b, colors, out);
}

/* The first changed step at or behind `from`, or the count. */
static size_t next_change(const struct script *script, size_t from)
{
    while (from < script->count && script->steps[from].sign == ' ')
        from++;
    return from;
}

bool fl_line_diff(const char *old_text, const char *new_text,
                  const struct fl_line_diff_options *options, struct fl_buf *out)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct lines a = split(arena, old_text), b = split(arena, new_text);
    struct script script = compare(arena, &a, &b);
    size_t change = next_change(&script, 0);

    if (change == script.count)
        return false;
    fl_buf_printf(out, "--- %s\n+++ %s\n", options->old_name, options->new_name);
    while (change < script.count) {
        size_t begin = change > CONTEXT ? change - CONTEXT : 0, end, next;

        for (;;) { /* changes whose contexts meet are one hunk */
            end = change;
            while (end < script.count && script.steps[end].sign != ' ')
                end++;
            next = next_change(&script, end);
            if (next == script.count || next - end > (size_t)2 * CONTEXT)
                break;
            change = next;
        }
        end = end + CONTEXT < script.count ? end + CONTEXT : script.count;
        print_hunk(&script, begin, end, &a, &b, options->colors, out);
        change = next;
    }
    return true;
}
