/* What a command line means by "TYPE[,TYPE…] [NAME…]" and "TYPE/NAME…". */
#ifndef FL_CMD_TARGET_H
#define FL_CMD_TARGET_H

#include "cmd/discovery.h"

struct fl_target {
    const struct fl_api_resource *resource;
    const char *name; /* NULL: all of the kind */
};

struct fl_targets {
    struct fl_target *items;
    size_t count;
    bool many_types; /* several were asked for, so that names need their type */
};

/* BAD_REQUEST where the words have another form, NOT_FOUND for a type the server does not have. */
int fl_targets_parse(const struct fl_discovery *discovery, const struct fl_words *words,
                     struct fl_targets *ret_targets, struct fl_error *err);

/* The object's "type/name", in the arena. */
char *fl_target_text(struct fl_arena *arena, const struct fl_api_resource *resource,
                     const char *name);

#endif
