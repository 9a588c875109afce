"""Bytes of an HL7 v2 message to records and acknowledgments."""

from zoneinfo import ZoneInfo

import hl7 as other  # an independent parser: reads our answers
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.envelope import parse
from streaming.errors import REASONS, InvalidMessage
from streaming.gateways import acknowledgments as ack
from streaming.gateways import er7
from streaming.gateways.drafts import Rules, Translation
from streaming.gateways.translation import Draft, Rejected, translate

NOW = 1_790_000_000_000  # 2026-09-21T14:13:20Z
RULES = Rules(own_issuer="HOSP", zone=ZoneInfo("Europe/Berlin"))
MSH = "MSH|^~\\&|MON|ICU|WARD|H|20260921150000||{type}|{control}|P|2.5.1{more}"
PID = "PID|1||123^^^HOSP^MR~999^^^GOV^SS||Doe^Jane||19600101|F"
HEART = "OBX|{n}|NM|8867-4^Heart rate^LN||{value}|{unit}|||||{status}|||{time}"


def message(*lines, type="ORU^R01^ORU_R01", control="42", more=""):
    return "".join(f"{line}\r" for line in (MSH.format(type=type, control=control, more=more), *lines)).encode()


def heart(n=1, value="80", unit="/min", status="F", time="20260921145900"):
    return HEART.format(n=n, value=value, unit=unit, status=status, time=time)


def oru(*obx, **more):
    return message(PID, f"PV1|1|I{'|' * 17}V77", "OBR|1|||85354-9^panel^LN|||20260921145800", *obx, **more)


def mdm(event, *obx, txa="TXA|1|PN|TX|20260921120000||||||||D1^EHR", pid=PID):
    return message(pid, txa, *obx, type=f"MDM^{event}^MDM_T02")


def taken(data, rules=RULES, now=NOW):
    found = translate(er7.parse(data), data, rules, now)
    for record in found.records:
        parse(record.kind, record.key, record.value, record.headers, limits=rules.limits)
    return found


def bodies(found):
    return [(record.kind, orjson.loads(record.value)) for record in found.records]


def refused(data, rules=RULES):
    with pytest.raises(InvalidMessage) as caught:
        taken(data, rules)
    return caught.value.reason


def test_a_result_becomes_a_vitals_event_of_its_patient_and_visit():
    found = taken(oru(heart(), "OBX|2|NM|8480-6^Systolic^LN||122|mmHg|||||F"))
    ((kind, body),) = bodies(found)
    assert kind == "vitals"
    assert body == {
        "observations": [
            {"code": "8867-4", "value": 80.0, "unit": "/min", "time": "2026-09-21T12:59:00.000Z"},
            {"code": "8480-6", "value": 122.0, "unit": "mm[Hg]", "time": "2026-09-21T12:58:00.000Z"},
        ],
        "status": "final",
    }
    (record,) = found.records
    headers = {name: raw.decode() for name, raw in record.headers}
    assert record.key == b"123" and headers["ce_encounter"] == "V77"
    assert headers["ce_time"] == "2026-09-21T12:59:00.000Z"
    assert headers["ce_recordedtime"] == "2026-09-21T13:00:00.000Z"


def test_the_same_bytes_give_the_same_ids_and_other_bytes_others():
    ids = [
        dict(taken(data).records[0].headers)["ce_id"] for data in (oru(heart()), oru(heart()), oru(heart(value="81")))
    ]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("status", "wire"), [("F", "final"), ("C", "corrected"), ("P", "preliminary"), ("R", "preliminary")]
)
def test_result_status_becomes_the_wires(status, wire):
    ((_, body),) = bodies(taken(oru(heart(status=status))))
    assert body["status"] == wire


@pytest.mark.parametrize("status", ["W", "D"])
def test_a_wrong_result_is_retracted_for_its_code_and_time(status):
    found = taken(oru(heart(status=status, value="")))
    assert bodies(found) == [
        ("corrections", {"kind": "observation-retracted", "code": "8867-4", "time": "2026-09-21T12:59:00.000Z"})
    ]


