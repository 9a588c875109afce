import asyncio
import io
import math
import os
import resource
import signal
import struct
import zlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest

from streaming import decode_pool
from streaming.decode_child import ANSWER, CPU_SECONDS
from streaming.decode_pool import DecodePool
from streaming.dicom import decode
from streaming.errors import InvalidMessage
from streaming.synthetic import radiograph

PACKAGED = Path(pydicom.__file__).parent / "data/test_files"


def _reason(data):
    with pytest.raises(InvalidMessage) as caught:
        decode(data)
    return caught.value.reason


def _changed(**changes):
    dataset = pydicom.dcmread(io.BytesIO(radiograph(1, False)))
    for name, value in changes.items():
        setattr(dataset, name, value)
    sink = io.BytesIO()
    dataset.save_as(sink)
    return sink.getvalue()


def test_real_scans_decode(data_root):
    files = sorted((data_root / "dicom").rglob("*.dcm"))
    assert len(files) == 54
    seen = set()
    for path in files:
        header, pixels = decode(path.read_bytes())
        seen.add(header.modality)
        assert pixels.shape == (224, 224) and np.isfinite(pixels).all()
        assert 0 <= pixels.min() < pixels.max() <= 1
    assert seen == {"CT", "MR", "CR"}


@pytest.mark.filterwarnings("ignore")
def test_every_packaged_file_decodes_or_is_refused_with_a_reason():
    decoded = 0
    for path in sorted(PACKAGED.rglob("*")):
        if not path.is_file():
            continue
        try:
            _, pixels = decode(path.read_bytes())
        except InvalidMessage as error:
            assert error.reason in {"bad-dicom", "unsupported-image", "decode-limit"}, path
        else:
            decoded += 1
            assert np.isfinite(pixels).all()
    assert decoded > 60


def test_inverted_pictures_come_out_alike():
    plain = decode(radiograph(1, False))[1]
    dataset = pydicom.dcmread(io.BytesIO(radiograph(1, False)))
    inverted = (4095 - dataset.pixel_array).astype("<u2").tobytes()
    other = decode(_changed(PhotometricInterpretation="MONOCHROME1", PixelData=inverted))[1]
    np.testing.assert_allclose(plain, other, atol=2e-3)


RAMP = np.tile(np.linspace(0, 1, 224), (224, 1))
SOFT_TISSUE = (RAMP * 400 - 160 + 1024).astype("<u2")  # stored; with an intercept of -1024 the whole default window


def _picture(pixels, **tags):
    dataset = pydicom.dcmread(io.BytesIO(radiograph(1, False)))
    bits = pixels.itemsize * 8
    dataset.Rows, dataset.Columns = 224, 224
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    for name, value in tags.items():
        setattr(dataset, name, value)
    dataset.PixelData = pixels.tobytes()
    return dataset


def _decoded(dataset):
    sink = io.BytesIO()
    dataset.save_as(sink)
    return decode(sink.getvalue())[1]


def _group(intercept=None, window=None):
    """An item of functional groups."""
    group = pydicom.Dataset()
    if intercept is not None:
        group.PixelValueTransformationSequence = [pydicom.Dataset()]
        group.PixelValueTransformationSequence[0].RescaleIntercept = intercept
        group.PixelValueTransformationSequence[0].RescaleSlope = 1
    if window is not None:
        group.FrameVOILUTSequence = [pydicom.Dataset()]
        group.FrameVOILUTSequence[0].WindowCenter, group.FrameVOILUTSequence[0].WindowWidth = window
    return group


