"""`python -m streaming.schemas`: JSON Schemas and the AsyncAPI document from the message classes.

`--check` writes nothing and fails when the committed ones differ. The AsyncAPI document is JSON, which is YAML too.
"""

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from streaming.envelope import CONTENT_TYPES, TYPES
from streaming.errors import REASONS
from streaming.forwarded import KINDS, OWN_HEADERS
from streaming.messages import Alert, Correction, EncodedScan, History, Note, Risk, Vitals
from streaming.topics import TOPICS

FOLDER = Path(__file__).resolve().parent.parent / "deploy"
MODELS: dict[str, Any] = {
    "notes": Note,
    "vitals": Vitals,
    "corrections": Correction,
    "encoded-scans": EncodedScan,
    "forwarded": History,
    "risk": Risk,
    "alerts": Alert,
}
_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
ATTRIBUTES: dict[str, tuple[bool, dict[str, Any], str]] = {
    "ce_specversion": (True, {"type": "string", "const": "1.0"}, "CloudEvents version"),
    "ce_id": (True, _TEXT, "unique within ce_source; a repeat keeps it"),
    "ce_type": (True, _TEXT, "see the channel"),
    "ce_source": (True, _TEXT, "which system sent it"),
    "ce_subject": (True, {"type": "string", "maxLength": 200}, "the patient: equal to the Kafka key"),
    "ce_time": (True, _TIME, "when it was true of the patient"),
    "ce_recordedtime": (False, _TIME, "when the source stored or sent it; default: the broker's time"),
    "ce_encounter": (False, _TEXT, "the encounter"),
    "ce_dataref": (False, _TEXT, "scans: claim check of bytes over the inline limit"),
    "ce_datasha256": (False, {"type": "string", "pattern": "^[0-9a-f]{64}$"}, "scans: SHA-256 of the bytes"),
    "ce_mergedfrom": (
        False,
        _TEXT,
        "forwarded: JSON list of [patient, recorded ms and id hash of the merge], the event's own patient first",
    ),
    "ce_mergeorigin": (False, _TEXT, "forwarded: topic/partition/offset where the event first lay"),
    "traceparent": (False, _TEXT, "W3C trace context"),
    "content-type": (False, _TEXT, "application/json, or application/dicom for scans"),
}


def documents() -> dict[str, str]:
    """File name under deploy/ to its text."""
    found = {
        f"schemas/{kind}.json": _text(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **TypeAdapter(model).json_schema()}
        )
        for kind, model in MODELS.items()
    }
    found["asyncapi.yaml"] = _text(_asyncapi())
    return found


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _asyncapi() -> dict[str, Any]:
    channels, messages, operations = {}, {}, {}
    for topic in TOPICS:
        channels[topic.name] = {
            "address": topic.name,
            "description": topic.about,
            "messages": {topic.name: {"$ref": f"#/components/messages/{topic.name}"}},
            "bindings": {"kafka": {"topicConfiguration": dict(topic.config)}},
        }
        sends = topic.name in ("encoded-scans", "forwarded", "risk", "alerts", "dead-letters")
        operations[f"{'send' if sends else 'receive'}-{topic.name}"] = {
            "action": "send" if sends else "receive",
            "channel": {"$ref": f"#/channels/{topic.name}"},
        }
        messages[topic.name] = _message(topic.name)
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Wardwatch",
            "version": "1",
            "description": (
                "CloudEvents 1.0 in Kafka binary mode: attributes are headers, the value is the data. The key is the "
                "patient (UTF-8), equal to ce_subject, and decides the partition by Kafka's default partitioner "
                "(murmur2; in librdkafka set partitioner=murmur2_random). Topic names may have a prefix."
            ),
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def _message(kind: str) -> dict[str, Any]:
    if kind == "dead-letters":
        names = (
            "ww_reason",
            "ww_detail",
            "ww_topic",
            "ww_partition",
            "ww_offset",
            "ww_time",
            "ww_sha256",
            "ww_dataref",
        )
        properties: dict[str, Any] = {name: dict(_TEXT) for name in names}
        properties["ww_reason"] = {"type": "string", "enum": sorted(REASONS)}
        return {
            "summary": "a refused event: its own key, headers and value, and why; ww_dataref when the value is elsewhere",
            "headers": {"type": "object", "properties": properties, "required": list(names[:-1])},
            "payload": {"description": "the original bytes"},
        }
    properties = {name: {**schema, "description": about} for name, (_, schema, about) in ATTRIBUTES.items()}
    properties["ce_type"] = {"type": "string", "const": TYPES[kind]}
    required = [name for name, (needed, _, _) in ATTRIBUTES.items() if needed]
    payload: dict[str, Any] = {"$ref": f"schemas/{kind}.json"}
    if kind == "scans":
        payload = {"description": "DICOM Part 10 bytes"}
    elif kind == "forwarded":
        properties["ce_type"] = {"type": "string", "enum": list(KINDS)}
        required += OWN_HEADERS
        payload = {"oneOf": [{"$ref": f"schemas/{one}.json"} for one in KINDS.values()]}
    return {
        "contentType": CONTENT_TYPES.get(kind, "application/json"),
        "headers": {"type": "object", "properties": properties, "required": required},
        "payload": payload,
        "bindings": {"kafka": {"key": {"type": "string", "description": "the patient"}}},
    }


def main() -> int:
    """Writes, or with --check compares; gives the exit status."""
    stale = []
    for name, text in documents().items():
        path = FOLDER / name
        if "--check" in sys.argv:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"not as the message classes say: {', '.join(stale)}; run `make schemas`\n")
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
