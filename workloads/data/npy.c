/* NPY: a magic text, a version, the size of a header that is a Python dict, the elements (as
 * NumPy's page on its format describes it). The dict is read as what it may be and nothing else. */
#include "workloads/data/dataset_internal.h"

#include "lib/str.h"

#include <inttypes.h>

#define HEADER_MAX  ((size_t)64 * 1024)
#define RANK_MAX    (1 + FL_DATASET_RANK_MAX)
#define PIECE_COUNT 16384

struct header {
    enum fl_dtype dtype;
    bool big_endian, fortran_order;
    unsigned rank;
    int64_t sizes[RANK_MAX];
};

/* --- the dict --- */

struct dict {
    const char *text, *at, *end;
    struct header *header;
    bool has_type, has_order, has_shape;
};

static int refuse(const struct dict *dict, const char *what, struct fl_error *err)
{
    return fl_error_set(err, FL_E_INVALID, "header, byte %zu: %s", (size_t)(dict->at - dict->text),
                        what);
}

static void skip_spaces(struct dict *dict)
{
    while (dict->at < dict->end && (*dict->at == ' ' || *dict->at == '\n' || *dict->at == '\t'))
        dict->at++;
}

static bool take(struct dict *dict, const char *text)
{
    size_t len = strlen(text);

    skip_spaces(dict);
    if ((size_t)(dict->end - dict->at) < len || memcmp(dict->at, text, len) != 0)
        return false;
    dict->at += len;
    return true;
}

/* Without escapes: none of the texts that can be has one. */
static bool take_string(struct dict *dict, const char **ret_text, size_t *ret_len)
{
    const char *close;

    skip_spaces(dict);
    if (dict->at == dict->end || (*dict->at != '\'' && *dict->at != '"'))
        return false;
    close = memchr(dict->at + 1, *dict->at, (size_t)(dict->end - dict->at - 1));
    if (!close)
        return false;
    *ret_text = dict->at + 1;
    *ret_len = (size_t)(close - *ret_text);
    dict->at = close + 1;
    return true;
}

static enum fl_dtype dtype_of(const char *code)
{
    static const struct {
        char code[3];
        enum fl_dtype dtype;
    } types[] = {
        {"b1", FL_DTYPE_BOOL}, {"u1", FL_DTYPE_U8},  {"i1", FL_DTYPE_I8},  {"u2", FL_DTYPE_U16},
        {"i2", FL_DTYPE_I16},  {"u4", FL_DTYPE_U32}, {"i4", FL_DTYPE_I32}, {"u8", FL_DTYPE_U64},
        {"i8", FL_DTYPE_I64},  {"f2", FL_DTYPE_F16}, {"f4", FL_DTYPE_F32}, {"f8", FL_DTYPE_F64},
    };

    for (size_t i = 0; i < FL_COUNT_OF(types); i++)
        if (memcmp(code, types[i].code, 2) == 0)
            return types[i].dtype;
    return FL_DTYPE_NONE;
}

static int read_type(struct dict *dict, struct fl_error *err)
{
    const char *text = "";
    size_t len = 0;

    if (!take_string(dict, &text, &len))
        return refuse(dict, "'descr' must be one type; records cannot be used", err);
    if (len == 3 && strchr("<>=|", text[0]))
        dict->header->dtype = dtype_of(text + 1);
    if (dict->header->dtype == FL_DTYPE_NONE)
        return refuse(dict, "'descr' is no boolean, integer or float that can be used", err);
    dict->header->big_endian = text[0] == '>';
    return 0;
}

static int read_order(struct dict *dict, struct fl_error *err)
{
    dict->header->fortran_order = take(dict, "True");
    if (!dict->header->fortran_order && !take(dict, "False"))
        return refuse(dict, "'fortran_order' must be True or False", err);
    return 0;
}

static bool take_size(struct dict *dict, int64_t *ret_size)
{
    int64_t value = 0;
    const char *from;

    skip_spaces(dict);
    from = dict->at;
    for (; dict->at < dict->end && *dict->at >= '0' && *dict->at <= '9'; dict->at++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *dict->at - '0', &value))
            return false;
    *ret_size = value;
    return dict->at > from;
}