@pytest.mark.parametrize(
    ("shared", "of_frames"),
    [
        (_group(-1024, (40, 400)), None),
        (_group(-1024), [_group(window=window) for window in ((0, 1), (40, 400), (0, 1))]),
        (_group(0, (0, 1)), [_group(intercept, (40, 400)) for intercept in (0, -1024, 0)]),
        (_group(-1024), [pydicom.Dataset()]),  # fewer than frames
    ],
)
def test_an_enhanced_ct_is_rescaled_and_windowed_as_its_middle_frame_says(shared, of_frames):
    plain = _decoded(_picture(SOFT_TISSUE, Modality="CT", RescaleSlope=1, RescaleIntercept=-1024))
    enhanced = _picture(np.stack([SOFT_TISSUE] * 3), Modality="CT", NumberOfFrames=3)
    enhanced.SharedFunctionalGroupsSequence = [shared]
    if of_frames:
        enhanced.PerFrameFunctionalGroupsSequence = of_frames
    assert plain.min() < 0.01 and plain.max() > 0.99
    np.testing.assert_array_equal(_decoded(enhanced), plain)


@pytest.mark.parametrize("samples", [1, 3])
def test_a_ct_that_is_not_in_hounsfield_units_is_scaled_by_its_own_values(samples):
    grey = (RAMP * 255).astype(np.uint8)
    for window in ({}, {"WindowCenter": 40, "WindowWidth": 400}):
        capture = _picture(np.stack([grey] * samples, -1), Modality="CT", SamplesPerPixel=samples, **window)
        if samples == 3:
            capture.PhotometricInterpretation, capture.PlanarConfiguration = "RGB", 0
        np.testing.assert_allclose(_decoded(capture), RAMP, atol=0.01)


def _palette(dataset, table, first=0, bits=16):
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        descriptor = pydicom.datadict.tag_for_keyword(f"{colour}PaletteColorLookupTableDescriptor")
        dataset.add_new(descriptor, "US", [len(table), first, bits])
        setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
    return dataset


def test_a_palette_is_looked_up():
    falling = 255 - np.arange(256)
    indices = (RAMP * 255).astype(np.uint8)
    for table, bits in (((falling * 257).astype("<u2"), 16), (falling.astype(np.uint8), 8)):
        np.testing.assert_allclose(_decoded(_palette(_picture(indices), table, bits=bits)), 1 - RAMP, atol=0.01)
    wide = _palette(_picture(indices.astype("<u2") + 300), falling.astype(np.uint8), first=300, bits=8)
    np.testing.assert_allclose(_decoded(wide), 1 - RAMP, atol=0.01)
    beyond = _palette(_picture(indices.astype("<u2") * 2), falling.astype(np.uint8), bits=8)
    assert (_decoded(beyond)[:, 120:] == 0).all()  # an index over the table is its last entry


def test_a_palette_that_cannot_be_looked_up_is_refused():
    indices = (RAMP * 255).astype(np.uint8)
    with pytest.raises(InvalidMessage) as none:
        _decoded(_picture(indices, PhotometricInterpretation="PALETTE COLOR"))
    swapped = _palette(_picture(indices), np.arange(256, dtype=">u2"))
    sink = io.BytesIO()
    swapped.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    pydicom.dcmwrite(sink, swapped, implicit_vr=False, little_endian=False)
    with pytest.raises(InvalidMessage) as big_endian:
        decode(sink.getvalue())
    assert none.value.reason == big_endian.value.reason == "unsupported-image"


def test_truncated_and_lying_files_are_refused():
    whole = radiograph(1, False)
    for cut in (0, 100, 131, 200, 600, len(whole) - 1000):
        assert _reason(whole[:cut]) in {"bad-dicom", "unsupported-image"}, cut
    assert _reason(_changed(Rows=60000, Columns=60000)) == "decode-limit"
    assert _reason(_changed(Rows=512, Columns=512)) == "bad-dicom"


def test_a_deflate_bomb_is_refused_before_it_inflates():
    dataset = pydicom.dcmread(io.BytesIO(radiograph(1, False)))
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    sink = io.BytesIO()
    dataset.save_as(sink)
    data = sink.getvalue()
    decode(data)
    raw = zlib.decompress(data[_start(data) :], -zlib.MAX_WBITS)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = packer.compress(raw) + b"".join(packer.compress(b"\0" * (1 << 20)) for _ in range(400)) + packer.flush()
    assert _reason(data[: _start(data)] + bomb) == "decode-limit"


