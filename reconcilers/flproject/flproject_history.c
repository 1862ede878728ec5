/* What rounds told stays when they go: it is written into FLHistories, fifty rounds to one, before
 * an FLRound is deleted. */
#include "lib/str.h"
#include "reconcilers/flproject/flproject_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define PAGE 50 /* as the definition says */

struct page {
    int64_t first;
    const char *name;
    json_t *live;   /* NULL: it is not there yet */
    json_t *rounds; /* as they should be */
    bool changed;
};

static json_t *entry_of(const struct fl_round *round)
{
    static const char *const left_out[] = {
        "conditions",        "observedGeneration",    "excluded", "excludedOmitted", "run",
        "projectGeneration", "lastHandledReconcileAt"};
    FL_JSON object = fl_round_encode(round);
    json_t *status = json_object_get(object, "status");

    for (size_t i = 0; i < FL_COUNT_OF(left_out); i++)
        (void)json_object_del(status, left_out[i]);
    return json_pack("{s:I, s:s, s:O}", "round", (json_int_t)round->spec.index, "name",
                     round->meta.name, "status", status);
}

static bool has_round(const json_t *rounds, int64_t number)
{
    json_t *round;
    size_t i;

    json_array_foreach((json_t *)rounds, i, round)
        if (fl_json_int(round, "round", 0) == number)
            return true;
    return false;
}

/* Before the first with a higher number. */
static void insert(json_t *rounds, json_t *entry)
{
    const int64_t number = fl_json_int(entry, "round", 0);
    size_t at = json_array_size(rounds);

    while (at > 0 && fl_json_int(json_array_get(rounds, at - 1), "round", 0) > number)
        at--;
    (void)json_array_insert_new(rounds, at, entry);
}

static int open_page(struct fl_flproject_view *view, int64_t number, struct page *page,
                     struct fl_error *err)
{
    const struct fl_object_meta *meta = &view->project->meta;
    struct fl_gvr gvr = fl_gvr_of(&fl_history_type);
    struct fl_arena *arena = view->rc->arena;
    json_t *live = NULL;
    int r;

    *page = (struct page){.first = (number - 1) / PAGE * PAGE + 1};
    page->name = fl_child_name(arena, meta->name, meta->uid,
                               fl_arena_printf(arena, "history-%" PRId64, page->first));
    r = fl_apiclient_get(view->rc->client, &gvr, meta->namespace, page->name, &live, err);
    if (r < 0 && r != FL_E_NOT_FOUND)
        return r;
    page->live = r == 0 ? fl_json_in_arena(arena, live) : NULL;
    page->rounds = json_deep_copy(fl_json_path(page->live, "spec.rounds"));
    if (!page->rounds)
        page->rounds = json_array();
    (void)fl_json_in_arena(arena, page->rounds);
    return 0;
}

static int write_page(struct fl_flproject_view *view, const struct page *page, struct fl_error *err)
{
    const char *ns = view->project->meta.namespace;
    struct fl_gvr gvr = fl_gvr_of(&fl_history_type);
    FL_JSON object = NULL;
    int r;

    if (!page->changed)
        return 0;
    if (page->live) {
        object = json_pack("{s:{s:s?, s:s?}, s:{s:O}}", "metadata", "uid",
                           fl_json_str(page->live, "metadata.uid"), "resourceVersion",
                           fl_json_str(page->live, "metadata.resourceVersion"), "spec", "rounds",
                           page->rounds);
        r = fl_apiclient_patch(view->rc->client, &gvr, ns, page->name, NULL, object, NULL, err);
    } else {
        object = fl_flproject_child_json(
            view, "flops.dev/v1alpha1", "FLHistory", page->name,
            fl_arena_printf(view->rc->arena, "history-%" PRId64, page->first));
        (void)json_object_set_new(object, "spec",
                                  json_pack("{s:{s:s}, s:I, s:O}", "project", "name",
                                            view->project->meta.name, "first",
                                            (json_int_t)page->first, "rounds", page->rounds));
        r = fl_apiclient_create_object(view->rc->client, &gvr, ns, object, NULL, err);
        if (r == FL_E_ALREADY_EXISTS) /* an old cache; the next pass sees it */
            r = fl_error_set(err, FL_E_CONFLICT, "it was made just now");
    }
    return r < 0 ? fl_error_wrap(err, "FLHistory %s", page->name) : 0;
}

static int by_number(const void *a, const void *b)
{
    const int64_t x = (*(const struct fl_round *const *)a)->spec.index,
                  y = (*(const struct fl_round *const *)b)->spec.index;

    return (x > y) - (x < y);
}

static bool is_committed(const struct fl_round *round)
{
    const struct fl_condition *done = fl_condition_find(&round->status.conditions, "Succeeded");

    return round->spec.has_index && done && done->status == FL_CONDITION_STATUS_TRUE;
}

int fl_flproject_record_rounds(struct fl_flproject_view *view, struct fl_error *err)
{
    const struct fl_flproject_decision *decision = &view->decision;
    struct page page = {0};
    int r = 0;

    if (decision->drop_count > 1)
        qsort(decision->drops, decision->drop_count, sizeof(*decision->drops), by_number);
    for (size_t i = 0; i < decision->drop_count && r == 0; i++) {
        const struct fl_round *round = decision->drops[i];

        if (!is_committed(round))
            continue;
        if (page.first == 0 || round->spec.index >= page.first + PAGE) {
            r = page.first ? write_page(view, &page, err) : 0;
            if (r == 0)
                r = open_page(view, round->spec.index, &page, err);
        }
        if (r == 0 && !has_round(page.rounds, round->spec.index)) {
            insert(page.rounds, entry_of(round));
            page.changed = true;
        }
    }
    return r == 0 && page.first ? write_page(view, &page, err) : r;
}
