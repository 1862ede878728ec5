/* The registry as clients meet it: manifests, tags, referrers, rights. */
#include "controller/registry/registry_testing.h"

/* Manifests */

static void an_image_comes_and_goes(void **state)
{
    struct fixture *f = *state;
    const char *text = push_image(f, "team/app", "v1", "one", ""), *digest = digest_of(f, text);
    struct answer answer = look(f, MANIFEST, "team/app", "v1");

    assert_answer(answer, 200);
    assert_string_equal(answer.text, text);
    assert_header(f, answer, "Content-Type", FL_OCI_MANIFEST);
    assert_header(f, answer, "Docker-Content-Digest", digest);
    assert_string_equal(look(f, MANIFEST, "team/app", digest).text, text);
    assert_answer(send_to(f, ADMIN, "HEAD", format(f->rig, MANIFEST, "team/app", "v1"), NULL, NULL),
                  200);
    assert_failed(send_to(f, ADMIN, "GET", format(f->rig, MANIFEST, "team/app", "v1"),
                          "Accept: " FL_DOCKER_MANIFEST "\r\n", NULL),
                  404, "MANIFEST_UNKNOWN", "Accept");
    assert_answer(send_as_admin(f, "DELETE", format(f->rig, MANIFEST, "team/app", "v1"), NULL),
                  202);
    assert_failed(look(f, MANIFEST, "team/app", "v1"), 404, "MANIFEST_UNKNOWN", "");
    assert_answer(look(f, MANIFEST, "team/app", digest), 200);
    assert_answer(send_as_admin(f, "DELETE", format(f->rig, MANIFEST, "team/app", digest), NULL),
                  202);
    assert_failed(look(f, MANIFEST, "team/app", digest), 404, "MANIFEST_UNKNOWN", "");
    assert_failed(send_as_admin(f, "DELETE", format(f->rig, MANIFEST, "team/app", digest), NULL),
                  404, "MANIFEST_UNKNOWN", "");
}

static void a_manifest_needs_what_it_names(void **state)
{
    struct fixture *f = *state;
    const char *config = "{}", *text = image(f, config, "layer", "");

    assert_failed(put_manifest(f, "a", "v1", FL_OCI_MANIFEST, text), 404, "MANIFEST_BLOB_UNKNOWN",
                  digest_of(f, config));
    (void)push_blob(f, "a", config);
    (void)push_blob(f, "other", "layer"); /* somewhere else is not here */
    assert_failed(put_manifest(f, "a", "v1", FL_OCI_MANIFEST, text), 404, "MANIFEST_BLOB_UNKNOWN",
                  digest_of(f, "layer"));
    assert_failed(look(f, MANIFEST, "a", "v1"), 404, "MANIFEST_UNKNOWN", "");
    assert_failed(look(f, MANIFEST, "a", digest_of(f, text)), 404, "MANIFEST_UNKNOWN", "");
    (void)push_blob(f, "a", "layer");
    assert_answer(put_manifest(f, "a", "v1", FL_OCI_MANIFEST, text), 201);
    assert_failed(
        send_as_admin(f, "DELETE", format(f->rig, BLOB, "a", digest_of(f, "layer")), NULL), 405,
        "UNSUPPORTED", digest_of(f, text));
}

/* Content that was found damaged is gone, whatever the rows say; sent again, it is there again. */
static void what_is_lost_is_sent_again(void **state)
{
    struct fixture *f = *state;
    const char *config = "{}", *layer = "layer", *text = image(f, config, layer, "");

    (void)push_blob(f, "a", config);
    (void)push_blob(f, "a", layer);
    assert_int_equal(fl_blobs_remove(fl_contents_blobs(f->contents), digest_of(f, config), NULL),
                     0);
    assert_failed(put_manifest(f, "a", "v", FL_OCI_MANIFEST, text), 404, "MANIFEST_BLOB_UNKNOWN",
                  digest_of(f, config));
    assert_failed(look(f, BLOB, "a", digest_of(f, config)), 404, "BLOB_UNKNOWN", "");
    (void)push_blob(f, "a", config);
    assert_answer(put_manifest(f, "a", "v", FL_OCI_MANIFEST, text), 201);
}

