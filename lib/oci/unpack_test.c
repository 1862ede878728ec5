/* Archives that mean harm, and those that do not: what is on the disk afterwards counts. */
#include "lib/oci/unpack.h"

#include "lib/buf.h"
#include "lib/digest.h"
#include "lib/file.h"
#include "lib/process.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

struct world {
    char outside[64], folder[96];
    struct fl_buf tar;
    struct fl_error err;
    struct fl_unpacked done;
};

static int set_up(void **state)
{
    struct world *w = test_calloc(1, sizeof(*w));

    (void)snprintf(w->outside, sizeof(w->outside), "/tmp/flops-unpack-XXXXXX");
    assert_non_null(mkdtemp(w->outside));
    (void)snprintf(w->folder, sizeof(w->folder), "%s/in", w->outside);
    fl_buf_init(&w->tar, 0);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    fl_buf_finish(&w->tar);
    assert_int_equal(fl_dir_remove(w->outside, NULL), 0);
    test_free(w);
    return 0;
}

/* A tar, block by block. */

struct header {
    const char *name, *link;
    char type;
    unsigned mode;
    const char *data;
    size_t size; /* 0: of the text */
};

static void put_octal(char *at, size_t width, size_t value)
{
    for (size_t i = width - 1; i-- > 0; value /= 8)
        at[i] = (char)('0' + value % 8);
}

static void put_header(struct fl_buf *tar, const struct header *h, size_t size)
{
    static const char magic[] = {'u', 's', 't', 'a', 'r', 0, '0', '0'};
    char block[512] = {0};
    unsigned sum = 0;

    memcpy(block, h->name, strlen(h->name) < 100 ? strlen(h->name) : 100);
    put_octal(block + 100, 8, h->mode ? h->mode : 0644);
    put_octal(block + 108, 8, 0);
    put_octal(block + 116, 8, 0);
    put_octal(block + 124, 12, size);
    put_octal(block + 136, 12, 1600000000);
    block[156] = h->type;
    if (h->link)
        memcpy(block + 157, h->link, strlen(h->link) < 100 ? strlen(h->link) : 100);
    memcpy(block + 257, magic, sizeof(magic));
    memset(block + 148, ' ', 8);
    for (size_t i = 0; i < sizeof(block); i++)
        sum += (unsigned char)block[i];
    (void)snprintf(block + 148, 8, "%06o", sum & 0777777);
    fl_buf_append(tar, block, sizeof(block));
}

static void add(struct world *w, struct header h)
{
    static const char zeros[512];
    size_t size = h.data ? strlen(h.data) : 0;

    put_header(&w->tar, &h, h.size ? h.size : size);
    fl_buf_append(&w->tar, h.data ? h.data : "", size);
    fl_buf_append(&w->tar, zeros, (512 - size % 512) % 512);
}

static void add_file(struct world *w, const char *name, const char *data)
{
    add(w, (struct header){.name = name, .type = '0', .data = data});
}

static void end_tar(struct world *w)
{
    static const char zeros[1024];

    fl_buf_append(&w->tar, zeros, sizeof(zeros));
}

