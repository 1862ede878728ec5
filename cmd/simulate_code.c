#include "cmd/simulate_code.h"

#include "cmd/parts.h"
#include "cmd/training.h"
#include "lib/file.h"
#include "lib/machine.h"
#include "lib/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* From any thread: a line goes out whole. */
static void show_line(void *user, const char *line)
{
    (void)user;
    (void)fprintf(stderr, "  | %s\n", line);
}

static const char *const *words_of(const struct fl_code_options *options, const char *adapter,
                                   const char *python, const char *folder, struct fl_arena *arena)
{
    const char **argv = fl_new_array(arena, const char *, 7);
    size_t count = 0;

    argv[count++] = python;
    argv[count++] = fl_arena_printf(arena, "%s/usr/bin/flops-trainer", adapter);
    argv[count++] = "--code";
    argv[count++] = folder;
    if (options->entrypoint) {
        argv[count++] = "--entrypoint";
        argv[count++] = options->entrypoint;
    }
    return argv;
}

int fl_code_prepare(const struct fl_code_options *options, const struct fl_env *env,
                    struct fl_arena *arena, struct fl_code *ret_code, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *folder = realpath(options->folder, NULL);
    const char *python = fl_find_program(arena, options->python);
    const char *adapter = fl_part_adapter(arena);

    if (!folder)
        return fl_error_set(err, FL_E_INVALID, "%s: there is no such folder", options->folder);
    if (!python)
        return fl_error_set(err, FL_E_INVALID, "there is no program %s: --python names another",
                            options->python);
    if (!adapter)
        return fl_error_set(err, FL_E_INVALID, "the adapter for Python is not installed");
    *ret_code = (struct fl_code){
        .code = {.name = fl_arena_strdup(arena, options->folder),
                 .program = {.argv = words_of(options, adapter, python,
                                              fl_arena_strdup(arena, folder), arena),
                             .silence_timeout_ms = options->timeout_ms,
                             .output = options->quiet ? NULL : show_line},
                 .env = env,
                 .stateful = options->stateful}};
    return 0;
}

/* --- what the programs see --- */

static bool has(const char *const *variables, const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; variables[i]; i++)
        if (strncmp(variables[i], name, len) == 0 && variables[i][len] == '=')
            return true;
    return false;
}

/* Ours, and of those below whatever is not set: each program takes its share of the processors, and
 * sets of texts have one order. */
static const char *const *environ_for(struct fl_arena *arena, size_t jobs)
{
    static const char *const threads[] = {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                                          "MKL_NUM_THREADS"};
    const char *const *own = (const char *const *)environ;
    size_t cpus = (size_t)fl_machine_get("/").cpus, count = 0;
    size_t share = cpus > jobs ? cpus / jobs : 1;
    const char **variables;

    while (own[count])
        count++;
    variables = fl_new_array(arena, const char *, count + FL_COUNT_OF(threads) + 2);
    memcpy(variables, own, count * sizeof(*own));
    for (size_t i = 0; i < FL_COUNT_OF(threads); i++)
        if (!has(own, threads[i]))
            variables[count++] = fl_arena_printf(arena, "%s=%zu", threads[i], share);
    if (!has(own, "PYTHONHASHSEED"))
        variables[count++] = "PYTHONHASHSEED=0";
    return variables;
}

static bool is_interrupted(void *user)
{
    return fl_interrupt_has_come(user);
}

int fl_code_begin(struct fl_code *code, struct fl_arena *arena, size_t jobs, int64_t deadline_ms,
                  struct fl_interrupt *interrupt, struct fl_error *err)
{
    char *folder =
        fl_arena_printf(arena, "%s/flops-simulate-XXXXXX", fl_str_or(getenv("TMPDIR"), "/tmp"));

    if (!mkdtemp(folder))
        return fl_error_errno(err, errno, "make a temporary folder %s", folder);
    code->code.folder = code->data = folder;
    code->code.program.environ = environ_for(arena, jobs);
    code->code.program.work_timeout_ms = deadline_ms;
    code->code.program.cancelled = is_interrupted;
    code->code.program.user = interrupt;
    return 0;
}

void fl_code_finish(struct fl_code *code)
{
    if (code->data)
        (void)fl_dir_remove(code->data, NULL);
}
