/* `flops data`: the data sets of this node. */
#include "cmd/data.h"

#include "api/table.h"
#include "cmd/command.h"
#include "cmd/output.h"
#include "lib/str.h"
#include "workloads/data/number.h"
#include "workloads/data/store_manifest.h"

#include <inttypes.h>
#include <stdio.h>

static const char help[] =
    "Usage: flops data push TAG FILES... | ls | partition TAG --learners N | verify NAME... |\n"
    "       rm NAME... [options]\n\n"
    "Keeps the data sets that learners on this node train on, by tag.\n\n"
    "  push       read, check and keep a data set (IDX, CSV, NPY, safetensors)\n"
    "  ls         what there is\n"
    "  partition  divide one among learners: TAG.0, TAG.1, ...\n"
    "  verify     compare all with its digests, and check every row\n"
    "  rm         remove data sets, or a division (TAG.parts)\n"
    "\n`flops data push --help` and so on tell more of each.\n"
    "\nExit status: 0 done; 1 failed; 2 wrong usage.\n";

void fl_data_command_locate(struct fl_data_command *command)
{
    const char *dir = command->data_dir ? command->data_dir : fl_default_data_dir(command->arena);

    command->env = fl_env_real(NULL);
    command->store = (struct fl_data_store){
        fl_arena_printf(command->arena, "%s/data", dir),
        &command->env,
    };
}

const char *fl_data_shape(struct fl_arena *arena, const struct fl_data_info *info,
                          const char *between)
{
    const char *text = info->rank == 0 ? "1" : "";

    for (unsigned i = 0; i < info->rank; i++)
        text = fl_arena_printf(arena, "%s%s%" PRId64, text, i > 0 ? between : "", info->shape[i]);
    return text;
}

const char *fl_data_describe(struct fl_arena *arena, const struct fl_data_info *info)
{
    const char *shape = fl_data_shape(arena, info, " x ");

    if (info->classes == 0)
        return fl_arena_printf(arena, "%" PRId64 " examples of %s, a number to predict",
                               info->examples, shape);
    return fl_arena_printf(arena, "%" PRId64 " examples of %s, %" PRId64 " classes", info->examples,
                           shape, info->classes);
}

/* --- ls --- */

static const char ls_help[] =
    "Usage: flops data ls [options]\n\n"
    "  -o, --output FORM       json, yaml or name, instead of a table\n" //
    FL_DATA_HELP "\nA division is one line: its parts are NAME.0 and so on, without \".parts\".\n";

static const char *size_of(struct fl_arena *arena, const struct fl_data_info *info)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double size = 0;
    size_t unit = 0;

    for (size_t i = 0; i < info->file_count; i++)
        size += (double)info->files[i].size;
    for (; size >= 1000 && unit + 1 < FL_COUNT_OF(units); unit++)
        size /= 1024;
    return fl_arena_printf(arena, unit == 0 ? "%.0f %s" : "%.1f %s", size, units[unit]);
}

static const char *origin_of(struct fl_arena *arena, const struct fl_data_info *info)
{
    const char *text = fl_arena_printf(arena, "%s:", info->format);

    if (info->of)
        return fl_arena_printf(arena, "%zu parts of %s by %s, seed %" PRIu64,
                               info->partition.learners, info->of,
                               fl_partition_kind_name(info->partition.kind), info->partition.seed);
    for (size_t i = 0; i < info->source_count; i++)
        text = fl_arena_printf(arena, "%s %s", text, info->source[i].name);
    return text;
}

static const char *age_of(struct fl_data_command *command, const struct fl_data_info *info)
{
    char text[FL_DURATION_TEXT_SIZE];
    int64_t created = 0;

    (void)fl_time_parse(info->created, &created); /* the manifest's reader saw to it */
    fl_duration_human(fl_realtime_us(&command->env) - created, text);
    return fl_arena_strdup(command->arena, text);
}

static void print_table(struct fl_data_command *command, const struct fl_data_list *list)
{
    static const char *const columns[] = {"Name", "Examples", "Shape", "Classes",
                                          "Size", "Age",      "From"};
    const struct fl_table_print_options options = {0};
    FL_JSON table = fl_output_table(columns, FL_COUNT_OF(columns));
    struct fl_buf text;

    for (size_t i = 0; i < list->count; i++) {
        const struct fl_data_info *info = &list->items[i];
        const char *cells[] = {
            info->name,
            fl_arena_printf(command->arena, "%" PRId64, info->examples),
            fl_data_shape(command->arena, info, "x"),
            info->classes ? fl_arena_printf(command->arena, "%" PRId64, info->classes) : "<none>",
            size_of(command->arena, info),
            age_of(command, info),
            origin_of(command->arena, info),
        };

        fl_output_table_row(table, cells, FL_COUNT_OF(cells));
    }
    fl_buf_init(&text, 0);
    fl_table_print(table, &options, &text);
    (void)fputs(fl_buf_text(&text), stdout);
    fl_buf_finish(&text);
}

