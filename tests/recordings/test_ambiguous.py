"""Recordings of which not all rows are of one eye, stimulus or trial, and gaze that only some rows have validly."""

from __future__ import annotations

import gzip
import json
import os

import numpy as np
import pytest

from tinyhd_cli.errors import UsageError
from tinyhd_cli.recordings import RecordingOptions, Samples, quality, read_recordings
from tinyhd_cli.recordings import collect as collecting
from tinyhd_cli.recordings.fixations import resample, sampling_rate


def read(path, **options):
    """Return the recordings, and the lines of all problems as one text."""
    problems = []
    recordings = read_recordings([path], RecordingOptions(**options), problems.append)
    return recordings, "\n".join(str(problem) for problem in problems)


def save(path, header, rows):
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def table(tmp_path, header, row, count=20):
    """Save a table with rows of their number and their time in ms, at 100 Hz."""
    return save(tmp_path / "p.csv", header, [row(i, 10 * i) for i in range(count)])


@pytest.mark.parametrize("names", ["validity_left,validity_right", "left_valid,right_valid", "l_validity,r_validity"])
def test_validity_of_each_eye(tmp_path, names):
    left, right = names.split(",")
    header = f"time_ms,left_x,left_y,{left},right_x,right_y,{right}"
    path = table(tmp_path, header, lambda i, t: f"{t},100,100,{int(i < 15)},900,900,{int(i < 10)}")
    (recording,), _ = read(path)
    assert recording.samples.x[:15].tolist() == [500] * 10 + [100] * 5
    assert recording.samples.valid.tolist() == [True] * 15 + [False] * 5
    (recording,), _ = read(path, eye="right")
    assert recording.samples.valid.sum() == 10
    # Names of positions that are given leave those of validity as they are found.
    path = table(tmp_path, f"t,a,b,{left},c,d,{right}", lambda i, t: f"{t},100,100,1,900,900,{int(i < 10)}")
    columns = (("left_x", "a"), ("left_y", "b"), ("right_x", "c"), ("right_y", "d"))
    assert read(path, columns=columns)[0][0].samples.x.tolist() == [500] * 10 + [100] * 10


def test_combined_gaze_is_valid_with_one_eye(tmp_path):
    header = "Recording timestamp [ms]\tGaze point X\tGaze point Y\tValidity left\tValidity right"
    words = ["Invalid", "Valid"]
    rows = [f"{10 * i}\t{i}\t5\t{words[i < 5]}\t{words[i < 9]}" for i in range(20)]
    (recording,), _ = read(save(tmp_path / "p.tsv", header, rows))
    assert recording.samples.valid.tolist() == [True] * 9 + [False] * 11


def test_validity_of_other_numbers(tmp_path):
    (recording,), _ = read(table(tmp_path, "time_ms,x,y,valid", lambda i, t: f"{t},{i},5,{float(i < 7):.2f}"))
    assert recording.samples.valid.sum() == 7
    assert "values above 1" in read(table(tmp_path, "time_ms,x,y,validity", lambda i, t: f"{t},{i},5,{i % 5}"))[1]


STIMULI = "subject,stimulus,start_ms,end_ms,x,y"


def test_several_stimuli(tmp_path):
    rows = [
        f"A,{name},{400 * i},{400 * i + 300},{x},{x}"
        for name, x in (("clip1.mp4", 10), ("clip10.mp4", 20))
        for i in (0, 1)
    ]
    path = save(tmp_path / "p.csv", STIMULI, rows)
    recordings, problem = read(path)
    assert not recordings and "several stimuli, clip1.mp4, clip10.mp4; choose one with --stimulus" in problem
    for text, x in (("clip1", 10), ("clip1.mp4", 10), ("clip10", 20), ("ip10", 20)):
        assert read(path, stimulus=text)[0][0].fixations.x.tolist() == [x, x]
    assert "several stimuli 'clip' (--stimulus); it has clip1.mp4, clip10.mp4" in read(path, stimulus="clip")[1]
    assert "no stimulus 'film' (--stimulus); it has clip1.mp4" in read(path, stimulus="film")[1]
    assert "no stimulus 'clip10.5'" in read(path, stimulus="clip10.5")[1]
    path = table(tmp_path, "time_ms,x,y", lambda i, t: f"{t},5,5")
    assert "no column of stimuli" in read(path, stimulus="clip1")[1]


