/* Archives of any form, the first byte says which: whatever they hold, nothing appears beside the
 * folder. */
#include "lib/file.h"
#include "lib/oci/unpack.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_alone(const char *outside)
{
    const struct dirent *item;
    DIR *list = opendir(outside);

    while (list && (item = readdir(list)))
        if (item->d_name[0] != '.' && strcmp(item->d_name, "in") != 0)
            abort();
    if (list)
        (void)closedir(list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char outside[] = "/dev/shm/flops-fuzz-XXXXXX", folder[64];
    struct fl_unpack unpack = {.in_bytes = -1, .max_bytes = 1 << 20, .max_entries = 1000};
    struct fl_unpacked done;
    struct fl_error err;
    int fd;

    if (size < 1 || !mkdtemp(outside))
        return 0;
    (void)snprintf(folder, sizeof(folder), "%s/in", outside);
    fd = memfd_create("fuzz", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)size - 1 || lseek(fd, 0, SEEK_SET) != 0)
        abort();
    unpack.format = data[0] % 3;
    unpack.for_overlay = data[0] & 4;
    unpack.fd = fd;
    unpack.folder = folder;
    if (fl_unpack(&unpack, &done, &err) == 0)
        if (done.bytes > unpack.max_bytes || done.entries > unpack.max_entries)
            abort();
    (void)close(fd);
    check_alone(outside);
    if (fl_dir_remove(outside, NULL) < 0)
        abort();
    return 0;
}