static int print_objects(const struct fl_output *output, const struct fl_data_list *list,
                         struct fl_error *err)
{
    FL_JSON object = json_pack("{s:[]}", "items");

    for (size_t i = 0; i < list->count; i++)
        (void)json_array_append_new(json_object_get(object, "items"),
                                    fl_data_manifest_write(&list->items[i]));
    return fl_output_object(output, NULL, NULL, object, err);
}

static void print_names(const struct fl_data_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        (void)puts(list->items[i].name);
}

static int print_list(struct fl_data_command *command, const struct fl_output *output,
                      struct fl_error *err)
{
    struct fl_data_list list;
    int r = fl_data_store_list(&command->store, command->arena, &list, err);

    if (r < 0)
        return r;
    if (output->form == FL_OUTPUT_NAME)
        print_names(&list);
    else if (!fl_output_is_table(output))
        return print_objects(output, &list, err);
    else if (list.count == 0)
        (void)fprintf(stderr, "No data sets in %s.\n", command->store.folder);
    else
        print_table(command, &list);
    return 0;
}

static int list(struct fl_data_command *command, int argc, char **argv)
{
    const char *form = NULL;
    const struct fl_option items[] = {
        {"output", 'o', FL_OPTION_TEXT, &form},
        {"data-dir", 0, FL_OPTION_TEXT, &command->data_dir},
    };
    const struct fl_options options = {"data ls", ls_help, items, FL_COUNT_OF(items)};
    struct fl_output output;
    struct fl_error err = {0};
    int status = fl_options_parse(&options, command->arena, argc, argv, &command->words);

    if (status >= 0)
        return status;
    if (command->words.count > 0)
        return fl_command_usage("data ls", "unexpected argument \"%s\"", command->words.items[0]);
    if (fl_output_parse(command->arena, form, &output, &err) < 0)
        return fl_command_usage("data ls", "%s", err.msg);
    fl_data_command_locate(command);
    return print_list(command, &output, &err) < 0 ? fl_command_fail("data ls", &err) : 0;
}

/* --- rm, verify: the same for each name --- */

static const char rm_help[] = "Usage: flops data rm NAME... [options]\n\n"
                              "Removes data sets, or divisions by their name with \".parts\". Who "
                              "has one open keeps it.\n\n" //
    FL_DATA_HELP;

static const char verify_help[] = "Usage: flops data verify NAME... [options]\n\n"
                                  "Reads all of each data set (or division, \"TAG.parts\"), "
                                  "compares it with the digests that it\n"
                                  "was kept with, and checks every row.\n\n" //
    FL_DATA_HELP;

typedef int on_name(const struct fl_data_store *store, const char *name, struct fl_error *err);

struct for_names {
    const char *name, *help, *done;
    on_name *run;
};

static const struct for_names removing = {"data rm", rm_help, "removed", fl_data_store_remove};
static const struct for_names verifying = {"data verify", verify_help, "whole",
                                           fl_data_store_verify};

/* All are tried; one that fails fails the command. */
static int for_each_name(struct fl_data_command *command, const struct for_names *what, int argc,
                         char **argv)
{
    const struct fl_option items[] = {{"data-dir", 0, FL_OPTION_TEXT, &command->data_dir}};
    const struct fl_options options = {what->name, what->help, items, FL_COUNT_OF(items)};
    int status = fl_options_parse(&options, command->arena, argc, argv, &command->words);

    if (status >= 0)
        return status;
    if (command->words.count == 0)
        return fl_command_usage(what->name, "a name is needed");
    fl_data_command_locate(command);
    status = 0;
    for (size_t i = 0; i < command->words.count; i++) {
        struct fl_error err = {0};

        if (what->run(&command->store, command->words.items[i], &err) < 0)
            status = fl_command_fail(what->name, &err);
        else
            (void)printf("data set \"%s\" %s\n", command->words.items[i], what->done);
    }
    return status;
}

/* --- partition --- */

