#include "workloads/data/store_manifest.h"

#include "lib/digest.h"
#include "lib/folder.h"
#include "lib/str.h"
#include "workloads/data/number.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define VERSION   1
#define FILES_MAX 64

static bool is_letter_or_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_tag(const char *text, size_t len)
{
    if (len == 0 || len > FL_DATA_TAG_MAX || !is_letter_or_digit(text[0]))
        return false;
    for (size_t i = 1; i < len; i++)
        if (!is_letter_or_digit(text[i]) && text[i] != '_' && text[i] != '-')
            return false;
    return true;
}

bool fl_data_tag_is_valid(const char *tag)
{
    return is_tag(tag, strlen(tag));
}

static bool is_of_parts(const char *name)
{
    return fl_str_has_suffix(name, FL_DATA_PARTS_SUFFIX);
}

bool fl_data_name_is_valid(const char *name)
{
    return is_tag(name, strlen(name) - (is_of_parts(name) ? strlen(FL_DATA_PARTS_SUFFIX) : 0));
}

/* --- reading --- */

static int bad(const char *field, struct fl_error *err)
{
    return fl_error_set(err, FL_E_INVALID, "%s is missing or cannot be", field);
}

static int read_text(struct fl_arena *arena, const json_t *object, const char *key,
                     const char **ret_text, struct fl_error *err)
{
    const char *text = json_string_value(json_object_get(object, key));

    if (!text)
        return bad(key, err);
    *ret_text = fl_arena_strdup(arena, text);
    return 0;
}

static int read_int(const json_t *object, const char *key, int64_t min, int64_t max,
                    int64_t *ret_value, struct fl_error *err)
{
    const json_t *value = json_object_get(object, key);

    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max)
        return bad(key, err);
    *ret_value = json_integer_value(value);
    return 0;
}

static bool is_file_name(const char *name)
{
    return fl_path_is_below(name) && !strchr(name, '/');
}

static int read_file(struct fl_arena *arena, const json_t *object, struct fl_data_file *file,
                     struct fl_error *err)
{
    int r = read_text(arena, object, "name", &file->name, err);

    if (r == 0)
        r = read_int(object, "size", 0, INT64_MAX, &file->size, err);
    if (r == 0)
        r = read_text(arena, object, "digest", &file->digest, err);
    if (r < 0)
        return r;
    if (!is_file_name(file->name))
        return bad("name", err);
    return fl_digest_is_valid(file->digest) ? 0 : bad("digest", err);
}

static int read_files(struct fl_arena *arena, const json_t *object, const char *key,
                      const struct fl_data_file **ret_files, size_t *ret_count,
                      struct fl_error *err)
{
    const json_t *list = json_object_get(object, key);
    size_t count = json_array_size(list);
    struct fl_data_file *files = fl_new_array(arena, struct fl_data_file, FILES_MAX);

    if (!json_is_array(list) || count > FILES_MAX)
        return bad(key, err);
    for (size_t i = 0; i < count; i++) {
        int r = read_file(arena, json_array_get(list, i), &files[i], err);

        if (r < 0)
            return fl_error_wrap(err, "%s[%zu]", key, i);
    }
    *ret_files = files;
    *ret_count = count;
    return 0;
}

static int read_shape(const json_t *object, struct fl_data_info *info, struct fl_error *err)
{
    const json_t *shape = json_object_get(object, "shape");

    if (!json_is_array(shape) || json_array_size(shape) > FL_DATASET_RANK_MAX)
        return bad("shape", err);
    info->rank = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < info->rank; i++) {
        info->shape[i] = json_integer_value(json_array_get(shape, i));
        if (info->shape[i] <= 0)
            return bad("shape", err);
    }
    return 0;
}

static int read_alpha(const json_t *object, double *ret_alpha, struct fl_error *err)
{
    const char *text = fl_str_or(json_string_value(json_object_get(object, "alpha")), "");
    const char *end = text + strlen(text);

    if (fl_number_read(text, end, ret_alpha) != end || !(*ret_alpha > 0 && *ret_alpha < 1e300))
        return bad("alpha", err);
    return 0;
}

static int read_partition(struct fl_arena *arena, const json_t *object, struct fl_data_info *info,
                          struct fl_error *err)
{
    struct fl_partition *partition = &info->partition;
    const char *kind = "", *seed = "";
    int64_t learners = 0, per_learner = 0, min_examples = 0;
    int r = read_text(arena, object, "of", &info->of, err);

