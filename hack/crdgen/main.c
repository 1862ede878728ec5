/* crdgen OUT CRD…: writes all that is generated from the definitions below the folder OUT. */
#include "hack/crdgen/crdgen.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static const struct output {
    const char *path;
    void (*write)(const struct model *model, struct fl_buf *buf);
} outputs[] = {
    {"api/gen/flops_types.h", write_types},
    {"api/gen/flops_fields.c", write_fields},
    {"api/gen/crds_embedded.h", write_embedded_header},
    {"api/gen/crds_embedded.c", write_embedded},
    {"docs/reference.md", write_reference},
    {"docs/openapi/flops.dev_v1alpha1.json", write_openapi},
};

void die(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    (void)fputs("crdgen: ", stderr);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
    exit(1);
}

static void make_folders(struct fl_arena *arena, const char *path)
{
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        const char *folder = fl_arena_strndup(arena, path, (size_t)(slash - path));

        if (mkdir(folder, 0777) != 0 && errno != EEXIST)
            die("%s: %s", folder, strerror(errno));
    }
}

static void write_output(const struct model *model, const char *out, const struct output *output)
{
    const char *path = fl_arena_printf(model->arena, "%s/%s", out, output->path);
    struct fl_buf buf;
    FILE *file;

    fl_buf_init(&buf, 0);
    output->write(model, &buf);
    make_folders(model->arena, path);
    file = fopen(path, "wb");
    if (!file || fwrite(fl_buf_text(&buf), 1, buf.len, file) != buf.len || fclose(file) != 0)
        die("%s: %s", path, strerror(errno));
    fl_buf_finish(&buf);
}

int main(int argc, char **argv)
{
    struct model *model;
    struct fl_arena *arena;

    if (argc < 3)
        die("usage: crdgen OUT CRD...");
    arena = fl_arena_create();
    model = fl_new(arena, struct model);
    model->arena = arena;
    for (int i = 2; i < argc; i++)
        model_add_file(model, argv[i]);
    for (size_t i = 0; i < FL_COUNT_OF(outputs); i++)
        write_output(model, argv[1], &outputs[i]);
    fl_arena_destroy(arena);
    return 0;
}
