"""Kafka deletes what is old: who reads on from below the log's start goes on with the first record that is left."""

from types import SimpleNamespace

import pytest
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from streaming import alerting, dead_letters, reports
from streaming.blobs import FileBlobStore
from streaming.bootstrap import partitioner
from streaming.envelope import headers_for
from streaming.errors import InvalidMessage
from streaming.history import PatientState
from streaming.records import dead_letter
from streaming.subscriber import AlertSubscriber
from tests.helpers import NOON

pytestmark = pytest.mark.integration


def _delete(site, kind, partition, before):
    admin = KafkaAdminClient(bootstrap_servers=site.stack.bootstrap)
    admin.delete_records({TopicPartition(site.prefix + kind, partition): before})
    admin.close()


def _refuse(site, blobs, *values):
    headers = headers_for("vitals", id="1", source="t", patient="p1", time_ms=NOON)
    for offset, value in enumerate(values):
        record = SimpleNamespace(partition=0, offset=offset, key=b"p1", value=value, headers=headers)
        letter = dead_letter(record, "vitals", InvalidMessage("broken-json", "not JSON"), blobs, NOON)
        partition, _ = site.raw(letter.kind, letter.key, letter.value, letter.headers)
    return partition


def test_a_retry_sends_in_what_is_left_when_letters_before_it_were_deleted(site, tmp_path):
    blobs = FileBlobStore(tmp_path / "blobs")

    def retried():
        return dead_letters.retry(site.stack.bootstrap, site.prefix, blobs, None)

    partition = _refuse(site, blobs, b"0", b"1", b"2", b"3")
    _delete(site, "dead-letters", partition, 2)
    assert retried() == (2, 0, 0)  # from the beginning, which is gone
    _refuse(site, blobs, b"4", b"5", b"6")
    _delete(site, "dead-letters", partition, 6)
    assert retried() == (1, 0, 0)  # from what was committed, which is gone
    assert [record.value for record in site.read("vitals")] == [b"2", b"3", b"6"]
    assert retried() == (0, 0, 0)


def test_a_subscriber_that_fell_behind_goes_on_with_the_first_alert_that_is_left(site, predictor):
    subscriber = AlertSubscriber(site.stack.bootstrap, site.prefix, "beginning", idle_s=10)
    state = PatientState("p1")
    for offset in range(3):
        _, decision = alerting.silence(alerting.PolicyState(), "s", "p1", ("vitals", 0, offset), 60_000, 60_000)
        alarm = reports.technical(state, decision, predictor.card, "s", NOON)
        site.raw(alarm.kind, alarm.key, alarm.value, alarm.headers)
    _delete(site, "alerts", partitioner(8)(b"p1"), 2)
    alerts = iter(subscriber)
    assert next(alerts).episode.offset == 2
    subscriber.close()
