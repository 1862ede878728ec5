#!/usr/bin/env python3
"""python_client.py KUBECONFIG: the official Kubernetes Python client judges an API server.

Run by the interpreter of build/tools/venv (see setup.sh), on a server that serves, or lets one create, the
CRD of testdata/.  Prints a line a check and "N passed, N failed" at the end; fails when any failed.
"""

import base64
import datetime
import json
import os
import subprocess
import sys
import threading
import time
import traceback

import yaml
from kubernetes import client, config, dynamic, utils, watch
from kubernetes.client.rest import ApiException
from kubernetes.dynamic import exceptions as dynamic_errors

GROUP, VERSION, PLURAL = "interop.flops.dev", "v1", "widgets"
NAMESPACE = f"python-{os.getpid()}"
CRD_FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "testdata", "widget-crd.yaml")
EXPIRE = os.path.join(os.path.dirname(CRD_FILE), "..", "..", "..", "build", "tools", "informer")

checks = []


def check(test):
    """Registers a check; its docstring is its name."""
    checks.append(test)
    return test


def want(what, got, wanted):
    if got != wanted:
        raise AssertionError(f"{what} is {got!r}, wanted {wanted!r}")


def refused(status, call, *args, **kwargs):
    """The call must fail with this status; gives the exception."""
    try:
        call(*args, **kwargs)
    except ApiException as e:
        want("status", e.status, status)
        return e
    raise AssertionError(f"wanted status {status}, got success")


def eventually(limit_s, condition):
    until = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > until:
            raise AssertionError("never became true")
        time.sleep(0.05)


def widget(name, labels=None, **spec):
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "Widget",
        "metadata": {"name": name, **({"labels": labels} if labels else {})},
        "spec": {"size": 3, **spec},
    }


class Widgets:
    """The custom objects API bound to our kind and namespace."""

    def __init__(self):
        self.api = client.CustomObjectsApi()
        self.where = (GROUP, VERSION, NAMESPACE, PLURAL)

    def __getattr__(self, verb):
        subresource = ""
        for suffix in ("_status", "_scale"):
            if verb.endswith(suffix):
                verb, subresource = verb[: -len(suffix)], suffix
        method = getattr(self.api, f"{verb}_namespaced_custom_object{subresource}")
        return lambda *args, **kwargs: method(*self.where, *args, **kwargs)


core = widgets = None


@check
def version():
    """version and API groups"""
    info = client.VersionApi().get_code()
    assert info.git_version.startswith("v1."), info.git_version
    names = [g.name for g in client.ApisApi().get_api_versions().groups]
    assert "apiextensions.k8s.io" in names and "coordination.k8s.io" in names, names
    want("core versions", client.CoreApi().get_api_versions().versions, ["v1"])


@check
def crd():
    """the CRD is created, or there, and established"""
    extensions = client.ApiextensionsV1Api()
    with open(CRD_FILE, encoding="utf-8") as f:
        manifest = yaml.safe_load(f)
    try:
        extensions.create_custom_resource_definition(manifest)
    except ApiException as e:
        want("status", e.status, 409)

    def established():
        got = extensions.read_custom_resource_definition(manifest["metadata"]["name"])
        return any(c.type == "Established" and c.status == "True" for c in got.status.conditions or [])

    eventually(20, established)
    listed = extensions.list_custom_resource_definition()
    assert manifest["metadata"]["name"] in [c.metadata.name for c in listed.items]


@check
def namespace():
    """a namespace from a typed object"""
    made = core.create_namespace(client.V1Namespace(metadata=client.V1ObjectMeta(name=NAMESPACE)))
    want("phase", made.status.phase, "Active")
    want("label", made.metadata.labels["kubernetes.io/metadata.name"], NAMESPACE)
    assert NAMESPACE in [n.metadata.name for n in core.list_namespace().items]