static int read_shape(struct dict *dict, struct fl_error *err)
{
    struct header *header = dict->header;

    if (!take(dict, "("))
        return refuse(dict, "'shape' must be a tuple", err);
    while (!take(dict, ")")) {
        if (header->rank == RANK_MAX)
            return refuse(dict, "'shape' has more than 5 dimensions", err);
        if (!take_size(dict, &header->sizes[header->rank++]))
            return refuse(dict, "'shape' has a bad size", err);
        (void)take(dict, "L"); /* of Python 2 */
        if (!take(dict, ",")) {
            if (!take(dict, ")"))
                return refuse(dict, "'shape' is not closed", err);
            break;
        }
    }
    return 0;
}

static int read_entry(struct dict *dict, struct fl_error *err)
{
    static const struct {
        const char *key;
        size_t seen;
        int (*read)(struct dict *dict, struct fl_error *err);
    } entries[] = {
        {"descr", offsetof(struct dict, has_type), read_type},
        {"fortran_order", offsetof(struct dict, has_order), read_order},
        {"shape", offsetof(struct dict, has_shape), read_shape},
    };
    const char *key = "";
    size_t len = 0;

    if (!take_string(dict, &key, &len) || !take(dict, ":"))
        return refuse(dict, "a key and ':' are missing", err);
    for (size_t i = 0; i < FL_COUNT_OF(entries); i++) {
        bool *seen = (bool *)((char *)dict + entries[i].seen);

        if (len != strlen(entries[i].key) || memcmp(key, entries[i].key, len) != 0)
            continue;
        if (*seen)
            return refuse(dict, "a key stands twice", err);
        *seen = true;
        return entries[i].read(dict, err);
    }
    return refuse(dict, "unknown key", err);
}

static int read_dict(struct dict *dict, struct fl_error *err)
{
    if (!take(dict, "{"))
        return refuse(dict, "no dict", err);
    while (!take(dict, "}")) {
        int r = read_entry(dict, err);

        if (r < 0)
            return r;
        if (!take(dict, ",")) {
            if (!take(dict, "}"))
                return refuse(dict, "the dict is not closed", err);
            break;
        }
    }
    skip_spaces(dict);
    if (dict->at != dict->end)
        return refuse(dict, "something behind the dict", err);
    if (!dict->has_type || !dict->has_order || !dict->has_shape)
        return refuse(dict, "'descr', 'fortran_order' and 'shape' are needed", err);
    return 0;
}

/* --- the file --- */

static int read_header_size(struct fl_input *input, size_t *ret_size, struct fl_error *err)
{
    unsigned char magic[8], size[4] = {0};
    int r = fl_input_exactly(input, magic, sizeof(magic), err);

    if (r < 0)
        return r;
    if (memcmp(magic, "\x93NUMPY", 6) != 0)
        return fl_error_set(err, FL_E_INVALID, "no NPY file: it does not begin with \\x93NUMPY");
    if (magic[6] < 1 || magic[6] > 3 || magic[7] != 0)
        return fl_error_set(err, FL_E_INVALID, "version %u.%u; 1.0 to 3.0 can be read", magic[6],
                            magic[7]);
    r = fl_input_exactly(input, size, magic[6] == 1 ? 2 : 4, err);
    if (r < 0)
        return r;
    *ret_size =
        (size_t)size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16 | (size_t)size[3] << 24;
    if (*ret_size > HEADER_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "a header of %zu bytes", *ret_size);
    return 0;
}

static int read_header(struct fl_input *input, struct header *header, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *text = NULL;
    struct dict dict = {.header = header};
    size_t size = 0;
    int r = read_header_size(input, &size, err);

    if (r < 0)
        return r;
    text = fl_malloc(size + 1);
    r = fl_input_exactly(input, text, size, err);
    if (r < 0)
        return r;
    dict.text = dict.at = text;
    dict.end = text + size;
    return read_dict(&dict, err);
}

/* --- the elements --- */

/* Where elements of a file in Fortran order go: the first index is the fastest there, the last one
 * here. */
struct scatter {
    unsigned rank;
    size_t sizes[RANK_MAX], strides[RANK_MAX], index[RANK_MAX];
    size_t place;
};

static void scatter_init(struct scatter *scatter, const struct header *header)
{
    size_t stride = 1;

    *scatter = (struct scatter){.rank = header->rank};
    for (unsigned i = header->rank; i-- > 0;) {
        scatter->sizes[i] = (size_t)header->sizes[i];
        scatter->strides[i] = stride;
        stride *= scatter->sizes[i];
    }
}

