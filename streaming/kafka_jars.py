"""Apache Kafka's jars: fetched once by jgo, checked against the committed lock. Owns the pinned version and the check."""

import hashlib
import os
from importlib.resources import files
from pathlib import Path

from streaming.errors import ConfigError

KAFKA_VERSION = "4.3.1"
ENDPOINT = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.apache.kafka:kafka-tools:{KAFKA_VERSION}"
    "+org.slf4j:slf4j-simple:1.7.36"
)


def cache_dir() -> Path:
    """Where fetched jars stay between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "wardwatch" / "jars"


def locked() -> dict[str, str]:
    """SHA-256 by jar file name, from the committed lock."""
    text = files("deploy").joinpath("local/kafka-jars.lock").read_text(encoding="utf-8")
    return {name: digest for digest, name in (line.split() for line in text.splitlines() if line)}


def found_jars(root: Path) -> dict[str, Path]:
    return {path.name: path for path in root.rglob("*.jar")}


def fetch() -> list[Path]:
    """The jars of the class path, every one checked.

    Raises:
        ConfigError: they cannot be fetched, or one is not what the lock names.
    """
    wanted = locked()
    root = cache_dir()
    jars = found_jars(root)
    if not wanted.keys() <= jars.keys():
        import jgo

        try:
            jgo.build(endpoint=ENDPOINT, cache_dir=root)
        except Exception as error:
            raise ConfigError(
                f"Kafka's jars could not be fetched ({type(error).__name__}). Without a Maven repository, point "
                "WARDWATCH_KAFKA_BOOTSTRAP and WARDWATCH_REDIS_URL at servers of your own"
            ) from error
        jars = found_jars(root)
    for name, digest in wanted.items():
        if name not in jars or hashlib.sha256(jars[name].read_bytes()).hexdigest() != digest:
            raise ConfigError(f"{name} is not the file that deploy/local/kafka-jars.lock names; remove {root}")
    return [jars[name] for name in sorted(wanted)]
