/* Dividing rows among learners. Each kind says for each position in a list of all rows who gets it;
 * what they have in common (everyone has enough, every row once, rows rising) is here. */
#include "workloads/data/dataset_internal.h"

#include "lib/str.h"
#include "workloads/data/random.h"

#include <inttypes.h>
#include <math.h>
#include <strings.h>

#define ALPHA_MAX 1e6

static const char *const kind_names[] = {
    [FL_PARTITION_IID] = "IID",
    [FL_PARTITION_SHARDS] = "Shards",
    [FL_PARTITION_DIRICHLET] = "Dirichlet",
    [FL_PARTITION_LABELS] = "Labels",
    [FL_PARTITION_QUANTITY] = "Quantity",
};

/* Streams of chance: one for each thing that is drawn. */
enum stream {
    STREAM_ROWS = 1,
    STREAM_SHARDS,
    STREAM_SHARES,
    STREAM_GIVEN_BACK,
    STREAM_LABELS,
    STREAM_SIZES,
    STREAM_SPLIT,
};

struct dividing {
    const struct fl_dataset *dataset;
    struct fl_partition asked;
    uint32_t *rows;  /* all of them, in the order in which they are given out */
    uint32_t *owner; /* of rows[i] */
    size_t *sizes;   /* of each learner, where the kind says so first */
    size_t *class_starts;
};

static void dividing_finish(struct dividing *dividing)
{
    free(dividing->rows);
    free(dividing->owner);
    free(dividing->sizes);
    free(dividing->class_starts);
}

const char *fl_partition_kind_name(enum fl_partition_kind kind)
{
    return kind_names[kind];
}

bool fl_partition_kind_find(const char *name, enum fl_partition_kind *ret_kind)
{
    for (size_t i = 0; i < FL_COUNT_OF(kind_names); i++)
        if (strcasecmp(name, kind_names[i]) == 0) {
            *ret_kind = (enum fl_partition_kind)i;
            return true;
        }
    return false;
}

static struct fl_random stream(const struct dividing *dividing, enum stream number)
{
    return fl_random_from(dividing->asked.seed, number);
}

static int32_t label_of(const struct dividing *dividing, uint32_t i)
{
    return dividing->dataset->labels[fl_dataset_row(dividing->dataset, i)];
}

static void shuffle_rows(struct dividing *dividing)
{
    struct fl_random random = stream(dividing, STREAM_ROWS);

    fl_random_shuffle(&random, dividing->rows, dividing->dataset->count);
}

/* Rows by label, those of one label in the order in which they were. class_starts has one more. */
static void sort_by_label(struct dividing *dividing)
{
    size_t count = dividing->dataset->count, classes = (size_t)dividing->dataset->classes;
    size_t *next = fl_calloc(classes + 1, sizeof(*next));
    uint32_t *sorted = fl_malloc(count * sizeof(*sorted));

    for (size_t i = 0; i < count; i++)
        next[label_of(dividing, dividing->rows[i]) + 1]++;
    for (size_t c = 0; c < classes; c++)
        next[c + 1] += next[c];
    dividing->class_starts = fl_malloc((classes + 1) * sizeof(*next));
    memcpy(dividing->class_starts, next, (classes + 1) * sizeof(*next));
    for (size_t i = 0; i < count; i++)
        sorted[next[label_of(dividing, dividing->rows[i])]++] = dividing->rows[i];
    free(dividing->rows);
    dividing->rows = sorted;
    free(next);
}

/* Gives rows begin … end-1 to `takers` (NULL: learner 0, 1, …) in equal parts. */
static void give_evenly(struct dividing *dividing, size_t begin, size_t end, const uint32_t *takers,
                        size_t count)
{
    size_t rows = end - begin;

    for (size_t t = 0; t < count; t++)
        for (size_t i = rows * t / count; i < rows * (t + 1) / count; i++)
            dividing->owner[begin + i] = takers ? takers[t] : (uint32_t)t;
}

static uint32_t *numbers(size_t count)
{
    uint32_t *list = fl_malloc((count + 1) * sizeof(*list));

    for (size_t i = 0; i < count; i++)
        list[i] = (uint32_t)i;
    return list;
}

