/* What becomes of what nothing leads to, here and in the content store. */
#include "controller/registry/registry_testing.h"

struct swept {
    struct fl_forgotten forgotten;
    struct fl_swept swept;
};

/* One look, as the collector does it; `named` (may be NULL): what an object names. */
static struct swept collect(struct fixture *f, const char *named)
{
    struct fl_marks *marks = fl_marks_create();
    struct fl_error err = {0};
    struct swept result;

    if (named)
        fl_marks_add(marks, named, "Workload default/w");
    if (fl_repositories_collect(f->repositories, marks, &result.forgotten, &err) < 0)
        fail_msg("%s", err.msg);
    result.swept = fl_contents_sweep(f->contents, marks);
    return result;
}

static void pass(struct fixture *f, int64_t ms)
{
    (void)atomic_fetch_add(&f->rig->shift_ms, ms);
}

/* Looks, waits, and looks again. */
static struct swept collect_after_grace(struct fixture *f, const char *named)
{
    (void)collect(f, named);
    pass(f, GRACE_MS + 1000);
    return collect(f, named);
}

static bool has(struct fixture *f, const char *repository, const char *text)
{
    int status = look(f, MANIFEST, repository, digest_of(f, text)).status;

    assert_true(status == 200 || status == 404);
    return status == 200;
}

/* Everything that it names can be had. */
static void assert_whole(struct fixture *f, const char *repository, const char *name)
{
    assert_answer(
        look(f, BLOB, repository, digest_of(f, format(f->rig, "{\"config\":\"%s\"}", name))), 200);
    assert_answer(look(f, BLOB, repository, digest_of(f, format(f->rig, "layer of %s", name))),
                  200);
}

static void what_a_tag_leads_to_stays(void **state)
{
    struct fixture *f = *state;
    const char *tagged = push_image(f, "a", "v", "tagged", "");
    const char *loose = push_image(f, "a", NULL, "loose", "");
    struct swept result = collect(f, NULL);

    assert_int_equal(result.forgotten.manifests, 0); /* not before the grace time */
    assert_int_equal(result.swept.waiting, 0);       /* and what has rows is not even looked at */
    pass(f, GRACE_MS + 1000);
    result = collect(f, NULL);
    assert_int_equal(result.forgotten.manifests, 1);
    assert_int_equal(result.swept.removed, 0);
    assert_false(has(f, "a", loose));
    assert_true(has(f, "a", tagged));
    (void)collect_after_grace(f, NULL);
    result = collect_after_grace(f, NULL);
    assert_answer(look(f, BLOB, "a", digest_of(f, "layer of loose")), 404);
    assert_int_equal(fl_blobs_stats(fl_contents_blobs(f->contents)).count, 3);
    assert_whole(f, "a", "tagged");
}

static void what_an_object_names_stays(void **state)
{
    struct fixture *f = *state;
    const char *named = push_image(f, "a", NULL, "named", "");

    for (int i = 0; i < 4; i++)
        (void)collect_after_grace(f, digest_of(f, named));
    assert_true(has(f, "a", named));
    assert_whole(f, "a", "named");
    for (int i = 0; i < 4; i++)
        (void)collect_after_grace(f, NULL);
    assert_int_equal(fl_blobs_stats(fl_contents_blobs(f->contents)).count, 0);
    assert_answer(send_as_admin(f, "GET", "/v2/a/tags/list", NULL), 404); /* nothing left of it */
}

static void children_and_referrers_stay_with_theirs(void **state)
{
    struct fixture *f = *state;
    const char *child = push_image(f, "a", NULL, "child", "");
    const char *index = format(f->rig, "{\"schemaVersion\":2,\"manifests\":[%s]}",
                               descriptor(f, FL_OCI_MANIFEST, child));
    const char *sbom =
        push_image(f, "a", NULL, "sbom",
                   format(f->rig, ",\"subject\":%s", descriptor(f, FL_OCI_MANIFEST, child)));
    const char *signature =
        push_image(f, "a", NULL, "signature",
                   format(f->rig, ",\"subject\":%s", descriptor(f, FL_OCI_MANIFEST, sbom)));
    const char *of_another =
        push_image(f, "a", NULL, "another",
                   format(f->rig, ",\"subject\":%s", descriptor(f, FL_OCI_MANIFEST, "missing")));

    assert_answer(put_manifest(f, "a", "v", FL_OCI_INDEX, index), 201);
    for (int i = 0; i < 4; i++)
        (void)collect_after_grace(f, NULL);
    assert_true(has(f, "a", child));
    assert_true(has(f, "a", sbom));
    assert_true(has(f, "a", signature));
    assert_false(has(f, "a", of_another));
    assert_whole(f, "a", "signature");
    assert_answer(send_as_admin(f, "DELETE", "/v2/a/manifests/v", NULL), 202);
    for (int i = 0; i < 4; i++)
        (void)collect_after_grace(f, NULL);
    assert_false(has(f, "a", child));
    assert_false(has(f, "a", signature));
    assert_int_equal(fl_blobs_stats(fl_contents_blobs(f->contents)).count, 0);
}