static void what_is_wrong_with_a_manifest_is_said(void **state)
{
    struct fixture *f = *state;
    const char *text = push_image(f, "a", "good", "one", "");
    char *big = fl_alloc(f->rig->arena, FL_OCI_MANIFEST_MAX + 2);
    const struct {
        const char *reference, *type, *text;
        int status;
        const char *code;
    } rows[] = {
        {"v1", FL_OCI_MANIFEST, "blabla", 400, "MANIFEST_INVALID"},
        {"v1", FL_OCI_MANIFEST, "", 400, "MANIFEST_INVALID"},
        {"v1", FL_OCI_MANIFEST, "{}", 400, "MANIFEST_INVALID"},
        {"v1", FL_OCI_INDEX, text, 400, "MANIFEST_INVALID"},
        {"v1", "application/vnd.docker.distribution.manifest.v1+json", "{\"schemaVersion\":1}", 415,
         "UNSUPPORTED"},
        {"-v1", FL_OCI_MANIFEST, text, 400, "MANIFEST_INVALID"},
        {digest_of(f, "other"), FL_OCI_MANIFEST, text, 400, "DIGEST_INVALID"},
        {"sha256:bad", FL_OCI_MANIFEST, text, 400, "DIGEST_INVALID"},
        {"v1", FL_OCI_MANIFEST,
         format(f->rig,
                "{\"schemaVersion\":2,\"config\":{\"mediaType\":\"a/b\",\"size\":1,\"digest\":"
                "\"%s\"},\"layers\":[]}",
                digest_of(f, "layer of one")),
         400, "MANIFEST_INVALID"}, /* it has another size */
    };

    for (size_t i = 0; i < FL_COUNT_OF(rows); i++)
        assert_failed(put_manifest(f, "a", rows[i].reference, rows[i].type, rows[i].text),
                      rows[i].status, rows[i].code, "");
    memset(big, ' ', FL_OCI_MANIFEST_MAX + 1);
    assert_int_equal(put_manifest(f, "a", "v1", FL_OCI_MANIFEST, big).status, 413);
    assert_failed(look(f, MANIFEST, "a", "v1"), 404, "MANIFEST_UNKNOWN", "");
}

static void dockers_manifests_are_taken_as_they_are(void **state)
{
    struct fixture *f = *state;
    const char *config = "{}", *layer = "layer", *text;

    (void)push_blob(f, "a", config);
    (void)push_blob(f, "a", layer);
    text = format(f->rig,
                  "{ \"schemaVersion\": 2, \"mediaType\": \"%s\", \"config\": %s, \"layers\": "
                  "[%s] }\n",
                  FL_DOCKER_MANIFEST,
                  descriptor(f, "application/vnd.docker.container.image.v1+json", config),
                  descriptor(f, "application/vnd.docker.image.rootfs.diff.tar.gzip", layer));
    assert_answer(put_manifest(f, "a", "v1", FL_DOCKER_MANIFEST, text), 201);
    assert_string_equal(look(f, MANIFEST, "a", "v1").text, text);
    assert_header(f, look(f, MANIFEST, "a", "v1"), "Content-Type", FL_DOCKER_MANIFEST);
}

static void an_index_needs_its_manifests(void **state)
{
    struct fixture *f = *state;
    const char *child = push_image(f, "a", NULL, "child", ""), *digest = digest_of(f, child);
    const char *text = format(f->rig, "{\"schemaVersion\":2,\"manifests\":[%s]}",
                              descriptor(f, FL_OCI_MANIFEST, child));
    const char *missing = format(f->rig, "{\"schemaVersion\":2,\"manifests\":[%s]}",
                                 descriptor(f, FL_OCI_MANIFEST, "missing"));

    assert_failed(put_manifest(f, "a", "i", FL_OCI_INDEX, missing), 404, "MANIFEST_BLOB_UNKNOWN",
                  "");
    assert_answer(put_manifest(f, "a", "i", FL_OCI_INDEX, text), 201);
    assert_failed(send_as_admin(f, "DELETE", format(f->rig, MANIFEST, "a", digest), NULL), 405,
                  "UNSUPPORTED", digest_of(f, text));
    assert_answer(
        send_as_admin(f, "DELETE", format(f->rig, MANIFEST, "a", digest_of(f, text)), NULL), 202);
    assert_failed(look(f, MANIFEST, "a", "i"), 404, "MANIFEST_UNKNOWN", ""); /* its tag went too */
    assert_answer(send_as_admin(f, "DELETE", format(f->rig, MANIFEST, "a", digest), NULL), 202);
}

