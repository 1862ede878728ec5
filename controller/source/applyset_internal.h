/* The parts of applyset.c: names of kinds in the API, the order of things, what is remembered. */
#ifndef FL_CONTROLLER_APPLYSET_INTERNAL_H
#define FL_CONTROLLER_APPLYSET_INTERNAL_H

#include "controller/source/applyset.h"
#include "lib/map.h"

/* Kinds as the API names them, asked for once each and kept for one run. */
struct fl_mapper {
    struct fl_apiclient *client;
    struct fl_arena *arena;
    struct fl_map *documents; /* "group/version" → its list of resources */
    json_t *definitions;      /* CustomResourceDefinitions, where they were asked for */
};
void fl_mapper_init(struct fl_mapper *mapper, struct fl_apiclient *client, struct fl_arena *arena);
void fl_mapper_finish(struct fl_mapper *mapper);
/* What was missing may have come: documents are asked for anew. */
void fl_mapper_refresh(struct fl_mapper *mapper);
/* NOT_FOUND where the API has no such kind. */
int fl_mapper_find(struct fl_mapper *mapper, const char *group, const char *version,
                   const char *kind, struct fl_gvr *ret_gvr, struct fl_error *err);
/* The same in whatever version, that one first. */
int fl_mapper_find_any(struct fl_mapper *mapper, const char *group, const char *version,
                       const char *kind, struct fl_gvr *ret_gvr, struct fl_error *err);

/* Whether a kind that the API does not serve is gone: > 0 where it is still defined, so that its
 * objects may exist and only seem not to. `witness` may read definitions; NULL: nobody is asked. */
int fl_mapper_is_defined(struct fl_mapper *mapper, struct fl_apiclient *witness, const char *group,
                         const char *kind, struct fl_error *err);

/* Where a kind stands in the order of applying; ascending. Pruning goes the other way. */
int fl_apply_rank(const char *group, const char *kind);

/* The file as it is remembered: one that a status cannot hold is not. */
const char *fl_inventory_file(const char *path);
/* Files are let go of where they are too much: that costs pruning while another file is broken. */
void fl_inventory_fit(struct fl_inventory *inventory);

/* An object's identity, whatever its version. Arena. */
char *fl_inventory_key(struct fl_arena *arena, const char *group, const char *kind, const char *ns,
                       const char *name);

/* Whether this configuration was applied and the object is as it was then. */
bool fl_applyset_memo_knows(const struct fl_applyset_memo *memo, const char *key,
                            const json_t *config, const char *resource_version);
/* Whether it is the very object that was applied under this key, whatever became of it. */
bool fl_applyset_memo_made(const struct fl_applyset_memo *memo, const char *key,
                           const json_t *object);
void fl_applyset_memo_note(struct fl_applyset_memo *memo, const char *key, const json_t *config,
                           const json_t *object);
void fl_applyset_memo_forget(struct fl_applyset_memo *memo, const char *key);

#endif
