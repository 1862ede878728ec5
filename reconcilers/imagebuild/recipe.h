/* What a folder of a user's code asks for: which kind of training code it is, where its
 * dependencies are written down, and which builder makes an image of it; and whether something is
 * missing, said in one line before anything is fetched or built.
 *
 * Nothing of the folder is run, and no link in it is followed. Reads the disk; any thread. */
#ifndef FL_RECONCILERS_RECIPE_H
#define FL_RECONCILERS_RECIPE_H

#include "api/gen/flops_types.h"
#include "lib/error.h"
#include "lib/mem.h"

enum fl_recipe_code {
    FL_CODE_FLOPS = 1, /* model_manager.py: what FLOps and its helper package expect */
    FL_CODE_TRAINER,   /* trainer.py: our own contract */
    FL_CODE_FLOWER,    /* a pyproject.toml that names a client app, or client_app.py */
    FL_CODE_OWN,       /* a Containerfile that brings all there is */
};

enum fl_recipe_lock {
    FL_LOCK_NONE = 1, /* no dependencies are written down */
    FL_LOCK_PYLOCK,   /* pylock.toml (PEP 751) */
    FL_LOCK_HASHED,   /* requirements.txt with a --hash for all */
    FL_LOCK_REQUIREMENTS,
    FL_LOCK_PROJECT, /* pyproject.toml */
    FL_LOCK_CONDA,   /* conda.yaml or environment.yml */
};

struct fl_recipe {
    enum fl_recipe_code code;
    bool needs_buildah;        /* something is run */
    const char *containerfile; /* relative; NULL: none, one is made for the dependencies */
    enum fl_recipe_lock lock;
    const char *file;         /* relative, of the lock; NULL: none */
    const char *requirements; /* a conda file's dependencies as requirements.txt; else NULL */
    const char *python;       /* version that a conda file asks for; NULL: any */
    const char *const *notes; /* for the log, ended by NULL */
};

struct fl_recipe_options {
    const char *folder; /* absolute */
    enum fl_imagebuild_backend backend;
    enum fl_imagebuild_lock_policy lock_policy;
    const char *containerfile; /* spec.file; NULL */
    bool has_base;             /* spec.baseImage is set */
};
/* INVALID says what is missing or contradicts, by file. */
int fl_recipe_find(const struct fl_recipe_options *options, struct fl_arena *arena,
                   struct fl_recipe *ret_recipe, struct fl_error *err);

/* The dependencies of a conda environment (its text) as lines of a requirements.txt, as far as PyPI
 * has them: names that differ are translated, "python" and "pip" themselves left out. INVALID by
 * line. */
int fl_recipe_from_conda(const char *text, size_t len, struct fl_arena *arena,
                         const char **ret_requirements, const char **ret_python,
                         struct fl_error *err);

#endif
