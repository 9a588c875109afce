"""Errors by what the operator does next. Owns the classes; leaves the reactions to the engine and the commands.

Texts never hold patient text, names, keys or values: they reach logs and dead-letter headers.
"""


class WardwatchError(Exception):
    """Base of every error that ends as one clear line."""


class ConfigError(WardwatchError):
    """A setting or argument is wrong: mend it and start again."""


class Unavailable(WardwatchError):
    """Kafka, Redis, a blob or the model is away: pause, say so, try again; never acknowledge."""


class Fatal(WardwatchError):
    """Going on could lose or double something: exit before acknowledging."""


class Fenced(Fatal):
    """Another worker owns this partition now; what this one computed must not be written."""


class InvalidMessage(WardwatchError):
    """This event can never be taken: dead-letter it with its bytes and go on.

    `reason` is a slug from `REASONS`; the text explains it without quoting the event.
    """

    def __init__(self, reason: str, detail: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"unknown dead-letter reason {reason!r}")
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


REASONS: dict[str, str] = {
    "missing-attribute": "a CloudEvents attribute that the wire format needs is absent",
    "bad-attribute": "a CloudEvents attribute does not parse",
    "missing-patient": "no patient key, or no ce_subject",
    "key-mismatch": "the Kafka key is not the patient of ce_subject",
    "wrong-type": "ce_type does not belong on this topic",
    "broken-json": "the value is not JSON, or holds NaN or Infinity",
    "bad-schema": "the JSON does not fit the message's schema",
    "unknown-code": "an observation's LOINC code is not in the signal table",
    "unknown-unit": "an observation's unit cannot be converted by the signal table",
    "implausible-value": "an observation lies outside what is physically possible",
    "future-time": "an event or observation time lies further ahead of its record or the clock than tolerated",
    "too-large": "the value is larger than this topic's inline limit",
    "bad-dicom": "the bytes are not a readable DICOM Part 10 object",
    "unsupported-image": "the DICOM object holds no picture that can be decoded here",
    "decode-limit": "decoding went over its limit of memory or time",
    "blob-missing": "the claim check points to nothing",
    "blob-mismatch": "the claim check's bytes do not have the SHA-256 the event names",
    "stale-encoder": "the embedding was made by another encoder than the serving model's",
    "bad-correction": "the correction names something that cannot be corrected so",
    "bad-hl7": "the bytes are not a readable HL7 v2 message, or lack what its type needs",
    "bad-time": "a time is absent, not exact enough, or has neither an offset nor a configured time zone",
    "merge-depth": "the patient was merged into another, that one into a third, and so on, further than is followed",
}
"""Every reason a dead letter can carry, with the line that explains it."""