static void a_tag_moves(void **state)
{
    struct fixture *f = *state;
    const char *one = push_image(f, "a", "v", "one", ""), *two = push_image(f, "a", "v", "two", "");

    assert_string_equal(look(f, MANIFEST, "a", "v").text, two);
    assert_string_equal(look(f, MANIFEST, "a", digest_of(f, one)).text, one);
}

/* Lists */

static const char *names_in(struct fixture *f, struct answer answer, const char *key)
{
    const char *text = "";
    json_t *item;
    size_t i;

    assert_answer(answer, 200);
    json_array_foreach(json_object_get(answer.body, key), i, item)
        text = format(f->rig, "%s %s", text, json_string_value(item));
    return text;
}

static void tags_are_listed_page_by_page(void **state)
{
    static const char *const tags[] = {"b", "A", "c", "a", "B2"};
    struct fixture *f = *state;
    struct answer answer;

    assert_failed(send_as_admin(f, "GET", "/v2/a/tags/list", NULL), 404, "NAME_UNKNOWN", "");
    for (size_t i = 0; i < FL_COUNT_OF(tags); i++)
        (void)push_image(f, "a", tags[i], "same", "");
    answer = send_as_admin(f, "GET", "/v2/a/tags/list", NULL);
    assert_string_equal(names_in(f, answer, "tags"), " A a b B2 c");
    assert_header(f, answer, "Link", NULL);
    answer = send_as_admin(f, "GET", "/v2/a/tags/list?n=2", NULL);
    assert_string_equal(names_in(f, answer, "tags"), " A a");
    assert_header(f, answer, "Link", "</v2/a/tags/list?n=2&last=a>; rel=\"next\"");
    answer = send_as_admin(f, "GET", "/v2/a/tags/list?n=2&last=a", NULL);
    assert_string_equal(names_in(f, answer, "tags"), " b B2");
    answer = send_as_admin(f, "GET", "/v2/a/tags/list?n=2&last=B2", NULL);
    assert_string_equal(names_in(f, answer, "tags"), " c");
    assert_header(f, answer, "Link", NULL);
    answer = send_as_admin(f, "GET", "/v2/a/tags/list?n=0", NULL);
    assert_string_equal(names_in(f, answer, "tags"), "");
    assert_failed(send_as_admin(f, "GET", "/v2/a/tags/list?n=x", NULL), 400, "NAME_INVALID", "");
    assert_failed(send_as_admin(f, "GET", "/v2/a/tags/list?n=-1", NULL), 400, "NAME_INVALID", "");
}

static void repositories_are_listed(void **state)
{
    struct fixture *f = *state;
    struct answer answer;

    (void)push_blob(f, "b", "x");
    (void)push_blob(f, "a/c", "x");
    (void)push_blob(f, "a", "x");
    answer = send_as_admin(f, "GET", "/v2/_catalog?n=2", NULL);
    assert_string_equal(names_in(f, answer, "repositories"), " a a/c");
    assert_header(f, answer, "Link", "</v2/_catalog?n=2&last=a%2Fc>; rel=\"next\"");
    answer = send_as_admin(f, "GET", "/v2/_catalog?n=2&last=a%2Fc", NULL);
    assert_string_equal(names_in(f, answer, "repositories"), " b");
}

static const char *push_referrer(struct fixture *f, const char *subject, const char *name,
                                 const char *artifact_type)
{
    return push_image(f, "a", NULL, name,
                      format(f->rig,
                             ",\"subject\":%s,\"artifactType\":\"%s\",\"annotations\":{\"name\":"
                             "\"%s\"}",
                             descriptor(f, FL_OCI_MANIFEST, subject), artifact_type, name));
}

static size_t count_referrers(struct answer answer)
{
    assert_answer(answer, 200);
    assert_string_equal(text_in(answer, "mediaType"), FL_OCI_INDEX);
    return json_array_size(json_object_get(answer.body, "manifests"));
}

