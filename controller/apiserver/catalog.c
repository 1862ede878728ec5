/* What is served: built-in kinds and those of stored definitions, by group, version and name. */
#include "controller/apiserver/internal.h"

struct fl_catalog {
    struct fl_map *served;                   /* "group/version/plural" → struct fl_served */
    struct fl_group_version *group_versions; /* sorted; NULL: to be made */
    size_t group_version_count;
    uint64_t generation;
};

struct fl_served *fl_served_ref(struct fl_served *served)
{
    served->refs++;
    return served;
}

void fl_served_unref(struct fl_served *served)
{
    if (--served->refs > 0)
        return;
    fl_table_columns_destroy(served->own_columns);
    fl_resource_unref(served->resource);
    free(served);
}

/* As the map's destructor: who still holds it learns that it is no longer served. */
static void served_replace(void *value)
{
    ((struct fl_served *)value)->replaced = true;
    fl_served_unref(value);
}

struct fl_catalog *fl_catalog_create(void)
{
    struct fl_catalog *catalog = fl_calloc(1, sizeof(*catalog));

    catalog->served = fl_map_create(served_replace);
    return catalog;
}

static void forget_group_versions(struct fl_catalog *catalog)
{
    for (size_t i = 0; i < catalog->group_version_count; i++)
        free(catalog->group_versions[i].items);
    free(catalog->group_versions);
    catalog->group_versions = NULL;
    catalog->group_version_count = 0;
    catalog->generation++;
}

void fl_catalog_destroy(struct fl_catalog *catalog)
{
    if (!catalog)
        return;
    forget_group_versions(catalog);
    fl_map_destroy(catalog->served);
    free(catalog);
}

#define KEY_MAX 1024

static const char *make_key(char buf[KEY_MAX], const char *group, const char *version,
                            const char *plural)
{
    int len = snprintf(buf, KEY_MAX, "%s/%s/%s", group, version, plural);

    return len > 0 && len < KEY_MAX ? buf : "";
}

static int add(struct fl_catalog *catalog, struct fl_resource *resource, bool terminating,
               uint64_t revision, struct fl_error *err)
{
    struct fl_served *served = fl_calloc(1, sizeof(*served));
    char key[KEY_MAX];
    int r;

    served->refs = 1;
    served->resource = fl_resource_ref(resource);
    served->terminating = terminating;
    served->revision = revision;
    if (resource->builtin) {
        served->columns = fl_table_columns_builtin(resource->group, resource->kind);
    } else {
        r = fl_table_columns_create(resource->printer_columns, &served->own_columns, err);
        if (r < 0) {
            fl_served_unref(served);
            return r;
        }
        served->columns = served->own_columns;
    }
    fl_map_put(catalog->served, make_key(key, resource->group, resource->version, resource->plural),
               served);
    forget_group_versions(catalog);
    return 0;
}

int fl_catalog_load_builtins(struct fl_catalog *catalog, struct fl_error *err)
{
    FL_JSON entries = NULL;
    json_t *entry;
    size_t i;
    int r = fl_builtin_load(&entries, err);

    json_array_foreach(entries, i, entry) {
        FL_CLEANUP(fl_resource_unrefp) struct fl_resource *resource = NULL;

        r = fl_resource_from_builtin(entry, &resource, err);
        if (r == 0)
            r = add(catalog, resource, false, 0, err);
        if (r < 0)
            return r;
    }
    return r;
}

static void drop_storage(struct fl_catalog *catalog, const char *storage)
{
    void *cursor = NULL, *value;
    const char *key;

    while (fl_map_next(catalog->served, &cursor, &key, &value)) {
        const struct fl_served *served = value;

        if (!served->resource->builtin && strcmp(served->resource->storage, storage) == 0)
            (void)fl_map_remove(catalog->served, key);
    }
    forget_group_versions(catalog);
}

static bool is_established(const json_t *crd)
{
    json_t *condition;
    size_t i;

    json_array_foreach(fl_json_path(crd, "status.conditions"), i, condition)
        if (fl_streq(fl_json_str(condition, "type"), "Established"))
            return fl_streq(fl_json_str(condition, "status"), "True");
    return false;
}

int fl_catalog_set_definition(struct fl_catalog *catalog, const char *name, const json_t *crd,
                              uint64_t revision, struct fl_error *err)
{
    json_t *version;
    size_t i;

    drop_storage(catalog, name);
    if (!crd || !is_established(crd))
        return 0;
    json_array_foreach(fl_json_path(crd, "spec.versions"), i, version) {
        FL_CLEANUP(fl_resource_unrefp) struct fl_resource *resource = NULL;
        int r;

        if (!fl_json_bool(version, "served", false))
            continue;
        r = fl_resource_from_crd(crd, version, &resource, err);
        if (r == 0)
            r = add(catalog, resource, fl_meta_is_deleting(crd), revision, err);
        if (r < 0)
            return fl_error_wrap(err, "definition %s", name);
    }
    return 0;
}

struct fl_served *fl_catalog_find(struct fl_catalog *catalog, const char *group,
                                  const char *version, const char *plural)
{
    char key[KEY_MAX];

    return fl_map_get(catalog->served, make_key(key, group, version, plural));
}

