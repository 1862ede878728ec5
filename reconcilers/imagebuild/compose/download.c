/* Files from an address into the content store. */
#include "reconcilers/imagebuild/compose/packages_internal.h"

#include "lib/http_client.h"
#include "lib/oci/image.h"
#include "lib/process.h"
#include "lib/str.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define REDIRECTS_MAX 5
#define TRIES         3
#define URL_MAX       8192

struct download {
    struct fl_packages *packages;
    const struct fl_package *package;
    struct fl_blob_writer *writer;
    int64_t size; /* of what came */
};

/* What an address may say in a message: not a password. */
static const char *shown(struct fl_arena *arena, const char *url)
{
    const char *scheme = strstr(url, "://"), *at = scheme ? strchr(scheme, '@') : NULL;
    const char *slash = scheme ? strchr(scheme + 3, '/') : NULL;

    if (!at || (slash && slash < at))
        return url;
    return fl_arena_printf(arena, "%.*s…%s", (int)(scheme + 3 - url), url, at);
}

static int on_piece(void *user, const void *data, size_t len, struct fl_error *err)
{
    struct download *download = user;
    int64_t size = fl_blob_writer_size(download->writer) + (int64_t)len;
    int64_t wanted = download->package->size;

    if ((wanted > 0 && size > wanted) || size > FL_OCI_BLOB_MAX)
        return fl_error_set(err, FL_E_INVALID, "it is longer than it should be");
    return fl_blob_writer_add(download->writer, data, len, err);
}

static bool on_beat(void *user, int64_t sent, int64_t received)
{
    const struct download *download = user;

    (void)sent;
    return fl_packages_tell(download->packages, download->package->file, received,
                            download->package->size);
}

/* Many files come from one place: a connection for each would cost more than most of them. */
static int need_client(struct fl_packages *packages, const char *base, struct fl_error *err)
{
    const struct fl_http_client_options options = {.base_url = base, .user_agent = "flops"};
    struct fl_http_client *client = NULL;
    int r;

    if (fl_streq(packages->client_base, base))
        return 0;
    r = fl_http_client_create(&options, &client, err);
    if (r < 0)
        return r;
    fl_http_client_destroy(packages->client);
    free(packages->client_base);
    packages->client = client;
    packages->client_base = fl_strdup(base);
    return 0;
}

static int ask(struct download *download, const char *base, const char *target, int *ret_status,
               char **ret_headers, struct fl_error *err)
{
    const struct fl_http_transfer transfer = {.method = "GET",
                                              .target = target,
                                              .piece = on_piece,
                                              .beat = on_beat,
                                              .user = download,
                                              .total_ms = fl_packages_left_ms(download->packages)};
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *body = NULL;
    int r;

    if (transfer.total_ms <= 0)
        return fl_error_set(err, FL_E_TIMEOUT, "no time is left");
    r = need_client(download->packages, base, err);
    if (r == 0)
        r = fl_http_transfer(download->packages->client, &transfer, ret_status, &body, ret_headers,
                             err);
    return r;
}

/* "https://host" and "/path?query". */
static int split(struct fl_arena *arena, const char *url, const char **ret_base,
                 const char **ret_target, struct fl_error *err)
{
    const char *scheme = strstr(url, "://"), *path;

    if (strlen(url) > URL_MAX ||
        !(fl_str_has_prefix(url, "https://") || fl_str_has_prefix(url, "http://")))
        return fl_error_set(err, FL_E_INVALID, "%.100s is no address that is fetched from",
                            shown(arena, url));
    path = strchr(scheme + 3, '/');
    *ret_base = path ? fl_arena_strndup(arena, url, (size_t)(path - url)) : url;
    *ret_target = path ? fl_arena_strndup(arena, path, strcspn(path, "#")) : "/";
    return 0;
}

