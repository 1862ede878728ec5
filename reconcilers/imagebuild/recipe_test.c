#include "reconcilers/imagebuild/recipe.h"

#include "lib/file.h"
#include "lib/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define TRAINER                                                                                    \
    "import numpy\nclass Trainer:\n    def get_parameters(self):\n        pass\n    def "          \
    "set_parameters(self, p): pass\n    async  def fit(self): pass\n\tdef evaluate(self): pass\n"
#define MANAGER                                                                                    \
    "class ModelManager(ModelManagerTemplate):\n def set_model_data(self): pass\n def "            \
    "get_model(self): pass\n def get_model_parameters(self): pass\n def "                          \
    "set_model_parameters(self, p): pass\n def fit_model(self): pass\n"
#define HASH " --hash=sha256:0123456789012345678901234567890123456789012345678901234567890123"

/* Up to three files of a folder, and what is made of them. */
static const struct {
    const char *files[3][2];
    struct fl_recipe_options options;
    int code;
    const char *says; /* of an error */
    struct fl_recipe recipe;
} cases[] = {
    {.files = {{"trainer.py", TRAINER}}, .recipe = {FL_CODE_TRAINER, .lock = FL_LOCK_NONE}},
    {.files = {{"model_manager.py", MANAGER "    def evaluate_model(self): pass\n"},
               {"conda.yaml", "dependencies: [numpy=1.26.4]"}},
     .recipe = {FL_CODE_FLOPS, .lock = FL_LOCK_CONDA, .file = "conda.yaml"}},
    {.files = {{"model_manager.py", MANAGER}},
     .code = FL_E_INVALID,
     .says = "class ModelManager lacks evaluate_model"},
    {.files = {{"model_manager.py", "class ModelManagers:\n  pass\n"}},
     .code = FL_E_INVALID,
     .says = "has no class ModelManager"},
    {.files = {{"readme", ""}}, .code = FL_E_INVALID, .says = "no training code"},
    {.files = {{"client_app.py", ""}}, .recipe = {FL_CODE_FLOWER, .lock = FL_LOCK_NONE}},
    {.files = {{"pyproject.toml", "[tool.flwr.app.components]\nclientapp = \"a.b:app\"\n"}},
     .recipe = {FL_CODE_FLOWER, .lock = FL_LOCK_PROJECT, .file = "pyproject.toml"}},
    {.files = {{"pyproject.toml", "[project]\nname = \"a\"\n"}},
     .code = FL_E_INVALID,
     .says = "or a Flower app"},
    {.files = {{"trainer.py", "class Trainer(Base):\n    def fit(self): pass\n"}},
     .recipe = {FL_CODE_TRAINER, .lock = FL_LOCK_NONE}},
    {.files = {{"trainer.py", "class Trainer(abc.ABC, object):\n    def fit(self): pass\n"}},
     .code = FL_E_INVALID,
     .says = "class Trainer lacks get_parameters, set_parameters, evaluate"},
    {.files = {{"trainer.py", "class Trainer():\n    pass\n"}},
     .code = FL_E_INVALID,
     .says = "class Trainer lacks get_parameters, set_parameters, fit, evaluate"},
    {.files = {{"model_manager.py",
                "class ModelManager(flops_utils.x.ModelManagerTemplate):\n pass\n"}},
     .code = FL_E_INVALID,
     .says = "class ModelManager lacks set_model_data, get_model"},
    {.files = {{"trainer.py", "class Trainer(object, Mixin):\n    pass\n"}},
     .recipe = {FL_CODE_TRAINER, .lock = FL_LOCK_NONE}},
    {.files = {{"trainer.py", TRAINER}, {"requirements.txt", "# x\nnumpy==1" HASH "\n\n"}},
     .recipe = {FL_CODE_TRAINER, .lock = FL_LOCK_HASHED, .file = "requirements.txt"}},
    {.files = {{"trainer.py", TRAINER},
               {"requirements.txt", "numpy==1 \\\n   " HASH " \\\n  " HASH "\nscipy==2\n"}},
     .recipe = {FL_CODE_TRAINER, .lock = FL_LOCK_REQUIREMENTS, .file = "requirements.txt"}},
    {.files = {{"trainer.py", TRAINER}, {"pylock.toml", ""}, {"requirements.txt", "numpy\n"}},
     .recipe = {FL_CODE_TRAINER, .lock = FL_LOCK_PYLOCK, .file = "pylock.toml"}},
    {.files = {{"trainer.py", TRAINER}, {"pylock.toml", ""}, {"requirements.txt", "numpy\n"}},
     .options = {.lock_policy = FL_IMAGEBUILD_LOCK_POLICY_SOLVE},
     .recipe = {FL_CODE_TRAINER, .lock = FL_LOCK_REQUIREMENTS, .file = "requirements.txt"}},
    {.files = {{"trainer.py", TRAINER}, {"requirements.txt", "numpy\n"}},
     .options = {.lock_policy = FL_IMAGEBUILD_LOCK_POLICY_REQUIRE},
     .code = FL_E_INVALID,
     .says = "lockPolicy is Require, and requirements.txt names no hashes"},
    {.files = {{"trainer.py", TRAINER}, {"pyproject.toml", ""}, {"conda.yaml", ""}},
     .recipe = {FL_CODE_TRAINER, .lock = FL_LOCK_PROJECT, .file = "pyproject.toml"}},
    {.files = {{"trainer.py", TRAINER}, {"conda.yaml", "name: x\n"}},
     .code = FL_E_INVALID,
     .says = "conda.yaml: it has no list of dependencies"},
    {.files = {{"Dockerfile", "FROM x"}},
     .recipe = {FL_CODE_OWN, .needs_buildah = true, .containerfile = "Dockerfile",
                .lock = FL_LOCK_NONE}},
    {.files = {{"Dockerfile", "FROM x"}, {"trainer.py", TRAINER}},
     .options = {.backend = FL_IMAGEBUILD_BACKEND_COMPOSE},
     .recipe = {FL_CODE_TRAINER, .lock = FL_LOCK_NONE}},
    {.files = {{"trainer.py", TRAINER}},
     .options = {.backend = FL_IMAGEBUILD_BACKEND_BUILDAH},
     .recipe = {FL_CODE_TRAINER, .needs_buildah = true, .lock = FL_LOCK_NONE}},
    {.files = {{"trainer.py", TRAINER}},
     .options = {.has_base = true},
     .recipe = {FL_CODE_TRAINER, .needs_buildah = true, .lock = FL_LOCK_NONE}},
    {.files = {{"trainer.py", TRAINER}},
     .options = {.backend = FL_IMAGEBUILD_BACKEND_COMPOSE, .has_base = true},
     .code = FL_E_INVALID,
     .says = "it cannot put dependencies into baseImage"},
    {.files = {{"trainer.py", TRAINER}},
     .options = {.containerfile = "Dockerfile.gpu"},
     .code = FL_E_INVALID,
     .says = "Dockerfile.gpu"},
};

