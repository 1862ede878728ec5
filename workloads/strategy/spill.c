/* Updates that wait for each other: in memory, or in a file each, whole as they came. */
#include "workloads/strategy/strategy_internal.h"

#include "lib/str.h"
#include "workloads/tensor/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define READ_BYTES ((size_t)256 * 1024)

struct waiting {
    struct fl_spilled what;
    char *learner;
    struct fl_model *model; /* in memory, or */
    int fd;                 /* an unlinked file; -1 */
};

struct fl_spill {
    char *dir; /* NULL: memory */
    const struct fl_model *like;
    struct waiting *items;
    size_t count, room;
    bool sorted;
    unsigned char *line;
};

int fl_spill_create(const char *dir, const struct fl_model *like, struct fl_spill **ret_spill,
                    struct fl_error *err)
{
    struct fl_spill *spill;

    if (dir && access(dir, W_OK | X_OK) != 0)
        return fl_error_errno(err, errno, "spill to %s", dir);
    spill = fl_calloc(1, sizeof(*spill));
    spill->dir = dir ? fl_strdup(dir) : NULL;
    spill->like = like;
    spill->line = fl_malloc(READ_BYTES);
    *ret_spill = spill;
    return 0;
}

void fl_spill_destroy(struct fl_spill *spill)
{
    if (!spill)
        return;
    for (size_t i = 0; i < spill->count; i++) {
        if (spill->items[i].fd >= 0)
            (void)close(spill->items[i].fd);
        fl_model_unref(spill->items[i].model);
        free(spill->items[i].learner);
    }
    free(spill->items);
    free(spill->line);
    free(spill->dir);
    free(spill);
}

/* The file has no name any more as soon as it is open: whatever happens, nothing is left behind. */
static int write_file(const struct fl_spill *spill, const struct fl_model *update, int *ret_fd,
                      struct fl_error *err)
{
    FL_CLEANUP(fl_freep) char *path = fl_asprintf("%s/update-XXXXXX", spill->dir);
    int fd = mkostemp(path, O_CLOEXEC);
    size_t at = 0;

    if (fd < 0)
        return fl_error_errno(err, errno, "spill to %s", spill->dir);
    (void)unlink(path);
    while (at < update->size) {
        ssize_t n = write(fd, update->data + at, update->size - at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int r = fl_error_errno(err, errno, "spill to %s", spill->dir);

            (void)close(fd);
            return r;
        }
        at += (size_t)n;
    }
    *ret_fd = fd;
    return 0;
}

int fl_spill_add(struct fl_spill *spill, const struct fl_model *update, const char *learner,
                 int64_t examples, struct fl_error *err)
{
    struct waiting waiting = {.fd = -1};
    int r = spill->dir ? write_file(spill, update, &waiting.fd, err)
                       : fl_model_like(update, true, &waiting.model, err);

    if (r < 0)
        return r;
    waiting.learner = fl_strdup(fl_str_or(learner, ""));
    waiting.what = (struct fl_spilled){.learner = waiting.learner, .examples = examples};
    if (spill->count == spill->room) {
        spill->room = spill->room ? spill->room * 2 : 16;
        spill->items = fl_realloc(spill->items, spill->room * sizeof(*spill->items));
    }
    spill->items[spill->count++] = waiting;
    spill->sorted = false;
    return 0;
}

size_t fl_spill_count(const struct fl_spill *spill)
{
    return spill->count;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct waiting *)a)->learner, ((const struct waiting *)b)->learner);
}

static struct waiting *at(struct fl_spill *spill, size_t i)
{
    if (!spill->sorted)
        qsort(spill->items, spill->count, sizeof(*spill->items), compare);
    spill->sorted = true;
    return &spill->items[i];
}

const struct fl_spilled *fl_spill_get(struct fl_spill *spill, size_t i)
{
    return &at(spill, i)->what;
}

static int read_file(int fd, off_t from, void *out, size_t len, struct fl_error *err)
{
    char *to = out;

    while (len > 0) {
        ssize_t n = pread(fd, to, len, from);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fl_error_errno(err, errno, "read a spilled update");
        if (n == 0)
            return fl_error_set(err, FL_E_INTERNAL, "a spilled update is cut off");
        to += n, from += n, len -= (size_t)n;
    }
    return 0;
}

int fl_spill_read(struct fl_spill *spill, size_t i, const struct fl_tensor *tensor, size_t from,
                  size_t count, double *out, struct fl_error *err)
{
    const struct waiting *waiting = at(spill, i);
    size_t size = fl_dtype_size(tensor->dtype), most = READ_BYTES / size;
    size_t offset = (size_t)((unsigned char *)tensor->data - spill->like->data);
    struct fl_tensor view = *tensor;

    for (size_t done = 0; done < count;) {
        size_t now = count - done < most ? count - done : most;
        size_t begin = offset + (from + done) * size;
        int r = 0;

        if (waiting->model)
            view.data = waiting->model->data + begin;
        else
            r = read_file(waiting->fd, (off_t)begin, view.data = spill->line, now * size, err);
        if (r < 0)
            return r;
        for (size_t e = 0; e < now; e++)
            out[done + e] = fl_tensor_get(&view, e);
        done += now;
    }
    return 0;
}