POTASSIUM = "OBX|1|{kind}|2823-3^Potassium^LN||{value}|mmol/L|||||{status}|||20260921145000"


def potassium(kind, value, status="C"):
    return POTASSIUM.format(kind=kind, value=value, status=status)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("NM", '""'),
        ("SN", '""^""'),
        ("ST", "HEMOLYZED"),
        ("TX", "See note, drawn 14:00"),
        ("FT", "*** not done ***"),
        ("CWE", "281268007^Insufficient sample^SCT"),
        ("NM", "HEMOLYZED"),
    ],
)
def test_a_correction_to_no_number_takes_the_earlier_value_back(kind, value):
    found = taken(oru(potassium(kind, value)))
    assert bodies(found) == [
        ("corrections", {"kind": "observation-retracted", "code": "2823-3", "time": "2026-09-21T12:50:00.000Z"})
    ]
    assert not found.refusals and not found.skipped


@pytest.mark.parametrize(
    ("kind", "value"),
    [("SN", "<^5"), ("SN", "^1^-^2"), ("ST", "<5"), ("ST", "4.1"), ("NM", "4,1"), ("NM", ""), ("ED", "^AP^PDF")],
)
def test_a_correction_to_what_is_no_usable_number_is_refused(kind, value):
    found = taken(oru(potassium(kind, value)))
    assert not found.records and [error.reason for error in found.refusals] == ["bad-hl7"]
    assert [problem.place for problem in found.problems] == [("OBX", 1, 5)]


def test_a_static_fact_is_not_retracted_and_costs_only_itself():
    found = taken(oru("OBX|1|ST|30525-0^Age^LN||unknown||||||C|||20260921145000", heart(2)))
    assert [error.reason for error in found.refusals] == ["bad-correction"]
    assert [kind for kind, _ in bodies(found)] == ["vitals"]


def test_words_beside_a_corrected_number_are_a_comment():
    found = taken(oru(potassium("TX", "Specimen was hemolyzed"), potassium("NM", "4.1")))
    ((kind, body),) = bodies(found)
    assert kind == "vitals" and body["status"] == "corrected" and body["observations"][0]["value"] == 4.1
    assert found.skipped == {"not-a-number": 1}


def test_words_beside_a_corrected_number_that_is_refused_are_a_comment_too():
    """The number will come again, mended; a retraction would say that there is none."""
    found = taken(oru(potassium("TX", "called to the ward"), potassium("NM", "4.1").replace("mmol/L", "furlong")))
    assert not found.records and [error.reason for error in found.refusals] == ["unknown-unit"]
    assert found.skipped == {"not-a-number": 1}


def test_what_cannot_be_obtained_takes_nothing_back():
    found = taken(oru(potassium("NM", "", status="X")))
    assert not found.records and not found.refusals and found.skipped == {"status": 1}


def test_statuses_are_kept_apart():
    found = taken(
        oru(heart(1), heart(2, status="C", time="20260921144000"), heart(3, status="W", time="20260921143000"))
    )
    assert sorted(kind for kind, _ in bodies(found)) == ["corrections", "vitals", "vitals"]
    assert len({dict(record.headers)["ce_id"] for record in found.records}) == 3


def test_what_is_nothing_to_the_model_is_skipped_and_counted():
    found = taken(
        oru(
            "OBX|1|NM|150456^MDC_PULS_OXIM_SAT_O2^MDC||97|%|||||F",
            "OBX|2|NM|99999-9^x^LN||97|%|||||F",
            "OBX|3|ST|8867-4^x^LN||high||||||F",
            "OBX|4|NM|8867-4^x^LN|||/min|||||F",
            "OBX|5|SN|8867-4^x^LN||<^5|/min|||||F",
            heart(6, status="X"),
        )
    )
    assert not found.records and not found.refusals
    assert found.skipped == {"code": 2, "not-a-number": 3, "status": 1}


