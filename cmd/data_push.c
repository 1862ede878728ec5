/* `flops data push`: files in, a data set out. */
#include "cmd/command.h"
#include "cmd/data.h"
#include "lib/str.h"

#include <stdio.h>

#define MIB ((int64_t)1024 * 1024)

static const char help[] =
    "Usage: flops data push TAG FILES... [options]\n\n"
    "Reads a data set, refuses it by row and column where something is wrong with it, and keeps "
    "it\n"
    "under a tag. Bytes are pixels and are divided by 255, other numbers stay as they are.\n\n"
    "      --format FORMAT     idx: IMAGES LABELS       npy: FEATURES LABELS\n"
    "                          csv: FILE                safetensors: FILE, with the tensors\n"
    "                          \"features\" and \"labels\" (classes) or \"targets\" (numbers)\n"
    "                          Default: what the first file's name says. All but safetensors may\n"
    "                          be gzip.\n"
    "      --label NAME        of the label's column in a CSV file (default: the last column)\n"
    "      --header WHEN       of a CSV file: yes, no, auto (the default: when the first row is\n"
    "                          not all numbers)\n"
    "      --labels AS         of a CSV file: classes, targets, auto (the default: numbers that\n"
    "                          are not whole are targets, all else is classes)\n"
    "      --classes N         at least so many, where not every class occurs\n"
    "      --like TAG          with the classes of that data set: for a test set\n"
    "      --max-memory MIB    refuse what needs more (default 4096)\n"
    "      --replace           what has the tag already\n" //
    FL_DATA_HELP "\nExamples:\n"
    "  flops data push mnist train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz\n"
    "  flops data push mnist-test t10k-images-idx3-ubyte t10k-labels-idx1-ubyte --like mnist\n"
    "  flops data push iris iris.csv --label species\n";

struct push {
    struct fl_data_command *common;
    const char *format, *header, *labels, *like;
    int64_t classes, max_mib;
    bool replace;

    struct fl_csv_options csv;
    struct fl_dataset_limits limits;
    struct fl_dataset *like_set, *dataset;
};

static void push_finish(struct push *push)
{
    fl_dataset_unref(push->like_set);
    fl_dataset_unref(push->dataset);
}

typedef int reader(const struct push *push, const char *const *files,
                   struct fl_dataset **ret_dataset, struct fl_error *err);

static int read_idx(const struct push *push, const char *const *files,
                    struct fl_dataset **ret_dataset, struct fl_error *err)
{
    return fl_dataset_read_idx(files[0], files[1], &push->limits, ret_dataset, err);
}

static int read_npy(const struct push *push, const char *const *files,
                    struct fl_dataset **ret_dataset, struct fl_error *err)
{
    return fl_dataset_read_npy(files[0], files[1], &push->limits, ret_dataset, err);
}

static int read_csv(const struct push *push, const char *const *files,
                    struct fl_dataset **ret_dataset, struct fl_error *err)
{
    return fl_dataset_read_csv(files[0], &push->csv, &push->limits, ret_dataset, err);
}

static int read_safetensors(const struct push *push, const char *const *files,
                            struct fl_dataset **ret_dataset, struct fl_error *err)
{
    return fl_dataset_read_safetensors(files[0], &push->limits, ret_dataset, err);
}

static const struct format {
    const char *name, *hint; /* what names of such files have in them */
    size_t files;
    reader *read;
} formats[] = {
    {"csv", ".csv", 1, read_csv},
    {"npy", ".npy", 2, read_npy},
    {"safetensors", ".safetensors", 1, read_safetensors},
    {"idx", "idx", 2, read_idx},
};

static const struct format *find_format(const struct push *push, const char *file)
{
    for (size_t i = 0; i < FL_COUNT_OF(formats); i++)
        if (push->format ? strcmp(push->format, formats[i].name) == 0
                         : strstr(file, formats[i].hint) != NULL)
            return &formats[i];
    return NULL;
}

/* Position of `text` among `count` words; NULL is the first; < 0: none. */
static int find_word(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; text && i < count; i++)
        if (strcmp(text, words[i]) == 0)
            return (int)i;
    return text ? -1 : 0;
}

static int read_csv_options(struct push *push)
{
    static const char *const headers[] = {"auto", "yes", "no"};
    static const char *const labels[] = {"auto", "classes", "targets"};
    int header = find_word(push->header, headers, FL_COUNT_OF(headers));
    int label = find_word(push->labels, labels, FL_COUNT_OF(labels));

    if (header < 0)
        return fl_command_usage("data push", "--header %s: must be yes, no or auto", push->header);
    if (label < 0)
        return fl_command_usage("data push", "--labels %s: must be classes, targets or auto",
                                push->labels);
    push->csv.header = (enum fl_csv_header)header;
    push->csv.labels = (enum fl_csv_labels)label;
    return -1;
}