static void fill(const char *folder, size_t i)
{
    char path[128];

    for (size_t k = 0; k < 3 && cases[i].files[k][0]; k++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, cases[i].files[k][0]);
        assert_int_equal(
            fl_file_write(path, cases[i].files[k][1], strlen(cases[i].files[k][1]), 0600, NULL), 0);
    }
}

static void folders_are_understood(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(cases); i++) {
        char folder[] = "/tmp/flops-recipe-XXXXXX";
        struct fl_recipe_options options = cases[i].options;
        struct fl_recipe recipe;
        struct fl_error err = {0};

        assert_non_null(mkdtemp(folder));
        fill(folder, i);
        options.folder = folder;
        if (fl_recipe_find(&options, arena, &recipe, &err) != cases[i].code)
            fail_msg("case %zu: %s", i, err.msg);
        if (cases[i].code < 0) {
            if (!strstr(err.msg, cases[i].says))
                fail_msg("case %zu: %s", i, err.msg);
        } else {
            assert_int_equal(recipe.code, cases[i].recipe.code);
            assert_int_equal(recipe.needs_buildah, cases[i].recipe.needs_buildah);
            assert_int_equal(recipe.lock, cases[i].recipe.lock);
            assert_true(fl_streq(recipe.file, cases[i].recipe.file));
            assert_true(fl_streq(recipe.containerfile, cases[i].recipe.containerfile));
        }
        assert_int_equal(fl_dir_remove(folder, NULL), 0);
    }
}

/* A link could lead to the builder's own files. */
static void links_are_no_files(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    char folder[] = "/tmp/flops-recipe-XXXXXX";
    struct fl_recipe_options options = {.folder = folder};
    struct fl_recipe recipe;

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(symlink("/etc/passwd", fl_arena_printf(arena, "%s/trainer.py", folder)), 0);
    assert_int_equal(fl_recipe_find(&options, arena, &recipe, NULL), FL_E_INVALID);
    assert_int_equal(fl_dir_remove(folder, NULL), 0);
}

static const struct {
    const char *conda, *requirements, *python;
} environments[] = {
    {"channels: [conda-forge]\ndependencies:\n- python=3.10.14\n- numpy=1.26.4\n- pip\n- pip:\n"
     "  - flops_utils==0.6.1\n  - 'pillow>=9; python_version > \"3\"'\n",
     "numpy==1.26.4\nflops_utils==0.6.1\npillow>=9; python_version > \"3\"\n", "==3.10.14"},
    {"dependencies: [conda-forge::pytorch=2.1=py310_0, 'scipy>=1,<2', pandas, 'joblib==1.3',"
     " 'x=1.*', 'scikit-learn 1.4']",
     "torch==2.1.*\nscipy>=1,<2\npandas\njoblib==1.3\nx==1.*\nscikit-learn==1.4\n", NULL},
};

static void conda_environments_become_requirements(void **state)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(environments); i++) {
        const char *requirements, *python;
        struct fl_error err = {0};

        if (fl_recipe_from_conda(environments[i].conda, strlen(environments[i].conda), arena,
                                 &requirements, &python, &err) < 0)
            fail_msg("%s", err.msg);
        assert_string_equal(requirements, environments[i].requirements);
        assert_true(fl_streq(python, environments[i].python));
    }
}

static void conda_environments_lead_nowhere_else(void **state)
{
    static const char *const texts[] = {
        "dependencies: [pip: ['-r /etc/passwd']]",
        "dependencies: [pip: ['git+https://x/y']]",
        "dependencies: [pip: [\"a\\nb\"]]",
        "dependencies: ['../x']",
        "dependencies: ['']",
        "dependencies: ['numpy[build=1]']",
        "dependencies: 7",
        "- 1",
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    const char *requirements, *python;

    (void)state;
    for (size_t i = 0; i < FL_COUNT_OF(texts); i++)
        if (fl_recipe_from_conda(texts[i], strlen(texts[i]), arena, &requirements, &python, NULL) !=
            FL_E_INVALID)
            fail_msg("%s", texts[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_are_understood),
        cmocka_unit_test(links_are_no_files),
        cmocka_unit_test(conda_environments_become_requirements),
        cmocka_unit_test(conda_environments_lead_nowhere_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
