/* Shared by the store's tests: a store in a folder of its own, short writes, and checks. */
#ifndef FL_CONTROLLER_STORE_TESTING_H
#define FL_CONTROLLER_STORE_TESTING_H

#include "controller/store/store.h"

#include "lib/str.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define PROJECTS "flprojects.flops.dev"
#define SECRETS  "secrets"

struct fixture {
    struct fl_env env;
    struct fl_store_options options;
    struct fl_store *store;
    char folder[64], path[96];
};

static inline void fixture_init(struct fixture *f, const char *driver)
{
    *f = (struct fixture){.env = fl_env_real(NULL)};
    (void)snprintf(f->folder, sizeof(f->folder), "/tmp/flops-store-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    (void)snprintf(f->path, sizeof(f->path), "%s/store.db", f->folder);
    f->options = (struct fl_store_options){.env = &f->env, .driver = driver, .path = f->path};
}

static inline void fixture_open(struct fixture *f)
{
    struct fl_error err = {0};

    if (fl_store_open(&f->options, &f->store, &err) < 0)
        fail_msg("open: %s", err.msg);
}

static inline void fixture_close(struct fixture *f)
{
    fl_store_close(FL_TAKE(f->store));
}

static inline void remove_files(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    char file[160];

    for (size_t i = 0; i < FL_COUNT_OF(suffixes); i++) {
        (void)snprintf(file, sizeof(file), "%s%s", path, suffixes[i]);
        (void)unlink(file);
    }
}

static inline void fixture_finish(struct fixture *f)
{
    fixture_close(f);
    remove_files(f->path);
    assert_int_equal(rmdir(f->folder), 0);
}

static inline json_t *content(const char *ns, const char *name, const char *text)
{
    return json_pack("{s:{s:s, s:s, s:s}, s:{s:s}}", "metadata", "name", name, "namespace", ns,
                     "uid", name, "spec", "text", text);
}

/* Writes and waits: the revision, or the error's code. `text` NULL: no content (DELETE). */
static inline int64_t put(struct fl_store *store, enum fl_store_op op, const char *resource,
                          const char *ns, const char *name, const char *text, uint64_t expect)
{
    FL_JSON object = text ? content(ns, name, text) : NULL;
    FL_CLEANUP(fl_object_unrefp) struct fl_object *stored = NULL;
    struct fl_store_write write = {op, {resource, ns, name}, object, expect};
    struct fl_error err = {0};
    int r = fl_store_write_wait(store, &write, &stored, &err);

    if (r < 0) {
        assert_int_equal(r, err.code);
        assert_true(err.msg[0] != '\0');
        return r;
    }
    return (int64_t)stored->revision;
}

static inline uint64_t create(struct fl_store *store, const char *ns, const char *name,
                              const char *text)
{
    int64_t revision = put(store, FL_STORE_CREATE, PROJECTS, ns, name, text, 0);

    assert_true(revision > 0);
    return (uint64_t)revision;
}

static inline uint64_t update(struct fl_store *store, const char *ns, const char *name,
                              const char *text)
{
    int64_t revision = put(store, FL_STORE_UPDATE, PROJECTS, ns, name, text, 0);

    assert_true(revision > 0);
    return (uint64_t)revision;
}

static inline uint64_t erase(struct fl_store *store, const char *ns, const char *name)
{
    int64_t revision = put(store, FL_STORE_DELETE, PROJECTS, ns, name, NULL, 0);

    assert_true(revision > 0);
    return (uint64_t)revision;
}

static inline struct fl_object *get(struct fl_store *store, const char *ns, const char *name)
{
    return fl_store_get(store, &(struct fl_key){PROJECTS, ns, name});
}

/* The revision within the content is the object's own. */
static inline void assert_object(const struct fl_object *object, uint64_t revision,
                                 const char *text)
{
    FL_JSON value = NULL;
    char digits[24];

    assert_non_null(object);
    value = fl_object_parse(object);
    (void)snprintf(digits, sizeof(digits), "%" PRIu64, revision);
    assert_int_equal(object->revision, revision);
    assert_string_equal(fl_json_str(value, "metadata.resourceVersion"), digits);
    assert_string_equal(fl_json_str(value, "metadata.name"), object->name);
    assert_string_equal(fl_json_str(value, "spec.text"), text);
}

#endif
