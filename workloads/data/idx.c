/* IDX: two zero bytes, a type, a rank, so many big-endian sizes, the elements in C order (as the
 * page of the MNIST data set describes it). */
#include "workloads/data/dataset_internal.h"

#include <inttypes.h>

struct header {
    enum fl_dtype dtype;
    unsigned rank;
    uint32_t sizes[1 + FL_DATASET_RANK_MAX];
};

static enum fl_dtype dtype_of(unsigned char code)
{
    switch (code) {
    case 0x08:
        return FL_DTYPE_U8;
    case 0x09:
        return FL_DTYPE_I8;
    case 0x0B:
        return FL_DTYPE_I16;
    case 0x0C:
        return FL_DTYPE_I32;
    case 0x0D:
        return FL_DTYPE_F32;
    case 0x0E:
        return FL_DTYPE_F64;
    default:
        return FL_DTYPE_NONE;
    }
}

static int read_magic(struct fl_input *input, struct header *header, struct fl_error *err)
{
    unsigned char magic[4];
    int r = fl_input_exactly(input, magic, sizeof(magic), err);

    if (r < 0)
        return r;
    if (magic[0] != 0 || magic[1] != 0)
        return fl_error_set(err, FL_E_INVALID, "no IDX file: byte 0 and 1 are not zero");
    header->dtype = dtype_of(magic[2]);
    if (header->dtype == FL_DTYPE_NONE)
        return fl_error_set(err, FL_E_INVALID, "byte 2: unknown type 0x%02x", magic[2]);
    header->rank = magic[3];
    if (header->rank < 1 || header->rank > FL_COUNT_OF(header->sizes))
        return fl_error_set(err, FL_E_INVALID, "byte 3: %u dimensions; 1 to %zu can be used",
                            header->rank, FL_COUNT_OF(header->sizes));
    return 0;
}

static int read_header(struct fl_input *input, struct header *header, struct fl_error *err)
{
    int r = read_magic(input, header, err);

    for (unsigned i = 0; r == 0 && i < header->rank; i++) {
        unsigned char size[4];

        r = fl_input_exactly(input, size, sizeof(size), err);
        if (r == 0)
            header->sizes[i] = (uint32_t)size[0] << 24 | (uint32_t)size[1] << 16 |
                               (uint32_t)size[2] << 8 | size[3];
    }
    return r;
}

static int read_images(struct fl_input *input, const struct fl_dataset_limits *limits,
                       struct fl_dataset *dataset, struct fl_error *err)
{
    struct fl_elements elements = {.big_endian = true, .pixels = true};
    struct header header = {0};
    int r = read_header(input, &header, err);

    if (r < 0)
        return r;
    dataset->count = header.sizes[0];
    dataset->rank = header.rank - 1;
    for (unsigned i = 0; i < dataset->rank; i++)
        dataset->shape[i] = header.sizes[1 + i];
    r = fl_dataset_measure(dataset, limits, err);
    if (r < 0)
        return r;
    elements.dtype = header.dtype;
    elements.width = dataset->width;
    r = fl_dataset_allocate(dataset->count * dataset->width, &fl_dataset_memory(dataset)->features,
                            err);
    if (r == 0)
        r = fl_elements_read(&elements, input, dataset->count * dataset->width,
                             fl_dataset_memory(dataset)->features, err);
    return r < 0 ? r : fl_input_end(input, err);
}

static int read_labels(struct fl_input *input, const struct fl_dataset_limits *limits,
                       struct fl_dataset *dataset, struct fl_error *err)
{
    struct fl_elements elements = {.big_endian = true, .width = 1};
    struct fl_dataset_memory *memory = dataset->memory;
    struct header header = {0};
    int r = read_header(input, &header, err);

    if (r < 0)
        return r;
    if (header.rank != 1 || header.sizes[0] != dataset->count)
        return fl_error_set(err, FL_E_INVALID,
                            "%u dimensions, %" PRIu32 " labels, where %zu images need one each",
                            header.rank, header.sizes[0], dataset->count);
    elements.dtype = header.dtype;
    r = fl_dataset_allocate(dataset->count, &memory->targets, err);
    if (r == 0)
        r = fl_elements_read(&elements, input, dataset->count, memory->targets, err);
    if (r == 0)
        r = fl_input_end(input, err);
    if (r < 0 || fl_dtype_is_float(header.dtype))
        return r;
    return fl_dataset_classify(dataset, limits, err);
}

int fl_idx_parse(struct fl_input *images, struct fl_input *labels,
                 const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                 struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = fl_dataset_new();
    int r = read_images(images, limits, dataset, err);

    if (r < 0)
        return fl_error_wrap(err, "images");
    r = read_labels(labels, limits, dataset, err);
    if (r < 0)
        return fl_error_wrap(err, "labels");
    fl_dataset_publish(dataset);
    *ret_dataset = FL_TAKE(dataset);
    return 0;
}
