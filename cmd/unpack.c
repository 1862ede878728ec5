/* `flops unpack`: not for people; what a program starts with where an orchestrator knows nothing of
 * files (reconcilers/workload/oakestra/sla.h). It puts in place what the environment holds, takes
 * that out of the environment, and becomes the program. */
#include "cmd/command.h"
#include "lib/file.h"
#include "lib/folder.h"
#include "lib/json.h"
#include "lib/str.h"
#include "reconcilers/workload/oakestra/sla.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define FILES_MAX 64

static int make_parent(struct fl_arena *arena, const char *path, struct fl_error *err)
{
    const char *slash = strrchr(path, '/');

    if (!slash || slash == path)
        return 0;
    return fl_dir_ensure(fl_arena_strndup(arena, path, (size_t)(slash - path)), 0755, err);
}

static int put_file(struct fl_arena *arena, const json_t *file, struct fl_error *err)
{
    const char *path = fl_json_str(file, "path"), *text = fl_json_str(file, "data");
    int64_t mode = fl_json_int(file, "mode", -1);
    char *data = NULL;
    size_t len = 0;
    int r;

    if (!path || !*path || !text || mode < 0 || mode > 0777 ||
        !fl_base64_decode(arena, text, strlen(text), &data, &len))
        return fl_error_set(err, FL_E_INVALID, OAK_PARCEL ": holds something that is no file");
    r = make_parent(arena, path, err);
    return r < 0 ? r : fl_file_write(path, data, len, (mode_t)mode, err);
}

static int put_folder(struct fl_arena *arena, const json_t *folder, struct fl_error *err)
{
    const char *path = json_string_value(folder);

    (void)arena;
    if (!path || !*path)
        return fl_error_set(err, FL_E_INVALID, OAK_PARCEL ": holds something that is no folder");
    return fl_dir_ensure(path, 0755, err);
}

/* Where a node keeps its data sets: in a volume, or where the node says itself. */
static int put_data(struct fl_arena *arena, const json_t *folder, struct fl_error *err)
{
    const char *path = json_string_value(folder), *target = getenv("FLOPS_DATA_DIR");
    int r;

    if (!path || !*path)
        return fl_error_set(err, FL_E_INVALID, OAK_PARCEL ": holds something that is no folder");
    target = fl_str_or(target, OAK_DATA);
    if (strcmp(path, target) == 0 || access(path, F_OK) == 0)
        return 0;
    r = make_parent(arena, path, err);
    return r < 0 ? r : fl_folder_link(path, target, err);
}

typedef int put_fn(struct fl_arena *arena, const json_t *value, struct fl_error *err);

static int put_all(struct fl_arena *arena, const json_t *list, put_fn *put, struct fl_error *err)
{
    int r = 0;

    if (json_array_size(list) > FILES_MAX)
        return fl_error_set(err, FL_E_INVALID, OAK_PARCEL ": holds more than %d of a kind",
                            FILES_MAX);
    for (size_t i = 0; r == 0 && i < json_array_size(list); i++)
        r = put(arena, json_array_get(list, i), err);
    return r;
}

static int unpack(struct fl_arena *arena, const char *text, struct fl_error *err)
{
    FL_JSON parcel = NULL;
    int r = fl_json_parse(text, strlen(text), NULL, NULL, NULL, &parcel, NULL);

    if (r < 0) /* the parser's words could hold a piece of a secret */
        return fl_error_set(err, FL_E_INVALID, OAK_PARCEL ": is no JSON");
    r = put_all(arena, json_object_get(parcel, "folders"), put_folder, err);
    if (r == 0)
        r = put_all(arena, json_object_get(parcel, "data"), put_data, err);
    return r < 0 ? r : put_all(arena, json_object_get(parcel, "files"), put_file, err);
}

static int become(char **argv, struct fl_error *err)
{
    if (strcmp(argv[0], "flops") == 0)
        (void)execv("/proc/self/exe", argv);
    (void)execvp(argv[0], argv);
    return fl_error_errno(err, errno, "%s", argv[0]);
}

static int run(int argc, char **argv)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *text = getenv(OAK_PARCEL);
    struct fl_error err = {0};
    int r = 0;

    if (argc < 3 || strcmp(argv[1], "--") != 0)
        return fl_command_usage("unpack", "is called as unpack -- PROGRAM [ARGUMENT]…");
    if (text)
        r = unpack(arena, text, &err);
    (void)unsetenv(OAK_PARCEL);
    if (r == 0)
        (void)become(argv + 2, &err);
    return fl_command_fail("unpack", &err);
}

const struct fl_command fl_command_unpack = {"unpack", NULL, run};