def test_trials_overlaps_and_eyes(tmp_path):
    path = table(tmp_path, "time_ms,x,y,trial", lambda i, t: f"{t},{i},5,{1 + i // 10}")
    assert "several trials, 1, 2; choose one with --columns stimulus=trial --stimulus 1" in read(path)[1]
    (recording,), _ = read(path, columns=(("stimulus", "trial"),), stimulus="2")
    assert recording.samples.x.tolist() == list(range(10, 20)) and not recording.notes
    late = table(tmp_path, "time_ms,x,y,video", lambda i, t: f"{t + 5000},{i},5,a")
    assert any("begins at 5.0 s" in note for note in read(late, stimulus="a")[0][0].notes)
    rows = [f"{400 * i},{400 * i + 300},{x},{x}" for x in (1, 2) for i in range(9)]
    assert "9 fixations overlap, such as at 0 s" in read(save(tmp_path / "p.csv", "start_ms,end_ms,x,y", rows))[1]
    path = table(tmp_path, "eye,time_ms,x,y", lambda i, t: f"{'LR'[i % 2]},{t},{i % 2},5")
    assert "several eyes, L, R; choose one with --eye" in read(path)[1]
    assert read(path, eye="right")[0][0].samples.x.tolist() == [1] * 10


def test_an_eye_that_was_not_recorded(tmp_path):
    asc = "START\t1\tLEFT\tSAMPLES\nSAMPLES\tGAZE\tLEFT\n1\t2\t3\t4\n2\t2\t3\t4\n"
    (tmp_path / "p.asc").write_text(asc)
    for path in (table(tmp_path, "time_ms,left_x,left_y", lambda i, t: f"{t},5,5"), tmp_path / "p.asc"):
        assert "has no gaze of the right eye (--eye)" in read(path, eye="right")[1]
        assert read(path, eye="left")[0]


def test_start_event_of_the_stimulus(tmp_path):
    """The first one in its rows, or else the nearest to its first row."""
    header = "time_ms,x,y,stimulus,message"
    path = table(tmp_path, header, lambda i, t: f"{t},{i},5,{'ab'[i // 10]},{'onset' if i in (3, 13) else ''}")
    (recording,), _ = read(path, stimulus="b", start_event="onset")
    assert recording.samples.time_s[0] == pytest.approx(-0.03)
    path = table(
        tmp_path,
        header,
        lambda i, t: f"{t},{i},5,{'' if i in (0, 9) else 'ab'[i // 10]},{'onset' if i in (0, 9) else ''}",
    )
    (recording,), _ = read(path, stimulus="b", start_event="onset")
    assert recording.samples.time_s[0] == pytest.approx(0.01)


def test_eyelink_messages_with_offsets_and_fixations_alone(tmp_path):
    head = "** CONVERTED FROM a.edf\nMSG\t900 DISPLAY_COORDS 0 0 1919 1079\nSTART\t1000 \tRIGHT\tSAMPLES\tEVENTS\n"
    rows = ["MSG\t1010 -8 VIDEO_START", *(f"{1000 + i}\t 5.0\t 4.0\t 8.0\t..." for i in range(20))]
    (recording,), _ = read(save(tmp_path / "p.asc", f"{head}SAMPLES\tGAZE\tRIGHT", rows), start_event="VIDEO_START")
    assert recording.samples.time_s[0] == pytest.approx(-0.018)
    (recording,), problem = read(
        save(tmp_path / "p.asc", f"{head}SAMPLES\tGAZE\tRIGHT", [*rows, "START\t2000 \tRIGHT"])
    )
    assert "was started 2 times" in problem
    rows = ["EFIX R   1800\t2000\t201\t  500.0\t  400.0\t    800", "EFIX R   2100\t2300\t201\t  .\t  .\t    800"]
    (recording,), problem = read(save(tmp_path / "p.asc", head.replace("SAMPLES\t", ""), rows))
    assert recording.fixations.start_s.tolist() == pytest.approx([0.8]) and not problem


def test_marks_of_gazepoint_are_events(tmp_path):
    rows = [f"{i / 60:.5f},0.5,0.5,1,{'START' if i == 10 else ''}" for i in range(20)]
    path = save(tmp_path / "p.csv", "TIME,BPOGX,BPOGY,BPOGV,USER", rows)
    (recording,), _ = read(path, screen=(100, 100), start_event="START")
    assert recording.observer == "p" and recording.samples.time_s[10] == pytest.approx(0)


SURFACE = (
    "world_timestamp,world_index,fixation_id,start_timestamp,duration,dispersion,norm_pos_x,norm_pos_y,x_scaled,y_scaled"
    ",on_surf"
)