static int memory_of(const void *data, size_t len)
{
    int fd = memfd_create("archive", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

static int unpack_with(struct world *w, const void *data, size_t len, struct fl_unpack unpack)
{
    FL_CLEANUP(fl_fd_closep) int fd = memory_of(data, len);

    unpack.fd = fd;
    unpack.folder = w->folder;
    w->err = (struct fl_error){0};
    return fl_unpack(&unpack, &w->done, &w->err);
}

static int unpack(struct world *w)
{
    return unpack_with(w, w->tar.data, w->tar.len,
                       (struct fl_unpack){.format = FL_ARCHIVE_LAYER, .in_bytes = -1});
}

static void unpack_well(struct world *w)
{
    if (unpack(w) < 0)
        fail_msg("%s", w->err.msg);
}

/* What is there. */

static bool look(const struct world *w, const char *path, struct stat *ret_st)
{
    char full[512];

    (void)snprintf(full, sizeof(full), "%s/%s", w->folder, path);
    return lstat(full, ret_st) == 0;
}

static bool is_there(const struct world *w, const char *path)
{
    struct stat st;

    return look(w, path, &st);
}

static void assert_text(const struct world *w, const char *path, const char *text)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    char full[512];

    (void)snprintf(full, sizeof(full), "%s/%s", w->folder, path);
    assert_int_equal(fl_file_read(full, 1 << 20, &bytes, NULL), 0);
    assert_string_equal(bytes->data, text);
}

static void nothing_is_outside(const struct world *w)
{
    char path[128];

    (void)snprintf(path, sizeof(path), "%s/evil", w->outside);
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_not_equal(access("/flops-evil", F_OK), 0);
}

static void unpacks_what_a_layer_has(void **state)
{
    struct world *w = *state;
    char digest[FL_DIGEST_SIZE], file[128], twin[128];
    struct stat st, other;

    add(w, (struct header){.name = "./", .type = '5', .mode = 0755});
    add(w, (struct header){.name = "./bin/", .type = '5', .mode = 0750});
    add(w, (struct header){.name = "./bin/sh", .type = '0', .mode = 0755, .data = "shell"});
    add(w, (struct header){.name = "bin/ash", .type = '1', .link = "./bin/sh"});
    add(w, (struct header){.name = "bin/bash", .type = '2', .link = "/etc/passwd"});
    add_file(w, "a/b/c/d", "deep");
    end_tar(w);
    unpack_well(w);
    assert_text(w, "bin/sh", "shell");
    assert_text(w, "a/b/c/d", "deep");
    assert_true(look(w, "bin", &st) && (st.st_mode & 07777) == 0750);
    assert_true(look(w, "bin/sh", &st) && (st.st_mode & 07777) == 0755);
    assert_int_equal(st.st_mtim.tv_sec, 1600000000);
    assert_true(look(w, "bin/ash", &other) && other.st_ino == st.st_ino);
    assert_true(look(w, "bin/bash", &st) && S_ISLNK(st.st_mode));
    assert_int_equal(w->done.entries, 6);
    assert_int_equal(w->done.bytes, 9);
    fl_digest_of(w->tar.data, w->tar.len, digest);
    assert_string_equal(w->done.diff_id, digest);
    (void)snprintf(file, sizeof(file), "%s/bin/sh", w->folder);
    (void)snprintf(twin, sizeof(twin), "%s/bin/ash", w->folder);
    assert_int_equal(access(file, R_OK), 0);
    assert_int_equal(access(twin, R_OK), 0);
}

/* Whatever names and links an archive holds. */
static void refuses_to_leave_the_folder(void **state)
{
    static const struct {
        const char *what;
        struct header first, second;
    } cases[] = {
        {"climbs", {.name = "../evil", .type = '0', .data = "x"}, {0}},
        {"climbs later", {.name = "a/../../evil", .type = '0', .data = "x"}, {0}},
        {"absolute", {.name = "/flops-evil", .type = '0', .data = "x"}, {0}},
        {"climbs as a folder", {.name = "../evil/", .type = '5'}, {0}},
        {"through a link up",
         {.name = "out", .type = '2', .link = ".."},
         {.name = "out/evil", .type = '0', .data = "x"}},
        {"through a link to the root",
         {.name = "out", .type = '2', .link = "/"},
         {.name = "out/flops-evil", .type = '0', .data = "x"}},
        {"a folder through a link",
         {.name = "out", .type = '2', .link = ".."},
         {.name = "out/evil/", .type = '5'}},
        {"a link through a link",
         {.name = "out", .type = '2', .link = ".."},
         {.name = "out/evil", .type = '2', .link = "x"}},
        {"a whiteout through a link",
         {.name = "out", .type = '2', .link = ".."},
         {.name = "out/.wh.in", .type = '0'}},
        {"an opaque folder through a link",
         {.name = "out", .type = '2', .link = ".."},
         {.name = "out/.wh..wh..opq", .type = '0'}},
        {"a whiteout of the folder above", {.name = ".wh...", .type = '0'}, {0}},
        {"a whiteout of the folder", {.name = ".wh..", .type = '0'}, {0}},
        {"a hard link out", {.name = "passwd", .type = '1', .link = "/etc/passwd"}, {0}},
        {"a hard link up", {.name = "x", .type = '1', .link = "../before"}, {0}},
        {"a hard link to nothing", {.name = "x", .type = '1', .link = "nothing"}, {0}},
        {"a hard link to itself",
         {.name = "x", .type = '0', .data = "x"},
         {.name = "x", .type = '1', .link = "x"}},
        {"a hard link to a link",
         {.name = "l", .type = '2', .link = "/etc/passwd"},
         {.name = "x", .type = '1', .link = "l"}},
        {"a hard link through a link",
         {.name = "out", .type = '2', .link = ".."},
         {.name = "x", .type = '1', .link = "out/before"}},
        {"a device", {.name = "sda", .type = '4'}, {0}},
        {"a character device", {.name = "null", .type = '3'}, {0}},
        {"a pipe", {.name = "pipe", .type = '6'}, {0}},
        {"below a file",
         {.name = "a", .type = '0', .data = "x"},
         {.name = "a/evil", .type = '0', .data = "x"}},
    };

    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        struct world *w = *state;
        char before[128];
        FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

        (void)snprintf(before, sizeof(before), "%s/before", w->outside);
        assert_int_equal(fl_file_write(before, "kept", 4, 0644, NULL), 0);
        fl_buf_clear(&w->tar);
        add(w, cases[i].first);
        if (cases[i].second.name)
            add(w, cases[i].second);
        end_tar(w);
        if (unpack(w) != FL_E_INVALID)
            fail_msg("%s: %d %s", cases[i].what, w->err.code, w->err.msg);
        assert_non_null(
            strstr(w->err.msg, (cases[i].second.name ? cases[i].second : cases[i].first).name));
        nothing_is_outside(w);
        assert_int_equal(fl_file_read(before, 16, &bytes, NULL), 0);
        assert_int_equal(fl_dir_remove(w->folder, NULL), 0);
    }
}

