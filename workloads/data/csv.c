/* CSV as RFC 4180 has it: a record at a time, in one buffer that holds it whole. */
#include "workloads/data/dataset_internal.h"

#include "lib/map.h"
#include "lib/str.h"
#include "workloads/data/number.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>

#define FIRST_BYTES ((size_t)4 * 1024)
#define READ_BYTES  ((size_t)256 * 1024)
#define RECORD_MAX  ((size_t)16 * 1024 * 1024)
#define LABEL_MAX   256
#define EXCERPT_MAX 32

struct records {
    struct fl_input *input;
    char *buffer;
    size_t cap, have, at;
    bool ended;
    uint64_t row; /* of the record last read, from 1 */
};

struct record {
    const char *text, *end;
    bool has_quotes;
};

/* Labels as they come; what they are is known at the end. */
struct labels {
    struct fl_map *ids; /* text → number + 1, in the order of appearance */
    char **names;
    size_t name_count, name_cap;
    bool too_many; /* texts to be classes */
    bool all_numbers, all_whole;
    const char *const *known;
    size_t known_count;
};

struct csv {
    const struct fl_csv_options *options;
    const struct fl_dataset_limits *limits;
    struct records records;
    char *header; /* a copy of that record, for names; NULL: none */
    size_t header_len;
    size_t columns, label_column;
    struct labels labels;
    struct fl_dataset *dataset;
    size_t cap;   /* rows that there is room for */
    int32_t *ids; /* of labels as texts */
    char *scratch;
    size_t scratch_cap;
};

static void csv_finish(struct csv *csv)
{
    free(csv->records.buffer);
    free(csv->header);
    free(csv->ids);
    free(csv->scratch);
    for (size_t i = 0; i < csv->labels.name_count; i++)
        free(csv->labels.names[i]);
    free(csv->labels.names);
    fl_map_destroy(csv->labels.ids);
    fl_dataset_unref(csv->dataset);
}

/* --- records --- */

static int too_long(const struct records *records, struct fl_error *err)
{
    return fl_error_set(err, FL_E_TOO_LARGE,
                        "row %" PRIu64 ": longer than %zu bytes; is a quote never closed?",
                        records->row + 1, RECORD_MAX);
}

static int fill(struct records *records, struct fl_error *err)
{
    size_t got = 0, room = records->buffer ? READ_BYTES : FIRST_BYTES;
    int r;

    if (records->at > 0) {
        memmove(records->buffer, records->buffer + records->at, records->have - records->at);
        records->have -= records->at;
        records->at = 0;
    }
    if (records->have > RECORD_MAX)
        return too_long(records, err);
    if (records->cap - records->have < room) {
        records->cap = records->have + records->have / 2 + room;
        records->buffer = fl_realloc(records->buffer, records->cap);
    }
    room = records->cap - records->have;
    r = fl_input_some(records->input, records->buffer + records->have, room, &got, err);
    records->have += got;
    records->ended = got < room;
    return r;
}

/* A line feed ends the record where the quotes before it are even: that holds for doubled ones too.
 */
static bool find_end(const struct records *records, size_t *scanned, size_t *quotes)
{
    const char *text = records->buffer + records->at, *end = records->buffer + records->have;

    for (;;) {
        const char *from = text + *scanned;
        const char *feed = memchr(from, '\n', (size_t)(end - from)), *stop = feed ? feed : end;

        for (const char *q = from; (q = memchr(q, '"', (size_t)(stop - q))); q++)
            (*quotes)++;
        *scanned = (size_t)(stop - text);
        if (!feed)
            return false;
        if (*quotes % 2 == 0)
            return true;
        (*scanned)++;
    }
}

static void take_record(struct records *records, size_t len, size_t quotes,
                        struct record *ret_record)
{
    const char *text = records->buffer + records->at, *end = text + len;

    if (end > text && end[-1] == '\r')
        end--;
    *ret_record = (struct record){text, end, quotes > 0};
    records->at += len < records->have - records->at ? len + 1 : len;
    records->row++;
}

