#include "lib/json.h"
#include "lib/str.h"
#include "reconcilers/workload/decide.h"

#include <sodium.h>

/* What a driver is handed at a start. A new field of the API joins only if a run cannot do without
 * it, or else an upgrade of the control plane would restart everything. */
static const char *const hashed[] = {
    "args",   "command", "env",    "files",   "image",     "imagePullSecret", "log",
    "mounts", "ports",   "probes", "process", "resources", "security",        "stopSignal",
};

const char *fl_workload_spec_hash(const struct fl_workload *workload, struct fl_arena *arena)
{
    FL_JSON object = fl_workload_encode(workload);
    FL_JSON part = json_object();
    unsigned char hash[crypto_generichash_BYTES_MIN];
    char hex[2 * sizeof(hash) + 1];
    const char *text;

    for (size_t i = 0; i < FL_COUNT_OF(hashed); i++) {
        json_t *value = json_object_get(json_object_get(object, "spec"), hashed[i]);

        if (value)
            json_object_set(part, hashed[i], value);
    }
    text = fl_json_to_string(arena, part);
    (void)crypto_generichash(hash, sizeof(hash), (const unsigned char *)text, strlen(text), NULL,
                             0);
    fl_hex_encode(hash, sizeof(hash), hex);
    return fl_arena_strdup(arena, hex);
}