static void a_link_is_replaced_and_not_followed(void **state)
{
    struct world *w = *state;
    struct stat st;

    add(w, (struct header){.name = "out", .type = '2', .link = "../evil"});
    add_file(w, "out", "here");
    add(w, (struct header){.name = "dir", .type = '2', .link = ".."});
    add(w, (struct header){.name = "dir/", .type = '5', .mode = 0755});
    add_file(w, "dir/evil", "here");
    end_tar(w);
    unpack_well(w);
    assert_text(w, "out", "here");
    assert_text(w, "dir/evil", "here");
    assert_true(look(w, "dir", &st) && S_ISDIR(st.st_mode));
    nothing_is_outside(w);
}

static void the_last_of_a_name_counts(void **state)
{
    struct world *w = *state;

    add_file(w, "a", "one");
    add_file(w, "a", "two");
    add_file(w, "f/x", "below");
    add_file(w, "f", "a file now");
    add_file(w, "g", "a file");
    add(w, (struct header){.name = "g/", .type = '5', .mode = 0755});
    add_file(w, "g/x", "below");
    end_tar(w);
    unpack_well(w);
    assert_text(w, "a", "two");
    assert_text(w, "f", "a file now");
    assert_text(w, "g/x", "below");
}

static void packed_layers_have_the_digest_of_their_tar(void **state)
{
    struct world *w = *state;
    static const unsigned char skipped[] = {0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 'a', 'b'};
    static unsigned char packed[65536];
    char digest[FL_DIGEST_SIZE];
    uLongf len = sizeof(packed);
    z_stream z = {0};
    size_t n;

    add_file(w, "a", "text");
    end_tar(w);
    fl_digest_of(w->tar.data, w->tar.len, digest);
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (unsigned char *)w->tar.data, z.avail_in = 512; /* in two pieces */
    z.next_out = packed, z.avail_out = (uInt)len;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    assert_int_equal(deflateReset(&z), Z_OK);
    z.next_in = (unsigned char *)w->tar.data + 512, z.avail_in = (uInt)w->tar.len - 512;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    n = sizeof(packed) - z.avail_out;
    assert_int_equal(deflateEnd(&z), Z_OK);
    assert_int_equal(unpack_with(w, packed, n, (struct fl_unpack){.in_bytes = (int64_t)n}), 0);
    assert_string_equal(w->done.diff_id, digest);
    assert_int_equal(unpack_with(w, packed, n - 4, (struct fl_unpack){.in_bytes = -1}),
                     FL_E_INVALID);
    packed[n] = 'x', packed[n + 1] = 'y';
    assert_int_equal(unpack_with(w, packed, n + 2, (struct fl_unpack){.in_bytes = -1}),
                     FL_E_INVALID);
    assert_int_equal(unpack_with(w, packed, n, (struct fl_unpack){.in_bytes = (int64_t)n + 1}),
                     FL_E_INVALID);
    assert_int_equal(unpack_with(w, packed, n, (struct fl_unpack){.in_bytes = (int64_t)n - 1}),
                     FL_E_INVALID);
    n = ZSTD_compress(packed, sizeof(packed), w->tar.data, w->tar.len, 3);
    assert_false(ZSTD_isError(n));
    memcpy(packed + n, skipped, sizeof(skipped)); /* a frame to be skipped */
    assert_int_equal(unpack_with(w, packed, n + 10, (struct fl_unpack){.in_bytes = -1}), 0);
    assert_string_equal(w->done.diff_id, digest);
    assert_int_equal(unpack_with(w, packed, n - 1, (struct fl_unpack){.in_bytes = -1}),
                     FL_E_INVALID);
    packed[20] ^= 0x55;
    assert_int_equal(unpack_with(w, packed, n, (struct fl_unpack){.in_bytes = -1}), FL_E_INVALID);
}