def test_one_bad_observation_does_not_withhold_the_others():
    found = taken(
        oru(heart(1), heart(2, unit="furlong"), heart(3, value="9999"), heart(4, time="2026"), heart(5, value="8O"),
            heart(6, time="20270101000000"), heart(7, status=""))
    )  # fmt: skip
    ((_, body),) = bodies(found)
    assert len(body["observations"]) == 1
    assert [error.reason for error in found.refusals] == [
        "unknown-unit", "implausible-value", "bad-time", "bad-hl7", "future-time", "bad-hl7",
    ]  # fmt: skip
    assert [problem.place for problem in found.problems] == [
        ("OBX", 2, 6), ("OBX", 3, 5), ("OBX", 4, 14), ("OBX", 5, 5), ("OBX", 6, 14), ("OBX", 7, 5),
    ]  # fmt: skip


def test_a_structured_number_and_an_alternate_loinc_code_are_taken():
    found = taken(oru("OBX|1|SN|HR^Puls^L^8867-4^Heart rate^LN||=^80|/min|||||F"))
    ((_, body),) = bodies(found)
    assert body["observations"][0]["value"] == 80.0


def test_several_patients_in_one_message_stay_apart():
    data = message(PID, "OBR|1", heart(1), "PID|2||124^^^HOSP^MR", "OBR|1", heart(2), heart(3, time="20260921145500"))
    found = taken(data)
    assert [record.key for record in found.records] == [b"123", b"124"]
    assert [len(body["observations"]) for _, body in bodies(found)] == [1, 2]


@pytest.mark.parametrize(
    ("identifiers", "key"),
    [
        ('123^^^""^MR', b"123"),
        ('123^^^""&1.2.3&ISO^MR', b"123@1.2.3"),
        ("123^^^&1.2.3&ISO^MR", b"123@1.2.3"),
        ("9001^^^HOSP^AN~123^^^MPI^MR", b"123@MPI"),
        ("~" * 99 + "123^^^HOSP^MR", b"123"),
    ],
)
def test_a_patient_is_keyed_by_an_identifier_and_who_gave_it(identifiers, key):
    (record,) = taken(message(f"PID|1||{identifiers}", "OBR|1", heart())).records
    assert record.key == key


def test_identifiers_are_split_once():
    """Split again for each of them the work was quadratic: seconds for 30 kB."""
    splits = 0

    class Counted(str):
        def split(self, *how):
            nonlocal splits
            splits += 1
            return super().split(*how)

    segment = er7.parse(message("PID|1||" + "~" * 99 + "123^^^HOSP^MR")).segments[1]
    counted = er7.Segment("PID", tuple(Counted(one) for one in segment.fields), segment.delimiters, segment.codec)
    draft = Draft(RULES, NOW, NOW, "1", None, Translation())
    draft.identify(counted)
    assert draft.found.patient == "123" and splits <= 2


def a40(*lines, pid=PID):
    return message("EVN||20260921150000|||MPI|20260921140000", pid, *lines, type="ADT^A40^ADT_A39")


def test_a_merge_is_an_event_of_the_patient_that_goes_and_names_the_one_that_stays():
    found = taken(a40("MRG|77^^^HOSP^MR", "PID|2||5^^^X^MR", "MRG|6^^^X^MR"))
    assert [record.key for record in found.records] == [b"77", b"6@X"]
    assert bodies(found) == [
        ("corrections", {"kind": "patient-merged", "into": "123"}),
        ("corrections", {"kind": "patient-merged", "into": "5@X"}),
    ]
    headers = {name: raw.decode() for name, raw in found.records[0].headers}
    assert headers["ce_time"] == "2026-09-21T12:00:00.000Z" and headers["ce_recordedtime"] == "2026-09-21T13:00:00.000Z"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (a40(), "bad-hl7"),
        (a40("MRG|"), "missing-patient"),
        (a40("MRG|77", pid="NTE|1"), "missing-patient"),
        (a40("MRG|123^^^HOSP^MR"), "bad-correction"),
    ],
)
def test_a_merge_that_does_not_name_two_patients_is_refused(data, reason):
    assert refused(data) == reason