/* --- the kinds --- */

static int divide_iid(struct dividing *dividing, struct fl_error *err)
{
    (void)err;
    shuffle_rows(dividing);
    give_evenly(dividing, 0, dividing->dataset->count, NULL, dividing->asked.learners);
    return 0;
}

static int divide_shards(struct dividing *dividing, struct fl_error *err)
{
    size_t each = dividing->asked.per_learner, shards = dividing->asked.learners * each;
    struct fl_random random = stream(dividing, STREAM_SHARDS);
    FL_CLEANUP(fl_freep) uint32_t *takers = NULL;

    if (shards > dividing->dataset->count)
        return fl_error_set(err, FL_E_INVALID, "%zu shards of %zu examples", shards,
                            dividing->dataset->count);
    shuffle_rows(dividing);
    sort_by_label(dividing);
    takers = numbers(shards);
    fl_random_shuffle(&random, takers, shards);
    for (size_t s = 0; s < shards; s++)
        takers[s] /= (uint32_t)each;
    give_evenly(dividing, 0, dividing->dataset->count, takers, shards);
    return 0;
}

/* Rows of a class where the shares say: boundaries are rounded sums, so that nothing is left. */
static void give_by_shares(struct dividing *dividing, size_t begin, size_t end,
                           const double *shares)
{
    size_t last = dividing->asked.learners - 1, from = begin;
    double sum = 0;

    for (size_t k = 0; k <= last; k++) {
        size_t to;

        sum += shares[k];
        to = k == last ? end : begin + (size_t)(sum * (double)(end - begin) + 0.5);
        to = to > end ? end : to;
        for (; from < to; from++)
            dividing->owner[from] = (uint32_t)k;
    }
}

static void count_sizes(struct dividing *dividing)
{
    memset(dividing->sizes, 0, dividing->asked.learners * sizeof(*dividing->sizes));
    for (size_t i = 0; i < dividing->dataset->count; i++)
        dividing->sizes[dividing->owner[i]]++;
}

static size_t rows_above(const struct dividing *dividing, size_t level)
{
    size_t sum = 0;

    for (size_t k = 0; k < dividing->asked.learners; k++)
        sum += dividing->sizes[k] > level ? dividing->sizes[k] - level : 0;
    return sum;
}