@check
def custom_crud():
    """custom objects: create, get, list, replace, patch, delete"""
    made = widgets.create(widget("a", color="Red"))
    want("replicas by default", made["spec"]["replicas"], 1)
    want("get", widgets.get("a")["metadata"]["uid"], made["metadata"]["uid"])
    want("list", [w["metadata"]["name"] for w in widgets.list()["items"]], ["a"])
    everywhere = client.CustomObjectsApi().list_cluster_custom_object(GROUP, VERSION, PLURAL)
    assert NAMESPACE in [w["metadata"]["namespace"] for w in everywhere["items"]]
    made["spec"]["size"] = 4
    replaced = widgets.replace("a", made)
    want("generation", replaced["metadata"]["generation"], 2)
    e = refused(409, widgets.replace, "a", made)
    assert "the object has been modified" in e.body
    patched = widgets.patch("a", {"spec": {"size": 5}})
    want("size", patched["spec"]["size"], 5)
    patched = widgets.patch("a", [{"op": "replace", "path": "/spec/size", "value": 6}],
                            _content_type="application/json-patch+json")
    want("size", patched["spec"]["size"], 6)
    status = widgets.delete("a")
    want("status", status["status"], "Success")
    refused(404, widgets.get, "a")


@check
def custom_subresources():
    """custom objects: status and scale"""
    widgets.create(widget("sub"))
    got = widgets.patch_status("sub", {"status": {"phase": "Up", "replicas": 3}, "spec": {"size": 99}})
    want("phase, size", (got["status"]["phase"], got["spec"]["size"]), ("Up", 3))
    scale = widgets.get_scale("sub")
    want("scale", (scale["kind"], scale["spec"]["replicas"], scale["status"]["replicas"]), ("Scale", 1, 3))
    widgets.patch_scale("sub", {"spec": {"replicas": 7}})
    want("replicas", widgets.get("sub")["spec"]["replicas"], 7)


@check
def custom_errors():
    """custom objects: errors carry reason, details and causes"""
    e = refused(422, widgets.create, widget("bad", size=0, color="Pink"))
    status = json.loads(e.body)
    want("reason", status["reason"], "Invalid")
    want("fields", {c["field"] for c in status["details"]["causes"]} >= {"spec.size", "spec.color"}, True)
    refused(409, widgets.create, widget("sub"))
    refused(400, widgets.create, widget("bad", sizze=1), field_validation="Strict")
    refused(404, client.CustomObjectsApi().list_cluster_custom_object, GROUP, "v9", PLURAL)


@check
def selectors_and_pages():
    """lists by selector, in pages, and a collection deleted"""
    for i in range(5):
        widgets.create(widget(f"page-{i}", labels={"set": "pages", "odd": str(i % 2)}))
    got = widgets.list(label_selector="set=pages,odd in (1)")
    want("odd", [w["metadata"]["name"] for w in got["items"]], ["page-1", "page-3"])
    got = widgets.list(field_selector="metadata.name=page-2")
    want("by name", [w["metadata"]["name"] for w in got["items"]], ["page-2"])
    names, token = [], None
    while True:
        page = widgets.list(label_selector="set=pages", limit=2, **({"_continue": token} if token else {}))
        assert len(page["items"]) <= 2
        names += [w["metadata"]["name"] for w in page["items"]]
        token = page["metadata"].get("continue")
        if not token:
            break
    want("pages", names, [f"page-{i}" for i in range(5)])
    refused(400, widgets.list, _continue="nonsense", limit=2)
    client.CustomObjectsApi().delete_collection_namespaced_custom_object(
        GROUP, VERSION, NAMESPACE, PLURAL, label_selector="set=pages")
    want("left", widgets.list(label_selector="set=pages")["items"], [])


@check
def dry_run_and_validation():
    """dry run stores nothing"""
    got = widgets.create(widget("dry"), dry_run="All")
    want("colour by default", got["spec"]["color"], "Green")
    refused(404, widgets.get, "dry")


@check
def config_maps():
    """config maps: typed, without kind and apiVersion in the body"""
    made = core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(
        metadata=client.V1ObjectMeta(generate_name="py-", labels={"l": "1"}), data={"k": "ü\n"}))
    assert made.metadata.name.startswith("py-") and len(made.metadata.name) == 8, made.metadata.name
    core.patch_namespaced_config_map(made.metadata.name, NAMESPACE, {"data": {"k": None, "n": "1"}})
    got = core.read_namespaced_config_map(made.metadata.name, NAMESPACE)
    want("data", got.data, {"n": "1"})
    got.data["m"] = "2"
    core.replace_namespaced_config_map(made.metadata.name, NAMESPACE, got)
    want("listed", len(core.list_namespaced_config_map(NAMESPACE, label_selector="l=1").items), 1)
    core.delete_collection_namespaced_config_map(NAMESPACE, label_selector="l=1")
    want("left", core.list_namespaced_config_map(NAMESPACE, label_selector="l=1").items, [])


