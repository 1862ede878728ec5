#include "lib/oci/overlay.h"

#include "lib/file.h"
#include "lib/mem.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/mount.h>

static bool can_mount(struct fl_arena *arena, const char *folder, const char *changes)
{
    const char *at = fl_arena_printf(arena, "%s/at", folder);
    const char *upper = fl_arena_printf(arena, "%s/upper", changes);
    const char *work = fl_arena_printf(arena, "%s/work", changes);
    const char *options = fl_arena_printf(arena, "lowerdir=%s/a:%s/b,upperdir=%s,workdir=%s",
                                          folder, folder, upper, work);

    if (fl_dir_ensure(upper, 0700, NULL) < 0 || fl_dir_ensure(work, 0700, NULL) < 0 ||
        mount("overlay", at, "overlay", MS_NODEV, options) != 0)
        return false;
    (void)umount2(at, MNT_DETACH);
    return true;
}

static unsigned probe(struct fl_arena *arena, const char *folder)
{
    static const char *const names[] = {"a", "b", "at", "memory", "disk"};
    const char *memory = fl_arena_printf(arena, "%s/memory", folder);
    unsigned works = 0;

    for (size_t i = 0; i < FL_COUNT_OF(names); i++)
        if (fl_dir_ensure(fl_arena_printf(arena, "%s/%s", folder, names[i]), 0700, NULL) < 0)
            return 0;
    if (mount("flops", memory, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0700,size=1m") != 0)
        return 0;
    if (can_mount(arena, folder, memory))
        works |= FL_OVERLAY_IN_MEMORY;
    (void)umount2(memory, MNT_DETACH);
    if (can_mount(arena, folder, fl_arena_printf(arena, "%s/disk", folder)))
        works |= FL_OVERLAY_ON_DISK;
    return works;
}

unsigned fl_overlay_probe(const char *folder)
{
    FL_CLEANUP(fl_arena_destroyp) struct fl_arena *arena = fl_arena_create();
    unsigned works = probe(arena, folder);

    (void)fl_dir_remove(folder, NULL);
    return works;
}