/* The highest level such that who has more can give `wanted` and keep that many. */
static size_t level_for(const struct dividing *dividing, size_t wanted)
{
    size_t low = dividing->asked.min_examples, high = dividing->dataset->count;

    while (low < high) {
        size_t middle = low + (high - low + 1) / 2;

        if (rows_above(dividing, middle) >= wanted)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static size_t count_missing(const struct dividing *dividing)
{
    size_t missing = 0;

    for (size_t k = 0; k < dividing->asked.learners; k++)
        if (dividing->sizes[k] < dividing->asked.min_examples)
            missing += dividing->asked.min_examples - dividing->sizes[k];
    return missing;
}

/* Small alphas leave learners without examples, for many learners in every draw. They get what they
 * miss from those who have most, rows picked at random. */
static void fill_up(struct dividing *dividing)
{
    size_t count = dividing->dataset->count, missing, level, poor = 0;
    struct fl_random random = stream(dividing, STREAM_GIVEN_BACK);
    FL_CLEANUP(fl_freep) uint32_t *order = NULL;

    count_sizes(dividing);
    missing = count_missing(dividing);
    if (missing == 0)
        return;
    level = level_for(dividing, missing);
    order = numbers(count);
    fl_random_shuffle(&random, order, count);
    for (size_t i = 0; i < count && missing > 0; i++) {
        uint32_t *owner = &dividing->owner[order[i]];

        if (dividing->sizes[*owner] <= level)
            continue;
        while (dividing->sizes[poor] >= dividing->asked.min_examples)
            poor++;
        dividing->sizes[*owner]--;
        dividing->sizes[poor]++;
        *owner = (uint32_t)poor;
        missing--;
    }
}

static int divide_dirichlet(struct dividing *dividing, struct fl_error *err)
{
    struct fl_random random = stream(dividing, STREAM_SHARES);
    size_t learners = dividing->asked.learners;
    FL_CLEANUP(fl_freep) double *shares = fl_malloc(learners * sizeof(*shares));

    (void)err;
    shuffle_rows(dividing);
    sort_by_label(dividing);
    for (int64_t c = 0; c < dividing->dataset->classes; c++) {
        fl_random_dirichlet(&random, dividing->asked.alpha, learners, shares);
        give_by_shares(dividing, dividing->class_starts[c], dividing->class_starts[c + 1], shares);
    }
    fill_up(dividing);
    return 0;
}

/* Classes that have rows. */
static size_t classes_present(const struct dividing *dividing, uint32_t *present)
{
    size_t count = 0;

    for (int64_t c = 0; c < dividing->dataset->classes; c++)
        if (dividing->class_starts[c] < dividing->class_starts[c + 1])
            present[count++] = (uint32_t)c;
    return count;
}

static bool is_among(uint32_t item, const uint32_t *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == item)
            return true;
    return false;
}

/* Deals classes like cards, the pack shuffled anew whenever it is used up. Who stands at the end of
 * a pack has `held` from it already and must not get those again from the new one. */
static void shuffle_pack(struct fl_random *random, uint32_t *pack, size_t count,
                         const uint32_t *held, size_t held_count, size_t wanted)
{
    size_t later = wanted;

    fl_random_shuffle(random, pack, count);
    for (size_t i = 0; i < wanted; i++) {
        uint32_t doubled = pack[i];

        if (!is_among(doubled, held, held_count))
            continue;
        while (is_among(pack[later], held, held_count))
            later++;
        pack[i] = pack[later];
        pack[later++] = doubled;
    }
}

static void deal_classes(const struct dividing *dividing, uint32_t *pack, size_t classes,
                         uint32_t *hands)
{
    struct fl_random random = stream(dividing, STREAM_LABELS);
    size_t each = dividing->asked.per_learner, next = classes;

    for (size_t slot = 0; slot < dividing->asked.learners * each; slot++) {
        size_t held = slot % each;

        if (next == classes) {
            shuffle_pack(&random, pack, classes, hands + slot - held, held, each - held);
            next = 0;
        }
        hands[slot] = pack[next++];
    }
}

/* Each class to those who hold it, in equal parts. */
static void give_classes(struct dividing *dividing, const uint32_t *hands)
{
    size_t learners = dividing->asked.learners, each = dividing->asked.per_learner;
    size_t classes = (size_t)dividing->dataset->classes;
    FL_CLEANUP(fl_freep) size_t *starts = fl_calloc(classes + 2, sizeof(*starts));
    FL_CLEANUP(fl_freep) uint32_t *takers = fl_malloc(learners * each * sizeof(*takers));

    for (size_t slot = 0; slot < learners * each; slot++)
        starts[hands[slot] + 2]++;
    for (size_t c = 0; c < classes; c++)
        starts[c + 2] += starts[c + 1];
    for (size_t slot = 0; slot < learners * each; slot++)
        takers[starts[hands[slot] + 1]++] = (uint32_t)(slot / each);
    for (size_t c = 0; c < classes; c++)
        give_evenly(dividing, dividing->class_starts[c], dividing->class_starts[c + 1],
                    takers + starts[c], starts[c + 1] - starts[c]);
}

static int divide_labels(struct dividing *dividing, struct fl_error *err)
{
    size_t each = dividing->asked.per_learner, slots = dividing->asked.learners * each, classes;
    FL_CLEANUP(fl_freep)
    uint32_t *pack = fl_calloc((size_t)dividing->dataset->classes, sizeof(*pack));
    FL_CLEANUP(fl_freep) uint32_t *hands = NULL;

    shuffle_rows(dividing);
    sort_by_label(dividing);
    classes = classes_present(dividing, pack);
    if (each > classes)
        return fl_error_set(err, FL_E_INVALID, "%zu labels each, of %zu that there are", each,
                            classes);
    if (slots < classes)
        return fl_error_set(err, FL_E_INVALID,
                            "%zu learners with %zu labels each leave some of %zu labels to nobody",
                            dividing->asked.learners, each, classes);
    if (slots > dividing->dataset->count)
        return fl_error_set(err, FL_E_INVALID,
                            "%zu learners with %zu labels each, and only %zu examples",
                            dividing->asked.learners, each, dividing->dataset->count);
    hands = fl_malloc(slots * sizeof(*hands));
    deal_classes(dividing, pack, classes, hands);
    give_classes(dividing, hands);
    return 0;
}

/* Everyone's minimum first; the rest by weights, rounded sums again. */
static int divide_quantity(struct dividing *dividing, struct fl_error *err)
{
    size_t learners = dividing->asked.learners, least = dividing->asked.min_examples;
    size_t rest = dividing->dataset->count - learners * least, from = 0, given = 0;
    struct fl_random random = stream(dividing, STREAM_SIZES);
    FL_CLEANUP(fl_freep) uint32_t *ranked = numbers(learners);
    double all = 0, sum = 0;

    (void)err;
    shuffle_rows(dividing);
    fl_random_shuffle(&random, ranked, learners);
    for (size_t r = 0; r < learners; r++)
        all += pow((double)(r + 1), -dividing->asked.alpha);
    for (size_t r = 0; r < learners; r++) {
        size_t until, size;

        sum += pow((double)(r + 1), -dividing->asked.alpha);
        until = r + 1 == learners ? rest : (size_t)(sum / all * (double)rest + 0.5);
        until = until > rest ? rest : until;
        size = least + until - given;
        given = until;
        for (size_t i = 0; i < size; i++)
            dividing->owner[from++] = ranked[r];
    }
    return 0;
}

static const struct {
    int (*divide)(struct dividing *dividing, struct fl_error *err);
    bool by_class;
} kinds[] = {
    [FL_PARTITION_IID] = {divide_iid, false},
    [FL_PARTITION_SHARDS] = {divide_shards, true},
    [FL_PARTITION_DIRICHLET] = {divide_dirichlet, true},
    [FL_PARTITION_LABELS] = {divide_labels, true},
    [FL_PARTITION_QUANTITY] = {divide_quantity, false},
};

/* --- the whole --- */

static int check_asked(const struct fl_dataset *dataset, const struct fl_partition *asked,
                       struct fl_error *err)
{
    if (asked->learners == 0 || asked->learners > FL_PARTITION_LEARNERS_MAX)
        return fl_error_set(err, FL_E_INVALID, "%zu learners; 1 to %d can be", asked->learners,
                            FL_PARTITION_LEARNERS_MAX);
    if (asked->min_examples > dataset->count / asked->learners)
        return fl_error_set(err, FL_E_INVALID, "%zu learners with at least %zu of %zu examples",
                            asked->learners, asked->min_examples, dataset->count);
    if (asked->per_learner > dataset->count)
        return fl_error_set(err, FL_E_INVALID, "%zu shards or labels each", asked->per_learner);
    if (!(asked->alpha > 0 && asked->alpha <= ALPHA_MAX))
        return fl_error_set(err, FL_E_INVALID, "alpha %g; above 0 to %g can be", asked->alpha,
                            ALPHA_MAX);
    if (kinds[asked->kind].by_class && dataset->classes == 0)
        return fl_error_set(err, FL_E_INVALID,
                            "%s divides by class, and this data set has numbers to predict",
                            kind_names[asked->kind]);
    return 0;
}

struct fl_partition fl_partition_with_defaults(const struct fl_partition *partition)
{
    struct fl_partition asked = *partition;

    if (asked.per_learner == 0)
        asked.per_learner = 2;
    if (asked.min_examples == 0)
        asked.min_examples = 1;
    if (asked.alpha == 0)
        asked.alpha = asked.kind == FL_PARTITION_DIRICHLET ? 0.5 : 1;
    return asked;
}

static int check_sizes(struct dividing *dividing, struct fl_error *err)
{
    count_sizes(dividing);
    for (size_t k = 0; k < dividing->asked.learners; k++)
        if (dividing->sizes[k] < dividing->asked.min_examples)
            return fl_error_set(err, FL_E_INVALID, "learner %zu gets %zu examples, fewer than %zu",
                                k, dividing->sizes[k], dividing->asked.min_examples);
    return 0;
}

static int compare_rows(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void collect(const struct dividing *dividing, struct fl_partition_rows *rows)
{
    size_t learners = dividing->asked.learners, count = dividing->dataset->count;
    FL_CLEANUP(fl_freep) size_t *next = fl_malloc(learners * sizeof(*next));

    rows->learners = learners;
    rows->starts = fl_malloc((learners + 1) * sizeof(*rows->starts));
    rows->items = fl_malloc(count * sizeof(*rows->items));
    rows->starts[0] = 0;
    for (size_t k = 0; k < learners; k++) {
        next[k] = rows->starts[k];
        rows->starts[k + 1] = rows->starts[k] + dividing->sizes[k];
    }
    for (size_t i = 0; i < count; i++)
        rows->items[next[dividing->owner[i]]++] = dividing->rows[i];
    for (size_t k = 0; k < learners; k++)
        qsort(rows->items + rows->starts[k], dividing->sizes[k], sizeof(*rows->items),
              compare_rows);
}

void fl_partition_rows_finish(struct fl_partition_rows *rows)
{
    free(rows->starts);
    free(rows->items);
    *rows = (struct fl_partition_rows){0};
}

int fl_partition_divide(const struct fl_dataset *dataset, const struct fl_partition *partition,
                        struct fl_partition_rows *ret_rows, struct fl_error *err)
{
    FL_CLEANUP(dividing_finish)
    struct dividing dividing = {.dataset = dataset, .asked = fl_partition_with_defaults(partition)};
    int r = check_asked(dataset, &dividing.asked, err);

    if (r < 0)
        return r;
    dividing.rows = numbers(dataset->count);
    dividing.owner = fl_calloc(dataset->count, sizeof(*dividing.owner));
    dividing.sizes = fl_calloc(dividing.asked.learners, sizeof(*dividing.sizes));
    r = kinds[dividing.asked.kind].divide(&dividing, err);
    if (r == 0)
        r = check_sizes(&dividing, err);
    if (r < 0)
        return fl_error_wrap(err, "%s", kind_names[dividing.asked.kind]);
    collect(&dividing, ret_rows);
    return 0;
}

int fl_dataset_partition(struct fl_dataset *dataset, const struct fl_partition *partition,
                         struct fl_dataset **ret_parts, struct fl_error *err)
{
    FL_CLEANUP(fl_partition_rows_finish) struct fl_partition_rows rows = {0};
    int r = fl_partition_divide(dataset, partition, &rows, err);

    for (size_t k = 0; r == 0 && k < rows.learners; k++) /* no view fails: all rows are there */
        r = fl_dataset_view(dataset, rows.items + rows.starts[k],
                            rows.starts[k + 1] - rows.starts[k], &ret_parts[k], err);
    return r;
}

int fl_dataset_split(struct fl_dataset *dataset, double share, uint64_t seed,
                     struct fl_dataset **ret_first, struct fl_dataset **ret_rest,
                     struct fl_error *err)
{
    struct fl_random random = fl_random_from(seed, STREAM_SPLIT);
    FL_CLEANUP(fl_dataset_unrefp) struct fl_dataset *first = NULL;
    FL_CLEANUP(fl_freep) uint32_t *rows = numbers(dataset->count);
    size_t cut;
    int r;

    if (!(share > 0 && share < 1))
        return fl_error_set(err, FL_E_INVALID, "a share of %g; between 0 and 1 can be", share);
    cut = (size_t)(share * (double)dataset->count + 0.5);
    if (cut == 0 || cut >= dataset->count)
        return fl_error_set(err, FL_E_INVALID, "a share of %g of %zu examples leaves a part empty",
                            share, dataset->count);
    fl_random_shuffle(&random, rows, dataset->count);
    r = fl_dataset_view(dataset, rows, cut, &first, err);
    if (r == 0)
        r = fl_dataset_view(dataset, rows + cut, dataset->count - cut, ret_rest, err);
    if (r < 0)
        return r;
    *ret_first = FL_TAKE(first);
    return 0;
}