@check
def secrets():
    """secrets: data and stringData"""
    data = base64.b64encode(bytes([0, 255])).decode()
    made = core.create_namespaced_secret(NAMESPACE, client.V1Secret(
        metadata=client.V1ObjectMeta(name="s"), data={"b": data}, string_data={"t": "x"}))
    want("data", made.data, {"b": data, "t": base64.b64encode(b"x").decode()})
    want("type", made.type, "Opaque")
    want("stringData", made.string_data, None)
    deleted = core.delete_namespaced_secret("s", NAMESPACE)
    deleted = client.ApiClient().sanitize_for_serialization(deleted)  # a V1Status, or a dict in newer clients
    want("delete", deleted["status"], "Success")


@check
def events():
    """events: created, selected, counted up, the same in events.k8s.io"""
    about = client.V1ObjectReference(api_version=f"{GROUP}/{VERSION}", kind="Widget", name="sub", namespace=NAMESPACE,
                                     uid=widgets.get("sub")["metadata"]["uid"])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = core.create_namespaced_event(NAMESPACE, client.CoreV1Event(
        metadata=client.V1ObjectMeta(generate_name="sub."), involved_object=about, reason="Judged", message="m",
        type="Normal", source=client.V1EventSource(component="py"), first_timestamp=now, last_timestamp=now, count=1))
    core.patch_namespaced_event(made.metadata.name, NAMESPACE, {"count": 2, "lastTimestamp": now.isoformat()})
    got = core.list_namespaced_event(NAMESPACE, field_selector="involvedObject.name=sub,reason=Judged")
    want("count", [e.count for e in got.items], [2])
    client.EventsV1Api().create_namespaced_event(NAMESPACE, client.EventsV1Event(
        metadata=client.V1ObjectMeta(name="sub.new"), regarding=about, reason="Judged", note="n", type="Normal",
        event_time=now, action="Judge", reporting_controller="flops.dev/py", reporting_instance="py-1"))
    old = core.read_namespaced_event("sub.new", NAMESPACE)
    want("core view", (old.message, old.involved_object.name, old.event_time), ("n", "sub", now))


@check
def leases():
    """leases: taken, renewed, lost to a conflict"""
    api = client.CoordinationV1Api()
    now = datetime.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=datetime.timezone.utc)
    api.create_namespaced_lease(NAMESPACE, client.V1Lease(
        metadata=client.V1ObjectMeta(name="leader"),
        spec=client.V1LeaseSpec(holder_identity="one", lease_duration_seconds=15, acquire_time=now, renew_time=now,
                                lease_transitions=0)))
    one = api.read_namespaced_lease("leader", NAMESPACE)
    two = api.read_namespaced_lease("leader", NAMESPACE)
    want("microseconds", one.spec.acquire_time, now)
    one.spec.renew_time = now + datetime.timedelta(seconds=2)
    api.replace_namespaced_lease("leader", NAMESPACE, one)
    two.spec.holder_identity, two.spec.lease_transitions = "two", 1
    refused(409, api.replace_namespaced_lease, "leader", NAMESPACE, two)
    current = api.read_namespaced_lease("leader", NAMESPACE)
    current.spec.holder_identity, current.spec.lease_transitions = "two", 1
    want("holder", api.replace_namespaced_lease("leader", NAMESPACE, current).spec.holder_identity, "two")


