"""HDR and wide gamut: networks and overlays get SDR images; crop and encode keep the colors of the source."""

from __future__ import annotations

import logging
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli import load_model
from tinyhd_cli.apps.report.run import report_file
from tinyhd_cli.video import hdr
from tinyhd_cli.video.options import EncoderOptions
from tinyhd_cli.video.reader import VideoReader
from tinyhd_cli.video.writer import VideoWriter

SIZE = (128, 96)
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "gallery.mp4"
SDR_TAGS, WIDE_TAGS, P3_TAGS = (1, 1, 1, 1), (9, 1, 9, 14), (1, 1, 12, 1)
PQ_TAGS, HLG_TAGS = (9, 1, 9, 16), (9, 1, 9, 18)
"""Color matrix, range, primaries and transfer function."""

METADATA = "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(40000000,50):max-cll=1200,400"
QUIET = {"x265-params": "log-level=error", "crf": "4", "preset": "ultrafast"}

EIGHT_BITS = "mpeg4 supports only 8 bits per component, the source has 10"

TO_2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
"""Matrix from linear BT.709 to BT.2020 (ITU-R BT.2087)."""

TO_P3 = np.array([[0.8225, 0.1775, 0.0], [0.0332, 0.9668, 0.0], [0.0171, 0.0724, 0.9105]])
"""Matrix from linear BT.709 to P3 with D65 white."""


def pq(light):
    """Convert luminance in cd/m2 to PQ code values in 0..1 (SMPTE ST 2084), the inverse of the tested function."""
    powered = (np.asarray(light) / 10000) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * powered) / (1 + 18.6875 * powered)) ** 78.84375


def hlg(light):
    """Convert light ``(..., 3)`` in cd/m2 on a display of 1000 cd/m2 to HLG code values in 0..1 (ITU-R BT.2100)."""
    display = np.asarray(light) / 1000
    luminance = np.maximum(display @ [0.2627, 0.6780, 0.0593], 1e-9)[..., np.newaxis]
    scene = display * luminance ** (1 / 1.2 - 1)
    return np.where(
        scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    )


def sdr_image(index):
    """Return an image, RGB in 0..1, with gradients of colors, white, and a moving disc."""
    width, height = SIZE
    y, x = np.mgrid[:height, :width] / np.array([height, width])[:, np.newaxis, np.newaxis]
    image = np.stack([0.15 + 0.5 * x, 0.2 + 0.4 * y, 0.3 + 0.3 * (1 - x)], axis=-1)
    image[(x - 0.3 - 0.05 * index) ** 2 + (y - 0.6) ** 2 < 0.02] = (0.9, 0.75, 0.2)
    image[y < 0.15] = 1
    return image


def gallery(index):
    """Return a frame of the example clip, RGB in 0..1."""
    frames = clips.frames(EXAMPLE)
    return cv2.resize(frames[40 * index], SIZE, interpolation=cv2.INTER_AREA) / 255


def as_pq(image):
    return pq(203 * np.asarray(image) ** 2.4 @ TO_2020.T)


def as_hlg(image):
    return hlg(203 * np.asarray(image) ** 2.4 @ TO_2020.T)