static int parse(struct push *push, int argc, char **argv)
{
    const struct fl_option items[] = {
        {"format", 0, FL_OPTION_TEXT, &push->format},
        {"label", 0, FL_OPTION_TEXT, &push->csv.label},
        {"header", 0, FL_OPTION_TEXT, &push->header},
        {"labels", 0, FL_OPTION_TEXT, &push->labels},
        {"classes", 0, FL_OPTION_INT, &push->classes},
        {"like", 0, FL_OPTION_TEXT, &push->like},
        {"max-memory", 0, FL_OPTION_INT, &push->max_mib},
        {"replace", 0, FL_OPTION_FLAG, &push->replace},
        {"data-dir", 0, FL_OPTION_TEXT, &push->common->data_dir},
    };
    const struct fl_options options = {"data push", help, items, FL_COUNT_OF(items)};
    int status = fl_options_parse(&options, push->common->arena, argc, argv, &push->common->words);

    if (status >= 0)
        return status;
    if (push->common->words.count < 2)
        return fl_command_usage("data push", "a tag and files are needed");
    if (push->classes > FL_DATASET_CLASSES_MAX)
        return fl_command_usage("data push", "--classes: at most %d", FL_DATASET_CLASSES_MAX);
    if (push->max_mib < 1 || push->max_mib > INT64_MAX / MIB)
        return fl_command_usage("data push", "--max-memory: must be MiB");
    return read_csv_options(push);
}

static int take_limits(struct push *push, struct fl_error *err)
{
    int r = 0;

    push->limits.max_bytes = (size_t)(push->max_mib * MIB);
    push->limits.classes = push->classes;
    if (push->like)
        r = fl_data_store_open(&push->common->store, push->like, NULL, &push->like_set, err);
    if (r < 0 || !push->like)
        return r < 0 ? fl_error_wrap(err, "--like") : 0;
    push->limits.classes = push->like_set->classes;
    push->limits.class_names = push->like_set->class_names;
    return 0;
}

/* A class that the other set does not have would be one that its models cannot tell. */
static int check_like(const struct push *push, struct fl_error *err)
{
    if (!push->like || push->dataset->classes == push->like_set->classes)
        return 0;
    return fl_error_set(err, FL_E_INVALID, "%lld classes, where \"%s\" has %lld",
                        (long long)push->dataset->classes, push->like,
                        (long long)push->like_set->classes);
}

static int keep(struct push *push, const struct format *format, struct fl_error *err)
{
    struct fl_arena *arena = push->common->arena;
    const char *const *files = push->common->words.items + 1;
    struct fl_data_info info = {.format = format->name, .source_count = format->files};
    int r = take_limits(push, err);

    if (r == 0)
        r = format->read(push, files, &push->dataset, err);
    if (r == 0)
        r = check_like(push, err);
    if (r == 0)
        r = fl_data_source_read(arena, files, format->files, &info.source, err);
    if (r < 0)
        return r;
    return fl_data_store_push(&push->common->store, push->common->words.items[0], push->dataset,
                              &info, push->replace, err);
}

static void report(const struct push *push, bool unchanged)
{
    const struct fl_dataset *dataset = push->dataset;
    struct fl_data_info info = {
        .examples = (int64_t)dataset->count, .classes = dataset->classes, .rank = dataset->rank};

    memcpy(info.shape, dataset->shape, sizeof(info.shape));
    (void)printf("data set \"%s\" %s: %s\n", push->common->words.items[0],
                 unchanged ? "unchanged" : "kept", fl_data_describe(push->common->arena, &info));
}

int fl_data_push(struct fl_data_command *command, int argc, char **argv)
{
    FL_CLEANUP(push_finish) struct push push = {.common = command, .max_mib = 4096};
    const struct format *format;
    struct fl_error err = {0};
    int status = parse(&push, argc, argv), r;

    if (status >= 0)
        return status;
    format = find_format(&push, command->words.items[1]);
    if (!format)
        return fl_command_usage("data push", "--format: must be idx, csv, npy or safetensors");
    if (command->words.count != 1 + format->files)
        return fl_command_usage("data push", "%s needs %zu file%s behind the tag", format->name,
                                format->files, format->files == 1 ? "" : "s");
    fl_data_command_locate(command);
    r = keep(&push, format, &err);
    if (r < 0)
        return fl_command_fail("data push", &err);
    report(&push, r > 0);
    return 0;
}