static const char partition_help[] =
    "Usage: flops data partition TAG --learners N [options]\n\n"
    "Divides a data set: every row goes to exactly one learner. The parts are opened as TAG.0 to\n"
    "TAG.N-1; they share one file. The same seed gives the same parts.\n\n"
    "      --learners N        how many parts\n"
    "      --kind KIND         IID (the default): shuffled, equal parts\n"
    "                          Shards: sorted by label, cut into shards, some to each\n"
    "                          Dirichlet: of each class by shares from Dir(alpha)\n"
    "                          Labels: some classes to each\n"
    "                          Quantity: sizes fall as rank^-alpha\n"
    "      --per-learner N     shards or classes of each (default 2)\n"
    "      --alpha A           of Dirichlet (default 0.5) or Quantity (default 1)\n"
    "      --min-examples N    nobody has fewer (default 1)\n"
    "      --seed N            default 0\n"
    "      --as NAME           parts are NAME.0 and so on: a second division of one data set\n"
    "      --replace           what has the name already\n" //
    FL_DATA_HELP "\nExamples:\n"
    "  flops data partition mnist --learners 100 --kind Shards --seed 1\n"
    "  flops data partition mnist --as skewed --learners 1000 --kind Dirichlet --alpha 0.1\n";

struct division {
    struct fl_data_command *common;
    int64_t learners, per_learner, min_examples, seed;
    const char *kind, *alpha, *as;
    bool replace;
    struct fl_partition asked;
};

static bool read_decimal(const char *text, double *ret_value)
{
    const char *end = text + strlen(text);

    return fl_number_read(text, end, ret_value) == end;
}

static int read_division(struct division *division)
{
    struct fl_partition *asked = &division->asked;

    if (division->common->words.count != 1)
        return fl_command_usage("data partition", "one tag is needed");
    if (division->learners < 1)
        return fl_command_usage("data partition", "--learners is needed");
    if (!fl_partition_kind_find(division->kind, &asked->kind))
        return fl_command_usage("data partition",
                                "--kind %s: must be IID, Shards, Dirichlet, Labels or Quantity",
                                division->kind);
    if (division->alpha && (!read_decimal(division->alpha, &asked->alpha) || asked->alpha <= 0))
        return fl_command_usage("data partition", "--alpha %s: must be a number above 0",
                                division->alpha);
    asked->learners = (size_t)division->learners;
    asked->per_learner = (size_t)division->per_learner;
    asked->min_examples = (size_t)division->min_examples;
    asked->seed = (uint64_t)division->seed;
    return -1;
}

static int parse_division(struct division *division, int argc, char **argv)
{
    const struct fl_option items[] = {
        {"learners", 0, FL_OPTION_INT, &division->learners},
        {"kind", 0, FL_OPTION_TEXT, &division->kind},
        {"per-learner", 0, FL_OPTION_INT, &division->per_learner},
        {"alpha", 0, FL_OPTION_TEXT, &division->alpha},
        {"min-examples", 0, FL_OPTION_INT, &division->min_examples},
        {"seed", 0, FL_OPTION_INT, &division->seed},
        {"as", 0, FL_OPTION_TEXT, &division->as},
        {"replace", 0, FL_OPTION_FLAG, &division->replace},
        {"data-dir", 0, FL_OPTION_TEXT, &division->common->data_dir},
    };
    const struct fl_options options = {"data partition", partition_help, items, FL_COUNT_OF(items)};
    int status =
        fl_options_parse(&options, division->common->arena, argc, argv, &division->common->words);

    return status >= 0 ? status : read_division(division);
}

static int divide(struct fl_data_command *command, int argc, char **argv)
{
    struct division division = {.common = command, .kind = "IID"};
    const char *tag, *name;
    struct fl_error err = {0};
    int status = parse_division(&division, argc, argv), r;

    if (status >= 0)
        return status;
    fl_data_command_locate(command);
    tag = command->words.items[0];
    name = division.as ? division.as : tag;
    r = fl_data_store_partition(&command->store, tag, division.as, &division.asked,
                                division.replace, &err);
    if (r < 0)
        return fl_command_fail("data partition", &err);
    (void)printf("data set \"%s\" %s: \"%s.0\" to \"%s.%zu\"\n", tag,
                 r > 0 ? "was divided so already" : "divided", name, name,
                 division.asked.learners - 1);
    return 0;
}

/* --- which --- */

static int remove_names(struct fl_data_command *command, int argc, char **argv)
{
    return for_each_name(command, &removing, argc, argv);
}

static int verify_names(struct fl_data_command *command, int argc, char **argv)
{
    return for_each_name(command, &verifying, argc, argv);
}

static int run(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(struct fl_data_command *command, int argc, char **argv);
    } commands[] = {
        {"push", fl_data_push},   {"ls", list}, {"partition", divide}, {"rm", remove_names},
        {"verify", verify_names},
    };
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    struct fl_data_command command = {.arena = arena};

    if (argc < 2)
        return fl_command_usage("data", "push, ls, partition, verify or rm");
    for (size_t i = 0; i < FL_COUNT_OF(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(&command, argc - 1, argv + 1);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        (void)fputs(help, stdout);
        return 0;
    }
    return fl_command_usage("data", "there is no \"%s\"", argv[1]);
}

const struct fl_command fl_command_data = {"data", "keep and divide this node's data sets", run};
