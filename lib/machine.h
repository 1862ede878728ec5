/* What machine this is. Any thread. */
#ifndef FL_LIB_MACHINE_H
#define FL_LIB_MACHINE_H

#include <stddef.h>
#include <stdint.h>

struct fl_machine {
    char name[64];     /* its host name as a DNS label: "node" where nothing is left of it */
    char platform[32]; /* "linux/amd64" */
    int64_t cpus;      /* that this process may use */
    int64_t memory_bytes, storage_bytes; /* of the file system that `path` is on */
};

struct fl_machine fl_machine_get(const char *path);

/* Platforms of other machines whose programs run here, by QEMU: those that `folder` (NULL: the
 * kernel's binfmt_misc) lists as registered, enabled, and with the flag F, so that the interpreter
 * is there in containers, too. Static texts; how many of at most `max`. */
size_t fl_machine_foreign(const char *folder, const char **out, size_t max);

/* "My_Host.example.org" is "my-host". */
void fl_machine_label(const char *name, char out[64]);

#endif
