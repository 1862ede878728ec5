#include "lib/oci/tree.h"

#include "lib/folder.h"
#include "lib/map.h"
#include "lib/str.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX   40 /* on the way to one entry, as the kernel has it */
#define ENTRIES_MAX 2000000
#define DEPTH_MAX   256
#define PATH_BYTES  4096

struct node {
    char *name;
    struct node *parent;
    enum fl_tree_type type;
    char *target, *source;
    void *data;
    size_t len;
    mode_t mode;
    struct fl_map *children; /* of a folder */
    struct node **sorted;    /* of a folder, as of the last walk */
};

struct fl_tree {
    struct node *root;
    size_t count;
    char *path; /* of the entry that a walk gave last */
};

static void node_free(void *user)
{
    struct node *node = user;

    fl_map_destroy(node->children);
    free(node->sorted);
    free(node->name);
    free(node->target);
    free(node->source);
    free(node->data);
    free(node);
}

static struct node *node_new(struct node *parent, const char *name, enum fl_tree_type type,
                             mode_t mode)
{
    struct node *node = fl_calloc(1, sizeof(*node));

    node->name = fl_strdup(name);
    node->parent = parent;
    node->type = type;
    node->mode = mode;
    if (type == FL_TREE_FOLDER)
        node->children = fl_map_create(node_free);
    return node;
}

struct fl_tree *fl_tree_create(void)
{
    struct fl_tree *tree = fl_calloc(1, sizeof(*tree));

    tree->root = node_new(NULL, "", FL_TREE_FOLDER, 0755);
    return tree;
}

void fl_tree_destroy(struct fl_tree *tree)
{
    if (!tree)
        return;
    node_free(tree->root);
    free(tree->path);
    free(tree);
}

size_t fl_tree_count(const struct fl_tree *tree)
{
    return tree->count;
}

static size_t count_of(const struct node *node)
{
    size_t count = 1;
    void *cursor = NULL, *child;

    while (node->children && fl_map_next(node->children, &cursor, NULL, &child))
        count += count_of(child);
    return count;
}

/* Walking. What is left of the path stands in a buffer, so that a link's target can be put in
 * front of it. */
struct walk {
    struct fl_tree *tree;
    struct node *at;
    char rest[PATH_BYTES];
    unsigned links;
    bool make; /* folders that are missing */
};

static int follow(struct walk *walk, const struct node *link, struct fl_error *err)
{
    char rest[PATH_BYTES];
    int n;

    if (++walk->links > LINKS_MAX)
        return fl_error_set(err, FL_E_INVALID, "too many links, the last is %s", link->name);
    n = snprintf(rest, sizeof(rest), "%s/%s", link->target, walk->rest);
    if (n < 0 || (size_t)n >= sizeof(rest))
        return fl_error_set(err, FL_E_INVALID, "the link %s makes a path too long", link->name);
    if (rest[0] == '/')
        walk->at = walk->tree->root;
    (void)memcpy(walk->rest, rest, (size_t)n + 1);
    return 0;
}

/* Takes the next name off the rest; "" at its end. */
static void take_name(struct walk *walk, char name[PATH_BYTES])
{
    size_t skip = strspn(walk->rest, "/"), len = strcspn(walk->rest + skip, "/");

    (void)memcpy(name, walk->rest + skip, len);
    name[len] = '\0';
    (void)memmove(walk->rest, walk->rest + skip + len, strlen(walk->rest + skip + len) + 1);
}

static struct node *add_child(struct fl_tree *tree, struct node *folder, struct node *child)
{
    const struct node *before = fl_map_get(folder->children, child->name);

    if (before)
        tree->count -= count_of(before);
    fl_map_put(folder->children, child->name, child);
    tree->count++;
    return child;
}

/* One step down. > 0: there is nothing. */
static int step(struct walk *walk, const char *name, struct fl_error *err)
{
    struct node *child;

    if (!*name || fl_streq(name, "."))
        return 0;
    if (fl_streq(name, "..")) {
        if (!walk->at->parent)
            return fl_error_set(err, FL_E_INVALID, "a link leads out of the tree");
        walk->at = walk->at->parent;
        return 0;
    }
    child = fl_map_get(walk->at->children, name);
    if (!child && !walk->make)
        return 1;
    if (!child)
        child = add_child(walk->tree, walk->at, node_new(walk->at, name, FL_TREE_FOLDER, 0755));
    if (child->type == FL_TREE_LINK)
        return follow(walk, child, err);
    if (child->type == FL_TREE_FILE)
        return fl_error_set(err, FL_E_INVALID, "%s is a file, not a folder", name);
    walk->at = child;
    return 0;
}

static int walk_to(struct walk *walk, struct fl_error *err)
{
    char name[PATH_BYTES];
    int r = 0;

    while (r == 0 && walk->rest[strspn(walk->rest, "/")]) {
        take_name(walk, name);
        r = step(walk, name, err);
    }
    return r;
}