/* 1: a record; 0: the end. Empty lines are skipped, and counted as rows. */
static int next_record(struct records *records, struct record *ret_record, struct fl_error *err)
{
    do {
        size_t scanned = 0, quotes = 0;

        while (!records->buffer || !find_end(records, &scanned, &quotes)) {
            int r;

            if (records->ended)
                break;
            r = fill(records, err);
            if (r < 0)
                return r;
        }
        if (records->at == records->have)
            return 0;
        if (scanned > RECORD_MAX)
            return too_long(records, err);
        if (quotes % 2 != 0)
            return fl_error_set(err, FL_E_INVALID, "row %" PRIu64 ": a quote is never closed",
                                records->row + 1);
        take_record(records, scanned, quotes, ret_record);
    } while (ret_record->text == ret_record->end);
    return 1;
}

static int skip_mark(struct records *records, struct fl_error *err)
{
    int r = fill(records, err);

    if (r == 0 && records->have >= 3 && memcmp(records->buffer, "\xEF\xBB\xBF", 3) == 0)
        records->at = 3;
    return r;
}

/* --- fields --- */

struct field {
    const char *text;
    size_t len;
};

static void excerpt(struct field field, char out[EXCERPT_MAX + 4])
{
    size_t n = field.len < EXCERPT_MAX ? field.len : EXCERPT_MAX;

    for (size_t i = 0; i < n; i++)
        out[i] = (char)(field.text[i] >= ' ' && field.text[i] < 0x7f ? field.text[i] : '?');
    memcpy(out + n, n < field.len ? "..." : "", n < field.len ? 4 : 1);
}

static int next_field(struct csv *csv, struct record *rest, size_t column, struct field *ret_field,
                      struct fl_error *err);

/* "row 3, column 2 (width)" */
static int at_place(struct csv *csv, size_t column, struct fl_error *err)
{
    struct field name = {"", 0};
    char text[EXCERPT_MAX + 4];
    struct record rest;

    if (!csv->header)
        return fl_error_wrap(err, "row %" PRIu64 ", column %zu", csv->records.row, column + 1);
    rest = (struct record){csv->header, csv->header + csv->header_len, true};
    for (size_t i = 0; i <= column; i++)
        (void)next_field(csv, &rest, i, &name, NULL);
    excerpt(name, text);
    return fl_error_wrap(err, "row %" PRIu64 ", column %zu (%s)", csv->records.row, column + 1,
                         text);
}

static int bad_quotes(struct csv *csv, size_t column, const char *what, struct fl_error *err)
{
    int r = fl_error_set(err, FL_E_INVALID, "%s", what);

    return err ? at_place(csv, column, err) : r; /* none: at_place itself is looking for a name */
}

static int quoted_field(struct csv *csv, struct record *rest, size_t column,
                        struct field *ret_field, struct fl_error *err)
{
    const char *at = rest->text + 1;
    size_t len = 0, most = (size_t)(rest->end - at);

    if (csv->scratch_cap < most) {
        csv->scratch = fl_realloc(csv->scratch, most);
        csv->scratch_cap = most;
    }
    while (at < rest->end && (*at != '"' || (at + 1 < rest->end && at[1] == '"'))) {
        at += *at == '"';
        csv->scratch[len++] = *at++;
    }
    if (at == rest->end)
        return bad_quotes(csv, column, "a quote is never closed", err);
    at++;
    if (at < rest->end && *at != ',')
        return bad_quotes(csv, column, "text behind the closing quote", err);
    rest->text = at;
    *ret_field = (struct field){csv->scratch, len};
    return 0;
}

/* The field at the front of `rest`, which then begins at its comma or end. A quoted one is valid
 * until the next. */
static int field_here(struct csv *csv, struct record *rest, size_t column, struct field *ret_field,
                      struct fl_error *err)
{
    const char *comma;

