/* Whether overlays can be mounted here. Any thread. */
#ifndef FL_LIB_OCI_OVERLAY_H
#define FL_LIB_OCI_OVERLAY_H

enum {
    FL_OVERLAY_IN_MEMORY = 1, /* layers below `folder`, changes in a tmpfs */
    FL_OVERLAY_ON_DISK = 2,   /* layers and changes below `folder` */
};
/* Tries it in `folder`, which is made and removed; the mounts are undone at once. */
unsigned fl_overlay_probe(const char *folder);

#endif
