"""Which cluster gets an instance: the rules of old roots (0.4.402) and of current ones (0.4.411)."""

from typing import Any, Union

Document = dict[str, Any]
Choice = Union[Document, str]  # a cluster, or the status that says why there is none

NONE_FITS = "NoActiveClusterWithCapacity"


def choose(version: str, job: Document, clusters: list[Document]) -> Choice:
    return choose_old(job, clusters) if version == "0.4.402" else choose_new(job, clusters)


def choose_new(job: Document, clusters: list[Document]) -> Choice:
    """Only `direct` counts; what is said of add-ons and allowed clusters is passed over in silence."""
    names = [it.get("cluster", "") for it in job.get("constraints") or [] if it.get("type") == "direct"]
    candidates = [it for it in clusters if it["active"] and (not names or it["candidate_name"] == names[-1])]
    if not candidates:
        return "TargetClusterNotActive"
    fitting = [it for it in candidates if fits(job, it) and job.get("vcpus", 0) <= it["vcpus"]
               and has_drivers(job, it)]
    return max(fitting, key=lambda it: it["vcpus"] * (100 - it["cpu_percent"])) if fitting else NONE_FITS


def has_drivers(job: Document, cluster: Document) -> bool:
    return all(it["csi_driver"] in cluster["csi_drivers"] for it in job.get("volumes") or [])


def choose_old(job: Document, clusters: list[Document]) -> Choice:
    """Add-ons and allowed clusters must hold of all active clusters, or of none is the service: the
    check of one cluster looks at every one."""
    active = [it for it in clusters if it["active"]]
    for constraint in job.get("constraints") or []:
        kind = constraint.get("type")
        if kind == "direct" and active:
            return direct(job, constraint.get("cluster"), clusters)
        if kind == "addons" and not all(has_addons(constraint, it) for it in active):
            return NONE_FITS
        if kind == "clusters" and not all(it["candidate_name"] in constraint["allowed"] for it in active):
            return NONE_FITS
    fitting = [it for it in active if fits(job, it)]
    return max(fitting, key=lambda it: (it["vcpus"], it["memory"])) if fitting else NONE_FITS


def has_addons(constraint: Document, cluster: Document) -> bool:
    needs = constraint.get("needs") or []
    return bool(needs) and set(needs) <= set(cluster["supported_addons"])


def direct(job: Document, name: Any, clusters: list[Document]) -> Choice:
    for cluster in clusters:
        if cluster["candidate_name"] == name:
            if not cluster["active"]:
                return "TargetClusterNotActive"
            return cluster if fits(job, cluster) else "TargetClusterNoCapacity"
    return "TargetClusterNotFound"


def fits(job: Document, cluster: Document) -> bool:
    return job["virtualization"] in cluster["virtualization"] and (job.get("memory") or 0) <= cluster["memory"]
