/* Archives from strangers, onto the disk: layers of images (tar, gzip, zstd), Debian packages and
 * wheels (libarchive reads; where things go is decided here).
 *
 * Nothing is written outside the folder, whatever names, links and hard links the archive holds:
 * each path is walked from the folder's descriptor without following links. Refused with the
 * entry's name (INVALID): absolute paths and "..", devices, sockets and pipes, hard links to what
 * the archive did not bring, an entry below a file. TOO_LARGE: more entries or bytes than the
 * bounds, and more than 1,000 times what came in (a bomb) beyond the first MiB. Any thread. */
#ifndef FL_LIB_OCI_UNPACK_H
#define FL_LIB_OCI_UNPACK_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

enum fl_archive_format {
    FL_ARCHIVE_LAYER,  /* tar, plain or with gzip or zstd; whiteouts are obeyed */
    FL_ARCHIVE_WHEEL,  /* zip */
    FL_ARCHIVE_DEBIAN, /* ar with data.tar.{xz,zst,gz,bz2}: what is in there */
};

struct fl_unpack {
    enum fl_archive_format format;
    int fd; /* read from where it stands; stays the caller's */
    int64_t
        in_bytes; /* how many there are; INVALID where there are more or fewer. < 0: not known */
    const char *folder;  /* made where it is not there */
    int64_t max_bytes;   /* 0: 16 GiB */
    int64_t max_entries; /* 0: 1,000,000 */
    /* A layer's whiteouts: removed from the folder (false: the layers of an image are unpacked into
     * one folder, in order), or left as overlayfs wants them (true: a folder a layer). */
    bool for_overlay;
    /* Owners and setuid bits as the archive says (needs root); else the caller's own. */
    bool keep_owners;
    bool (*skip)(void *user, const char *path); /* may be NULL: none is left out */
    bool (*keep_going)(void *user);             /* may be NULL; false breaks off: UNAVAILABLE */
    void *user;
};
struct fl_unpacked {
    int64_t entries, bytes;
    char diff_id[72]; /* of a layer: the digest of the tar; else "" */
};
/* What was written stays where it fails: the folder is the caller's to remove. */
int fl_unpack(const struct fl_unpack *unpack, struct fl_unpacked *ret_unpacked,
              struct fl_error *err);

#endif