def test_documents_become_notes_amendments_and_retractions():
    note = {"note_id": "D1^EHR", "text": "Line one\nand | two\nthree", "category": "PN"}
    text = ("OBX|1|TX|||Line one~and \\F\\ two", "OBX|2|FT|||three", "OBX|3|ED|||^AP^PDF^Base64^AAAA")
    assert bodies(taken(mdm("T02", *text))) == [("notes", note)]
    assert bodies(taken(mdm("T08", *text))) == [("corrections", {"kind": "note-amended", **note})]
    retracted = [("corrections", {"kind": "note-retracted", "note_id": "D1^EHR"})]
    assert bodies(taken(mdm("T11"))) == retracted
    assert bodies(taken(mdm("T11", txa=f"TXA|1|PN{'|' * 10}D1^EHR"))) == retracted


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message("OBR|1", heart()), "missing-patient"),
        (message("PID|1||^^^HOSP^MR", heart()), "missing-patient"),
        (message("PID|1", heart()), "missing-patient"),
        (message(PID), "bad-hl7"),
        (oru(heart(), control=""), "bad-hl7"),
        (oru(heart(), more="||||||KANJI"), "bad-hl7"),
        (message(PID, "OBX|1|NM|8867-4^Herzschläge^LN||80|/min|||||F"), "bad-hl7"),
        (message(PID, "12"), "bad-hl7"),
        (b"", "bad-hl7"),
        (b"PID|1\r", "bad-hl7"),
        (b"MSH|||||||\r", "bad-hl7"),
        (oru(heart()) + message("PID|1||999", heart(value="120")), "bad-hl7"),
        (message(f"PID|1||{'~' * 100}123", heart()), "bad-hl7"),
        (a40(f"MRG|{'77~' * 100}77"), "bad-hl7"),
        (message("PID|1||9001^^^HOSP^AN", heart()), "missing-patient"),
        (a40("MRG|9001^^^HOSP^VN"), "missing-patient"),
        (b"MSH|^^^^|\r", "bad-hl7"),
        (oru(heart())[:40] + b"\0" + oru(heart())[40:], "bad-hl7"),
        (mdm("T02"), "bad-hl7"),
        (mdm("T02", "OBX|1|TX|||x", txa="TXA|1|PN|TX|20260921120000"), "bad-hl7"),
        (mdm("T02", "OBX|1|TX|||x", txa="TXA|1|PN|TX|||||||||D1"), "bad-time"),
        (mdm("T02", "OBX|1|TX|||x", txa="NTE|1"), "bad-hl7"),
        (mdm("T02", "OBX|1|TX|||x", pid="NTE|1"), "missing-patient"),
        (mdm("T02", "OBX|1|TX|||" + "x" * (2 << 20)), "too-large"),
    ],
)
def test_a_message_that_cannot_be_taken_names_its_reason(data, reason):
    assert refused(data) == reason