static void referrers_are_found(void **state)
{
    struct fixture *f = *state;
    const char *subject = push_image(f, "a", "v", "subject", "");
    const char *path = format(f->rig, "/v2/a/referrers/%s", digest_of(f, subject));
    struct answer answer = send_as_admin(f, "GET", path, NULL);
    const char *sbom, *text;
    json_t *item;

    assert_int_equal(count_referrers(answer), 0);
    sbom = push_referrer(f, subject, "sbom", "application/spdx+json");
    (void)push_referrer(f, subject, "signature", "application/sig");
    answer = send_as_admin(f, "GET", path, NULL);
    assert_header(f, answer, "Content-Type", FL_OCI_INDEX);
    assert_int_equal(count_referrers(answer), 2);
    answer = send_as_admin(
        f, "GET", format(f->rig, "%s?artifactType=application%%2Fspdx%%2Bjson", path), NULL);
    assert_int_equal(count_referrers(answer), 1);
    assert_header(f, answer, "OCI-Filters-Applied", "artifactType");
    item = json_array_get(json_object_get(answer.body, "manifests"), 0);
    assert_string_equal(fl_json_str(item, "digest"), digest_of(f, sbom));
    assert_string_equal(fl_json_str(item, "artifactType"), "application/spdx+json");
    assert_string_equal(fl_json_str(item, "annotations.name"), "sbom");
    assert_int_equal(fl_json_int(item, "size", 0), strlen(sbom));
    /* A subject may be missing; whose it would be is said. */
    text = image(f, "{\"config\":\"sbom\"}", "layer of sbom",
                 format(f->rig, ",\"subject\":%s", descriptor(f, FL_OCI_MANIFEST, "missing")));
    answer = put_manifest(f, "a", digest_of(f, text), FL_OCI_MANIFEST, text);
    assert_answer(answer, 201);
    assert_header(f, answer, "OCI-Subject", digest_of(f, "missing"));
    assert_int_equal(
        count_referrers(send_as_admin(
            f, "GET", format(f->rig, "/v2/a/referrers/%s", digest_of(f, "missing")), NULL)),
        1);
    assert_failed(send_as_admin(f, "GET", "/v2/a/referrers/sha256:1", NULL), 400, "DIGEST_INVALID",
                  "");
}

static void many_referrers_come_in_pages(void **state)
{
    struct fixture *f = *state;
    const char *subject = push_image(f, "a", "v", "subject", "");
    const char *path = format(f->rig, "/v2/a/referrers/%s", digest_of(f, subject)), *next;
    struct answer answer;

    for (int i = 0; i < 105; i++) {
        const char *text = image(f, "{\"config\":\"subject\"}", "layer of subject",
                                 format(f->rig, ",\"subject\":%s,\"annotations\":{\"n\":\"%d\"}",
                                        descriptor(f, FL_OCI_MANIFEST, subject), i));

        assert_answer(put_manifest(f, "a", digest_of(f, text), FL_OCI_MANIFEST, text), 201);
    }
    answer = send_as_admin(f, "GET", path, NULL);
    assert_int_equal(count_referrers(answer), 100);
    next = header_of(f, answer, "Link");
    assert_non_null(next);
    next = fl_arena_strndup(f->rig->arena, next + 1, strcspn(next, ">") - 1);
    answer = send_as_admin(f, "GET", next, NULL);
    assert_int_equal(count_referrers(answer), 5);
    assert_header(f, answer, "Link", NULL);
}

/* Rights */

static struct answer with_password(struct fixture *f, const char *method, const char *target,
                                   const char *password)
{
    const char *pair = format(f->rig, "anybody:%s", password);
    const char *header = format(f->rig, "Authorization: Basic %s\r\n",
                                fl_base64_encode(f->rig->arena, pair, strlen(pair)));

    return send_to(f, NOBODY, method, target, header, NULL);
}

static void a_token_is_a_password_too(void **state)
{
    struct fixture *f = *state;
    struct answer answer = send_to(f, NOBODY, "GET", "/v2/", NULL, NULL);

    assert_failed(answer, 401, "UNAUTHORIZED", "");
    assert_header(f, answer, "WWW-Authenticate", "Basic realm=\"flops\"");
    assert_answer(with_password(f, "GET", "/v2/", "admin-token"), 200);
    assert_answer(with_password(f, "GET", "/v2/", "alice-token"), 200); /* she is known */
    assert_failed(with_password(f, "GET", "/v2/", "no-token"), 401, "UNAUTHORIZED", "");
    assert_failed(with_password(f, "GET", "/v2/", ""), 401, "UNAUTHORIZED", "");
    assert_failed(with_password(f, "GET", "/v2/_catalog", "alice-token"), 403, "DENIED", "alice");
    assert_failed(send_to(f, NOBODY, "GET", "/v2/", "Authorization: Basic !!!\r\n", NULL), 401,
                  "UNAUTHORIZED", "");
    assert_failed(send_to(f, NOBODY, "GET", "/v2/", "Authorization: Basic \r\n", NULL), 401,
                  "UNAUTHORIZED", "");
    /* Nowhere else. */
    assert_refused(with_password(f, "GET", "/api", "admin-token"), 401, "Unauthorized", "");
    assert_refused(with_password(f, "GET", FL_CONTENTS_BLOBS, "admin-token"), 401, "Unauthorized",
                   "");
}

