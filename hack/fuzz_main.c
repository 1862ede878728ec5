/* Replays a corpus without a fuzzing engine, so that what was once found stays found: each file
 * (or each file of each folder) named on the command line goes through the fuzzer's entry. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t replayed;

static void replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size + 1);

    if (!file || !data || fread(data, 1, size, file) != size) {
        perror(path);
        exit(1);
    }
    (void)fclose(file);
    (void)LLVMFuzzerTestOneInput(data, size);
    free(data);
    replayed++;
}

static void replay(const char *path)
{
    struct stat st;
    struct dirent *entry;
    DIR *dir;

    if (stat(path, &st) != 0)
        return;
    if (!S_ISDIR(st.st_mode)) {
        replay_file(path, (size_t)st.st_size);
        return;
    }
    dir = opendir(path);
    while (dir && (entry = readdir(dir))) {
        char child[4096];

        if (entry->d_name[0] == '.')
            continue;
        (void)snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
        replay(child);
    }
    if (dir)
        (void)closedir(dir);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        replay(argv[i]);
    if (replayed == 0) {
        (void)fprintf(stderr, "no corpus: a fuzzer without inputs checks nothing\n");
        return 1;
    }
    (void)printf("%zu inputs replayed\n", replayed);
    return 0;
}
