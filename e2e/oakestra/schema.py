"""The schema of a deployment descriptor ("SLA"), version 2.0, and what a validator says of one.

It follows the real validator's semantics where they surprise: further keys are allowed, 2.0 is an
integer, True is not, and a pattern's `$` lets one newline at the end pass.
"""

import re
from typing import Any, Optional

Schema = dict[str, Any]


def text(**more: Any) -> Schema:
    return {"type": "string", **more}


def listed(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def record(fields: dict[str, Schema], *required: str) -> Schema:
    return {"type": "object", "properties": fields, "required": list(required)}


NUMBER: Schema = {"type": "number"}
INTEGER: Schema = {"type": "integer"}
SWITCH: Schema = {"type": "boolean"}
NAME = text(pattern="^[a-zA-Z0-9]{1,30}$")

CONSTRAINT = record({
    **{key: text() for key in ("type", "area", "cluster", "node", "location")},
    "threshold": NUMBER, "rigidness": NUMBER, "convergence_time": INTEGER,
    "needs": listed(text()), "allowed": listed(text()),
}, "type")

CONNECTION = record({
    "target_microservice_id": text(),
    "con_constraints": listed(record(
        {"type": text(), "threshold": NUMBER, "rigidness": NUMBER, "convergence_time": INTEGER},
        "type", "threshold", "rigidness", "convergence_time")),
}, "target_microservice_id", "con_constraints")

ADDRESSES = record({
    **{key: text() for key in ("rr_ip", "rr_ip_v6", "closest_ip", "closest_ip_v6")},
    "instances": listed(record({"from": text(), "to": text(), "start": text()})),
})

VOLUME = record({"volume_id": text(), "csi_driver": text(), "mount_path": text(),
                 "config": {"type": "object"}}, "volume_id", "csi_driver")

INTEGERS = ("memory", "vcpus", "vgpus", "vtpus", "bandwidth_in", "bandwidth_out", "storage")
TEXTS = ("virtualization", "code", "state", "port", "sla_violation_strategy", "target_node")
TEXT_LISTS = ("cmd", "environment", "added_files", "args")


def microservice(version: str) -> Schema:
    fields = {
        "microserviceID": text(maxLength=0), "microservice_name": NAME, "microservice_namespace": NAME,
        **{key: INTEGER for key in INTEGERS}, **{key: text() for key in TEXTS},
        **{key: listed(text()) for key in TEXT_LISTS}, "one_shot": SWITCH, "privileged": SWITCH,
        "addresses": ADDRESSES, "constraints": listed(CONSTRAINT), "connectivity": listed(CONNECTION),
    }
    if version != "0.4.402":
        fields["volumes"] = listed(VOLUME)
    return record(fields, "microservice_name", "microservice_namespace", "virtualization", "code")


def sla(version: str) -> Schema:
    application = record({
        "applicationID": text(), "application_name": NAME, "application_namespace": NAME,
        "application_desc": text(), "microservices": listed(microservice(version)),
    }, "application_name", "application_namespace", "microservices")
    return record({"sla_version": text(), "customerID": text(), "applications": listed(application),
                   "args": listed(text())}, "sla_version", "customerID", "applications")


def is_a(value: Any, kind: str) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return {
        "string": isinstance(value, str),
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
        "boolean": isinstance(value, bool),
        "number": number,
        "integer": number and float(value).is_integer(),
    }[kind]


def check_text(value: str, schema: Schema, path: str) -> Optional[str]:
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{path}: {value!r} does not match {schema['pattern']}"
    if "maxLength" in schema and len(value) > schema["maxLength"]:
        return f"{path}: {value!r} is longer than {schema['maxLength']}"
    return None


def check_record(value: dict[str, Any], schema: Schema, path: str) -> Optional[str]:
    for key in schema.get("required", ()):
        if key not in value:
            return f"{path}: {key} is missing"
    for key, inner in schema.get("properties", {}).items():
        wrong = check(value[key], inner, f"{path}.{key}") if key in value else None
        if wrong:
            return wrong
    return None


def check_list(value: list[Any], schema: Schema, path: str) -> Optional[str]:
    for index, item in enumerate(value):
        wrong = check(item, schema["items"], f"{path}[{index}]")
        if wrong:
            return wrong
    return None


def check(value: Any, schema: Schema, path: str = "sla") -> Optional[str]:
    """What is wrong first, with its path; None if nothing is."""
    if not is_a(value, schema["type"]):
        return f"{path}: not of type {schema['type']}"
    if isinstance(value, str):
        return check_text(value, schema, path)
    if isinstance(value, dict):
        return check_record(value, schema, path)
    return check_list(value, schema, path) if isinstance(value, list) else None