static void give_role(struct fixture *f, const char *name, const char *role, const char *user)
{
    assert_answer(do_post(f->rig, RBAC "/clusterrolebindings",
                          format(f->rig,
                                 "{\"metadata\":{\"name\":\"%s\"},\"roleRef\":{\"apiGroup\":"
                                 "\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":"
                                 "\"%s\"},\"subjects\":[{\"kind\":\"User\",\"name\":\"%s\"}]}",
                                 name, role, user)),
                  201);
}

static void rights_decide(void **state)
{
    struct fixture *f = *state;
    const char *text = push_image(f, "a", "v", "one", ""),
               *path = format(f->rig, MANIFEST, "a", "v");
    const char *upload = "/v2/a/blobs/uploads/";

    (void)text;
    assert_failed(send_to(f, ALICE, "GET", path, NULL, NULL), 403, "DENIED", "");
    give_role(f, "reader", "flops:image-reader", "alice");
    assert_answer(send_to(f, ALICE, "GET", path, NULL, NULL), 200);
    assert_failed(send_to(f, ALICE, "POST", upload, NULL, NULL), 403, "DENIED", "");
    assert_failed(send_to(f, ALICE, "PUT", path, NULL, "{}"), 403, "DENIED", "");
    assert_failed(send_to(f, ALICE, "PATCH", "/v2/a/blobs/uploads/1", NULL, "x"), 403, "DENIED",
                  "");
    assert_failed(send_to(f, ALICE, "DELETE", path, NULL, NULL), 403, "DENIED", "");
    give_role(f, "writer", "flops:image-writer", "bob");
    assert_answer(send_to(f, BOB, "POST", upload, NULL, NULL), 202);
    assert_answer(send_to(f, BOB, "DELETE", path, NULL, NULL), 202);
}

/* What may not be read cannot be mounted either, though its digest is known. */
static void mounting_is_reading(void **state)
{
    struct fixture *f = *state;
    const char *secret = push_blob(f, "other", "secret"), *path;

    assert_answer(do_post(f->rig, RBAC "/clusterroles",
                          "{\"metadata\":{\"name\":\"alices\"},\"rules\":[{\"verbs\":[\"*\"],"
                          "\"nonResourceURLs\":[\"/v2/alice/*\"]}]}"),
                  201);
    give_role(f, "alices", "alices", "alice");
    path = format(f->rig, "/v2/alice/x/blobs/uploads/?mount=%s&from=other", secret);
    assert_answer(send_to(f, ALICE, "POST", path, NULL, NULL), 202);
    path = format(f->rig, "/v2/alice/x/blobs/uploads/?mount=%s", secret);
    assert_answer(send_to(f, ALICE, "POST", path, NULL, NULL), 202);
    path = format(f->rig, BLOB, "alice/x", secret);
    assert_failed(send_to(f, ALICE, "GET", path, NULL, NULL), 404, "BLOB_UNKNOWN", "");
    assert_failed(
        send_to(f, ALICE, "GET", format(f->rig, BLOB, "alice/../other", secret), NULL, NULL), 400,
        "NAME_INVALID", "");
}