@pytest.mark.parametrize("rules", [RULES, Rules()])
@pytest.mark.parametrize(
    ("sent", "offset_h", "recorded"),
    [
        ("20260921090000-0400", -4, "2026-09-21T13:00:00.000Z"),
        ("2026092118+0500", 5, "2026-09-21T14:13:20.000Z"),  # not exact enough: when it came
    ],
)
def test_the_offset_of_the_message_counts_for_times_that_have_none(rules, sent, offset_h, recorded):
    def utc(hour, minute):
        return f"2026-09-21T{hour - offset_h:02d}:{minute:02d}:00.000Z"

    def written(*lines, **more):
        data = message(*lines, **more).replace(b"20260921150000|", f"{sent}|".encode(), 1)
        (record,) = taken(data, rules).records
        return {name: raw.decode() for name, raw in record.headers}, orjson.loads(record.value)

    pid = "PID|1||123"
    _, body = written(pid, "OBR|1||||||202609210858", heart(1, time=""), heart(2, time="202609210859"),
                      heart(3, time="202609211456+0200"))  # fmt: skip
    assert [one["time"] for one in body["observations"]] == [utc(8, 58), utc(8, 59), "2026-09-21T12:56:00.000Z"]
    headers, _ = written(pid, "TXA|1|PN|TX|202609210857||||||||D1", "OBX|1|TX|||x", type="MDM^T02^MDM_T02")
    assert headers["ce_time"] == utc(8, 57) and headers["ce_recordedtime"] == recorded
    merge = ("EVN||20260921090000|||MPI|202609210830", pid, "MRG|77")
    assert written(*merge, type="ADT^A40^ADT_A39")[0]["ce_time"] == utc(8, 30)


def test_an_offset_of_the_message_that_is_none_is_no_guess_at_the_zone():
    assert refused(oru(heart()).replace(b"20260921150000|", b"20260921150000+9900|", 1)) == "bad-time"


def test_without_a_zone_only_times_with_an_offset_are_taken():
    rules = Rules()
    found = taken(oru(heart(1), heart(2, time="20260921145900+0200")), rules)
    assert [error.reason for error in found.refusals] == ["bad-time"]
    assert len(found.records) == 1


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        ({"type": "ADT^A01"}, ack.UNSUPPORTED_EVENT),
        ({"type": "ORM^O01"}, ack.UNSUPPORTED_TYPE),
        ({"type": "ORU^R40"}, ack.UNSUPPORTED_EVENT),
        ({"type": ""}, ack.UNSUPPORTED_TYPE),
    ],
)
def test_other_types_are_rejected(changes, number):
    with pytest.raises(Rejected) as caught:
        taken(oru(heart(), **changes))
    assert caught.value.number == number


def test_training_messages_and_other_versions_are_rejected():
    with pytest.raises(Rejected) as caught:
        taken(oru(heart()).replace(b"|P|2.5.1", b"|T|2.5.1"))
    assert caught.value.number == ack.UNSUPPORTED_PROCESSING_ID
    with pytest.raises(Rejected) as caught:
        taken(oru(heart()).replace(b"|P|2.5.1", b"|P|3.0"))
    assert caught.value.number == ack.UNSUPPORTED_VERSION


@pytest.mark.parametrize(
    ("name", "codec"), [("UNICODE UTF-8", "utf-8"), ("8859/1", "iso8859-1"), ("8859/15", "iso8859-15")]
)
def test_character_sets_of_the_header_are_followed(name, codec):
    text = mdm("T02", "OBX|1|TX|||Überwachung für Müller").decode()
    data = text.replace("|P|2.5.1", f"|P|2.5.1||||||{name}").encode(codec)
    ((_, body),) = bodies(taken(data))
    assert body["text"] == "Überwachung für Müller"


def test_escapes_become_characters_and_what_is_none_stays():
    one = er7.unescape(r"a\F\b\S\c\T\d\R\e\E\f\.br\g\H\h\N\i\X4142\j\Zx\k C:\tmp", er7.Delimiters(), "ascii")
    assert one == "a|b^c&d~e\\f\nghiABj\\Zx\\k C:\\tmp"


def test_other_delimiters_are_followed():
    data = (
        b"MSH#*~\\&#A#B#C#D#20260921150000##ORU*R01#42#P#2.3\rPID###123\r"
        b"OBX#1#NM#8867-4*HR*LN##80#/min#####F###20260921145900\r"
    )
    ((_, body),) = bodies(taken(data))
    assert body["observations"][0]["value"] == 80.0


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_line_ends_of_editors_are_taken(ending):
    assert len(taken(oru(heart()).replace(b"\r", ending.encode())).records) == 1


