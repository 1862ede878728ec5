/* Tokens that open one path for reading, and nothing else: for services that fetch their model, and
 * nodes that pull their images.
 *
 * A token is "fc1.", a MAC (BLAKE2b, libsodium) over the path, in hex. One for a path that ends in
 * '/' opens all that is below it ("/v2/team/app/": a repository). It is not stored anywhere, and
 * holds as long as the key does. Any thread. */
#ifndef FL_CONTROLLER_CAPABILITY_H
#define FL_CONTROLLER_CAPABILITY_H

#include <stdbool.h>

#define FL_CAPABILITY_KEY_SIZE   32
#define FL_CAPABILITY_TOKEN_SIZE 80
#define FL_CAPABILITY_USER       "system:capability"

void fl_capability_make(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *path,
                        char out[FL_CAPABILITY_TOKEN_SIZE]);
bool fl_capability_is(const char *token); /* whether it claims to be one */
bool fl_capability_opens(const unsigned char key[FL_CAPABILITY_KEY_SIZE], const char *token,
                         const char *path);

#endif
