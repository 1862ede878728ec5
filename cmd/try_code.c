#include "cmd/try_code.h"

#include "lib/str.h"
#include "reconcilers/imagebuild/recipe.h"

#include <stdio.h>

void fl_try_look_at(struct fl_arena *arena, const char *folder)
{
    static const char *const kinds[] = {[FL_CODE_FLOPS] = "a FLOps repository (model_manager.py)",
                                        [FL_CODE_TRAINER] = "a trainer of its own (trainer.py)",
                                        [FL_CODE_FLOWER] = "a Flower app",
                                        [FL_CODE_OWN] = "code with a Containerfile"};
    const struct fl_recipe_options options = {.folder = folder,
                                              .backend = FL_IMAGEBUILD_BACKEND_COMPOSE};
    struct fl_recipe recipe;
    struct fl_error err = {0};

    if (fl_recipe_find(&options, arena, &recipe, &err) < 0) {
        (void)printf("note: as it is, no image can be built of it: %s\n", err.msg);
        return;
    }
    (void)printf("code: %s, its dependencies in %s\n", kinds[recipe.code],
                 fl_str_or(recipe.file, "no file"));
    for (const char *const *note = recipe.notes; *note; note++)
        (void)printf("note: %s\n", *note);
}