def _start(data):
    stream = io.BytesIO(data)
    pydicom.filereader.read_preamble(stream, force=False)
    pydicom.filereader._read_file_meta_info(stream)
    return stream.tell()


def test_deep_nesting_is_refused():
    opening = b"\x08\x00\x15\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    closing = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    data = radiograph(1, False)
    for depth in (20, 240):
        nested = data[: _start(data)] + opening * depth + closing * depth + data[_start(data) :]
        assert _reason(nested) == "bad-dicom"


def test_the_pool_survives_a_child_that_dies():
    async def scenario():
        async with DecodePool(workers=1) as pool:
            header, pixels = await pool.decode(radiograph(3, False))
            assert header.modality == "CR" and pixels.shape == (224, 224)
            with pytest.raises(InvalidMessage) as refused:
                await pool.decode(b"no dicom")
            assert refused.value.reason == "bad-dicom"
            (victim,) = pool.pids
            os.kill(victim, signal.SIGKILL)
            with pytest.raises(InvalidMessage) as dead:
                await pool.decode(radiograph(3, False))
            assert dead.value.reason == "decode-limit"
            assert victim not in pool.pids
            await pool.decode(radiograph(3, False))

    asyncio.run(scenario())


def test_a_scan_that_takes_too_long_costs_only_itself():
    async def scenario():
        async with DecodePool(workers=1) as pool:
            pool._timeout_s = 0.0
            with pytest.raises(InvalidMessage) as late:
                await pool.decode(radiograph(3, False))
            assert late.value.reason == "decode-limit"
            pool._timeout_s = 20.0
            await pool.decode(radiograph(3, False))

    asyncio.run(scenario())


def test_a_child_is_replaced_between_two_scans_before_its_cpu_time_is_used_up(monkeypatch):
    assert CPU_SECONDS - decode_pool.WORN_CPU_S > 10 * decode_pool.TIMEOUT_S

    async def scenario():
        async with DecodePool(workers=1) as pool:
            (child,), (first,) = pool._children, pool.pids
            _, used_s = ANSWER.unpack_from(await decode_pool._ask(child, b"no dicom"))
            limit_s = math.ceil(used_s) + 2
            resource.prlimit(first, resource.RLIMIT_CPU, (limit_s, limit_s))
            monkeypatch.setattr(decode_pool, "WORN_CPU_S", used_s + 0.5)
            while pool.pids == [first]:
                header, pixels = await pool.decode(radiograph(3, False))
                assert header.modality == "CR" and pixels.shape == (224, 224)
            monkeypatch.setattr(decode_pool, "WORN_CPU_S", CPU_SECONDS)
            (second,) = pool.pids
            await pool.decode(radiograph(3, False))
            assert pool.pids == [second]

    asyncio.run(scenario())


def test_a_scan_is_handed_to_its_child_piece_by_piece():
    """What the pipe does not take at once the event loop would copy: a second of standstill for half a GiB."""
    written, waits = [], []

    async def drain():
        waits.append(len(written))

    answers = iter([struct.pack("<Q", 2), b"ok"])

    async def readexactly(_):
        return next(answers)

    child = SimpleNamespace(
        stdin=SimpleNamespace(write=written.append, drain=drain), stdout=SimpleNamespace(readexactly=readexactly)
    )
    data = os.urandom(2 * decode_pool.PIECE_BYTES + 1)
    assert asyncio.run(decode_pool._ask(child, data)) == b"ok"
    assert b"".join(written) == struct.pack("<Q", len(data)) + data
    assert max(map(len, written)) == decode_pool.PIECE_BYTES and waits == [2, 3, 4]
