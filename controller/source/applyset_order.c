#include "controller/source/applyset_internal.h"

#include "lib/str.h"

#define RBAC  "rbac.authorization.k8s.io"
#define HOOKS "admissionregistration.k8s.io"

/* What others need comes first; what acts on others comes last. */
static const struct {
    const char *group, *kind;
} order[] = {
    {"", "Namespace"},
    {"apiextensions.k8s.io", "CustomResourceDefinition"},
    {"", "ServiceAccount"},
    {RBAC, "ClusterRole"},
    {RBAC, "Role"},
    {RBAC, "ClusterRoleBinding"},
    {RBAC, "RoleBinding"},
    {"scheduling.k8s.io", "PriorityClass"},
    {"storage.k8s.io", "StorageClass"},
    {"", "ResourceQuota"},
    {"", "LimitRange"},
    {"", "Secret"},
    {"", "ConfigMap"},
    {"", "PersistentVolume"},
    {"", "PersistentVolumeClaim"},
    {"", "Service"},
    {"flops.dev", "Orchestrator"},
    {"flops.dev", "EdgeCluster"},
    {"flops.dev", "EdgeNode"},
    {NULL, NULL}, /* all the rest */
    {"flops.dev", "GitSync"},
    {"apiregistration.k8s.io", "APIService"},
    {HOOKS, "MutatingWebhookConfiguration"},
    {HOOKS, "ValidatingWebhookConfiguration"},
};

int fl_apply_rank(const char *group, const char *kind)
{
    int rest = 0;

    for (size_t i = 0; i < FL_COUNT_OF(order); i++) {
        if (!order[i].kind)
            rest = (int)i;
        else if (strcmp(order[i].kind, kind) == 0 && strcmp(order[i].group, group) == 0)
            return (int)i;
    }
    return rest;
}
