"""DICOM Part 10 bytes to a checked header and the scan encoder's picture. Runs in a child process with limits.

Sizes are checked before anything is decoded; no name or id of a person leaves this module. Raw, RLE, JPEG baseline
and JPEG 2000 decode (NumPy, Pillow); other compressions need a plug-in of pydicom's and are refused with a reason.

Of several frames the middle one is the picture, with its own rescaling and window (DICOM PS3.3 sections C.7.6.16.2.9
and C.7.6.16.2.10) where the object is an enhanced one. Colours become luminance, palettes by way of their colours.
"""

import io
import math
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.filereader import _read_file_meta_info, read_preamble
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
from pydicom.uid import DeflatedExplicitVRLittleEndian

from models.picture import to_square
from streaming.errors import InvalidMessage

MAX_PIXELS = 64 << 20
MAX_INFLATED = 256 << 20
MAX_NESTING = 16
CT_WINDOW = (40.0, 400.0)  # centre, width in Hounsfield units: soft tissue, when the file names none
LUMINANCE = np.array([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601
_UID_CHARACTERS = frozenset("0123456789.")


@dataclass(frozen=True, slots=True)
class DicomHeader:
    """What of the header leaves: no person's name, id or date of birth."""

    study_uid: str
    series_uid: str
    instance_uid: str
    modality: str


def decode(data: bytes) -> tuple[DicomHeader, NDArray[np.float32]]:
    """Header and f32 [224, 224] in 0..1.

    Raises:
        InvalidMessage: bad-dicom, unsupported-image or decode-limit.
    """
    try:
        dataset = _read(data)
        header = _header(dataset)
        return header, to_square(_grey(dataset))
    except InvalidMessage:
        raise
    except MemoryError:
        raise InvalidMessage("decode-limit", "decoding needs more memory than it may have") from None
    except RecursionError:
        raise InvalidMessage("bad-dicom", "sequences are nested too deeply") from None
    except Exception as error:
        raise InvalidMessage("bad-dicom", f"not readable ({type(error).__name__})") from None


def _read(data: bytes) -> pydicom.Dataset:
    if data[128:132] != b"DICM":
        raise InvalidMessage("bad-dicom", "no DICM preamble: not a Part 10 file")
    stream = io.BytesIO(data)
    read_preamble(stream, force=False)
    meta = _read_file_meta_info(stream)  # leaves the stream where the data set begins
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        _check_inflated(stream.read())
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=False)
    except InvalidDicomError:
        raise InvalidMessage("bad-dicom", "not a DICOM Part 10 file") from None
    _check_nesting(dataset, 0)
    return dataset


def _check_inflated(rest: bytes) -> None:
    """A deflated data set is inflated once with a cap: 2 MB can hold 4 GiB."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    total = 0
    while rest:
        total += len(inflater.decompress(rest, 1 << 20))
        if total > MAX_INFLATED:
            raise InvalidMessage("decode-limit", f"the deflated data set is over {MAX_INFLATED} bytes")
        rest = inflater.unconsumed_tail


def _check_nesting(dataset: pydicom.Dataset, depth: int) -> None:
    if depth > MAX_NESTING:
        raise InvalidMessage("bad-dicom", "sequences are nested too deeply")
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                _check_nesting(item, depth + 1)


def _header(dataset: pydicom.Dataset) -> DicomHeader:
    uids = []
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        uid = str(dataset.get(name, ""))
        if not uid or len(uid) > 64 or not set(uid) <= _UID_CHARACTERS:
            raise InvalidMessage("bad-dicom", f"{name} is absent or not a UID")
        uids.append(uid)
    return DicomHeader(*uids, modality=str(dataset.get("Modality", "OT"))[:16] or "OT")


def _grey(dataset: pydicom.Dataset) -> NDArray[np.float64]:
    if "PixelData" not in dataset:
        raise InvalidMessage("unsupported-image", "there is no PixelData")
    rows, columns = _count(dataset, "Rows"), _count(dataset, "Columns")
    frames, samples = _count(dataset, "NumberOfFrames", 1), _count(dataset, "SamplesPerPixel", 1)
    bits = _count(dataset, "BitsAllocated")
    if rows * columns * frames * samples > MAX_PIXELS:
        raise InvalidMessage("decode-limit", f"more than {MAX_PIXELS} pixels")
    syntax = dataset.file_meta.TransferSyntaxUID
    expected = math.ceil(rows * columns * frames * samples * bits / 8)
    if not syntax.is_encapsulated and len(dataset.PixelData) < expected:
        raise InvalidMessage("bad-dicom", "PixelData is shorter than the picture it claims")
    pixels = _pixels(dataset)
    frame = frames // 2
    if frames > 1:
        pixels = pixels[frame]
    meaning = dataset.get("PhotometricInterpretation")
    if meaning == "PALETTE COLOR" and samples == 1:
        pixels, samples = _colours(dataset, pixels), 3
    grey = pixels.astype(np.float64) if samples == 1 else pixels[..., :3] @ LUMINANCE
    if grey.ndim != 2:
        raise InvalidMessage("unsupported-image", "the picture is not a plane")
    low_high = None
    rescale = _macro(dataset, frame, "PixelValueTransformationSequence")
    if samples == 1 and ("RescaleIntercept" in rescale or "ModalityLUTSequence" in rescale):
        grey = np.asarray(apply_modality_lut(grey, rescale), np.float64)
        if dataset.get("Modality") == "CT":
            low_high = _window(_macro(dataset, frame, "FrameVOILUTSequence"))
    scaled = _scale(grey, low_high)
    return 1.0 - scaled if meaning == "MONOCHROME1" else scaled


def _macro(dataset: pydicom.Dataset, frame: int, name: str) -> pydicom.Dataset:
    """What a functional group macro says of the frame, alone or with all others; the data set where there is none."""
    for groups, place in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or ()
        if place < len(items) and (found := items[place].get(name)):
            return found[0]
    return dataset


def _colours(dataset: pydicom.Dataset, indices: NDArray[Any]) -> NDArray[Any]:
    """[rows, columns, 3] of palette indices."""
    if not dataset.file_meta.TransferSyntaxUID.is_little_endian:
        raise InvalidMessage("unsupported-image", "a palette in big-endian: pydicom does not swap its bytes")
    if not {"RedPaletteColorLookupTableData", "SegmentedRedPaletteColorLookupTableData"} & set(dataset.dir()):
        raise InvalidMessage("unsupported-image", "there is no palette")
    entries, first, _ = dataset.RedPaletteColorLookupTableDescriptor
    # pydicom narrows the index to the palette's own depth before it clips.
    return apply_color_lut(np.clip(indices.astype(np.int64), first, first + (entries or 1 << 16) - 1), dataset)


def _pixels(dataset: pydicom.Dataset) -> NDArray[Any]:
    try:
        return dataset.pixel_array
    except MemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        raise InvalidMessage("unsupported-image", f"no decoder for it here ({type(error).__name__})") from None


def _count(dataset: pydicom.Dataset, name: str, default: int = 0) -> int:
    found = int(dataset.get(name, default) or default)
    if found < 1:
        raise InvalidMessage("unsupported-image", f"{name} is absent or not positive")
    return found


def _window(said: pydicom.Dataset) -> tuple[float, float]:
    """Lowest and highest value shown, in Hounsfield units: the file's, else soft tissue."""
    centre, width = _first(said, "WindowCenter", CT_WINDOW[0]), _first(said, "WindowWidth", CT_WINDOW[1])
    return centre - max(width, 1.0) / 2, centre + max(width, 1.0) / 2


def _scale(values: NDArray[np.float64], low_high: tuple[float, float] | None) -> NDArray[np.float64]:
    """To 0..1 between these; by the 0.5 to 99.5 percentile where no window is in the values' units.

    A CT without rescaling is none in Hounsfield units: a secondary capture, a colour picture.
    """
    if not np.isfinite(values).all():
        raise InvalidMessage("bad-dicom", "pixel values are not finite")
    low, high = np.percentile(values, (0.5, 99.5)) if low_high is None else low_high
    if high <= low:
        return np.zeros_like(values)
    return np.clip((values - low) / (high - low), 0.0, 1.0)


def _first(dataset: pydicom.Dataset, name: str, default: float) -> float:
    value = dataset.get(name)
    if isinstance(value, pydicom.multival.MultiValue):
        value = value[0] if value else None
    found = default if value is None else float(value)
    return found if math.isfinite(found) else default