    if (rest->text < rest->end && *rest->text == '"')
        return quoted_field(csv, rest, column, ret_field, err);
    comma = memchr(rest->text, ',', (size_t)(rest->end - rest->text));
    *ret_field = (struct field){rest->text, (size_t)((comma ? comma : rest->end) - rest->text)};
    if (rest->has_quotes && memchr(ret_field->text, '"', ret_field->len))
        return bad_quotes(csv, column, "a quote within a field that does not begin with one", err);
    rest->text += ret_field->len;
    return 0;
}

/* 1: there was one; 0: the record had no more. */
static int next_field(struct csv *csv, struct record *rest, size_t column, struct field *ret_field,
                      struct fl_error *err)
{
    int r;

    if (column > 0 && rest->text == rest->end)
        return 0;
    if (column > 0)
        rest->text++; /* the comma */
    r = field_here(csv, rest, column, ret_field, err);
    return r < 0 ? r : 1;
}

static struct field trimmed(struct field field)
{
    while (field.len > 0 && (field.text[0] == ' ' || field.text[0] == '\t'))
        field.text++, field.len--;
    while (field.len > 0 && (field.text[field.len - 1] == ' ' || field.text[field.len - 1] == '\t'))
        field.len--;
    return field;
}

static bool is_number(struct field field, double *ret_value)
{
    struct field inner = trimmed(field);
    const char *end = inner.text + inner.len;

    return fl_number_read(inner.text, end, ret_value) == end;
}

/* --- labels --- */

static int refuse(struct csv *csv, size_t column, struct field field, const char *what,
                  struct fl_error *err)
{
    char text[EXCERPT_MAX + 4];

    excerpt(field, text);
    (void)fl_error_set(err, FL_E_INVALID, "\"%s\" %s", text, what);
    return at_place(csv, column, err);
}

static bool is_plain_text(struct field field)
{
    for (size_t i = 0; i < field.len; i++)
        if ((unsigned char)field.text[i] < ' ' || field.text[i] == 0x7f)
            return false;
    return fl_utf8_valid(field.text, field.len);
}

static int compare_name(const void *key, const void *item)
{
    const struct field *field = key;
    const char *name = *(const char *const *)item;
    int order = strncmp(field->text, name, field->len);

    return order != 0 ? order : -(name[field->len] != '\0');
}

static int add_known(struct csv *csv, struct field field, struct fl_error *err)
{
    const struct labels *labels = &csv->labels;
    const char *const *found = field.len == 0 ? NULL
                                              : bsearch(&field, labels->known, labels->known_count,
                                                        sizeof(*labels->known), compare_name);

    if (!found)
        return refuse(csv, csv->label_column, field, "is none of the known labels", err);
    csv->ids[csv->dataset->count] = (int32_t)(found - labels->known);
    return 0;
}

/* The number of a new one, from 1. */
static uintptr_t add_name(struct labels *labels, struct field field)
{
    char *name = fl_strndup(field.text, field.len);

    if (labels->name_count == labels->name_cap) {
        labels->name_cap = labels->name_cap * 2 + 16;
        labels->names = fl_realloc(labels->names, labels->name_cap * sizeof(*labels->names));
    }
    labels->names[labels->name_count++] = name;
    fl_map_put(labels->ids, name, (void *)(uintptr_t)labels->name_count);
    return labels->name_count;
}

static void add_text(struct csv *csv, struct field field)
{
    struct labels *labels = &csv->labels;
    uintptr_t id = (uintptr_t)fl_map_get_n(labels->ids, field.text, field.len);

    if (id == 0 && labels->name_count == FL_DATASET_CLASSES_MAX) {
        labels->too_many = true;
        return;
    }
    if (id == 0)
        id = add_name(labels, field);
    csv->ids[csv->dataset->count] = (int32_t)(id - 1);
}

/* Classes as they are: whole numbers that are few enough. */
static bool is_class(double value)
{
    return value >= 0 && value < FL_DATASET_CLASSES_MAX && floor(value) == value;
}