def test_an_acknowledgment_is_read_by_another_parser():
    header = er7.read_header(oru(heart()))
    problem = ack.Problem(ack.TABLE_VALUE, "unknown-unit: a|b^c", ("OBX", 2, 6), "W")
    answer = other.parse(ack.acknowledge(header, "AA", [problem], NOW).decode())
    assert str(answer.segment("MSA")) == "MSA|AA|42"
    assert str(answer.segment("MSH")[9]) == "ACK^R01^ACK"
    assert str(answer.segment("MSH")[5]) == "MON" and str(answer.segment("MSH")[12]) == "2.5.1"
    err = answer.segment("ERR")
    assert str(err[2]) == "OBX^2^6" and str(err[4]) == "W"
    assert str(err[8]) == r"unknown-unit: a\F\b\S\c"


def test_an_answer_is_in_the_character_set_of_the_message_or_ascii():
    def of(data):
        return ack.acknowledge(er7.read_header(data), "AA", [], NOW)

    named = oru(heart(), control="Ä1", more="||||||UNICODE UTF-8").decode()
    assert "MSA|AA|Ä1\r" in of(named.encode()).decode("utf-8")
    assert er7.parse(of(named.encode())).header.component(18) == "UNICODE UTF-8"
    for broken in (oru(heart(), control="Ä1"), oru(heart(), control="a\x1cb\x00")):
        assert b"?" in of(broken)
        er7.parse(of(broken))


def test_no_answer_repeats_what_the_message_says():
    for data in (oru(heart(value="SECRET")), message("PID|1||SECRET^^^A~SECRET2^^^B||SECRET", heart())):
        try:
            texts = [problem.text for problem in taken(data).problems]
        except InvalidMessage as error:
            texts = [str(error)]
        assert texts and not any("SECRET" in text for text in texts)


_PARTS = st.sampled_from(
    [
        "MSH|^~\\&|A|B|C|D|20260921150000||ORU^R01|42|P|2.5.1\r", "MSH|^~\\&|||||||MDM^T02|1|P|2.5||||||UNICODE UTF-8\r",
        "PID|1||123^^^HOSP^MR\r", f"PV1{'|' * 19}V\r", "OBR|1||||||20260921145800\r",
        "TXA|1|PN|TX|20260921120000||||||||D1\r", "OBX|1|NM|8867-4^x^LN||80|/min|||||F\r", "OBX|1|TX|||text\r",
        "OBX|1|SN|8867-4^^LN||^8|/min|||||W\r", "MSH|^~\\&|||||||ADT^A40|1|P|2.5\r", "EVN||2026092115\r", "MRG|77\r",
        "|", "^", "~", "\\", "&", "\r", "\n", "\x00", "\x1c", "\x0b", '""', "\\X", "\\.br\\", "9" * 400, "1e9", "nan", "é",
    ]
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.lists(_PARTS, max_size=14).map(lambda parts: "".join(parts).encode())))
def test_whatever_comes_is_taken_refused_or_rejected_and_answered(data):
    problems = []
    try:
        found = taken(data)
        problems = found.problems
    except InvalidMessage as error:
        assert error.reason in REASONS
    except Rejected as error:
        problems = [ack.Problem(error.number, error.text)]
    try:
        header = er7.read_header(data)
    except InvalidMessage:
        header = None
    answer = ack.acknowledge(header, "AR", problems, NOW)
    assert answer.startswith(b"MSH") and b"\rMSA" in answer
    er7.parse(answer)
    assert not any(byte in answer for byte in b"\x0b\x1c")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_message_is_never_an_error_of_ours(data):
    whole = bytearray(oru(heart(1), heart(2, status="W"), more="||||||8859/1"))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(whole) - 1))
        whole[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        taken(bytes(whole))
    except InvalidMessage as error:
        assert error.reason in REASONS
    except Rejected:
        pass