static int next_address(struct fl_arena *arena, const char *url, const char *base,
                        const char *headers, const char **ret_url, struct fl_error *err)
{
    char location[URL_MAX];

    if (!fl_http_find_header(headers, "Location", location, sizeof(location)))
        return fl_error_set(err, FL_E_INVALID, "%s sends elsewhere, and does not say where",
                            shown(arena, url));
    if (fl_str_has_prefix(url, "https://") && fl_str_has_prefix(location, "http://"))
        return fl_error_set(err, FL_E_FORBIDDEN, "%s sends to where nothing is encrypted",
                            shown(arena, url));
    *ret_url = location[0] == '/' ? fl_arena_printf(arena, "%s%s", base, location)
                                  : fl_arena_strdup(arena, location);
    return 0;
}

static int code_of(int status)
{
    if (status == 404 || status == 410)
        return FL_E_NOT_FOUND;
    return status >= 500 || status == 429 || status == 408 ? FL_E_UNAVAILABLE : FL_E_INVALID;
}

static int follow(struct download *download, struct fl_arena *arena, struct fl_error *err)
{
    const char *url = download->package->url;

    for (unsigned i = 0; i <= REDIRECTS_MAX; i++) {
        FL_CLEANUP(fl_freep) char *headers = NULL;
        const char *base, *target;
        int status = 0, r = split(arena, url, &base, &target, err);

        if (r == 0)
            r = ask(download, base, target, &status, &headers, err);
        if (r < 0 || status == 200)
            return r;
        if (status < 301 || status > 308 || status == 304)
            return fl_error_set(err, code_of(status), "%s answers %d", shown(arena, url), status);
        r = next_address(arena, url, base, headers, &url, err);
        if (r < 0)
            return r;
    }
    return fl_error_set(err, FL_E_INVALID, "%s is sent about in a circle",
                        shown(arena, download->package->url));
}

static int copy_file(struct download *download, struct fl_arena *arena, struct fl_error *err)
{
    const char *url = download->package->url + strlen("file:"); /* apt writes "file:/…" */
    const char *from = fl_str_has_prefix(url, "//") ? url + 2 : url;
    const char *path = fl_url_decode(arena, from, strlen(from), false);
    FL_CLEANUP(fl_fd_closep) int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    char digest[FL_DIGEST_SIZE];
    struct stat about;

    if (fd < 0 || fstat(fd, &about) != 0)
        return fl_error_errno(err, errno, "%s", fl_str_or(path, url));
    if (!S_ISREG(about.st_mode) ||
        (download->package->size > 0 && about.st_size != download->package->size))
        return fl_error_set(err, FL_E_INVALID, "%s is no file of the size it should have", path);
    download->size = about.st_size;
    return fl_blobs_put_fd(download->packages->options.blobs, fd, download->package->digest, true,
                           digest, err);
}

static int try_once(struct download *download, struct fl_arena *arena, struct fl_error *err)
{
    char digest[FL_DIGEST_SIZE];
    int r = fl_blob_writer_open(download->packages->options.blobs, &download->writer, err);

    if (r == 0)
        r = follow(download, arena, err);
    if (r == 0)
        download->size = fl_blob_writer_size(download->writer);
    if (r == 0)
        r = fl_blob_writer_finish(download->writer, download->package->digest, true, digest, err);
    fl_blob_writer_close(FL_TAKE(download->writer));
    return r;
}

static int try_several(struct download *download, struct fl_arena *arena, struct fl_error *err)
{
    struct fl_packages *packages = download->packages;
    int r = try_once(download, arena, err);

    for (unsigned i = 1;
         r < 0 && fl_error_is_retryable(r) && i < TRIES && fl_packages_left_ms(packages) > 0 &&
         fl_packages_tell(packages, download->package->file, 0, download->package->size);
         i++)
        r = try_once(download, arena, err);
    return r;
}

int fl_package_download(struct fl_packages *packages, const struct fl_package *package,
                        int64_t *ret_size, struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct download download = {.packages = packages, .package = package};
    int r;

    if (!package->url || !*package->url)
        return fl_error_set(err, FL_E_INVALID, "nobody knows where it is");
    if (fl_str_has_prefix(package->url, "file:"))
        r = copy_file(&download, arena, err);
    else
        r = try_several(&download, arena, err);
    if (r == 0)
        *ret_size = download.size;
    return r;
}