/* The folder that an entry is in, links followed. > 0: there is none. */
static int find_parent(struct fl_tree *tree, const char *path, bool make, struct node **ret_folder,
                       struct fl_error *err)
{
    struct walk walk = {.tree = tree, .at = tree->root, .make = make};
    const char *slash = strrchr(path, '/');
    int r;

    if (slash)
        (void)memcpy(walk.rest, path, (size_t)(slash - path));
    r = walk_to(&walk, err);
    if (r == 0)
        *ret_folder = walk.at;
    return r;
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int check_path(const struct fl_tree *tree, const char *path, struct fl_error *err)
{
    if (strlen(path) >= PATH_BYTES || !fl_path_is_below(path))
        return fl_error_set(err, FL_E_INVALID, "\"%.200s\" is no path within the tree", path);
    if (tree->count >= ENTRIES_MAX)
        return fl_error_set(err, FL_E_TOO_LARGE, "a tree has at most %d entries", ENTRIES_MAX);
    return 0;
}

/* Adding. Takes the node in any case. */
static int put(struct fl_tree *tree, const char *path, struct node *node, struct fl_error *err)
{
    const struct node *before = NULL;
    struct node *folder = NULL;
    int r = find_parent(tree, path, true, &folder, err);

    if (r == 0)
        before = fl_map_get(folder->children, node->name);
    if (before && before->type == FL_TREE_FOLDER)
        r = fl_error_set(err, FL_E_INVALID, "a folder is in its place");
    if (r != 0) {
        (void)fl_error_wrap(err, "%.200s", path);
        node_free(node);
        return r;
    }
    node->parent = folder;
    (void)add_child(tree, folder, node);
    return 0;
}

int fl_tree_add_folder(struct fl_tree *tree, const char *path, struct fl_error *err)
{
    struct walk walk = {.tree = tree, .at = tree->root, .make = true};
    int r = check_path(tree, path, err);

    if (r < 0)
        return r;
    (void)memcpy(walk.rest, path, strlen(path) + 1);
    r = walk_to(&walk, err);
    if (r < 0)
        (void)fl_error_wrap(err, "%.200s", path);
    return r;
}

static mode_t file_mode(bool executable)
{
    return executable ? 0755 : 0644;
}

int fl_tree_add_file(struct fl_tree *tree, const char *path, const char *source, bool executable,
                     struct fl_error *err)
{
    struct node *node;
    int r = check_path(tree, path, err);

    if (r < 0)
        return r;
    node = node_new(NULL, last_name(path), FL_TREE_FILE, file_mode(executable));
    node->source = fl_strdup(source);
    return put(tree, path, node, err);
}

int fl_tree_add_text(struct fl_tree *tree, const char *path, const void *data, size_t len,
                     bool executable, struct fl_error *err)
{
    struct node *node;
    int r = check_path(tree, path, err);

    if (r < 0)
        return r;
    node = node_new(NULL, last_name(path), FL_TREE_FILE, file_mode(executable));
    node->data = fl_malloc(len + 1);
    (void)memcpy(node->data, data, len);
    node->len = len;
    return put(tree, path, node, err);
}

int fl_tree_add_link(struct fl_tree *tree, const char *path, const char *target,
                     struct fl_error *err)
{
    struct node *node;
    int r = check_path(tree, path, err);

    if (r == 0 && (!*target || strlen(target) >= PATH_BYTES))
        r = fl_error_set(err, FL_E_INVALID, "%.200s: a link needs a target", path);
    if (r < 0)
        return r;
    node = node_new(NULL, last_name(path), FL_TREE_LINK, 0777);
    node->target = fl_strdup(target);
    return put(tree, path, node, err);
}

/* What is on the disk. */
struct import {
    struct fl_tree *tree;
    bool (*skip)(void *user, const char *path);
    void *user;
    unsigned depth;
};

static int import_folder(struct import *import, const char *path, const char *source,
                         struct fl_error *err);

static int import_link(struct import *import, const char *path, const char *source,
                       struct fl_error *err)
{
    char target[PATH_BYTES];
    ssize_t n = readlink(source, target, sizeof(target) - 1);

    if (n < 0)
        return fl_error_errno(err, errno, "%s", source);
    target[n] = '\0';
    return fl_tree_add_link(import->tree, path, target, err);
}

static int import_entry(struct import *import, const char *path, const char *source,
                        struct fl_error *err)
{
    struct stat about;

