/* Tokens that open one path and nothing else: for services that fetch their model, nodes that pull
 * their images, and builds that push theirs.
 *
 * A token is "fc1." (it reads) or "fw1." (it reads and writes), and a MAC (BLAKE2b, libsodium) over
 * that and the path, in hex. One for a path that ends in '/' opens all that is below it
 * ("/v2/team/app/": a repository). It is not stored anywhere, and holds as long as the key does.
 * Any thread. */
#ifndef FL_CONTROLLER_CAPABILITY_H
#define FL_CONTROLLER_CAPABILITY_H

#include <stdbool.h>

#define FL_CAPABILITY_KEY_SIZE   32
#define FL_CAPABILITY_TOKEN_SIZE 80
#define FL_CAPABILITY_USER       "system:capability"
#define FL_CAPABILITY_WRITER     "system:capability-writer"

void fl_capability_make(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *path,
                        char out[FL_CAPABILITY_TOKEN_SIZE]);
void fl_capability_make_writer(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *path,
                               char out[FL_CAPABILITY_TOKEN_SIZE]);
bool fl_capability_is(const char *token);     /* whether it claims to be one */
bool fl_capability_writes(const char *token); /* whether it claims to be a writer's */
bool fl_capability_opens(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *token,
                         const char *path);

#endif
