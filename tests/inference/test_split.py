"""Videos that are predicted in parts have exactly the results of the whole video."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from helpers import clips
from helpers.networks import lively

from tinyhd_cli import weights
from tinyhd_cli.durations import parse_duration
from tinyhd_cli.errors import OutputError, UsageError
from tinyhd_cli.inference import Outputs, PredictOptions, load_model, parse_areas, predict_file
from tinyhd_cli.inference.split_join import join_parts
from tinyhd_cli.inference.split_part import predict_part
from tinyhd_cli.inference.split_plan import DONE, CancelledError, cancel, make_parts, read_plan, replan, starts_of
from tinyhd_cli.video.frame_index import FrameIndex
from tinyhd_cli.video.options import EncoderOptions
from tinyhd_cli.video.packets import ROW, decoding_times
from tinyhd_cli.video.part_reader import NotSeekableError

AREAS = ("left=0%,0%,40%,100%", "disc=30%,40%,40%,40%")


def predict_in_parts(video, model, outputs, options, seconds, without_index=False):
    """Predict a video in parts, one after the other, and return the summary and the number of parts."""
    parts = make_parts(video, outputs, options, seconds, seconds, "test", keep=False)
    if without_index:
        parts = replan(parts, read_plan(parts[0].folder))
    for only_maps in (True, False) if parts[0].passes > 1 else (False,):
        parts = [replace(part, only_maps=only_maps) for part in parts]
        for part in parts:
            predict_part(video, part, model, outputs, options)
    return join_parts(video, parts, outputs, options), len(parts)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Return a clip of 61 frames at a variable rate, with audio, B-frames and a keyframe every 12 frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    return clips.make(path, frames=61, durations=(20, 17, 31), audio="aac", options={"g": "12", "bf": "3"})


def small(folder, name):
    """Return a model of a network with random weights and small maps."""
    network = lively(name)
    path = folder / f"{name}.safetensors"
    weights.save(path, network.state_dict(), network.spec.with_size((64, 64)))
    return load_model(path, "cpu", engine="torch", precision="float32")


LARGE = ("tinyhd-s-quarter", "hd2s", "thtdnet", "stkd-pair", "stkd")
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in LARGE]


@pytest.mark.parametrize("name", ["tinyhd-m-quarter", "uva-32", *SLOW])
def test_maps_of_each_family(tmp_path, clip, name):
    model = small(tmp_path, name)
    paths = {
        kind: Outputs(npz=tmp_path / kind / "maps.npz", csv=tmp_path / kind / "maps.csv") for kind in ("whole", "parts")
    }
    predict_file(clip, model, paths["whole"])
    summary, count = predict_in_parts(clip, model, paths["parts"], PredictOptions(), 1.0)
    assert (summary.frames, count) == (61, 3)
    for kind in ("npz", "csv"):
        assert getattr(paths["whole"], kind).read_bytes() == getattr(paths["parts"], kind).read_bytes()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return small(tmp_path_factory.mktemp("weights"), "uva-32")


def outputs_in(folder, **changes):
    names = {"overlay": "o.mp4", "maps": "maps", "npz": "a.npz", "csv": "a.csv", "json": "a.json", "aoi_plot": "p.png"}
    return Outputs(**{kind: folder / name for kind, name in (names | changes).items()})


def images_of(video):
    """Return the time and the image of each frame of a video, gray."""
    with av.open(str(video)) as container:
        return [(frame.pts, frame.to_ndarray(format="gray")) for frame in container.decode(video=0)]


def packet_times(video):
    with av.open(str(video)) as container:
        packets = container.demux(container.streams.video[0])
        return [(packet.pts, packet.dts, packet.duration) for packet in packets if packet.size]


def length(video):
    with av.open(str(video)) as container:
        return container.duration, [stream.duration for stream in container.streams]


@pytest.mark.parametrize(
    ("normalize", "changes", "without_index"),
    [
        (None, {}, False),
        ("video", {"maps": "maps.mkv"}, False),
        pytest.param(None, {"overlay": "o.mkv"}, True, marks=pytest.mark.slow),
    ],
)
def test_all_outputs(tmp_path, clip, model, normalize, changes, without_index):
    """Lossless overlays are equal after decoding; all other outputs are equal as files."""
    options = PredictOptions(normalize=normalize, areas=parse_areas(AREAS), encoder=EncoderOptions(crf=0))
    whole, parts = (outputs_in(tmp_path / kind, **changes) for kind in ("whole", "parts"))
    expected = predict_file(clip, model, whole, options)
    found, count = predict_in_parts(clip, model, parts, options, 1.0, without_index)
    assert count == 3
    assert replace(found, outputs=whole) == expected
    for kind, path in whole.requested():
        other = getattr(parts, kind)
        if path.is_dir():
            assert contents(other) == contents(path) and len(contents(path)) == 61
        elif path.suffix in (".mp4", ".mkv"):
            pairs = list(zip(images_of(path), images_of(other), strict=True))
            assert all(one[0] == two[0] for one, two in pairs)
            assert max(int(np.abs(one[1].astype(int) - two[1]).max()) for one, two in pairs) <= 1
            assert sorted(packet_times(other)) == sorted(packet_times(path))
            assert length(other) == length(path)
            if kind == "overlay":
                assert clips.audio_packets(other) == clips.audio_packets(path) != []
        else:
            assert other.read_bytes().replace(b"/parts/", b"/whole/") == path.read_bytes()
    assert {path.name for path in (tmp_path / "parts").iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_decoding_times_of_joined_parts():
    """The first packets of later parts get times after those of the part before, also at a variable rate."""

    def table(rows):
        return np.array([(pts, dts, 1, 1, False) for pts, dts in rows], ROW)

    first = table([(0, -20), (30, -10), (10, 0), (20, 10)])
    second = table([(40, -450), (540, -440), (50, 40), (530, 50)])
    assert decoding_times([first, table([]), second]).tolist() == [-20, -10, 0, 10, 20, 30, 40, 50]
    short = table([(0, 0)])
    assert decoding_times([short, second]).tolist() == [-80, -40, 0, 40, 50]


def test_a_short_video_and_an_image_stay_in_one_piece(tmp_path, clip):
    outputs, options = outputs_in(tmp_path), PredictOptions()
    assert make_parts(clip, outputs, options, 60.0, 60.0, "test", keep=False) == []
    image = tmp_path / "image.png"
    image.write_bytes(cv2.imencode(".png", np.zeros((40, 40, 3), np.uint8))[1].tobytes())
    assert make_parts(image, Outputs(npz=tmp_path / "a.npz"), options, 0.01, 0.01, "test", keep=False) == []
    assert [path.name for path in tmp_path.iterdir()] == ["image.png"]


def test_finished_parts_are_used_again(tmp_path, clip, model):
    outputs, options = Outputs(csv=tmp_path / "a.csv"), PredictOptions()
    parts = make_parts(clip, outputs, options, 1.0, 1.0, "test", keep=True)
    predict_part(clip, parts[1], model, outputs, options)
    finished = parts[1].done.stat().st_mtime_ns
    again = make_parts(clip, outputs, options, 1.0, 1.0, "test", keep=True)
    assert again == parts
    predict_part(clip, again[1], model, outputs, options)
    assert again[1].done.stat().st_mtime_ns == finished
    make_parts(clip, outputs, replace(options, area_threshold=0.2), 1.0, 1.0, "test", keep=True)
    assert not parts[1].done.exists()  # it was other work


@pytest.mark.parametrize("name", ["part-00001/frames.bin", "part-00001/part.json", "plan.npz"])
def test_damaged_parts_of_an_interrupted_run_are_done_again(tmp_path, clip, model, name):
    outputs, options = Outputs(csv=tmp_path / "a.csv"), PredictOptions()
    for cut in (lambda path: path.write_bytes(path.read_bytes()[:-100]), lambda path: path.write_bytes(b"")):
        parts = make_parts(clip, outputs, options, 1.0, 1.0, "test", keep=True)
        for part in parts:
            predict_part(clip, part, model, outputs, options)
        cut(parts[0].folder / name)
        again = make_parts(clip, outputs, options, 1.0, 1.0, "test", keep=True)
        for part in again:
            predict_part(clip, part, model, outputs, options)
        assert join_parts(clip, again, outputs, options).frames == 61


def test_parts_without_their_last_frames_are_not_joined(tmp_path, clip, model):
    outputs, options = Outputs(csv=tmp_path / "a.csv"), PredictOptions()
    parts = make_parts(clip, outputs, options, 1.0, 1.0, "test", keep=True)
    for part in parts:
        predict_part(clip, part, model, outputs, options)
    facts = parts[2].facts()
    (parts[2].done / DONE).write_text(json.dumps(facts | {"frames": facts["frames"] + 3}))
    with pytest.raises(OutputError, match=r"cannot be joined: part 3 has \d+ of \d+ frames"):
        join_parts(clip, parts, outputs, options)
    assert list(tmp_path.iterdir()) == []


def test_few_parts_are_decoded_from_the_same_keyframe():
    """A video with one keyframe is not decoded from its start by each of many parts."""
    pts = np.arange(1000)
    for keyframes, count in ((np.array([0]), 8), (np.array([0, 500]), 16), (np.arange(0, 1000, 10), 100), (pts[:0], 8)):
        assert len(starts_of(FrameIndex(pts, keyframes, keyframes, Fraction(1, 10)), 1.0)) == count


def test_a_part_whose_folder_was_removed_is_not_begun(tmp_path, clip, model):
    outputs, options = Outputs(csv=tmp_path / "a.csv"), PredictOptions()
    parts = make_parts(clip, outputs, options, 1.0, 1.0, "test", keep=False)
    cancel(parts[0].folder)
    with pytest.raises(CancelledError):
        predict_part(clip, parts[0], model, outputs, options)


def test_parts_that_decode_different_images_are_not_joined(tmp_path, clip, model):
    outputs, options = Outputs(csv=tmp_path / "a.csv"), PredictOptions()
    parts = make_parts(clip, outputs, options, 1.0, 1.0, "test", keep=False)
    for part in parts:
        predict_part(clip, part, model, outputs, options)
    facts = parts[1].facts()
    number = next(iter(facts["checksums"]))
    assert number in parts[0].facts()["checksums"]
    facts["checksums"][number] += 1
    (parts[1].done / DONE).write_text(json.dumps(facts))
    with pytest.raises(NotSeekableError, match="depends on where decoding starts"):
        join_parts(clip, parts, outputs, options)
    assert not outputs.csv.exists()


@pytest.mark.parametrize(
    ("text", "seconds"), [("5m", 300), ("300s", 300), ("300", 300), ("1h", 3600), ("1h30m", 5400), ("0.5s", 0.5)]
)
def test_lengths(text, seconds):
    assert parse_duration(text, "--split") == seconds


@pytest.mark.parametrize("text", ["", "0", "m", "-5m", "five", "5m3h", "1d", "nan"])
def test_invalid_lengths(text):
    with pytest.raises(UsageError, match=r"--split .*: give a length of time"):
        parse_duration(text, "--split")