static int add_label(struct csv *csv, struct field field, struct fl_error *err)
{
    struct labels *labels = &csv->labels;
    struct field inner = trimmed(field);
    double value = 0;
    bool number = is_number(inner, &value) && isfinite((float)value);

    if (inner.len == 0 || inner.len > LABEL_MAX || !is_plain_text(inner))
        return refuse(csv, csv->label_column, inner, "is no label of 1 to 256 printable bytes",
                      err);
    if (labels->known)
        return add_known(csv, inner, err);
    if (!number && csv->options->labels == FL_CSV_LABELS_TARGETS)
        return refuse(csv, csv->label_column, inner, "is no number", err);
    labels->all_numbers &= number;
    labels->all_whole &= number && is_class(value);
    fl_dataset_memory(csv->dataset)->targets[csv->dataset->count] = (float)value;
    add_text(csv, inner);
    return 0;
}

/* --- rows --- */

static int grow(void *array, size_t count, size_t size, struct fl_error *err)
{
    void **place = array, *larger = realloc(*place, count * size);

    if (!larger)
        return fl_error_set(err, FL_E_UNAVAILABLE, "no memory for %zu rows", count);
    *place = larger;
    return 0;
}

static int resize(struct csv *csv, size_t rows, struct fl_error *err)
{
    struct fl_dataset_memory *memory = csv->dataset->memory;
    int r = grow(&memory->features, rows, csv->dataset->width * sizeof(float), err);

    if (r == 0)
        r = grow(&memory->targets, rows, sizeof(float), err);
    if (r == 0)
        r = grow(&csv->ids, rows, sizeof(*csv->ids), err);
    if (r == 0)
        csv->cap = rows;
    return r;
}

static int make_room(struct csv *csv, struct fl_error *err)
{
    size_t max = fl_dataset_max_bytes(csv->limits) / ((csv->dataset->width + 1) * sizeof(float));
    size_t wanted = csv->cap + csv->cap / 2 + 64;

    if (csv->dataset->count < csv->cap)
        return 0;
    if (max > UINT32_MAX)
        max = UINT32_MAX;
    if (csv->dataset->count >= max)
        return fl_error_set(err, FL_E_TOO_LARGE, "row %" PRIu64 ": more than %zu bytes of data",
                            csv->records.row, fl_dataset_max_bytes(csv->limits));
    return resize(csv, wanted < max ? wanted : max, err);
}

static int add_feature(struct csv *csv, size_t column, struct field field, float *out,
                       struct fl_error *err)
{
    double value = 0;

    if (!is_number(field, &value))
        return refuse(csv, column, field, "is no number", err);
    *out = (float)value;
    return isfinite(*out) ? 0 : refuse(csv, column, field, "does not fit a float", err);
}

/* What nearly every field is, without finding its end first. */
static inline bool quick_feature(struct record *rest, size_t column, float *out)
{
    const char *at = rest->text + (column > 0), *after;
    double value = 0;

    if (column > 0 && rest->text == rest->end)
        return false;
    after = fl_number_read(at, rest->end, &value);
    *out = (float)value;
    if (!after || (after < rest->end && *after != ',') || !isfinite(*out))
        return false;
    rest->text = after;
    return true;
}

static int add_row(struct csv *csv, struct record rest, struct fl_error *err)
{
    size_t width = csv->dataset->width, column = 0;
    float *out = fl_dataset_memory(csv->dataset)->features + csv->dataset->count * width;

    for (;; column++) {
        struct field field;
        int r;

        if (column != csv->label_column && column < csv->columns &&
            quick_feature(&rest, column, out)) {
            out++;
            continue;
        }
        r = next_field(csv, &rest, column, &field, err);
        if (r == 0)
            break;
        if (r > 0 && column >= csv->columns)
            return fl_error_set(err, FL_E_INVALID,
                                "row %" PRIu64 ": more than the %zu columns of the first",
                                csv->records.row, csv->columns);
        if (r > 0)
            r = column == csv->label_column ? add_label(csv, field, err)
                                            : add_feature(csv, column, field, out++, err);
        if (r < 0)
            return r;
    }
    if (column != csv->columns)
        return fl_error_set(err, FL_E_INVALID,
                            "row %" PRIu64 ": %zu columns, where the first has %zu",
                            csv->records.row, column, csv->columns);
    csv->dataset->count++;
    return 0;
}

