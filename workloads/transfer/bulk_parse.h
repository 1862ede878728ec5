/* What bulk transfer reads of strangers' bytes: digests of chunks, parameters of uploads,
 * and its own state files. Pure functions; any thread. */
#ifndef FL_WORKLOADS_BULK_PARSE_H
#define FL_WORKLOADS_BULK_PARSE_H

#include "lib/digest.h"
#include "lib/error.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stdint.h>

/* Content-Digest (RFC 9530): of what it names, the strongest that is known here. */
enum fl_bulk_check_kind { FL_BULK_CHECK_NONE, FL_BULK_CHECK_CRC32C, FL_BULK_CHECK_SHA256 };
struct fl_bulk_check {
    enum fl_bulk_check_kind kind;
    unsigned char value[FL_SHA256_SIZE]; /* CRC-32C: the first 4, the highest byte first */
};
/* BAD_REQUEST where it names none or is malformed. */
int fl_bulk_check_parse(const char *header, struct fl_bulk_check *ret_check, struct fl_error *err);
/* "crc32c=:…:" */
#define FL_BULK_CHECK_TEXT_SIZE 64
void fl_bulk_check_crc32c_text(uint32_t crc, char out[FL_BULK_CHECK_TEXT_SIZE]);

/* Repr-Digest (RFC 9530) of a model: "xxh128=:…:", among others that are not known here. False
 * where it has none, or `digest` is none. */
bool fl_bulk_whole_parse(const char *header, char out[FL_DIGEST_SIZE]);
bool fl_bulk_whole_text(const char *digest, char out[FL_BULK_CHECK_TEXT_SIZE]);

/* offset=N&size=TOTAL&digest=D, in any order, each once, nothing else. */
struct fl_bulk_put {
    int64_t offset, size;
    char digest[FL_DIGEST_SIZE];
};
int fl_bulk_put_parse(const char *query, struct fl_bulk_put *ret_put, struct fl_error *err);

/* The name of an upload in a path ("p1%2Fr3"): 1 to 512 bytes without control characters, in the
 * arena. BAD_REQUEST. */
#define FL_BULK_KEY_MAX 512
int fl_bulk_key_parse(struct fl_arena *arena, const char *text, const char **ret_key,
                      struct fl_error *err);

/* An upload's state file: a line of fixed width, of which `safe` is overwritten in place. */
struct fl_bulk_state {
    int64_t safe, size; /* bytes that came whole and checked; of all */
    bool complete;      /* the whole digest was checked too */
    char digest[FL_DIGEST_SIZE];
    char key[FL_BULK_KEY_MAX + 1];
};
#define FL_BULK_STATE_FIXED 22 /* "NNNNNNNNNNNNNNNNNNN C " : what changes, in front */
#define FL_BULK_STATE_MAX   (FL_BULK_STATE_FIXED + 20 + FL_DIGEST_SIZE + FL_BULK_KEY_MAX + 1)
void fl_bulk_state_format(const struct fl_bulk_state *state, char out[FL_BULK_STATE_MAX + 1]);
/* False where it is none of ours, or a part of one. */
bool fl_bulk_state_parse(const char *text, size_t len, struct fl_bulk_state *ret_state);

#endif