def test_pupil_surfaces(tmp_path):
    """Gaze beside the surface is invalid, but the recording starts with it; fixations have a row per frame."""
    header = "gaze_timestamp,x_norm,y_norm,on_surf,confidence"
    path = save(tmp_path / "a.csv", header, [f"{100 + i / 100},0.5,0.5,{i >= 9},1.0" for i in range(20)])
    (recording,), _ = read(path, screen=(100, 100))
    assert recording.samples.valid.sum() == 11 and recording.samples.time_s[9] == pytest.approx(0.09)
    rows = [f"{100 + i / 30},{i},{i // 5},{100 + i // 5},300,1,{i / 20},0.5,0,0,{i % 5 > 1}" for i in range(20)]
    (recording,), _ = read(save(tmp_path / "b.csv", SURFACE, rows), screen=(100, 100))
    np.testing.assert_allclose(recording.fixations.x, [10, 35, 60, 85])
    np.testing.assert_allclose(recording.fixations.end_s, [0.3, 1.3, 2.3, 3.3], atol=1e-6)


def test_tobii_pixels_of_the_media(tmp_path):
    header = "Recording timestamp [ms]\tGaze point X [MCS px]\tGaze point Y [MCS px]"
    sides = "".join(f"\tGaze point {side} {axis} [DACS px]" for side in ("left", "right") for axis in "XY")
    rows = [f"{10 * i}\t1\t1\t9\t9\t9\t9" for i in range(9)]
    assert read(save(tmp_path / "p.tsv", header + sides, rows))[0][0].samples.x.tolist() == [9] * 9
    assert "pixels of the media (MCS) alone" in read(save(tmp_path / "p.tsv", header, rows))[1]


@pytest.mark.parametrize(
    ("header", "row", "samples"),
    [
        ("time_ms,x,y,gaze_event_duration", lambda i, t: f"{t},{i},5,{300 + i // 10}", True),
        ("time_ms,x,y,duration", lambda i, t: f"{t},{i},5,10", True),
        ("time_ms,x,y,duration", lambda i, t: f"{t},{i},5,{'' if i % 9 else 80}", True),
        ("time,x,y,duration", lambda i, t: f"{0.35 * i},{i},5,0.3", False),
        ("timestamp_ms,x,y,duration_s", lambda i, t: f"{300 * i + 7 * (i % 3)},{i},5,{0.2 + i / 200}", False),
    ],
)
def test_durations_of_samples_and_of_fixations(tmp_path, header, row, samples):
    (recording,), _ = read(table(tmp_path, header, row))
    assert (recording.samples is not None) == samples


@pytest.mark.parametrize("early", ["", "512"])
def test_decimal_commas_far_down(tmp_path, early):
    rows = [f"{10 * i};{'512,5' if i > 120 else early};300" for i in range(150)]
    (recording,), _ = read(save(tmp_path / "p.csv", "time_ms;x;y", rows))
    assert recording.samples.x[-1] == 512.5
    path = save(tmp_path / "p.csv", "time_ms;x;y", [*rows, "1600;512.5;300.25"])
    assert "another decimal mark" in read(path)[1]


def test_numbers_padded_with_spaces(tmp_path):
    rows = [f"{10 * i:8d} \t{512 + i:8.1f}\t 300.5  " for i in range(9)]
    for end in ("\n", "\r\n"):
        path = tmp_path / "p.csv"
        path.write_bytes(end.join(["time_ms\tx\ty", *rows]).encode())
        assert read(path)[0][0].samples.valid.all()


def test_fixations_out_of_order_and_reversed(tmp_path):
    rows = ["5000,5100,1,1", "1000,1100,2,2", "6000,6100,3,3", "7000,6000,4,4"]
    (recording,), problem = read(save(tmp_path / "p.csv", "start_ms,end_ms,x,y", rows), time_zero="first")
    assert recording.fixations.start_s.tolist() == [0, 4, 5]
    assert "1 fixations end before they start" in problem


def test_fixation_samples_without_a_number(tmp_path):
    header = "Recording timestamp [ms]\tGaze point X\tGaze point Y\tEye movement type\tEye movement type index"
    rows = [f"{10 * i}\t5\t5\t{'Fixation' if i < 9 else 'Saccade'}\t" for i in range(20)]
    (recording,), _ = read(save(tmp_path / "p.tsv", header, rows))
    assert recording.fixations.end_s.tolist() == pytest.approx([0.08])


@pytest.mark.parametrize("rate", [60, 120, 300, 600, 1200])
def test_rate_of_times_in_whole_milliseconds(rate):
    time = np.floor(np.arange(rate * 5) * 1000 / rate) / 1000
    assert sampling_rate(time) == pytest.approx(rate, rel=0.002)


def test_bursts_do_not_multiply_the_samples():
    time = np.cumsum(np.where(np.arange(400) % 3, 1e-6, 0.03))
    gaze = np.full(400, 5, np.float32)
    assert len(resample(Samples(time, gaze, gaze, np.ones(400, bool)), 0.075).time_s) < 1000