/* --- the first row --- */

/* How many columns, whether the features are numbers, and where the label's name is. */
struct first_row {
    size_t columns, label_column, labels_found;
    bool all_numbers; /* but for the last */
};

static int look_at_first(struct csv *csv, struct record rest, struct first_row *first,
                         struct fl_error *err)
{
    const char *label = fl_str_or(csv->options->label, "");
    bool before = true;
    int r;

    first->all_numbers = true;
    for (;; first->columns++) {
        struct field field;
        double value;

        r = next_field(csv, &rest, first->columns, &field, err);
        if (r <= 0)
            return r;
        first->all_numbers &= before;
        before = is_number(field, &value);
        field = trimmed(field);
        if (field.len == strlen(label) && memcmp(field.text, label, field.len) == 0) {
            first->label_column = first->columns;
            first->labels_found++;
        }
    }
}

static int find_label(struct csv *csv, const struct first_row *first, bool has_header,
                      struct fl_error *err)
{
    const char *label = fl_str_or(csv->options->label, "");

    csv->label_column = first->columns - 1;
    if (!*label)
        return 0;
    if (!has_header)
        return fl_error_set(err, FL_E_INVALID, "a label's name needs a header");
    if (first->labels_found != 1)
        return fl_error_set(err, FL_E_INVALID, "row %" PRIu64 ": %zu columns are named \"%s\"",
                            csv->records.row, first->labels_found, label);
    csv->label_column = first->label_column;
    return 0;
}

static int begin(struct csv *csv, struct record record, bool *ret_has_header, struct fl_error *err)
{
    struct first_row first = {0};
    bool has_header;
    int r = look_at_first(csv, record, &first, err);

    if (r < 0)
        return r;
    if (first.columns < 2)
        return fl_error_set(err, FL_E_INVALID, "row %" PRIu64 ": a feature and a label are needed",
                            csv->records.row);
    has_header = csv->options->header == FL_CSV_HEADER_YES ||
                 (csv->options->header == FL_CSV_HEADER_AUTO &&
                  (*fl_str_or(csv->options->label, "") || !first.all_numbers));
    r = find_label(csv, &first, has_header, err);
    if (r < 0)
        return r;
    csv->columns = first.columns;
    csv->dataset->rank = 1;
    csv->dataset->shape[0] = (int64_t)first.columns - 1;
    csv->dataset->width = first.columns - 1;
    if (has_header) {
        csv->header_len = (size_t)(record.end - record.text);
        csv->header = fl_malloc(csv->header_len);
        memcpy(csv->header, record.text, csv->header_len);
    }
    *ret_has_header = has_header;
    return 0;
}

static int read_rows(struct csv *csv, struct fl_error *err)
{
    struct record record;
    bool is_header = false, began = false;
    int r = skip_mark(&csv->records, err);

    while (r == 0 && (r = next_record(&csv->records, &record, err)) > 0) {
        r = began ? 0 : begin(csv, record, &is_header, err);
        if (r == 0 && !is_header)
            r = make_room(csv, err);
        if (r == 0 && !is_header)
            r = add_row(csv, record, err);
        is_header = false;
        began = true;
    }
    return r;
}

/* --- what the labels are --- */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(**(char ***)a, **(char ***)b);
}