/* 64 MiB of nothing in some kilobytes. */
static void bombs_are_too_large(void **state)
{
    struct world *w = *state;
    size_t size = 64 * 1024 * 1024, room = 1024 * 1024, n;
    FL_CLEANUP(fl_freep) unsigned char *packed = fl_malloc(room), *bomb = NULL;
    z_stream z = {0};

    put_header(&w->tar, &(struct header){.name = "bomb", .type = '0'}, size);
    bomb = fl_calloc(1, size + 2048);
    memcpy(bomb, w->tar.data, 512);
    n = ZSTD_compress(packed, room, bomb, size + 2048, 3);
    assert_false(ZSTD_isError(n));
    assert_int_equal(unpack_with(w, packed, n, (struct fl_unpack){.in_bytes = -1}), FL_E_TOO_LARGE);
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 15 + 16, 9, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = bomb, z.avail_in = (uInt)(size + 2048);
    z.next_out = packed, z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    n = room - z.avail_out;
    assert_int_equal(deflateEnd(&z), Z_OK);
    assert_int_equal(unpack_with(w, packed, n, (struct fl_unpack){.in_bytes = -1}), FL_E_TOO_LARGE);
    assert_int_equal(
        unpack_with(w, packed, n, (struct fl_unpack){.in_bytes = -1, .max_bytes = 1024 * 1024}),
        FL_E_TOO_LARGE);
}

