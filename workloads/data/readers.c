/* Readers by path: files opened, errors named by them. */
#include "workloads/data/dataset_internal.h"

typedef int pair_parser(struct fl_input *features, struct fl_input *labels,
                        const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                        struct fl_error *err);

static int open_input(const char *path, struct fl_input *ret_input, struct fl_error *err)
{
    int r = fl_input_open(path, ret_input, err);

    return r < 0 ? fl_error_wrap(err, "%s", path) : 0;
}

static int read_pair(pair_parser *parse, const char *features, const char *labels,
                     const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                     struct fl_error *err)
{
    FL_CLEANUP(fl_input_close) struct fl_input first = {0}, second = {0};
    int r = open_input(features, &first, err);

    if (r == 0)
        r = open_input(labels, &second, err);
    if (r < 0)
        return r;
    r = parse(&first, &second, limits, ret_dataset, err);
    return r < 0 ? fl_error_wrap(err, "%s, %s", features, labels) : 0;
}

int fl_dataset_read_idx(const char *images, const char *labels,
                        const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                        struct fl_error *err)
{
    return read_pair(fl_idx_parse, images, labels, limits, ret_dataset, err);
}

int fl_dataset_read_csv(const char *path, const struct fl_csv_options *options,
                        const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                        struct fl_error *err)
{
    FL_CLEANUP(fl_input_close) struct fl_input input = {0};
    int r = open_input(path, &input, err);

    if (r < 0)
        return r;
    r = fl_csv_parse(&input, options, limits, ret_dataset, err);
    return r < 0 ? fl_error_wrap(err, "%s", path) : 0;
}

int fl_dataset_read_npy(const char *features, const char *labels,
                        const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                        struct fl_error *err)
{
    return read_pair(fl_npy_parse, features, labels, limits, ret_dataset, err);
}