    if (lstat(source, &about) != 0)
        return fl_error_errno(err, errno, "%s", source);
    if (S_ISDIR(about.st_mode))
        return import_folder(import, path, source, err);
    if (S_ISLNK(about.st_mode))
        return import_link(import, path, source, err);
    if (!S_ISREG(about.st_mode))
        return fl_error_set(err, FL_E_INVALID, "%s is no file, folder or link", source);
    return fl_tree_add_file(import->tree, path, source, (about.st_mode & 0111) != 0, err);
}

static int import_folder(struct import *import, const char *path, const char *source,
                         struct fl_error *err)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    DIR *folder = opendir(source);
    const struct dirent *entry;
    int r = *path ? fl_tree_add_folder(import->tree, path, err) : 0;

    if (!folder)
        return fl_error_errno(err, errno, "%s", source);
    if (++import->depth > DEPTH_MAX)
        r = fl_error_set(err, FL_E_INVALID, "%s: folders are nested too deep", source);
    while (r == 0 && (entry = readdir(folder))) {
        const char *name = entry->d_name;
        const char *at = fl_arena_printf(arena, "%s%s%s", path, *path ? "/" : "", name);

        if (fl_streq(name, ".") || fl_streq(name, "..") ||
            (import->skip && import->skip(import->user, at)))
            continue;
        r = import_entry(import, at, fl_arena_printf(arena, "%s/%s", source, name), err);
    }
    import->depth--;
    (void)closedir(folder);
    return r;
}

int fl_tree_add_tree(struct fl_tree *tree, const char *path, const char *source,
                     bool (*skip)(void *user, const char *path), void *user, struct fl_error *err)
{
    struct import import = {.tree = tree, .skip = skip, .user = user};

    return import_folder(&import, path, source, err);
}

/* Looking and changing. */

static struct node *find(const struct fl_tree *tree, const char *path)
{
    struct node *folder = NULL;

    if (strlen(path) >= PATH_BYTES || !fl_path_is_below(path) ||
        find_parent((struct fl_tree *)tree, path, false, &folder, NULL) != 0)
        return NULL;
    return fl_map_get(folder->children, last_name(path));
}

static struct fl_tree_entry entry_of(const struct node *node, const char *path)
{
    return (struct fl_tree_entry){.path = path,
                                  .type = node->type,
                                  .target = node->target,
                                  .source = node->source,
                                  .data = node->data,
                                  .len = node->len,
                                  .mode = node->mode};
}

bool fl_tree_get(const struct fl_tree *tree, const char *path, struct fl_tree_entry *ret_entry)
{
    const struct node *node = find(tree, path);

    if (node)
        *ret_entry = entry_of(node, path);
    return node != NULL;
}

bool fl_tree_has(const struct fl_tree *tree, const char *path)
{
    return find(tree, path) != NULL;
}

void fl_tree_remove(struct fl_tree *tree, const char *path)
{
    struct node *node = find(tree, path);

    if (!node)
        return;
    tree->count -= count_of(node);
    (void)fl_map_remove(node->parent->children, last_name(path));
}

void fl_tree_set_mode(struct fl_tree *tree, const char *path, mode_t mode)
{
    struct node *node = find(tree, path);

    if (node && node->type != FL_TREE_LINK)
        node->mode = mode & 07777;
}

/* In order. */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(struct node *const *)a)->name, (*(struct node *const *)b)->name);
}

static void sort(struct node *folder)
{
    size_t count = fl_map_count(folder->children), i = 0;
    void *cursor = NULL, *child;

    folder->sorted = fl_realloc(folder->sorted, (count + 1) * sizeof(struct node *));
    while (fl_map_next(folder->children, &cursor, NULL, &child))
        folder->sorted[i++] = child;
    folder->sorted[count] = NULL;
    qsort(folder->sorted, count, sizeof(struct node *), by_name);
}

static struct node *first_child(struct node *node)
{
    if (!node->children)
        return NULL;
    sort(node);
    return node->sorted[0];
}

static struct node *next_node(struct node *node)
{
    struct node *next = first_child(node);

    for (; !next && node->parent; node = node->parent) {
        struct node **key = &node;
        struct node **at = bsearch(key, node->parent->sorted, fl_map_count(node->parent->children),
                                   sizeof(struct node *), by_name);

        next = at ? at[1] : NULL;
    }
    return next;
}

static char *path_of(const struct node *node)
{
    char *above, *path;

    if (!node->parent || !node->parent->parent)
        return fl_strdup(node->name);
    above = path_of(node->parent);
    path = fl_asprintf("%s/%s", above, node->name);
    free(above);
    return path;
}

bool fl_tree_next(const struct fl_tree *tree, void **cursor, struct fl_tree_entry *ret_entry)
{
    struct node *node = next_node(*cursor ? *cursor : tree->root);
    struct fl_tree *writable = (struct fl_tree *)tree;

    if (!node)
        return false;
    free(writable->path);
    writable->path = path_of(node);
    *cursor = node;
    *ret_entry = entry_of(node, tree->path);
    return true;
}