FACTS = {"Columns": ["timestamp", "x_coordinate", "y_coordinate"], "timestamp": {"Units": "ms"}}


@pytest.mark.parametrize(
    ("facts", "words", "y"),
    [
        ('"StimulusPresentation":{"ScreenResolution":[800,600],"ScreenOrigin":["bottom","left"]}', "", 500),
        ('"ScreenResolution":[0.3,0.3]', "screen size of 0x0 pixels", None),
        ('"ScreenOrigin":["center","left"]', "ScreenOrigin", None),
        ('"StartTime":NaN', "StartTime", None),
        (f'"StartTime":1{"0" * 400}', "StartTime", None),
        ('"RecordedEye":"left"', "no gaze of the right eye", None),
    ],
)
def test_facts_of_bids(tmp_path, facts, words, y):
    (tmp_path / "sub-1_physio.json").write_text(f"{json.dumps(FACTS)[:-1]},{facts}}}")
    path = tmp_path / "sub-1_physio.tsv"
    path.write_text("".join(f"{10 * i}\t100\t100\n" for i in range(9)))
    recordings, problem = read(path, eye="right")
    assert [recording.samples.y[0] for recording in recordings] == ([] if y is None else [y])
    assert words in problem and bool(words) == bool(problem)


def test_one_bad_file_does_not_end_the_study(tmp_path, monkeypatch):
    """A cell of 140,000 characters, a screen of 0x0, digits that are none, a pipe; the others are read."""
    head = "time_ms,x,y"
    good = [f"{10 * i},5{i},300" for i in range(9)]
    for name in ("2026.11.27_anna.csv", "2026.11.27_ben.CSV"):
        save(tmp_path / name, head, good)
    save(tmp_path / "cell.csv", f"{head},{'z' * 140_000}", good)
    smi = ["## Calibration Area:\t0\t0", "Time\tType\tTrial\tL POR X [px]\tL POR Y [px]"]
    save(tmp_path / "smi.txt", "## [iView]", [*smi, *(f"{2000 * i}\tSMP\t1\t5\t5" for i in range(9))])
    surface = [f"{100 + i / 30},{i},7,100.0,300.0,1.0,0.5,0.5,0,0,{i < 5}" for i in range(9)]
    surface[1], surface[6] = surface[1].replace(",True", '",True'), '100.2,6,",100.0,300.0,1.0,0.5,0.5,0,0,False'
    save(tmp_path / "quotes.csv", SURFACE, surface)
    save(tmp_path / "digits.csv", head, ["\u0660,1,1", "\u0661,2,2"])
    with gzip.open(tmp_path / "rows.csv.gz", "wt") as file:
        file.write("time_ms,x,y\n" + "0,1,1\n" * 1200)
    monkeypatch.setattr(collecting, "MAX_ROWS", 1000)
    os.mkfifo(tmp_path / "pipe.csv")
    recordings, problem = read(tmp_path)
    assert [recording.observer for recording in recordings] == ["2026.11.27_anna", "2026.11.27_ben"]
    for words in ("field limit", "screen size of 0x0 pixels", "more than 1,000 rows", "digits.csv", "quotes.csv"):
        assert words in problem
    assert len(problem.splitlines()) == 5 and "is not a file" in read(tmp_path / "pipe.csv")[1]
    assert quality(recordings[0]).rate == pytest.approx(100)


def test_neon_wearers_of_one_name_and_damaged_fixations(tmp_path):
    header = "recording id,timestamp [ns],gaze x [px],gaze y [px],worn"
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "info.json").write_text('{"wearer_name": "Wearer"}')
        (tmp_path / name / "fixations.csv").write_bytes(b"")
        save(tmp_path / name / "gaze.csv", header, [f"r,{17 * 10**17 + i * 5_000_000},5,5,1" for i in range(9)])
    recordings, problem = read(tmp_path)
    assert [recording.observer for recording in recordings] == ["Wearer", "Wearer b"]
    assert problem.count("the fixations beside it are not used: is empty") == 2


def test_placed_needs_numbers():
    with pytest.raises(UsageError, match="--placed"):
        RecordingOptions(placed=(float("nan"), 0.0, 64.0, 36.0))


def test_lines_end_at_line_ends_alone(tmp_path):
    """In Latin-1, as old exports are, an ellipsis of Windows is what Unicode has as the end of a line."""
    text = "## [iView]\n## Description: a\x85 \xe9\nTime\tType\tTrial\tL POR X [px]\tL POR Y [px]\n"
    path = tmp_path / "p.txt"
    path.write_bytes((text + "".join(f"{2000 * i}\tSMP\t1\t{i + 1}\t5\n" for i in range(9))).encode("latin-1"))
    assert len(read(path)[0][0].samples) == 9