@check
def leader_election():
    """leader election of the client's own"""
    from kubernetes.leaderelection import electionconfig, leaderelection
    from kubernetes.leaderelection.resourcelock import leaselock
    leads = threading.Event()
    lock = leaselock.LeaseLock("elected", NAMESPACE, "candidate")
    settings = electionconfig.Config(lock, lease_duration=4, renew_deadline=3, retry_period=1,
                                     onstarted_leading=leads.set, onstopped_leading=None)
    threading.Thread(target=leaderelection.LeaderElection(settings).run, daemon=True).start()
    assert leads.wait(15), "nobody leads"
    want("holder", client.CoordinationV1Api().read_namespaced_lease("elected", NAMESPACE).spec.holder_identity,
         "candidate")


@check
def watch_changes():
    """watch: changes in order, and resumed from a revision without loss"""
    start = widgets.list(label_selector="set=w")["metadata"]["resourceVersion"]

    def change():
        time.sleep(0.3)
        widgets.create(widget("w1", labels={"set": "w"}))
        widgets.patch("w1", {"spec": {"size": 8}})
        widgets.create(widget("w2", labels={"set": "w"}))
        widgets.delete("w1")

    worker = threading.Thread(target=change)
    worker.start()
    stream = watch.Watch()
    seen = []
    for e in stream.stream(client.CustomObjectsApi().list_namespaced_custom_object, GROUP, VERSION, NAMESPACE, PLURAL,
                           label_selector="set=w", resource_version=start, timeout_seconds=20):
        seen.append((e["type"], e["object"]["metadata"]["name"], e["object"]["metadata"]["resourceVersion"]))
        if e["type"] == "DELETED":
            stream.stop()
    worker.join()
    want("events", [s[:2] for s in seen],
         [("ADDED", "w1"), ("MODIFIED", "w1"), ("ADDED", "w2"), ("DELETED", "w1")])
    again = [(e["type"], e["object"]["metadata"]["name"], e["object"]["metadata"]["resourceVersion"])
             for e in watch.Watch().stream(client.CustomObjectsApi().list_namespaced_custom_object, GROUP, VERSION,
                                           NAMESPACE, PLURAL, label_selector="set=w", resource_version=seen[1][2],
                                           timeout_seconds=2)]
    want("resumed", again, seen[2:])


@check
def watch_timeout():
    """watch: ends at timeoutSeconds; the present objects come first"""
    begin = time.monotonic()
    seen = [(e["type"], e["object"].metadata.name) for e in watch.Watch().stream(
        core.list_namespace, field_selector=f"metadata.name={NAMESPACE}", timeout_seconds=2)]
    took = time.monotonic() - begin
    want("events", seen, [("ADDED", NAMESPACE)])
    assert 1.5 < took < 5, f"took {took:.1f} s"


@check
def watch_typed():
    """watch: typed objects of built-in kinds, with bookmarks allowed"""
    start = core.list_namespaced_config_map(NAMESPACE).metadata.resource_version
    core.create_namespaced_config_map(NAMESPACE, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="seen")))
    stream = watch.Watch()
    for e in stream.stream(core.list_namespaced_config_map, NAMESPACE, resource_version=start, timeout_seconds=10,
                           allow_watch_bookmarks=True):
        want("event", (e["type"], e["object"].metadata.name), ("ADDED", "seen"))
        stream.stop()


@check
def watch_expired():
    """watch: too old a revision is 410, a list then goes on"""
    if os.path.exists(EXPIRE):  # a server may remember all since its first write: make it forget
        subprocess.run([EXPIRE, "-expire", sys.argv[1]], check=True, timeout=150)
    stream = watch.Watch()
    try:
        for e in stream.stream(client.CustomObjectsApi().list_namespaced_custom_object, GROUP, VERSION, NAMESPACE,
                               PLURAL, resource_version="1", timeout_seconds=3):
            raise AssertionError(f"an event from a revision long gone: {e['type']}")
        raise AssertionError("the watch ended without an error")
    except ApiException as e:
        want("status", e.status, 410)
    start = widgets.list()["metadata"]["resourceVersion"]
    list(watch.Watch().stream(client.CustomObjectsApi().list_namespaced_custom_object, GROUP, VERSION, NAMESPACE,
                              PLURAL, resource_version=start, timeout_seconds=1))


