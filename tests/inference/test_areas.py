"""Tests of areas of interest: the fraction of the attention on them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import clips

from tinyhd_cli.errors import InputError, UsageError
from tinyhd_cli.inference.area_parsing import parse_areas
from tinyhd_cli.inference.area_values import box
from tinyhd_cli.inference.polygons import Attention, covered_fraction
from tinyhd_cli.video.reader import VideoReader


@pytest.fixture
def saliency():
    return np.random.default_rng(0).random((192, 256)).astype(np.float32) ** 4


def test_boxes_that_tile_the_frame_sum_to_one(saliency):
    """Also with odd sizes and fractions of pixels."""
    attention = Attention(saliency, 1918, 1079)
    edges = [np.array([0, 13.7, 1 / 3, 0.9 * side, side]) for side in (1918, 1079)]
    for edge in edges:
        edge[2] = edge[-1] / 3
    shares = [
        attention.share(box((x0, y0, x1 - x0, y1 - y0)))
        for x0, x1 in zip(edges[0], edges[0][1:], strict=False)
        for y0, y1 in zip(edges[1], edges[1][1:], strict=False)
    ]
    assert len(shares) == 16 and min(shares) > 0
    assert sum(shares) == pytest.approx(1, abs=1e-12)


def test_polygons_that_tile_the_frame_sum_to_one(saliency):
    attention = Attention(saliency, 640, 360)
    frame = [(0, 0), (250, 0), (640, 0), (640, 360), (0, 360), (0, 77)]
    for center in ((320, 180), (0.3, 359.9), (640, 0)):
        sides = zip(frame, [*frame[1:], frame[0]], strict=True)
        shares = [attention.share(np.array([one, other, center], float)) for one, other in sides]
        assert sum(shares) == pytest.approx(1, abs=1e-12)


def test_share_of_a_box_is_the_sum_of_its_cells(saliency):
    attention = Attention(saliency, 512, 384)  # 2 x 2 pixels per cell
    expected = saliency[10:50, 20:100].sum(dtype=np.float64) / saliency.sum(dtype=np.float64)
    assert attention.share(box((40, 20, 160, 80))) == pytest.approx(expected, rel=1e-12)
    half = expected - saliency[10:50, 99].sum(dtype=np.float64) / 2 / saliency.sum(dtype=np.float64)
    assert attention.share(box((40, 20, 159, 80))) == pytest.approx(half, rel=1e-12)
    assert attention.share(box((-100, -100, 2000, 2000))) == 1
    assert attention.share(box((600, 0, 10, 10))) == 0
    reverse = box((40, 20, 160, 80))[::-1]
    assert attention.share(reverse) == pytest.approx(expected, rel=1e-12)


def test_map_of_zeros():
    assert Attention(np.zeros((192, 256), np.float32), 640, 360).share(box((0, 0, 640, 360))) == 0


def test_peak(saliency):
    saliency[100, 200] = 9
    attention = Attention(saliency, 256, 192)
    assert attention.peak == (200.5, 100.5)
    assert attention.has_peak(box((200, 100, 1, 1)))
    assert not attention.has_peak(box((201, 100, 1, 1)))
    assert not attention.has_peak(box((190, 101, 20, 20)))
    triangle = np.array([(180, 90), (230, 90), (200, 130)], float)
    assert attention.has_peak(triangle)


def test_pixels_and_percent_are_the_same_area():
    (pixels,), (percent,) = parse_areas(["a=64,36,320,90"]), parse_areas(["a=10%,10%, 50% ,25%"])
    np.testing.assert_allclose(percent.at(0, 640, 360), pixels.at(0, 640, 360))
    np.testing.assert_allclose(percent.at(5, 1280, 360)[:, 0], 2 * pixels.at(5, 640, 360)[:, 0])


def test_areas_from_a_file(tmp_path):
    path = tmp_path / "areas.json"
    frames = [{"time_s": 1, "box": [0, 0, 10, 20]}, {"time_s": 3, "box": [40, 20, 10, 40]}]
    areas = [{"name": "face", "polygon": [[0, 0], [10, 0], [5, 9]]}, {"name": "ball", "keyframes": frames}]
    path.write_text(json.dumps({"areas": areas}))
    face, ball, logo = parse_areas([str(path), "logo=1,2,3,4"])
    assert (face.name, ball.name, logo.name) == ("face", "ball", "logo")
    np.testing.assert_allclose(face.at(9, 640, 360), [[0, 0], [10, 0], [5, 9]])
    for time_s, expected in ((0, (0, 0, 10, 20)), (1, (0, 0, 10, 20)), (2, (20, 10, 10, 30)), (9, (40, 20, 10, 40))):
        np.testing.assert_allclose(ball.at(time_s, 640, 360), box(expected))
    path.write_text(json.dumps({"units": "percent", "areas": areas}))
    np.testing.assert_allclose(parse_areas([str(path)])[0].at(0, 200, 1000), [[0, 0], [20, 0], [10, 90]])


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("logo", "no such file"),
        ("logo=1,2,3", "must be NAME=X,Y,WIDTH,HEIGHT"),
        ("logo=1,2,3,nan", "must be NAME=X,Y,WIDTH,HEIGHT"),
        ("=1,2,3,4", "must be NAME=X,Y,WIDTH,HEIGHT"),
        ("logo=1%,2,3,4", "mixes pixels and percent"),
        ("logo=1,2,0,4", "width and height must be above 0"),
    ],
)
def test_malformed_areas(argument, message):
    with pytest.raises(UsageError, match=message):
        parse_areas([argument])


def test_areas_of_the_same_name():
    with pytest.raises(UsageError, match="two areas are named 'a'"):
        parse_areas(["a=1,2,3,4", "a=5,6,7,8"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not a JSON file"),
        ("[]", "areas.json: "),
        ("{}", "'areas' is missing"),
        ('{"areas": []}', "contains no areas"),
        ('{"areas": [{"box": [1, 2, 3, 4]}]}', "'name' is missing"),
        ('{"areas": [{"name": "a"}]}', "needs a box"),
        ('{"areas": [{"name": "a", "box": [1, 2, 3]}]}', "a box must be"),
        ('{"areas": [{"name": "a", "box": [1, 2, 3, -4]}]}', "a box must be"),
        ('{"areas": [{"name": "a", "polygon": [[1, 2], [3, 4]]}]}', "three or more"),
        ('{"areas": [{"name": "a", "keyframes": []}]}', "must be ascending"),
        (
            '{"areas": [{"name": "a", "keyframes": [{"time_s": 1, "box": [1, 2, 3, 4]},'
            ' {"time_s": 1, "box": [1, 2, 3, 4]}]}]}',
            "must be ascending",
        ),
        (
            '{"areas": [{"name": "a", "keyframes": [{"time_s": 1, "box": [1, 2, 3, 4]},'
            ' {"time_s": 2, "polygon": [[1, 2], [3, 4], [5, 7]]}]}]}',
            "number of corners",
        ),
        ('{"units": "inches", "areas": []}', "pixels or percent"),
    ],
)
def test_malformed_files(tmp_path, content, message):
    path = tmp_path / "areas.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as error:
        parse_areas([str(path)])
    assert "\n" not in str(error.value)


def test_predict_with_areas(tinyhd, tmp_path, weights_file):
    """Areas appear in the CSV, JSON, overlay and plot. The fractions of areas that tile the frame sum to 1."""
    clip = clips.make(tmp_path / "clip.mp4", frames=20)
    with VideoReader(clip) as reader:
        width, height = reader.info.width, reader.info.height
    frames = [{"time_s": 0, "box": [0, 0, 8, 8]}, {"time_s": 0.5, "box": [width - 8, height - 8, 8, 8]}]
    Path("areas.json").write_text(json.dumps({"areas": [{"name": "moving", "keyframes": frames}]}))
    areas = ["--aoi", "left=0%,0%,50%,100%", "--aoi", "right=50%,0%,50%,100%", "--aoi", "areas.json"]
    outputs = ["--csv", "out.csv", "--json", "out.json", "--overlay", "out.mp4", "--aoi-plot", "plot.png"]
    look = ["--crf", "1", "--alpha", "0"]
    assert tinyhd("predict", clip, "--weights", weights_file, *areas, *outputs, *look) == 0
    with Path("out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    for row in rows:
        assert float(row["aoi_left"]) + float(row["aoi_right"]) == pytest.approx(1, abs=1.5e-4)
        assert 0 <= float(row["aoi_moving"]) < 0.5
    found = json.loads(Path("out.json").read_text())["areas"]
    assert found["left"]["share"] == pytest.approx(np.mean([float(row["aoi_left"]) for row in rows]), abs=1e-3)
    assert found["left"]["most"] == pytest.approx(max(float(row["aoi_left"]) for row in rows), abs=1e-4)
    assert found["left"]["first_s"] == 0
    assert found["left"]["peak_s"] + found["right"]["peak_s"] == pytest.approx(20 / 30, abs=0.05)
    plot = cv2.imdecode(np.fromfile("plot.png", np.uint8), cv2.IMREAD_COLOR)
    assert plot.shape[1] > 800
    # The same without areas, to find the pixels that areas change.
    assert tinyhd("predict", clip, "--weights", weights_file, "--overlay", "plain.mp4", *look) == 0
    with VideoReader("out.mp4") as with_areas, VideoReader("plain.mp4") as without:
        drawn = [
            np.abs(one.rgb().astype(int) - other.rgb()).max(axis=2) > 40
            for one, other in zip(with_areas, without, strict=True)
        ]
    assert drawn[0][:, width // 2 - 3 : width // 2 + 3].any()  # the side between left and right
    assert not drawn[0][-7:-2, -10:-4].any()
    assert drawn[-1][-7:-2, -10:-4].any()  # the moving box has reached the corner


def test_plot_without_areas(tinyhd, tmp_path, weights_file, capsys):
    clip = clips.make(tmp_path / "clip.mp4", frames=2)
    assert tinyhd("predict", clip, "--weights", weights_file, "--aoi-plot", "plot.png") == 2
    assert "--aoi-plot needs areas" in capsys.readouterr().err
    assert tinyhd("predict", clip, "--weights", weights_file, "--aoi", "a=1,1,2,2", "--aoi-threshold", "0") == 2
    assert tinyhd("predict", clip, "--weights", weights_file, "--aoi", "a=1,1,2,2", "--aoi-plot", "plot.jpg") == 2
    assert "--aoi-plot plot.jpg: the file's name must end in .png" in capsys.readouterr().err


def test_areas_that_are_probably_mistakes(tinyhd, tmp_path, weights_file, capsys):
    """An area outside the frame is an error. Areas beyond the edge and missing percent signs are warnings."""
    clip = clips.make(tmp_path / "clip.mp4", frames=2, width=320, height=180)
    run = ["predict", clip, "--weights", weights_file, "--csv", "out.csv"]
    assert tinyhd(*run, "--aoi", "logo=400,10,20,20") == 3
    assert "--aoi logo: is outside the frame, which is 320 x 180 pixels" in capsys.readouterr().err
    assert not Path("out.csv").exists()
    assert tinyhd(*run, "--aoi", "logo=90%,80%,25%,30%") == 0
    assert "extends beyond the frame" in capsys.readouterr().err
    assert tinyhd(*run, "--aoi", "logo=45,15,15,25") == 0
    assert "read as pixels of 320 x 180; for percent, write logo=45%,15%,15%,25%\n" in capsys.readouterr().err
    Path("areas.json").write_text('{"areas": [{"name": "logo", "box": [45, 15, 15, 25]}]}')
    assert tinyhd(*run, "--aoi", "areas.json") == 0
    assert '320 x 180; for percent, add "units": "percent" to areas.json\n' in capsys.readouterr().err
    Path("areas.json").write_text('{"units": "pixels", "areas": [{"name": "logo", "box": [45, 15, 15, 25]}]}')
    assert tinyhd(*run, "--aoi", "areas.json") == 0
    assert "warning" not in capsys.readouterr().err
    assert tinyhd(*run, "--aoi", "half=0%,0%,50%,100%") == 0
    message = capsys.readouterr().err
    assert "warning" not in message and "of the attention on 50.0% of the frame, maximum" in message


def test_covered_fraction():
    assert covered_fraction(box((0, 0, 160, 90)), 320, 180) == pytest.approx(0.25)
    assert covered_fraction(np.array([(0, 0), (320, 0), (0, 180)], float), 320, 180) == pytest.approx(0.5)
