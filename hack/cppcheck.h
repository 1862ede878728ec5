/* What cppcheck must know of macros from headers it does not read. Read by it alone. */
#define json_array_foreach(array, i, value) \
    for ((i) = 0; ((value) = json_array_get(array, i)); (i)++)
#define json_object_foreach(object, key, value) \
    for ((key) = next_key(object); ((value) = json_object_get(object, key)); (key) = next_key(object))
#define json_object_foreach_safe(object, next, key, value) \
    for ((key) = next_key(object), (next) = 0; ((value) = json_object_get(object, key)); (key) = next_key(object))
#define TAILQ_HEAD(name, type) struct name { struct type *first, **last; }
#define TAILQ_ENTRY(type) struct { struct type *next, **previous; }
#define STAILQ_HEAD(name, type) struct name { struct type *first, **last; }
#define STAILQ_ENTRY(type) struct { struct type *next; }
#define SLIST_HEAD(name, type) struct name { struct type *first; }
#define SLIST_ENTRY(type) struct { struct type *next; }
#define LIST_HEAD(name, type) struct name { struct type *first; }
#define LIST_ENTRY(type) struct { struct type *next, **previous; }
#define TAILQ_FOREACH(item, head, link) for ((item) = (head)->first; (item); (item) = (item)->link.next)
#define STAILQ_FOREACH(item, head, link) for ((item) = (head)->first; (item); (item) = (item)->link.next)
#define SLIST_FOREACH(item, head, link) for ((item) = (head)->first; (item); (item) = (item)->link.next)
#define LIST_FOREACH(item, head, link) for ((item) = (head)->first; (item); (item) = (item)->link.next)
#define RB_ENTRY(type) struct { struct type *left, *right, *parent; int colour; }
#define RB_HEAD(name, type) struct name { struct type *root; }
#define RB_FOREACH(item, name, head) for ((item) = (head)->root; (item); (item) = next_item(item))
#define RB_GENERATE_INTERNAL(name, type, field, compare, attributes)