    if (r == 0)
        r = read_text(arena, object, "kind", &kind, err);
    if (r == 0)
        r = read_text(arena, object, "seed", &seed, err);
    if (r == 0)
        r = read_int(object, "learners", 1, FL_PARTITION_LEARNERS_MAX, &learners, err);
    if (r == 0)
        r = read_int(object, "perLearner", 1, UINT32_MAX, &per_learner, err);
    if (r == 0)
        r = read_int(object, "minExamples", 1, UINT32_MAX, &min_examples, err);
    if (r == 0)
        r = read_alpha(object, &partition->alpha, err);
    if (r < 0)
        return r;
    partition->learners = (size_t)learners;
    partition->per_learner = (size_t)per_learner;
    partition->min_examples = (size_t)min_examples;
    if (!fl_data_tag_is_valid(info->of))
        return bad("of", err);
    if (!fl_partition_kind_find(kind, &partition->kind))
        return bad("kind", err);
    return fl_str_to_uint64(seed, UINT64_MAX, &partition->seed) ? 0 : bad("seed", err);
}

static int read_info(struct fl_arena *arena, const json_t *object, struct fl_data_info *info,
                     struct fl_error *err)
{
    const json_t *source = json_object_get(object, "source");
    const json_t *partition = json_object_get(object, "partition");
    int64_t version = 0, time = 0;
    int r = read_int(object, "version", VERSION, VERSION, &version, err);

    if (r == 0)
        r = read_text(arena, object, "name", &info->name, err);
    if (r == 0)
        r = read_text(arena, object, "created", &info->created, err);
    if (r == 0)
        r = read_int(object, "examples", 1, UINT32_MAX, &info->examples, err);
    if (r == 0)
        r = read_int(object, "classes", 0, FL_DATASET_CLASSES_MAX, &info->classes, err);
    if (r == 0)
        r = read_shape(object, info, err);
    if (r == 0)
        r = read_text(arena, source, "format", &info->format, err);
    if (r == 0)
        r = read_files(arena, source, "files", &info->source, &info->source_count, err);
    if (r == 0)
        r = read_files(arena, object, "files", &info->files, &info->file_count, err);
    if (r == 0 && partition)
        r = read_partition(arena, partition, info, err);
    if (r < 0)
        return r;
    if (!fl_data_name_is_valid(info->name) || is_of_parts(info->name) != (partition != NULL))
        return bad("name", err);
    if (!fl_time_parse(info->created, &time))
        return bad("created", err);
    return info->file_count == (partition ? 2 : 1) ? 0 : bad("files", err);
}

int fl_data_manifest_read(struct fl_arena *arena, const char *text, size_t len,
                          struct fl_data_info *ret_info, struct fl_error *err)
{
    const struct fl_json_limits limits = {.max_bytes = FL_DATA_MANIFEST_MAX, .max_depth = 8};
    struct fl_data_info info = {0};
    FL_JSON object = NULL;
    int r = fl_json_parse(text, len, &limits, NULL, NULL, &object, err);

    if (r == 0)
        r = read_info(arena, object, &info, err);
    if (r < 0)
        return r;
    *ret_info = info;
    return 0;
}

/* --- writing --- */

static json_t *write_files(const struct fl_data_file *files, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        (void)json_array_append_new(list, json_pack("{s:s, s:I, s:s}", "name", files[i].name,
                                                    "size", (json_int_t)files[i].size, "digest",
                                                    files[i].digest));
    return list;
}

static json_t *write_partition(const struct fl_data_info *info)
{
    const struct fl_partition *partition = &info->partition;
    char alpha[FL_DOUBLE_TEXT_SIZE], seed[24];

    fl_str_from_double(partition->alpha, alpha);
    (void)snprintf(seed, sizeof(seed), "%" PRIu64, partition->seed);
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:s, s:s}", "of", info->of, "kind",
                     fl_partition_kind_name(partition->kind), "learners",
                     (json_int_t)partition->learners, "perLearner",
                     (json_int_t)partition->per_learner, "minExamples",
                     (json_int_t)partition->min_examples, "alpha", alpha, "seed", seed);
}

json_t *fl_data_manifest_write(const struct fl_data_info *info)
{
    json_t *shape = json_array(), *object;

    for (unsigned i = 0; i < info->rank; i++)
        (void)json_array_append_new(shape, json_integer(info->shape[i]));
    object =
        json_pack("{s:i, s:s, s:s, s:I, s:I, s:o, s:{s:s, s:o}, s:o}", "version", VERSION, "name",
                  info->name, "created", info->created, "examples", (json_int_t)info->examples,
                  "classes", (json_int_t)info->classes, "shape", shape, "source", "format",
                  info->format, "files", write_files(info->source, info->source_count), "files",
                  write_files(info->files, info->file_count));
    if (info->of)
        (void)json_object_set_new(object, "partition", write_partition(info));
    return object;
}