def write(path, code, tags, codec="libx265", pixels="yuv420p10le", frames=3, options=None, image_of=sdr_image):
    """Write a clip whose frame ``n`` has the RGB code values ``code(image_of(n))``, in 0..1."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=QUIET if options is None else options)
        stream.width, stream.height = SIZE
        stream.pix_fmt = pixels
        context = stream.codec_context
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = tags
        for index in range(frames):
            image = np.round(65535 * np.clip(code(image_of(index)), 0, 1)).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(image, "rgb48le")
            matrix = 9 if tags[3] in (hdr.PQ, hdr.HLG) and tags[0] == 2 else tags[0]
            frame = frame.reformat(format=pixels, dst_colorspace=matrix, dst_color_range=tags[1])
            frame.colorspace, frame.color_range, frame.color_primaries, frame.color_trc = tags
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def describe(path):
    with VideoReader(path) as reader:
        color = reader.info.color
        tags = (color.space, color.range, color.primaries, color.transfer)
        return reader.info.codec, reader.info.pixel_format, tags, reader.info.hdr_metadata


def copy(source, target, codec=None):
    options = EncoderOptions(codec, crf=4)
    with (
        VideoReader(source) as reader,
        VideoWriter(target, reader.info, SIZE, options, keep_source_colors=True) as writer,
    ):
        for frame in reader:
            writer.write(writer.rgb_of(frame), frame)
    return target


def test_saliency_maps_of_hdr_equal_those_of_sdr(tinyhd, tmp_path):
    """The maps of the example clip as PQ and HLG correlate with those of SDR, with the default weights."""
    kinds = {"sdr": (lambda image: image, SDR_TAGS), "pq": (as_pq, PQ_TAGS), "hlg": (as_hlg, HLG_TAGS)}
    for name, (code, tags) in kinds.items():
        write(tmp_path / f"{name}.mp4", code, tags, image_of=gallery)
    files = [tmp_path / f"{name}.mp4" for name in kinds]
    assert tinyhd("predict", *files, "--quiet", "--npz", "{name}.npz") == 0
    maps = {}
    for name in kinds:
        with np.load(f"{name}.npz") as arrays:
            maps[name] = arrays["saliency"]
    for name in ("pq", "hlg"):
        for found, expected in zip(maps[name], maps["sdr"], strict=True):
            assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99, name


@pytest.mark.parametrize(
    ("code", "tags"),
    [
        (as_pq, PQ_TAGS),
        (as_hlg, HLG_TAGS),
        (as_pq, (9, 2, 9, 16)),
        (as_pq, (9, 1, 2, 16)),
        (as_pq, (2, 1, 2, 16)),
        (lambda image: pq(203 * image**2.4), (1, 1, 1, 16)),
        (lambda image: (image**2.4 @ TO_2020.T) ** (1 / 2.4), WIDE_TAGS),
        (lambda image: (image**2.4 @ TO_2020.T) ** (1 / 2.4), (9, 1, 2, 2)),
        (lambda image: (image**2.4 @ TO_P3.T) ** (1 / 2.4), P3_TAGS),
    ],
    ids=[
        "pq",
        "hlg",
        "full range",
        "primaries unspecified",
        "all but transfer unspecified",
        "pq in bt709",
        "bt2020",
        "bt2020 by matrix",
        "p3",
    ],
)
def test_images_equal_those_of_sdr(tmp_path, code, tags):
    """Colors differ by less than two 8-bit code values on average, except near white."""
    with VideoReader(write(tmp_path / "clip.mp4", code, tags)) as reader:
        frame = next(iter(reader))
        for image in (frame.rgb(), frame.reduced_rgb(2.0)):
            expected = cv2.resize(255 * sdr_image(0), image.shape[1::-1], interpolation=cv2.INTER_AREA)
            start = round(image.shape[0] * 0.2)
            assert np.abs(image[start:] - expected[start:]).mean() < 2
        white = np.abs(frame.rgb()[3:9].astype(int) - (242 if tags[3] in (hdr.PQ, hdr.HLG) else 255))
        assert white.max() <= 6
        assert white.mean() < 2.5


def test_reference_white_and_highlights():
    """Luminance below three quarters of reference white is not changed; above, it is compressed up to the peak."""
    how = hdr.find_conversion(9, 9, hdr.PQ)
    light = np.array([0.0, 20.3, 100, 152, 203, 600, 1000, 4000])
    codes = 255 * hdr.convert_code_values(pq(light)[:, np.newaxis].repeat(3, axis=1), how)[:, 0]
    unchanged = 255 * (light / 203) ** (1 / 2.4)
    np.testing.assert_allclose(codes[:4], unchanged[:4], atol=0.2)
    np.testing.assert_allclose(codes[4:], [241.6, 253.6, 255, 255], atol=0.2)
    # A known peak is used; without highlights, reference white is mapped to SDR white.
    bright = hdr.find_conversion(9, 9, hdr.PQ, 4000.0)
    assert hdr.convert_code_values(pq(np.full((1, 3), 1000.0)), bright)[0, 0] < 0.997
    only_white = hdr.find_conversion(9, 9, hdr.PQ, 203.0)
    assert hdr.convert_code_values(pq(np.full((1, 3), 203.0)), only_white)[0, 0] == pytest.approx(1)
    white = hdr.convert_code_values(np.full((1, 3), 0.75), hdr.find_conversion(9, 9, hdr.HLG))[0, 0]
    assert 255 * white == pytest.approx(241.6, abs=1)


def test_lookup_table_is_close_to_the_exact_conversion():
    """The error of grays is below one code value; that of BT.709 colors is below one on average."""
    how = hdr.find_conversion(9, 9, hdr.PQ)
    grays = np.linspace(0, 1, 4096)[:, np.newaxis].repeat(3, axis=1)
    colors = as_pq(np.random.default_rng(0).random((4096, 3)))
    for code, max_error, mean_error in ((grays, 1.0, 0.3), (colors, 60, 1.0)):
        image = np.round(code * 65535).astype(np.uint16).reshape(64, 64, 3)
        av_frame = av.VideoFrame.from_ndarray(image, "gbrp16le")
        found = hdr.to_sdr(av_frame, how).to_ndarray().reshape(-1, 3) / 257
        error = np.abs(found - 255 * hdr.convert_code_values(code, how))
        assert error.max() < max_error
        assert error.mean() < mean_error


@pytest.mark.parametrize(
    ("tags", "needed"),
    [
        ((1, 1, 1), False),
        ((2, 2, 2), False),
        ((6, 6, 6), False),
        ((5, 5, 6), False),
        ((0, 1, 13), False),
        ((9, 9, 8), False),
        ((9, 9, 14), True),
        ((9, 9, 15), True),
        ((1, 12, 13), True),
        ((0, 9, 16), True),
        ((9, 9, 18), True),
        ((2, 2, 18), True),
        ((1, 10, 16), True),
    ],
)
def test_which_colors_are_converted(tags, needed):
    assert (hdr.find_conversion(*tags) is not None) == needed


def test_overlays_and_maps_are_sdr(tinyhd, tmp_path, monkeypatch):
    """Outputs have 8 bits and BT.709 tags; the image and the colors of the overlay are those of the SDR clip."""
    y, x = np.mgrid[:192, :256] / np.array([192, 256])[:, np.newaxis, np.newaxis]
    blob = np.exp(-((x - 0.4) ** 2 + (y - 0.6) ** 2) / 0.02).astype(np.float32)
    monkeypatch.setattr("tinyhd_cli.inference.model.Model.infer", lambda self, clip: np.stack([blob] * 16))
    write(tmp_path / "pq.mp4", as_pq, PQ_TAGS)
    write(tmp_path / "sdr.mp4", lambda image: image, SDR_TAGS, "libx264", "yuv420p", options={"crf": "4"})
    clips_ = (tmp_path / "pq.mp4", tmp_path / "sdr.mp4")
    outputs = ("-o", "{name}.mp4", "--maps", "{name}.mkv", "--crf", "6", "--alpha", "1", "--threshold", "0.5")
    assert tinyhd("predict", *clips_, "--quiet", *outputs) == 0
    for name in ("pq.mp4", "pq.mkv", "sdr.mp4"):
        assert describe(name) == ("h264", "yuv420p", SDR_TAGS, None)
    pq_overlay, sdr_overlay = (clips.frames(f"{name}.mp4")[0].astype(int) for name in ("pq", "sdr"))
    maps = clips.frames("pq.mkv")[0][..., 1]
    heat, plain = maps > 220, maps < 100
    assert heat.sum() > 20
    assert plain.sum() > 20
    assert np.abs(pq_overlay - sdr_overlay)[heat].mean() < 6, "the most salient part of the overlay"
    assert np.abs(pq_overlay - sdr_overlay)[plain].mean() < 6
    # Turbo's reds, about (200, 40, 0), are drawn with full opacity; they must not become as bright as highlights.
    hottest = pq_overlay[maps == maps.max()].mean(axis=0)
    np.testing.assert_allclose(hottest, sdr_overlay[maps == maps.max()].mean(axis=0), atol=8)


def test_images_of_a_report_are_sdr(tmp_path, weights_file):
    clip = write(tmp_path / "pq.mp4", as_pq, PQ_TAGS)
    still = report_file(clip, load_model(weights_file, "cpu"), tmp_path / "page.html").scenes[0].image
    assert np.abs(still[3:9].astype(int) - 242).mean() < 2.5, "reference white"
    assert min(np.abs(still[25:] - 255 * sdr_image(index)[25:]).mean() for index in range(3)) < 2.5


@pytest.mark.parametrize(
    ("target", "codec", "expected"),
    [
        ("o.mp4", None, ("hevc", "yuv420p10le")),
        ("o.mov", "h264", ("h264", "yuv420p10le")),
        ("o.mkv", "av1", ("libdav1d", "yuv420p10le")),
        ("o.webm", None, ("libdav1d", "yuv420p10le")),
    ],
)
def test_crop_and_encode_keep_depth_tags_and_metadata(tmp_path, target, codec, expected, caplog):
    options = {**QUIET, "x265-params": f"log-level=error:{METADATA}"}
    source = write(tmp_path / "pq.mp4", as_pq, PQ_TAGS, options=options)
    with caplog.at_level(logging.WARNING, "tinyhd"):
        written = copy(source, tmp_path / target, codec)
    assert not caplog.messages
    found = describe(written)
    assert found[:3] == (*expected, PQ_TAGS)
    assert found[3].content == (1200, 400)
    np.testing.assert_allclose(found[3].display, (0.68, 0.32, 0.265, 0.69, 0.15, 0.06, 0.3127, 0.329), atol=1e-4)
    np.testing.assert_allclose(found[3].display_range, (0.005, 4000), rtol=0.01)
    with VideoReader(source) as one, VideoReader(written) as other:
        for before, after in zip(one, other, strict=True):
            copied, original = after.stored_rgb().astype(int), before.stored_rgb().astype(int)
            assert np.abs(copied - original).mean() / 257 < 2.5
            assert len(np.unique(copied[..., 1] >> 6)) > 150, "more levels than with 8 bits"


def test_ten_bit_sdr_and_eight_bit_wide_gamut(tmp_path):
    source = write(tmp_path / "sdr10.mp4", lambda image: image, SDR_TAGS)
    assert describe(copy(source, tmp_path / "a.mkv"))[:3] == ("hevc", "yuv420p10le", SDR_TAGS)
    source = write(tmp_path / "p3.mp4", lambda image: image, P3_TAGS, "libx264", "yuv420p", options={"crf": "4"})
    written = copy(source, tmp_path / "b.mp4")
    assert describe(written)[:3] == ("h264", "yuv420p", P3_TAGS)
    assert np.abs(clips.frames(written)[0].astype(int) - clips.frames(source)[0]).mean() < 2, "the same code values"


@pytest.mark.parametrize(
    ("code", "tags", "target", "codec", "warning"),
    [
        (
            as_pq,
            PQ_TAGS,
            "o.avi",
            None,
            f"{EIGHT_BITS}; HDR or wide gamut",
        ),
        (
            as_hlg,
            HLG_TAGS,
            "o.mkv",
            "mpeg4",
            f"{EIGHT_BITS}; HDR or wide gamut",
        ),
        (
            lambda image: image,
            SDR_TAGS,
            "o.mkv",
            "mpeg4",
            f"{EIGHT_BITS}; values are rounded",
        ),
    ],
)
def test_eight_bit_encoders_get_sdr_with_a_warning(tmp_path, caplog, code, tags, target, codec, warning):
    source = write(tmp_path / "clip.mp4", code, tags)
    with caplog.at_level(logging.WARNING, "tinyhd"):
        written = copy(source, tmp_path / target, codec)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"{target}: {warning}")
    with VideoReader(written) as reader:
        image = next(iter(reader)).rgb()
    assert np.abs(image[25:] - 255 * sdr_image(0)[25:]).mean() < 6


def test_twelve_bits_are_reduced_to_ten_with_a_warning(tmp_path, caplog):
    source = write(tmp_path / "twelve.mp4", as_pq, PQ_TAGS, pixels="yuv422p12le")
    with caplog.at_level(logging.WARNING, "tinyhd"):
        assert describe(copy(source, tmp_path / "o.mp4"))[1] == "yuv420p10le"
    assert caplog.messages == ["o.mp4: written with 10 bits per component; the source has 12"]


def test_rgb_in_pq_is_written_with_the_bt2020_matrix(tmp_path):
    source = write(tmp_path / "rgb.mkv", as_pq, (0, 2, 9, 16), "ffv1", "gbrp16le", options={})
    written = copy(source, tmp_path / "o.mkv")
    assert describe(written)[:3] == ("hevc", "yuv420p10le", (9, 2, 9, 16))
    with VideoReader(written) as reader:
        assert np.abs(next(iter(reader)).rgb()[25:] - 255 * sdr_image(0)[25:]).mean() < 2


def test_metadata_of_ffmpeg(monkeypatch):
    """Includes invalid metadata: unexpected lengths, a light level of 0, only dynamic metadata."""
    monkeypatch.setattr(hdr, "side_data", dict.get)

    def frame_with(**data):
        return {name: np.array(values, np.int32).tobytes() for name, values in data.items()}

    assert hdr.read_hdr_metadata(frame_with()) is None
    assert hdr.read_hdr_metadata(frame_with(SEI_UNREGISTERED=[1])) is None
    assert hdr.read_hdr_metadata(frame_with(CONTENT_LIGHT_LEVEL=[1000, 200])).peak == 1000
    assert hdr.read_hdr_metadata(frame_with(CONTENT_LIGHT_LEVEL=[0, 0])).peak is None
    mastering = [*(1, 2) * 8, 1, 10000, 600, 1, 1, 1]
    light = hdr.read_hdr_metadata(frame_with(MASTERING_DISPLAY_METADATA=mastering))
    assert (light.display, light.display_range, light.peak) == ((0.5,) * 8, (0.0001, 600.0), 600)
    assert hdr.read_hdr_metadata(frame_with(MASTERING_DISPLAY_METADATA=[*mastering[:20], 0, 0])).peak is None
    assert hdr.read_hdr_metadata(frame_with(MASTERING_DISPLAY_METADATA=[1] * 6)).peak is None
    assert hdr.read_hdr_metadata(frame_with(DOVI_METADATA=[1])).dynamic


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".m4v"])
@pytest.mark.parametrize("encoder", ["hevc", "libx265"])
def test_hevc_is_tagged_for_apple(tmp_path, suffix, encoder):
    """The sample entry is hvc1, whose parameter sets are stored outside the frames, as Apple's players require."""
    source = clips.make(tmp_path / "clip.mp4", frames=3)
    content = copy(source, tmp_path / f"out{suffix}", encoder).read_bytes()
    assert b"hvc1" in content
    assert b"hev1" not in content
    at = content.index(b"hvcC")
    assert int.from_bytes(content[at - 4 : at]) > 60, "with parameter sets"


@pytest.mark.slow
def test_hevc_of_all_commands_is_tagged(tinyhd, tmp_path, weights_file):
    clip = clips.make(tmp_path / "clip.mp4", frames=3, width=128, height=96)
    given = (clip, "--weights", weights_file, "--codec", "hevc", "--quiet")
    assert tinyhd("predict", *given, "-o", "o.mp4", "--maps", "m.mov", "--side-by-side") == 0
    assert tinyhd("crop", *given, "-o", "c.m4v") == 0
    assert tinyhd("encode", *given, "-o", "e.mov", "--no-compare", "--preset", "veryfast") == 0
    for name in ("o.mp4", "m.mov", "c.m4v", "e.mov"):
        assert b"hvc1" in Path(name).read_bytes(), name
