"""One reader a data set; each yields `Stay`s of wire events. `READERS` names them."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from training.sources import covid, eicu, luna16, mimic3, physionet2012, physionet2019
from training.stays import Stay

READERS: dict[str, Callable[[Path], Iterator[Stay]]] = {
    "physionet2012": physionet2012.read,
    "physionet2019": physionet2019.read,
    "eicu": eicu.read,
    "covid": covid.read,
    "luna16": luna16.read,
    "mimic3": mimic3.read,
}
"""Each reads its data set's folder."""

FOLDERS = {
    "physionet2012": "physionet2012",
    "physionet2019": "physionet2019_setB",
    "eicu": "eicu_demo",
    "covid": "covid_chestxray",
    "luna16": "luna16_patches",
    "mimic3": "mimic3_demo",
}
"""Where each lies under the data root."""


def data_hash(folder: Path) -> str:
    """One SHA-256 over the names and bytes of a data set's files."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.relative_to(folder).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
