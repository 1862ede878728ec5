/* `flops init`: a folder of training code to begin with. */
#include "cmd/command.h"
#include "cmd/options.h"
#include "cmd/parts.h"
#include "lib/file.h"
#include "lib/folder.h"

#include <stdio.h>
#include <string.h>

#define FILE_MAX_BYTES ((size_t)1024 * 1024)
#define FILES_MAX      64

static const char help[] =
    "Usage: flops init [DIR]\n\n"
    "Writes training code to begin with into a folder (default .): a trainer, its test, what it\n"
    "needs, and a page that says how it goes on. Files that are there already are left as they\n"
    "are, and it stops at the first.\n\n"
    "Examples:\n"
    "  flops init my-code && cd my-code && python3 -m unittest && flops try\n"
    "\nExit status: 0 written; 1 failed; 2 wrong usage.\n";

static int check_free(struct fl_arena *arena, const char *to, const struct fl_folder_list *files,
                      struct fl_error *err)
{
    for (size_t i = 0; i < files->count; i++)
        if (fl_path_exists(fl_arena_printf(arena, "%s/%s", to, files->names[i])))
            return fl_error_set(err, FL_E_ALREADY_EXISTS,
                                "%s/%s is there already: nothing was written", to, files->names[i]);
    return 0;
}

static int copy(struct fl_arena *arena, const char *from, const char *to, const char *name,
                struct fl_error *err)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *text = NULL;
    int r = fl_file_read(fl_arena_printf(arena, "%s/%s", from, name), FILE_MAX_BYTES, &text, err);

    if (r == 0)
        r = fl_file_write(fl_arena_printf(arena, "%s/%s", to, name), text->data, text->len, 0644,
                          err);
    if (r == 0)
        (void)printf("%s/%s\n", to, name);
    return r;
}

static bool is_text(const char *name)
{
    size_t len = strlen(name);

    return (len > 3 && strcmp(name + len - 3, ".py") == 0) ||
           (len > 3 && strcmp(name + len - 3, ".md") == 0) ||
           (len > 4 && strcmp(name + len - 4, ".txt") == 0);
}

static int write_all(struct fl_arena *arena, const char *to, struct fl_error *err)
{
    const char *from = fl_part_template(arena);
    struct fl_folder_list files = {0};
    size_t kept = 0;
    int r;

    if (!from)
        return fl_error_set(err, FL_E_NOT_FOUND, "what it writes is not installed");
    r = fl_folder_list(arena, from, false, FILES_MAX, &files, err);
    if (r < 0)
        return r;
    for (size_t i = 0; i < files.count; i++) /* and not what a Python left there */
        if (is_text(files.names[i]))
            files.names[kept++] = files.names[i];
    files.count = kept;
    r = fl_dir_ensure(to, 0755, err);
    if (r == 0)
        r = check_free(arena, to, &files, err);
    for (size_t i = 0; i < files.count && r == 0; i++)
        r = copy(arena, from, to, files.names[i], err);
    return r;
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const struct fl_options options = {"init", help, NULL, 0};
    struct fl_words words = {0};
    struct fl_error err = {0};
    const char *to;
    int status = fl_options_parse(&options, arena, argc, argv, &words);

    if (status >= 0)
        return status;
    if (words.count > 1)
        return fl_command_usage("init", "%s: one folder is enough", words.items[1]);
    to = words.count ? words.items[0] : ".";
    if (write_all(arena, to, &err) < 0)
        return fl_command_fail("init", &err);
    (void)printf("next: python3 -m unittest discover %s; flops try %s\n", to, to);
    return 0;
}

const struct fl_command fl_command_init = {"init", "write training code to begin with", run};