static void scatter_put(struct scatter *scatter, const float *values, size_t count, float *out)
{
    for (size_t n = 0; n < count; n++) {
        out[scatter->place] = values[n];
        for (unsigned i = 0; i < scatter->rank; i++) {
            scatter->place += scatter->strides[i];
            if (++scatter->index[i] < scatter->sizes[i])
                break;
            scatter->place -= scatter->strides[i] * scatter->sizes[i];
            scatter->index[i] = 0;
        }
    }
}

static int read_fortran(const struct fl_elements *elements, struct fl_input *input,
                        const struct header *header, size_t count, float *out, struct fl_error *err)
{
    FL_CLEANUP(fl_freep) float *piece = fl_malloc(PIECE_COUNT * sizeof(*piece));
    struct fl_elements unchecked = *elements;
    struct scatter scatter;

    unchecked.unchecked = true;
    scatter_init(&scatter, header);
    for (size_t done = 0; done < count;) {
        size_t n = count - done < PIECE_COUNT ? count - done : PIECE_COUNT;
        int r = fl_elements_read(&unchecked, input, n, piece, err);

        if (r < 0)
            return r;
        scatter_put(&scatter, piece, n, out);
        done += n;
    }
    return fl_elements_check(elements, out, count, 0, err);
}

static int read_array(const struct fl_elements *elements, struct fl_input *input,
                      const struct header *header, size_t count, float **ret_array,
                      struct fl_error *err)
{
    int r = fl_dataset_allocate(count, ret_array, err);

    if (r == 0 && header->fortran_order && header->rank > 1)
        r = read_fortran(elements, input, header, count, *ret_array, err);
    else if (r == 0)
        r = fl_elements_read(elements, input, count, *ret_array, err);
    return r < 0 ? r : fl_input_end(input, err);
}

static int read_features(struct fl_input *input, const struct fl_dataset_limits *limits,
                         struct fl_dataset *dataset, struct fl_error *err)
{
    struct fl_elements elements = {.pixels = true};
    struct header header = {0};
    int r = read_header(input, &header, err);

    if (r < 0)
        return r;
    if (header.rank == 0)
        return fl_error_set(err, FL_E_INVALID, "one number is no set of examples");
    dataset->count = (size_t)header.sizes[0];
    dataset->rank = header.rank - 1;
    memcpy(dataset->shape, header.sizes + 1, dataset->rank * sizeof(*dataset->shape));
    r = fl_dataset_measure(dataset, limits, err);
    if (r < 0)
        return r;
    elements.dtype = header.dtype;
    elements.big_endian = header.big_endian;
    elements.width = dataset->width;
    return read_array(&elements, input, &header, dataset->count * dataset->width,
                      &fl_dataset_memory(dataset)->features, err);
}

static int read_labels(struct fl_input *input, const struct fl_dataset_limits *limits,
                       struct fl_dataset *dataset, struct fl_error *err)
{
    struct fl_elements elements = {.width = 1};
    struct header header = {0};
    int r = read_header(input, &header, err);

    if (r < 0)
        return r;
    if (header.rank < 1 || header.rank > 2 || (size_t)header.sizes[0] != dataset->count ||
        (header.rank == 2 && header.sizes[1] != 1))
        return fl_error_set(err, FL_E_INVALID,
                            "%u dimensions, %" PRId64 " labels, where %zu examples need one each",
                            header.rank, header.sizes[0], dataset->count);
    elements.dtype = header.dtype;
    elements.big_endian = header.big_endian;
    r = read_array(&elements, input, &header, dataset->count, &fl_dataset_memory(dataset)->targets,
                   err);
    if (r < 0 || fl_dtype_is_float(header.dtype))
        return r;
    return fl_dataset_classify(dataset, limits, err);
}

int fl_npy_parse(struct fl_input *features, struct fl_input *labels,
                 const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                 struct fl_error *err)
{
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = fl_dataset_new();
    int r = read_features(features, limits, dataset, err);

    if (r < 0)
        return fl_error_wrap(err, "features");
    r = read_labels(labels, limits, dataset, err);
    if (r < 0)
        return fl_error_wrap(err, "labels");
    fl_dataset_publish(dataset);
    *ret_dataset = FL_TAKE(dataset);
    return 0;
}