/* "27 name=value\n" counts itself. */
static void add_pax(struct world *w, const char *name, const char *value)
{
    char record[4096];
    size_t len = strlen(name) + strlen(value) + 3, digits = 1;

    while (snprintf(NULL, 0, "%zu", len + digits) > (int)digits)
        digits++;
    (void)snprintf(record, sizeof(record), "%zu %s=%s\n", len + digits, name, value);
    add(w, (struct header){.name = "PaxHeaders/x", .type = 'x', .data = record});
}

/* 1.0 form: a map of pieces in front of the data. */
static void holes_count(void **state)
{
    struct world *w = *state;
    struct stat st;
    char block[513];

    for (unsigned i = 0; i < 2; i++) {
        fl_buf_clear(&w->tar);
        add(w, (struct header){.name = "x",
                               .type = 'x',
                               .data = i ? "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
                                           "35 GNU.sparse.realsize=90000000000\n"
                                           "27 GNU.sparse.name=sparse\n"
                                         : "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n"
                                           "31 GNU.sparse.realsize=1048576\n"
                                           "26 GNU.sparse.name=sparse\n"});
        memset(block, 0, sizeof(block));
        (void)snprintf(block, sizeof(block), "1\n4096\n3\n");
        put_header(&w->tar, &(struct header){.name = "GNUSparseFile/sparse", .type = '0'}, 512 + 3);
        fl_buf_append(&w->tar, block, 512);
        memset(block, 0, sizeof(block));
        (void)snprintf(block, sizeof(block), "abc");
        fl_buf_append(&w->tar, block, 512);
        end_tar(w);
        if (i == 0) {
            unpack_well(w);
            assert_true(look(w, "sparse", &st));
            assert_int_equal(st.st_size, 1048576);
            assert_true(st.st_blocks < 64);
            assert_int_equal(w->done.bytes, 1048576);
        } else {
            assert_int_equal(unpack(w), FL_E_TOO_LARGE);
        }
    }
}

static void long_names_and_other_alphabets(void **state)
{
    struct world *w = *state;
    char name[3000], part[300];

    memset(part, 'n', 250);
    part[250] = '\0';
    (void)snprintf(name, sizeof(name), "%s/%s/%s", part, part, part);
    add_pax(w, "path", name);
    add_file(w, "short", "long");
    add_pax(w, "path", "gr\xc3\xbc\xc3\x9f/\xe4\xb8\xad.txt");
    add_file(w, "short", "utf-8");
    add_file(w, "raw\xff", "raw");
    end_tar(w);
    unpack_well(w);
    (void)snprintf(name, sizeof(name), "%s/%s/%s/%s", w->folder, part, part, part);
    assert_int_equal(access(name, F_OK), 0);
    assert_text(w, "gr\xc3\xbc\xc3\x9f/\xe4\xb8\xad.txt", "utf-8");
    assert_text(w, "raw\xff", "raw");
    fl_buf_clear(&w->tar);
    memset(name, 'x', 300);
    name[300] = '\0'; /* no file system has such a name */
    add_pax(w, "path", name);
    add_file(w, "short", "long");
    end_tar(w);
    assert_int_equal(unpack(w), FL_E_INVALID);
    fl_buf_clear(&w->tar);
    for (size_t i = 0; i < 600; i++) /* deeper than folders need be */
        memcpy(name + 2 * i, "d/", 3);
    add_pax(w, "path", name);
    add_file(w, "short", "long");
    end_tar(w);
    assert_int_equal(unpack(w), FL_E_INVALID);
}

