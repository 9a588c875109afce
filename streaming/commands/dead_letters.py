"""`wardwatch dead-letters`: what was refused and why; `--retry` sends it in again."""

import click

from streaming.errors import REASONS, WardwatchError
from streaming.settings import Settings


@click.command(short_help="list refused events, or send them in again")
@click.option("--reason", type=click.Choice(sorted(REASONS)), help="only those refused for this")
@click.option("--retry", is_flag=True, help="send them in again to their own topics, each once")
@click.option("--json", "as_json", is_flag=True, help="JSON lines")
def command(reason: str | None, retry: bool, as_json: bool) -> None:
    """Lists where each refused event lay, why it was refused and how large it is; never what is in it."""
    import orjson

    from streaming import dead_letters
    from streaming.blobs import open_store

    settings = Settings()
    if retry:
        sent, left, lost = dead_letters.retry(
            settings.kafka_bootstrap, settings.topic_prefix, open_store(settings.blob_url, settings.blobs), reason
        )
        click.echo(
            f"sent in again: {sent}" + (f"; left, of other reasons or refused at a gateway: {left}" if left else "")
        )
        if lost:
            raise WardwatchError(f"{lost} not sent in again: the blob store does not have their bytes any more")
        return
    count = 0
    for letter in dead_letters.read(settings.kafka_bootstrap, settings.topic_prefix):
        if reason and letter.reason != reason:
            continue
        count += 1
        place = "at the gateway" if letter.from_gateway else f"{letter.source_partition}/{letter.source_offset}"
        where = f"{letter.topic} {place}"
        size = "in the blob store" if letter.dataref else f"{len(letter.value or b'')} bytes"
        if as_json:
            about = {
                "reason": letter.reason,
                "detail": letter.detail,
                "topic": letter.topic,
                "partition": letter.source_partition,
                "offset": letter.source_offset,
                "refused_at": letter.refused_at,
                "sha256": letter.sha256,
                "dataref": letter.dataref,
            }
            click.echo(orjson.dumps(about).decode())
        else:
            click.echo(f"{letter.refused_at}  {where:<24} {letter.reason:<18} {letter.detail}  ({size})")
    if not as_json:
        click.echo(f"{count} dead letters")