@check
def dynamic_client():
    """dynamic client: discovery, create, get, patch, watch, delete"""
    dyn = dynamic.DynamicClient(client.ApiClient())
    api = dyn.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Widget")
    want("names", (api.name, api.namespaced, "wdg" in api.short_names), ("widgets", True, True))
    made = api.create(body=widget("dyn"), namespace=NAMESPACE)
    want("colour", made.spec.color, "Green")
    got = api.patch(body={"spec": {"size": 12}}, name="dyn", namespace=NAMESPACE,
                    content_type="application/merge-patch+json")
    want("size", got.spec.size, 12)
    got = api.status.patch(body={"status": {"phase": "Up"}}, name="dyn", namespace=NAMESPACE,
                           content_type="application/merge-patch+json")
    want("phase", got.status.phase, "Up")
    for e in api.watch(namespace=NAMESPACE, field_selector="metadata.name=dyn", timeout=5):
        want("event", (e["type"], e["object"].metadata.name), ("ADDED", "dyn"))
        break
    api.delete(name="dyn", namespace=NAMESPACE)
    try:
        api.get(name="dyn", namespace=NAMESPACE)
        raise AssertionError("it is still there")
    except dynamic_errors.NotFoundError:
        pass


@check
def server_side_apply():
    """server-side apply: create, conflict, force"""
    dyn = dynamic.DynamicClient(client.ApiClient())
    api = dyn.resources.get(api_version=f"{GROUP}/{VERSION}", kind="Widget")
    made = api.server_side_apply(body=widget("ssa"), namespace=NAMESPACE, field_manager="one")
    want("manager", [(m.manager, m.operation) for m in made.metadata.managedFields], [("one", "Apply")])
    try:
        api.server_side_apply(body=widget("ssa", size=4), namespace=NAMESPACE, field_manager="two")
        raise AssertionError("no conflict")
    except dynamic_errors.ConflictError as e:
        causes = json.loads(e.body)["details"]["causes"]
        want("causes", [(c["field"], c["message"]) for c in causes], [(".spec.size", 'conflict with "one"')])
    got = api.server_side_apply(body=widget("ssa", size=4), namespace=NAMESPACE, field_manager="two",
                                force_conflicts=True)
    want("size", got.spec.size, 4)


@check
def create_from_yaml():
    """create from YAML, built-in and custom"""
    made = utils.create_from_dict(client.ApiClient(), {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "from-yaml"}, "data": {"a": "b"}},
        namespace=NAMESPACE)
    want("name", made[0].metadata.name, "from-yaml")


@check
def reviews():
    """access and identity reviews"""
    review = client.AuthorizationV1Api().create_self_subject_access_review(client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=client.V1ResourceAttributes(
            namespace=NAMESPACE, verb="create", group=GROUP, resource=PLURAL))))
    want("allowed", review.status.allowed, True)
    me = client.AuthenticationV1Api().create_self_subject_review(client.V1SelfSubjectReview())
    assert me.status.user_info.username and "system:authenticated" in me.status.user_info.groups, me.status


@check
def namespace_deletion():
    """the namespace goes with all it holds"""
    core.delete_namespace(NAMESPACE)
    want("phase", core.read_namespace(NAMESPACE).status.phase if exists() else "Terminating", "Terminating")
    eventually(30, lambda: not exists())
    want("left", widgets.list()["items"], [])


def exists():
    try:
        core.read_namespace(NAMESPACE)
        return True
    except ApiException as e:
        want("status", e.status, 404)
        return False


def main():
    global core, widgets
    if len(sys.argv) != 2:
        print(__doc__.splitlines()[0], file=sys.stderr)
        return 2
    config.load_kube_config(sys.argv[1])
    core, widgets = client.CoreV1Api(), Widgets()
    failed = 0
    for number, test in enumerate(checks, 1):
        try:
            test()
            print(f"ok {number} - {test.__doc__}")
        except Exception as e:  # each failure is reported and the rest still judged
            failed += 1
            print(f"not ok {number} - {test.__doc__}")
            text = str(e).strip() + "\n" + "".join(traceback.format_tb(e.__traceback__)[-2:])
            print("    " + text[:3000].replace("\n", "\n    "))
        sys.stdout.flush()
    print(f"{len(checks) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # the elected leader's thread never ends by itself