static void damage_is_told(void **state)
{
    struct world *w = *state;
    size_t whole;

    add_file(w, "a", "text");
    end_tar(w);
    whole = w->tar.len;
    fl_buf_puts(&w->tar, "something else");
    assert_int_equal(unpack(w), FL_E_INVALID); /* behind the end */
    assert_int_equal(unpack_with(w, w->tar.data, 700, (struct fl_unpack){.in_bytes = -1}),
                     FL_E_INVALID);
    assert_int_equal(unpack_with(w, w->tar.data, whole, (struct fl_unpack){.in_bytes = 99999}),
                     FL_E_INVALID);
    assert_int_equal(unpack_with(w, "no archive", 10, (struct fl_unpack){.in_bytes = -1}),
                     FL_E_INVALID);
    assert_int_equal(unpack_with(w, "", 0, (struct fl_unpack){.in_bytes = -1}), FL_E_INVALID);
    w->tar.data[100] = '9'; /* the sum is wrong now */
    assert_int_equal(unpack_with(w, w->tar.data, whole, (struct fl_unpack){.in_bytes = -1}),
                     FL_E_INVALID);
    fl_buf_clear(&w->tar);
    add(w, (struct header){.name = "a", .type = '0', .data = "x", .size = 077777777777});
    assert_int_equal(unpack(w), FL_E_INVALID); /* there is none of it */
    assert_int_equal(unpack_with(w, w->tar.data, w->tar.len,
                                 (struct fl_unpack){.in_bytes = -1, .max_bytes = 1 << 30}),
                     FL_E_TOO_LARGE);
    fl_buf_clear(&w->tar);
    for (unsigned i = 0; i < 11; i++)
        add_file(w, "a", "x");
    end_tar(w);
    assert_int_equal(unpack_with(w, w->tar.data, w->tar.len,
                                 (struct fl_unpack){.in_bytes = -1, .max_entries = 10}),
                     FL_E_TOO_LARGE);
}

/* Whiteouts. */

static void next_layer(struct world *w)
{
    end_tar(w);
    unpack_well(w);
    fl_buf_clear(&w->tar);
}

static void whiteouts_remove_what_lower_layers_had(void **state)
{
    struct world *w = *state;

    add_file(w, "etc/a", "lower");
    add_file(w, "etc/b", "lower");
    add_file(w, "d/e/f", "lower");
    add_file(w, "o/low", "lower");
    add_file(w, "o/sub/low", "lower");
    add_file(w, "same", "lower");
    next_layer(w);
    add_file(w, "etc/.wh.a", "");
    add_file(w, ".wh.d", "");
    add_file(w, "o/new", "upper");
    add_file(w, "o/sub/new", "upper");
    add_file(w, "o/.wh..wh..opq", "");
    add_file(w, "same", "upper");
    add_file(w, ".wh.same", ""); /* speaks of lower layers only */
    add_file(w, ".wh.never", "");
    add_file(w, ".wh..wh.plnk", "");
    next_layer(w);
    assert_false(is_there(w, "etc/a"));
    assert_text(w, "etc/b", "lower");
    assert_false(is_there(w, "d"));
    assert_text(w, "o/new", "upper");
    assert_text(w, "o/sub/new", "upper");
    assert_false(is_there(w, "o/low"));
    assert_false(is_there(w, "o/sub/low"));
    assert_text(w, "same", "upper");
    assert_false(is_there(w, ".wh..wh.plnk"));
    assert_false(is_there(w, "etc/.wh.a"));
}

static void hard_links_reach_no_lower_layer(void **state)
{
    struct world *w = *state;

    add_file(w, "low", "lower");
    next_layer(w);
    add(w, (struct header){.name = "link", .type = '1', .link = "low"});
    end_tar(w);
    assert_int_equal(unpack(w), FL_E_INVALID);
}

static bool is_opaque(const struct world *w, const char *path)
{
    char full[256], value[8];

    (void)snprintf(full, sizeof(full), "%s/%s", w->folder, path);
    return getxattr(full, "trusted.overlay.opaque", value, sizeof(value)) == 1 ||
           getxattr(full, "user.overlay.opaque", value, sizeof(value)) == 1;
}

