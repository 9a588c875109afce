import json

import jsonschema
import orjson
import pytest

from streaming import schemas
from streaming.envelope import from_ms
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
    ],
)
def test_what_the_parser_takes_the_schema_takes(kind, body):
    schema = json.loads((schemas.FOLDER / f"schemas/{kind}.json").read_text(encoding="utf-8"))
    jsonschema.validate(orjson.loads(orjson.dumps(body)), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**body, "surprise": 1}, schema)


def test_the_asyncapi_document_names_every_topic_and_attribute():
    document = json.loads((schemas.FOLDER / "asyncapi.yaml").read_text(encoding="utf-8"))
    assert document["channels"].keys() == document["components"]["messages"].keys()
    required = document["components"]["messages"]["vitals"]["headers"]["required"]
    assert {"ce_id", "ce_subject", "ce_time", "ce_type", "ce_source", "ce_specversion"} == set(required)
