/* What an ELF file needs to run: which machine, which loader, which shared libraries.
 *
 * Reads 64-bit little-endian files only, which is what images are built for. What it reads may be a
 * stranger's: every offset is checked. Pure but for reading the file; any thread. */
#ifndef FL_RECONCILERS_ELF_H
#define FL_RECONCILERS_ELF_H

#include "lib/error.h"
#include "lib/mem.h"

#include <stddef.h>

struct fl_elf {
    const char *architecture; /* as platforms have it: "amd64", "arm64" …; static */
    const char *loader;       /* PT_INTERP: "/lib64/ld-linux-x86-64.so.2"; NULL: none */
    const char **needed;      /* DT_NEEDED: "libc.so.6" */
    size_t needed_count;
};

/* UNSUPPORTED_MEDIA for what is no such file, INVALID for a damaged one. */
int fl_elf_parse(struct fl_arena *arena, const void *data, size_t len, struct fl_elf *ret_elf,
                 struct fl_error *err);
int fl_elf_read(struct fl_arena *arena, const char *path, struct fl_elf *ret_elf,
                struct fl_error *err);

#endif
