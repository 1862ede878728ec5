#include "cmd/simulate_project.h"

#include "api/gen/flops_types.h"
#include "cmd/manifest.h"
#include "lib/str.h"

int fl_simulate_project_read(struct fl_arena *arena, const char *path, json_t **ret_object,
                             struct fl_error *err)
{
    const struct fl_words files = {&path, 1};
    struct fl_documents documents = {.arena = arena};
    const struct fl_document *found = NULL;
    struct fl_project *project;
    int r;

    fl_documents_read(&documents, &files, false);
    for (size_t i = 0; i < documents.count; i++) {
        const struct fl_document *document = &documents.items[i];

        if (document->error)
            return fl_error_set(err, FL_E_INVALID, "%s: %s", document->where, document->error);
        if (!fl_streq(document->kind, "FLProject"))
            continue;
        if (found)
            return fl_error_set(err, FL_E_INVALID, "%s: a second FLProject, after %s",
                                document->where, found->where);
        found = document;
    }
    if (!found)
        return fl_error_set(err, FL_E_NOT_FOUND, "%s: no FLProject in it", path);
    r = fl_project_decode(found->object, arena, &project, err);
    if (r < 0)
        return fl_error_wrap(err, "%s", found->where);
    *ret_object = fl_json_in_arena(arena, fl_project_encode(project));
    return 0;
}
