"""What a root takes for an SLA and what not; each row was also shown to the real schema."""

import copy
import unittest
from typing import Any

from e2e.oakestra import schema
from e2e.oakestra.client import application, microservice, sla

FULL = microservice(
    "a1", "flops", "learner", microserviceID="", memory=512, vcpus=2, vgpus=0, vtpus=0, bandwidth_in=1,
    bandwidth_out=1, storage=10, port="8080:80/tcp;9000:90", one_shot=True, privileged=False, environment=["A=b"],
    args=["x"], added_files=["f"], state="s", target_node="n", sla_violation_strategy="none",
    addresses={"rr_ip": "10.30.0.5", "closest_ip": "10.30.0.6", "instances": [{"from": "a", "to": "b", "start": "c"}]},
    constraints=[{"type": "direct", "cluster": "east", "node": "n1"}, {"type": "addons", "needs": ["FLOps"]},
                 {"type": "clusters", "allowed": ["east"]}, {"type": "geo", "threshold": 1.5, "rigidness": 1,
                                                             "convergence_time": 3, "location": "l", "area": "a"}],
    connectivity=[{"target_microservice_id": "x", "con_constraints": [
        {"type": "t", "threshold": 1, "rigidness": 0.5, "convergence_time": 3}]}])

# (how the full document is changed, whether that is taken)
ROWS: list[tuple[str, Any, bool]] = [
    ("sla_version", None, False), ("sla_version", 2.0, False), ("customerID", None, False), ("customerID", 7, False),
    ("applications", None, False), ("applications", {}, False), ("applications", [], True), ("args", ["a"], True),
    ("args", [1], False), ("own_field", 1, True),
    ("application_name", None, False), ("application_name", "", False), ("application_name", "a" * 30, True),
    ("application_name", "a" * 31, False), ("application_name", "with-dash", False), ("application_name", "äpfel", False),
    ("application_name", "a b", False), ("application_name", "line\n", True), ("application_name", "line\n\n", False),
    ("application_namespace", None, False), ("application_namespace", "n_s", False), ("application_desc", "any: -\n", True),
    ("application_desc", 1, False), ("applicationID", 1, False), ("microservices", None, False), ("microservices", [], True),
    ("microservice_name", None, False), ("microservice_name", "i0r1", True), ("microservice_name", "i0-r1", False),
    ("microservice_namespace", None, False), ("virtualization", None, False), ("virtualization", "anything", True),
    ("code", None, False), ("code", 1, False), ("microserviceID", "x", False), ("microserviceID", None, True),
    ("memory", 1.0, True), ("memory", 1.5, False), ("memory", "1", False), ("memory", True, False), ("memory", -1, True),
    ("vcpus", 0.5, False), ("storage", "10", False), ("port", 80, False), ("one_shot", 1, False), ("one_shot", "yes", False),
    ("privileged", True, True), ("cmd", "flops", False), ("cmd", ["a", 1], False), ("cmd", [], True),
    ("environment", {"A": "b"}, False), ("environment", ["no equals sign"], True), ("addresses", [], False),
    ("addresses", {}, True), ("addresses", {"rr_ip": 1}, False), ("addresses", {"rr_ip": "no address"}, True),
    ("constraints", [{}], False), ("constraints", [{"type": "unknown"}], True), ("constraints", {"type": "direct"}, False),
    ("constraints", [{"type": "addons", "needs": "FLOps"}], False), ("connectivity", [{}], False),
    ("connectivity", [{"target_microservice_id": "x", "con_constraints": [{"type": "t"}]}], False),
]

VOLUMES: list[tuple[Any, bool]] = [
    ([{"volume_id": "v", "csi_driver": "d", "mount_path": "/m", "config": {"a": "b"}}], True),
    ([{"volume_id": "v"}], False), ([{"csi_driver": "d"}], False), ([{"volume_id": "v", "csi_driver": 1}], False),
    ([{"volume_id": "v", "csi_driver": "d", "config": "text"}], False), ({}, False),
]


def changed(key: str, value: Any) -> dict[str, Any]:
    """None: without it."""
    document = sla([{**application("app", [copy.deepcopy(FULL)]), "applicationID": "1", "application_desc": ""}])
    places = [document, document["applications"][0], document["applications"][0]["microservices"][0]]
    place = next((it for it in places if key in it), places[0])
    place[key] = value
    if value is None:
        del place[key]
    return document


class SchemaTest(unittest.TestCase):
    def test_rows_of_both_versions(self) -> None:
        for version in ("0.4.402", "0.4.411"):
            for key, value, good in ROWS:
                with self.subTest(version=version, key=key, value=value):
                    wrong = schema.check(changed(key, value), schema.sla(version))
                    self.assertEqual(wrong is None, good, wrong)

    def test_volumes_mean_something_to_current_roots_only(self) -> None:
        for value, good in VOLUMES:
            document = changed("code", "image")
            document["applications"][0]["microservices"][0]["volumes"] = value
            with self.subTest(value=value):
                self.assertEqual(schema.check(document, schema.sla("0.4.411")) is None, good)
                self.assertIsNone(schema.check(document, schema.sla("0.4.402")))

    def test_the_path_of_what_is_wrong_is_told(self) -> None:
        wrong = schema.check(changed("memory", "1"), schema.sla("0.4.411"))
        self.assertEqual(wrong, "sla.applications[0].microservices[0].memory: not of type integer")
