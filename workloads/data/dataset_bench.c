/* How fast data sets are read, beside what the same bytes cost when nothing is understood of them.
 *
 *   dataset_bench [MNIST FOLDER]     default: build/data/mnist (hack/get-data.sh) */
#include "lib/buf.h"
#include "lib/env.h"
#include "lib/file.h"
#include "workloads/data/dataset.h"
#include "workloads/data/random.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROUNDS    5
#define CSV_BYTES ((size_t)100 * 1000 * 1000)

static void report(const char *what, size_t bytes, int64_t best_us)
{
    (void)printf("%-44s %8.1f MB/s\n", what, (double)bytes / (double)best_us);
}

static size_t size_of(const char *path)
{
    struct stat info = {0};

    return stat(path, &info) == 0 ? (size_t)info.st_size : 0;
}

/* The best of a few, since others use the machine too. */
#define BEST_OF(statement)                                                                         \
    ({                                                                                             \
        int64_t best_ = INT64_MAX;                                                                 \
        for (int round_ = 0; round_ < ROUNDS; round_++) {                                          \
            int64_t began_ = fl_machine_monotonic_us(), took_;                                     \
            statement;                                                                             \
            took_ = fl_machine_monotonic_us() - began_;                                            \
            best_ = took_ < best_ ? took_ : best_;                                                 \
        }                                                                                          \
        best_ > 0 ? best_ : 1;                                                                     \
    })

static void only_read(const char *path)
{
    static char piece[256 * 1024];
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    while (fd >= 0 && read(fd, piece, sizeof(piece)) > 0)
        ;
    if (fd >= 0)
        (void)close(fd);
}

static void only_copy(const char *path)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;

    (void)fl_file_read(path, (size_t)1 << 30, &bytes, NULL);
}

/* What IDX must do at least: a float for each byte, in memory that nobody has touched. */
static void only_widen(size_t count)
{
    float *out = fl_malloc(count * sizeof(*out));

    for (size_t i = 0; i < count; i++)
        out[i] = (float)(i & 255);
    __asm__ volatile("" : : "r"(out) : "memory");
    free(out);
}

static size_t count_of(const char *path, char byte)
{
    FL_CLEANUP(fl_bytes_unrefp) struct fl_bytes *bytes = NULL;
    size_t count = 0;

    if (fl_file_read(path, (size_t)1 << 30, &bytes, NULL) < 0)
        return 0;
    for (size_t i = 0; i < bytes->len; i++)
        count += bytes->data[i] == byte;
    return count;
}

static void bench_idx(const char *folder)
{
    char images[4096], labels[4096];
    size_t bytes;

    (void)snprintf(images, sizeof(images), "%s/train-images-idx3-ubyte", folder);
    (void)snprintf(labels, sizeof(labels), "%s/train-labels-idx1-ubyte", folder);
    bytes = size_of(images);
    if (bytes == 0) {
        (void)printf("no MNIST in %s: hack/get-data.sh fetches it\n", folder);
        return;
    }
    (void)printf("IDX: %s, %.1f MB\n", images, (double)bytes / 1e6);
    report("  read, nothing kept", bytes, BEST_OF(only_read(images)));
    report("  read into memory", bytes, BEST_OF(only_copy(images)));
    report("  a float for each byte, nothing read", bytes, BEST_OF(only_widen(bytes)));
    report("  as a data set", bytes, BEST_OF({
               FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;

               (void)fl_dataset_read_idx(images, labels, NULL, &dataset, NULL);
           }));
}

static int make_csv(const char *path)
{
    struct fl_random random = fl_random_from(1, 1);
    struct fl_buf text;
    int r;

    fl_buf_init(&text, 0);
    fl_buf_reserve(&text, CSV_BYTES + 4096);
    while (text.len < CSV_BYTES) {
        for (int i = 0; i < 16; i++)
            fl_buf_printf(&text, "%.6g,", 200 * fl_random_uniform(&random) - 100);
        fl_buf_printf(&text, "class %d\n", (int)fl_random_index(&random, 26));
    }
    r = fl_file_write(path, text.data, text.len, 0600, NULL);
    fl_buf_finish(&text);
    return r;
}

static void bench_csv(void)
{
    char path[] = "/tmp/flops-bench-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    size_t bytes;

    if (fd < 0 || make_csv(path) < 0)
        return;
    bytes = size_of(path);
    (void)printf("CSV: 16 numbers and a text a row, %.1f MB\n", (double)bytes / 1e6);
    report("  read, nothing kept", bytes, BEST_OF(only_read(path)));
    report("  read into memory", bytes, BEST_OF(only_copy(path)));
    report("  read into memory, commas counted", bytes, BEST_OF((void)count_of(path, ',')));
    report("  as a data set", bytes, BEST_OF({
               FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *dataset = NULL;

               (void)fl_dataset_read_csv(path, NULL, NULL, &dataset, NULL);
           }));
    (void)close(fd);
    (void)unlink(path);
}

int main(int argc, char **argv)
{
    bench_idx(argc > 1 ? argv[1] : "build/data/mnist");
    bench_csv();
    return 0;
}
