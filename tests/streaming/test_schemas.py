import json

import jsonschema
import orjson
import pytest

from streaming import schemas
from streaming.envelope import from_ms
from streaming.forwarded import KINDS
from tests.helpers import NOON, observation


def test_the_committed_documents_are_what_the_classes_say():
    for name, text in schemas.documents().items():
        assert (schemas.FOLDER / name).read_text(encoding="utf-8") == text, f"run `make schemas`: {name}"


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("vitals", {"observations": [observation("8867-4", 80, "/min", NOON)]}),
        ("notes", {"note_id": "n", "text": "t"}),
        ("corrections", {"kind": "note-retracted", "note_id": "n"}),
        ("corrections", {"kind": "observation-retracted", "code": "8867-4", "time": from_ms(NOON)}),
        ("corrections", {"kind": "patient-merged", "into": "p2"}),
        ("corrections", {"kind": "patient-unmerged", "from": "p2"}),
        ("forwarded", {"kind": "history-parted"}),
    ],
)
def test_what_the_parser_takes_the_schema_takes(kind, body):
    schema = json.loads((schemas.FOLDER / f"schemas/{kind}.json").read_text(encoding="utf-8"))
    jsonschema.validate(orjson.loads(orjson.dumps(body)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**body, "surprise": 1}, schema)


@pytest.mark.parametrize(("kind", "newer"), [("risk", {"merged_from", "merged_into"}), ("alerts", {"merged_from"})])
def test_what_was_published_before_merges_is_still_read(kind, newer):
    """A subscriber of today's schema reads records of yesterday's worker: what is new may be absent."""
    schema = json.loads((schemas.FOLDER / f"schemas/{kind}.json").read_text(encoding="utf-8"))
    assert newer <= schema["properties"].keys()
    assert not newer & set(schema["required"])


def test_what_is_forwarded_is_of_the_types_it_says_and_names_whose_it_was():
    document = json.loads((schemas.FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    message = document["components"]["messages"]["forwarded"]
    assert {"ce_mergedfrom", "ce_mergeorigin"} <= set(message["headers"]["required"])
    assert set(message["headers"]["properties"]["ce_type"]["enum"]) == set(KINDS)


def test_the_asyncapi_document_names_every_topic_and_attribute():
    document = json.loads((schemas.FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    assert document["channels"].keys() == document["components"]["messages"].keys()
    required = document["components"]["messages"]["vitals"]["headers"]["required"]
    assert {"ce_id", "ce_subject", "ce_time", "ce_type", "ce_source", "ce_specversion"} == set(required)