static void whiteouts_as_overlayfs_wants_them(void **state)
{
    struct world *w = *state;
    struct stat st;

    add_file(w, "etc/.wh.a", "");
    add_file(w, "o/.wh..wh..opq", "");
    add_file(w, "o/new", "upper");
    add_file(w, ".wh.was", "");
    add_file(w, "was/new", "a folder in its place");
    add(w, (struct header){.name = "also/", .type = '5', .mode = 0755});
    add_file(w, ".wh.also", "");
    end_tar(w);
    assert_int_equal(unpack_with(w, w->tar.data, w->tar.len,
                                 (struct fl_unpack){.in_bytes = -1, .for_overlay = true}),
                     0);
    assert_true(look(w, "etc/a", &st) && S_ISCHR(st.st_mode) && st.st_rdev == makedev(0, 0));
    assert_true(is_opaque(w, "o"));
    assert_text(w, "o/new", "upper");
    assert_true(is_opaque(w, "was"));
    assert_text(w, "was/new", "a folder in its place");
    assert_true(is_opaque(w, "also"));
    assert_false(is_opaque(w, "etc"));
}

static void owners_are_kept_where_asked(void **state)
{
    struct world *w = *state;
    struct stat st;

    add(w, (struct header){.name = "su", .type = '0', .mode = 04755, .data = "x"});
    end_tar(w);
    unpack_well(w);
    assert_true(look(w, "su", &st) && (st.st_mode & 07777) == 0755);
    if (geteuid() != 0)
        return;
    memcpy(w->tar.data + 108, "0001747", 7); /* 999 */
    memset(w->tar.data + 148, ' ', 8);
    {
        unsigned sum = 0;

        for (size_t i = 0; i < 512; i++)
            sum += (unsigned char)w->tar.data[i];
        (void)snprintf(w->tar.data + 148, 8, "%06o", sum & 0777777);
    }
    assert_int_equal(unpack_with(w, w->tar.data, w->tar.len,
                                 (struct fl_unpack){.in_bytes = -1, .keep_owners = true}),
                     0);
    assert_true(look(w, "su", &st) && (st.st_mode & 07777) == 04755 && st.st_uid == 999);
}

static bool no_docs(void *user, const char *path)
{
    (void)user;
    return strncmp(path, "usr/share/doc", 13) == 0;
}

static bool stop_now(void *user)
{
    unsigned *left = user;

    return (*left)-- > 0;
}

static void the_caller_has_a_say(void **state)
{
    struct world *w = *state;
    unsigned left = 2;

    add_file(w, "usr/bin/a", "a");
    add_file(w, "usr/share/doc/a", "a");
    add_file(w, "z", "z");
    end_tar(w);
    assert_int_equal(unpack_with(w, w->tar.data, w->tar.len,
                                 (struct fl_unpack){.in_bytes = -1, .skip = no_docs}),
                     0);
    assert_true(is_there(w, "usr/bin/a"));
    assert_false(is_there(w, "usr/share"));
    assert_int_equal(
        unpack_with(w, w->tar.data, w->tar.len,
                    (struct fl_unpack){.in_bytes = -1, .keep_going = stop_now, .user = &left}),
        FL_E_UNAVAILABLE);
}

/* Other kinds. */

static la_ssize_t collect(struct archive *a, void *user, const void *data, size_t len)
{
    (void)a;
    fl_buf_append(user, data, len);
    return (la_ssize_t)len;
}

static void write_entry(struct archive *a, const char *path, const void *data, size_t len)
{
    struct archive_entry *entry = archive_entry_new();

    archive_entry_set_pathname(entry, path);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, (la_int64_t)len);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    assert_int_equal(archive_write_data(a, data, len), (la_ssize_t)len);
    archive_entry_free(entry);
}