/* Clients that know no list of referrers look for "sha256-HEX.sig": such a tag keeps nothing. */
static void tags_of_referrers_go_with_their_subject(void **state)
{
    struct fixture *f = *state;
    const char *image = push_image(f, "a", "v", "image", "");
    const char *tag = format(f->rig, "sha256-%s.sig", digest_of(f, image) + strlen("sha256:"));
    const char *signature =
        push_image(f, "a", tag, "signature",
                   format(f->rig, ",\"subject\":%s", descriptor(f, FL_OCI_MANIFEST, image)));
    const char *odd = push_image(f, "a", "sha256-x.y", "odd", ""); /* refers to nothing */

    for (int i = 0; i < 4; i++)
        (void)collect_after_grace(f, NULL);
    assert_true(has(f, "a", signature));
    assert_answer(send_as_admin(f, "DELETE", "/v2/a/manifests/v", NULL), 202);
    for (int i = 0; i < 4; i++)
        (void)collect_after_grace(f, NULL);
    assert_false(has(f, "a", image));
    assert_false(has(f, "a", signature));
    assert_true(has(f, "a", odd));
    assert_answer(send_as_admin(f, "GET", format(f->rig, "/v2/a/manifests/%s", tag), NULL), 404);
    assert_null(strstr(send_as_admin(f, "GET", "/v2/a/tags/list", NULL).text, ".sig"));
}

/* An index that is used keeps its children, though nobody asks for them. */
static void what_is_used_stays_and_keeps_its_own(void **state)
{
    struct fixture *f = *state;
    const char *child = push_image(f, "a", NULL, "child", "");
    const char *index = format(f->rig, "{\"schemaVersion\":2,\"manifests\":[%s]}",
                               descriptor(f, FL_OCI_MANIFEST, child));

    assert_answer(put_manifest(f, "a", digest_of(f, index), FL_OCI_INDEX, index), 201);
    for (int i = 0; i < 4; i++) {
        (void)collect(f, NULL);
        pass(f, GRACE_MS - 1000);
        assert_true(has(f, "a", index));
    }
    assert_true(has(f, "a", child));
    assert_whole(f, "a", "child");
}

/* A client that asks for a blob, and finds it, does not send it again. */
static void a_blob_that_is_asked_for_waits_for_its_manifest(void **state)
{
    struct fixture *f = *state;
    const char *config = "{}", *layer = "layer", *text = image(f, config, layer, "");

    (void)push_blob(f, "a", config);
    (void)push_blob(f, "a", layer);
    for (int i = 0; i < 3; i++) {
        (void)collect(f, NULL);
        pass(f, GRACE_MS - 1000);
        assert_answer(look(f, BLOB, "a", digest_of(f, config)), 200);
        assert_answer(look(f, BLOB, "a", digest_of(f, layer)), 200);
    }
    assert_answer(put_manifest(f, "a", "v", FL_OCI_MANIFEST, text), 201);
    assert_int_equal(collect_after_grace(f, NULL).forgotten.blobs, 0);
}

/* One repository's leaving is none of the other's business. */
static void content_is_shared(void **state)
{
    struct fixture *f = *state;

    (void)push_image(f, "a", "v", "same", "");
    (void)push_image(f, "b", "v", "same", "");
    assert_answer(send_as_admin(f, "DELETE", "/v2/a/manifests/v", NULL), 202);
    for (int i = 0; i < 4; i++)
        (void)collect_after_grace(f, NULL);
    assert_answer(look(f, MANIFEST, "a", "v"), 404);
    assert_answer(look(f, MANIFEST, "b", "v"), 200);
    assert_whole(f, "b", "same");
}

static void the_content_store_tells_whose_it_is(void **state)
{
    struct fixture *f = *state;
    const char *digest = push_blob(f, "team/app", "blob"), **references;

    (void)collect(f, NULL);
    references = fl_contents_references(f->contents, digest, f->rig->arena);
    assert_string_equal(references[0], "repository team/app");
    assert_null(references[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_a_tag_leads_to_stays),
        TEST(what_an_object_names_stays),
        TEST(children_and_referrers_stay_with_theirs),
        TEST(tags_of_referrers_go_with_their_subject),
        TEST(what_is_used_stays_and_keeps_its_own),
        TEST(a_blob_that_is_asked_for_waits_for_its_manifest),
        TEST(content_is_shared),
        TEST(the_content_store_tells_whose_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