/* A node's token: for one repository, and for reading. */
static void a_capability_opens_a_repository(void **state)
{
    struct fixture *f = *state;
    char token[FL_CAPABILITY_TOKEN_SIZE];

    (void)push_image(f, "team/app", "v", "one", "");
    (void)push_image(f, "team/app2", "v", "one", "");
    fl_capability_make(f->key, "/v2/team/app/", token);
    assert_answer(with_password(f, "GET", "/v2/team/app/manifests/v", token), 200);
    assert_answer(with_password(f, "HEAD", "/v2/team/app/manifests/v", token), 200);
    assert_answer(send_to(f, NOBODY, "GET", "/v2/team/app/manifests/v",
                          format(f->rig, "Authorization: Bearer %s\r\n", token), NULL),
                  200);
    assert_answer(with_password(f, "GET",
                                format(f->rig, BLOB, "team/app", digest_of(f, "layer of one")),
                                token),
                  200);
    assert_int_equal(with_password(f, "DELETE", "/v2/team/app/manifests/v", token).status, 401);
    assert_int_equal(with_password(f, "GET", "/v2/team/app2/manifests/v", token).status, 401);
    assert_int_equal(with_password(f, "GET", "/v2/team/", token).status, 401);
    assert_int_equal(with_password(f, "GET", "/v2/_catalog", token).status, 401);
    assert_failed(with_password(f, "GET", "/v2/team/app/../app2/manifests/v", token), 400,
                  "NAME_INVALID", "");
    token[10] ^= 1;
    assert_int_equal(with_password(f, "GET", "/v2/team/app/manifests/v", token).status, 401);
}

/* A build's token: for one repository, in which it may do what it likes. */
static void a_writers_capability_fills_a_repository(void **state)
{
    struct fixture *f = *state;
    const char *digest = digest_of(f, "blob"), *path;
    char token[FL_CAPABILITY_TOKEN_SIZE];

    fl_capability_make_writer(f->key, "/v2/team/app/", token);
    path = format(f->rig, "/v2/team/app/blobs/uploads/?digest=%s", digest);
    assert_answer(send_to(f, NOBODY, "POST", path,
                          format(f->rig, "Authorization: Bearer %s\r\n", token), "blob"),
                  201);
    assert_answer(with_password(f, "GET", format(f->rig, BLOB, "team/app", digest), token), 200);
    assert_answer(with_password(f, "DELETE", format(f->rig, BLOB, "team/app", digest), token), 202);
    (void)push_blob(f, "other", "secret");
    assert_answer(with_password(f, "POST",
                                format(f->rig, "/v2/team/app/blobs/uploads/?mount=%s&from=other",
                                       digest_of(f, "secret")),
                                token),
                  202); /* not mounted */
    assert_int_equal(with_password(f, "POST", "/v2/team/app2/blobs/uploads/", token).status, 401);
    assert_int_equal(with_password(f, "GET", "/v2/_catalog", token).status, 401);
    token[1] = 'c'; /* it is no reader's either */
    assert_int_equal(with_password(f, "GET", "/v2/team/app/tags/list", token).status, 401);
    fl_capability_make(f->key, "/v2/team/app/", token);
    token[1] = 'w'; /* nor a reader's a writer's */
    assert_int_equal(with_password(f, "POST", "/v2/team/app/blobs/uploads/", token).status, 401);
}

static void names_may_be_deep(void **state)
{
    struct fixture *f = *state;

    (void)push_image(f, "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p", "v", "one", "");
    assert_answer(look(f, MANIFEST, "a/b/c/d/e/f/g/h/i/j/k/l/m/n/o/p", "v"), 200);
    assert_failed(look(f, MANIFEST, "a/%zz", "v"), 400, "NAME_INVALID", "");
}

/* What was acknowledged is there after a new start. */
static void it_is_all_there_again(void **state)
{
    struct fixture *f = *state;
    const char *text = push_image(f, "a", "v", "one", ""), *upload = open_upload(f, "a");

    fixture_reopen(f);
    assert_string_equal(look(f, MANIFEST, "a", "v").text, text);
    assert_string_equal(look(f, BLOB, "a", digest_of(f, "layer of one")).text, "layer of one");
    assert_failed(send_as_admin(f, "GET", upload, NULL), 404, "BLOB_UPLOAD_UNKNOWN", "begin anew");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_image_comes_and_goes),
        TEST(a_manifest_needs_what_it_names),
        TEST(what_is_lost_is_sent_again),
        TEST(what_is_wrong_with_a_manifest_is_said),
        TEST(dockers_manifests_are_taken_as_they_are),
        TEST(an_index_needs_its_manifests),
        TEST(a_tag_moves),
        TEST(tags_are_listed_page_by_page),
        TEST(repositories_are_listed),
        TEST(referrers_are_found),
        TEST(many_referrers_come_in_pages),
        TEST(a_token_is_a_password_too),
        TEST(rights_decide),
        TEST(mounting_is_reading),
        TEST(a_capability_opens_a_repository),
        TEST(a_writers_capability_fills_a_repository),
        TEST(names_may_be_deep),
        TEST(it_is_all_there_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