static void debian_packages(void **state)
{
    struct world *w = *state;
    static unsigned char packed[65536];
    struct fl_buf deb;
    size_t n;

    add_file(w, "./usr/bin/tool", "tool");
    add_file(w, "./.wh.kept", "a name like another"); /* means nothing here */
    end_tar(w);
    n = ZSTD_compress(packed, sizeof(packed), w->tar.data, w->tar.len, 3);
    assert_false(ZSTD_isError(n));
    for (unsigned with_data = 0; with_data < 2; with_data++) {
        struct archive *a = archive_write_new();

        fl_buf_init(&deb, 0);
        assert_int_equal(archive_write_set_format_ar_svr4(a), ARCHIVE_OK);
        assert_int_equal(archive_write_set_bytes_in_last_block(a, 1), ARCHIVE_OK);
        assert_int_equal(archive_write_open(a, &deb, NULL, collect, NULL), ARCHIVE_OK);
        write_entry(a, "debian-binary", "2.0\n", 4);
        if (with_data)
            write_entry(a, "data.tar.zst", packed, n);
        assert_int_equal(archive_write_free(a), ARCHIVE_OK);
        assert_int_equal(unpack_with(w, deb.data, deb.len,
                                     (struct fl_unpack){.format = FL_ARCHIVE_DEBIAN,
                                                        .in_bytes = (int64_t)deb.len}),
                         with_data ? 0 : FL_E_INVALID);
        if (with_data)
            assert_int_equal(
                unpack_with(w, deb.data, deb.len - n / 2,
                            (struct fl_unpack){.format = FL_ARCHIVE_DEBIAN, .in_bytes = -1}),
                FL_E_INVALID);
        fl_buf_finish(&deb);
    }
    assert_text(w, "usr/bin/tool", "tool");
    assert_text(w, ".wh.kept", "a name like another");
    assert_string_equal(w->done.diff_id, "");
}

static void wheels(void **state)
{
    struct world *w = *state;
    static const char *const bad[] = {"../evil", "/flops-evil", "a/../../evil"};
    struct fl_unpack how = {.format = FL_ARCHIVE_WHEEL};

    for (size_t i = 0; i <= FL_COUNT_OF(bad); i++) {
        struct archive *a = archive_write_new();
        struct fl_buf zip;

        fl_buf_init(&zip, 0);
        assert_int_equal(archive_write_set_format_zip(a), ARCHIVE_OK);
        assert_int_equal(archive_write_set_bytes_in_last_block(a, 1), ARCHIVE_OK);
        assert_int_equal(archive_write_open(a, &zip, NULL, collect, NULL), ARCHIVE_OK);
        write_entry(a, "pkg/__init__.py", "x = 1\n", 6);
        if (i < FL_COUNT_OF(bad))
            write_entry(a, bad[i], "x", 1);
        assert_int_equal(archive_write_free(a), ARCHIVE_OK);
        how.in_bytes = (int64_t)zip.len;
        assert_int_equal(unpack_with(w, zip.data, zip.len, how),
                         i < FL_COUNT_OF(bad) ? FL_E_INVALID : 0);
        how.in_bytes = (int64_t)zip.len + 1;
        assert_int_equal(unpack_with(w, zip.data, zip.len, how), FL_E_INVALID);
        how.in_bytes = -1;
        assert_int_equal(unpack_with(w, zip.data, zip.len - 10, how), FL_E_INVALID);
        nothing_is_outside(w);
        fl_buf_finish(&zip);
    }
    assert_text(w, "pkg/__init__.py", "x = 1\n");
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unpacks_what_a_layer_has),
        TEST(refuses_to_leave_the_folder),
        TEST(a_link_is_replaced_and_not_followed),
        TEST(the_last_of_a_name_counts),
        TEST(packed_layers_have_the_digest_of_their_tar),
        TEST(bombs_are_too_large),
        TEST(holes_count),
        TEST(long_names_and_other_alphabets),
        TEST(damage_is_told),
        TEST(whiteouts_remove_what_lower_layers_had),
        TEST(hard_links_reach_no_lower_layer),
        TEST(whiteouts_as_overlayfs_wants_them),
        TEST(owners_are_kept_where_asked),
        TEST(the_caller_has_a_say),
        TEST(debian_packages),
        TEST(wheels),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