struct fl_served *fl_catalog_find_kind(struct fl_catalog *catalog, const char *api_version,
                                       const char *kind)
{
    const char *slash = strchr(api_version, '/');
    size_t group_len = slash ? (size_t)(slash - api_version) : 0;
    void *cursor = NULL, *value;

    while (fl_map_next(catalog->served, &cursor, NULL, &value)) {
        const struct fl_resource *resource = ((struct fl_served *)value)->resource;

        if (strcmp(resource->kind, kind) == 0 && strlen(resource->group) == group_len &&
            strncmp(resource->group, api_version, group_len) == 0)
            return value;
    }
    return NULL;
}

struct fl_served *fl_catalog_find_storage(struct fl_catalog *catalog, const char *storage)
{
    void *cursor = NULL, *value;

    while (fl_map_next(catalog->served, &cursor, NULL, &value)) {
        const struct fl_resource *resource = ((struct fl_served *)value)->resource;

        if (!resource->converted && strcmp(resource->storage, storage) == 0)
            return value;
    }
    return NULL;
}

uint64_t fl_catalog_generation(const struct fl_catalog *catalog)
{
    return catalog->generation;
}

/* Discovery's order: groups by name (the core group's is empty), versions within, names within. */
static int compare_served(const void *a, const void *b)
{
    const struct fl_resource *x = (*(struct fl_served *const *)a)->resource;
    const struct fl_resource *y = (*(struct fl_served *const *)b)->resource;
    int order = strcmp(x->group, y->group);

    if (order == 0)
        order = strcmp(x->version, y->version);
    return order ? order : strcmp(x->plural, y->plural);
}

static void build_group_versions(struct fl_catalog *catalog)
{
    size_t total = fl_map_count(catalog->served), count = 0;
    struct fl_served **all = fl_calloc(total, sizeof(struct fl_served *));
    void *cursor = NULL, *value;

    while (fl_map_next(catalog->served, &cursor, NULL, &value))
        all[count++] = value;
    qsort(all, count, sizeof(struct fl_served *), compare_served);
    catalog->group_versions = fl_calloc(total, sizeof(struct fl_group_version));
    for (size_t i = 0; i < count; i++) {
        const struct fl_resource *resource = all[i]->resource;
        size_t known = catalog->group_version_count;
        struct fl_group_version *last = &catalog->group_versions[known ? known - 1 : 0];

        if (known == 0 || strcmp(last->group, resource->group) != 0 ||
            strcmp(last->version, resource->version) != 0) {
            last = &catalog->group_versions[catalog->group_version_count++];
            last->group = resource->group;
            last->version = resource->version;
            last->items = fl_calloc(total, sizeof(struct fl_served *));
        }
        last->items[last->count++] = all[i];
    }
    free(all);
}

size_t fl_catalog_group_versions(struct fl_catalog *catalog, const struct fl_group_version **ret)
{
    if (!catalog->group_versions)
        build_group_versions(catalog);
    *ret = catalog->group_versions;
    return catalog->group_version_count;
}

/* Names of definitions */

static bool has_word(const struct fl_words *words, const char *word)
{
    for (size_t i = 0; i < words->count; i++)
        if (strcmp(words->items[i], word) == 0)
            return true;
    return false;
}

static bool uses_name(const struct fl_resource *resource, const char *name)
{
    return strcmp(resource->plural, name) == 0 || strcmp(resource->singular, name) == 0 ||
           has_word(&resource->short_names, name);
}

static const char *who_uses(struct fl_catalog *catalog, const json_t *crd, const char *name,
                            bool kind)
{
    const char *group = fl_json_str(crd, "spec.group"), *own = fl_json_str(crd, "metadata.name");
    void *cursor = NULL, *value;

    while (name && fl_map_next(catalog->served, &cursor, NULL, &value)) {
        const struct fl_resource *resource = ((struct fl_served *)value)->resource;

        if (!fl_streq(resource->group, group) ||
            (!resource->builtin && fl_streq(resource->storage, own)))
            continue;
        if (kind ? strcmp(resource->kind, name) == 0 || strcmp(resource->list_kind, name) == 0
                 : uses_name(resource, name))
            return name;
    }
    return NULL;
}

bool fl_catalog_names_free(struct fl_catalog *catalog, const json_t *crd, struct fl_arena *arena,
                           const char **ret_reason, const char **ret_message)
{
    const json_t *names = fl_json_path(crd, "spec.names");
    const struct {
        const char *name, *reason;
        bool kind;
    } checks[] = {
        {fl_json_str(names, "plural"), "PluralConflict", false},
        {fl_json_str(names, "singular"), "SingularConflict", false},
        {fl_json_str(names, "kind"), "KindConflict", true},
        {fl_json_str(names, "listKind"), "ListKindConflict", true},
    };
    json_t *word;
    size_t i;

    for (i = 0; i < FL_COUNT_OF(checks); i++) {
        if (who_uses(catalog, crd, checks[i].name, checks[i].kind)) {
            *ret_reason = checks[i].reason;
            *ret_message = fl_arena_printf(arena, "\"%s\" is already in use", checks[i].name);
            return false;
        }
    }
    json_array_foreach(json_object_get(names, "shortNames"), i, word) {
        if (who_uses(catalog, crd, json_string_value(word), false)) {
            *ret_reason = "ShortNamesConflict";
            *ret_message =
                fl_arena_printf(arena, "\"%s\" is already in use", json_string_value(word));
            return false;
        }
    }
    *ret_reason = "NoConflicts";
    *ret_message = "no conflicts found";
    return true;
}