/* Numbers in the order of appearance become numbers in the order of names. */
static void sort_names(struct csv *csv)
{
    struct fl_dataset_memory *memory = csv->dataset->memory;
    size_t count = csv->labels.name_count;
    FL_CLEANUP(fl_freep) char ***order = fl_malloc(count * sizeof(*order));
    FL_CLEANUP(fl_freep) int32_t *rank = fl_malloc(count * sizeof(*rank));

    for (size_t i = 0; i < count; i++)
        order[i] = &csv->labels.names[i];
    qsort(order, count, sizeof(*order), compare_texts);
    memory->names = fl_malloc(count * sizeof(*memory->names));
    for (size_t i = 0; i < count; i++) {
        rank[order[i] - csv->labels.names] = (int32_t)i;
        memory->names[i] = fl_strdup(*order[i]);
    }
    memory->name_count = (int64_t)count;
    for (size_t i = 0; i < csv->dataset->count; i++)
        csv->ids[i] = rank[csv->ids[i]];
}

static void copy_known(struct csv *csv)
{
    struct fl_dataset_memory *memory = csv->dataset->memory;

    memory->name_count = (int64_t)csv->labels.known_count;
    memory->names = fl_malloc(csv->labels.known_count * sizeof(*memory->names));
    for (size_t i = 0; i < csv->labels.known_count; i++)
        memory->names[i] = fl_strdup(csv->labels.known[i]);
}

static int name_classes(struct csv *csv, struct fl_error *err)
{
    struct fl_dataset_memory *memory = csv->dataset->memory;

    if (csv->labels.too_many)
        return fl_error_set(err, FL_E_TOO_LARGE, "column %zu: more than %d different labels",
                            csv->label_column + 1, FL_DATASET_CLASSES_MAX);
    if (csv->labels.known)
        copy_known(csv);
    else
        sort_names(csv);
    free(memory->targets);
    memory->targets = NULL;
    memory->labels = FL_TAKE(csv->ids);
    csv->dataset->classes = memory->name_count;
    return 0;
}

static int settle_labels(struct csv *csv, struct fl_error *err)
{
    const struct labels *labels = &csv->labels;
    enum fl_csv_labels wanted = csv->options->labels;

    if (labels->known)
        return name_classes(csv, err);
    if (wanted != FL_CSV_LABELS_TARGETS && labels->all_whole)
        return fl_dataset_classify(csv->dataset, csv->limits, err);
    if (wanted == FL_CSV_LABELS_CLASSES || !labels->all_numbers)
        return name_classes(csv, err);
    return 0; /* targets, as they lie */
}

static int finish(struct csv *csv, struct fl_error *err)
{
    int r;

    if (csv->dataset->count == 0)
        return fl_error_set(err, FL_E_INVALID, "there are no examples");
    r = fl_dataset_measure(csv->dataset, csv->limits, err);
    if (r == 0)
        r = resize(csv, csv->dataset->count, err); /* what was room is given back */
    if (r == 0)
        r = settle_labels(csv, err);
    if (r == 0)
        fl_dataset_publish(csv->dataset);
    return r;
}

int fl_csv_parse(struct fl_input *input, const struct fl_csv_options *options,
                 const struct fl_dataset_limits *limits, struct fl_dataset **ret_dataset,
                 struct fl_error *err)
{
    static const struct fl_csv_options defaults = {0};
    FL_CLEANUP(csv_finish)
    struct csv csv = {
        .options = options ? options : &defaults,
        .limits = limits,
        .records = {.input = input},
        .labels = {.ids = fl_map_create(NULL), .all_numbers = true, .all_whole = true},
        .dataset = fl_dataset_new(),
    };
    struct fl_error own = {0}; /* at_place adds to what was said */
    int r;

    err = err ? err : &own;
    if (limits && limits->class_names) {
        csv.labels.known = limits->class_names;
        csv.labels.known_count = (size_t)limits->classes;
    }
    r = read_rows(&csv, err);
    if (r == 0)
        r = finish(&csv, err);
    if (r < 0)
        return r;
    *ret_dataset = FL_TAKE(csv.dataset);
    return 0;
}
