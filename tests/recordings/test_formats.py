"""Each export format: a file with known gaze, as the vendor's software writes it, is read back."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from tinyhd_cli.recordings import RecordingOptions, read_recordings
from tinyhd_cli.recordings.formats import FORMATS, recognize
from tinyhd_cli.recordings.options import FORMATS as NAMES
from tinyhd_cli.recordings.text import read_head

COUNT = 60
STEP = np.arange(COUNT)
X, Y = 100.0 + 10 * STEP, 700.0 - 5 * STEP
LOST = (STEP >= 20) & (STEP < 24)
"""Samples without gaze."""

FIXATED = (STEP >= 5) & (STEP < 15) | (STEP >= 30) & (STEP < 50)
NUMBER = np.where(STEP < 20, 1, 2)


def read(path, **options):
    problems = []
    recordings = read_recordings([path], RecordingOptions(**options), problems.append)
    assert not problems, [str(problem) for problem in problems]
    return recordings


def agrees(recording, interval, *, lost=LOST, x=X, y=Y, start=0.0, screen=(1920, 1080)):
    samples = recording.samples
    np.testing.assert_allclose(samples.time_s, start + STEP * interval, atol=1e-6)
    np.testing.assert_array_equal(samples.valid, ~lost)
    np.testing.assert_allclose(samples.x[~lost], x[~lost], rtol=1e-5)
    np.testing.assert_allclose(samples.y[~lost], y[~lost], rtol=1e-5)
    assert np.isnan(samples.x[lost]).all() and recording.screen == screen


def fixated(recording, interval, start=0.0, x=X, y=Y):
    """Fixations of samples 5 to 14 and 30 to 49, with their mean positions."""
    table = recording.fixations
    np.testing.assert_allclose(table.start_s, start + np.array([5, 30]) * interval, atol=1e-6)
    np.testing.assert_allclose(table.end_s, start + np.array([14, 49]) * interval, atol=1e-6)
    np.testing.assert_allclose(table.x, [x[5:15].mean(), x[30:50].mean()], rtol=1e-5)
    np.testing.assert_allclose(table.y, [y[5:15].mean(), y[30:50].mean()], rtol=1e-5)


def recognized(path):
    return recognize(read_head(path))


def save(path, lines):
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_every_format_has_a_reader():
    assert set(FORMATS) == set(NAMES)


@pytest.mark.parametrize(("unit", "factor"), [(" [ms]", 1e3), (" [μs]", 1e6), ("", 1e3)])
@pytest.mark.parametrize("combined", [True, False])
def test_tobii(tmp_path, unit, factor, combined):
    """Two participants, one of them with two recordings; rows of events and of other sensors; a byte order mark."""
    gaze = ["Gaze point X [DACS px]", "Gaze point Y [DACS px]"] if combined else []
    gaze += [f"Gaze point {side} {axis} [DACS px]" for side in ("left", "right") for axis in "XY"]
    header = [f"Recording timestamp{unit}", "Sensor", "Participant name", "Recording name", "Event", "Event value"]
    header += ["Recording resolution height", "Recording resolution width", "Gaze point X [MCS norm]", *gaze]
    header += ["Validity left", "Validity right", "Eye movement type", "Eye movement type index"]
    header += ["Presented Stimulus name"]
    lines = ["\t".join(header)]
    for name, recording, shift in (("Ann", "Recording1", 0), ("Ann", "Recording2", 1), ("Bo", "Recording1", 2)):
        common = [name, recording]
        size, empty = ["1080", "1920"], [""] * (1 + len(gaze))
        lines.append("\t".join(["0", "", *common, "VideoStimulusStart", "film.mp4", *size, *empty, *[""] * 5]))
        for i in STEP:
            time = f"{i * 0.008 * factor:.0f}"
            eyes = [X[i] + shift - 5, Y[i], X[i] + shift + 5, Y[i]]
            cells = ([X[i] + shift, Y[i]] if combined else []) + eyes
            cells = [""] * len(cells) if LOST[i] else [f"{cell:g}" for cell in cells]
            validity = ["Invalid" if LOST[i] else "Valid"] * 2
            kind = ["Fixation" if FIXATED[i] else "Saccade", str(NUMBER[i])]
            row = [time, "Eye Tracker", *common, "", "", *size, "0.5", *cells, *validity, *kind, "film"]
            lines.append("\t".join(row))
            lines.append("\t".join([time, "Mouse", *common, "", "", *size, *empty, *[""] * 5]))
    path = tmp_path / "export.tsv"
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    assert recognized(path) == "tobii"
    recordings = read(path)
    assert [recording.observer for recording in recordings] == ["Ann Recording1", "Ann Recording2", "Bo"]
    for shift, recording in enumerate(recordings):
        agrees(recording, 0.008, x=X + shift)
        fixated(recording, 0.008, x=X + shift)
    left = read(path, eye="left", start_event="film.mp4", offset_s=0.5, stimulus="film")[0]
    agrees(left, 0.008, x=X - 5, start=0.5)


def test_tobii_studio(tmp_path):
    header = "ParticipantName\tRecordingTimestamp\tRecordingResolution\tGazePointX (ADCSpx)\tGazePointY (ADCSpx)"
    header += "\tValidityLeft\tValidityRight\tGazeEventType\tFixationIndex\tMediaName"
    rows = [
        f"P1\t{i * 4}\t1920 x 1080\t{X[i]:g}\t{Y[i]:g}\t0\t0\t{'Fixation' if FIXATED[i] else 'Saccade'}\t{NUMBER[i]}\tf"
        for i in STEP
    ]
    (recording,) = read(save(tmp_path / "studio.tsv", [header, *rows]))
    agrees(recording, 0.004, lost=STEP < 0)
    fixated(recording, 0.004)


def test_pupil_core(tmp_path):
    """Normalized, y upward, seconds of an arbitrary clock, low confidence where lost; fixations beside."""
    folder = tmp_path / "anna" / "exports" / "000"
    folder.mkdir(parents=True)
    x, y = X / 1280, 1 - Y / 720
    confidence = np.where(LOST, 0.2, 0.95)
    gaze = [f"{4300.5 + i * 0.005:.6f},{i // 4},{confidence[i]},{x[i]:.8f},{y[i]:.8f},1-0" for i in STEP]
    header = "gaze_timestamp,world_index,confidence,norm_pos_x,norm_pos_y,base_data"
    path = save(folder / "gaze_positions.csv", [header, *gaze])
    rows = ["1,4300.55,150.0,0,3,0.25,0.75,1.2,0.99,gaze", "2,4300.7,95.0,4,6,0.5,0.5,0.9,0.99,gaze"]
    header = "id,start_timestamp,duration,start_frame_index,end_frame_index,norm_pos_x,norm_pos_y,dispersion,confidence"
    fixations = save(folder / "fixations.csv", [f"{header},method", *rows])
    assert recognized(path) == recognized(fixations) == "pupil"
    (recording,) = read(tmp_path / "anna", screen=(1280, 720))
    agrees(recording, 0.005, screen=(1280, 720))
    table = recording.fixations
    np.testing.assert_allclose(table.start_s, [0.05, 0.2], atol=1e-6)
    np.testing.assert_allclose(table.end_s, [0.2, 0.295], atol=1e-6)
    assert table.x.tolist() == [320, 640] and table.y.tolist() == [180, 360]
    (alone,) = read(fixations, screen=(1280, 720))
    assert alone.samples is None and len(alone.fixations) == 2


def test_pupil_surface(tmp_path):
    rows = [f"10.0,1,{10 + i * 0.01:.3f},{X[i] / 1000:.6f},{1 - Y[i] / 800:.6f},0,0,True,0.9" for i in STEP]
    header = "world_timestamp,world_index,gaze_timestamp,x_norm,y_norm,x_scaled,y_scaled,on_surf,confidence"
    (recording,) = read(save(tmp_path / "gaze_positions_on_surface_screen.csv", [header, *rows]), screen=(1000, 800))
    agrees(recording, 0.01, lost=STEP < 0, screen=(1000, 800))


def test_neon(tmp_path):
    """Nanoseconds of the calendar, pixels of the scene; the wearer's name; folders with the same file name."""
    identifier = "82f10d2b-7e4d-4bd1-88d1-7a4a2ed7ae41"
    header = "section id,recording id,timestamp [ns],gaze x [px],gaze y [px],worn,fixation id,blink id,azimuth [deg]"
    for name in ("anna", "ben"):
        (tmp_path / name).mkdir()
        rows = [
            f"s,{identifier},{1_700_000_000_000_000_000 + i * 5_000_000},{X[i]},{Y[i]},{0.0 if LOST[i] else 1.0},"
            f"{NUMBER[i] if FIXATED[i] else ''},,1.5"
            for i in STEP
        ]
        path = save(tmp_path / name / "gaze.csv", [header, *rows])
        save(tmp_path / name / "blinks.csv", ["recording id,blink id", "x,1"])
    assert recognized(path) == "neon"
    (tmp_path / "ben" / "info.json").write_text(json.dumps({"wearer_name": "Benjamin"}))
    recordings = read(tmp_path)
    assert [recording.observer for recording in recordings] == ["anna", "Benjamin"]
    for recording in recordings:
        agrees(recording, 0.005, screen=None)
        fixated(recording, 0.005)


def test_neon_fixations_on_a_surface(tmp_path):
    """The marker mapper's export: two recordings, 0..1 from the upper left; gaze off the surface is left out."""
    header = "section id,recording id,fixation id,start timestamp [ns],end timestamp [ns],duration [ms]"
    header += ",fixation detected on surface,fixation x [normalized],fixation y [normalized]"
    rows = [
        f"s,{name},{n},{(first + n) * 10**9},{(first + n) * 10**9 + 250_000_000},250,{found},0.25,0.5"
        for name, first in (("r1", 1_700_000_000), ("r2", 1_700_000_500))
        for n, found in ((0, "true"), (1, "false"), (2, "true"))
    ]
    path = save(
        tmp_path / "fixations.csv",
        [
            header.replace("fixation x [", "fixation on surface x [").replace(
                "fixation y [", "fixation on surface y ["
            ),
            *rows,
        ],
    )
    save(tmp_path / "sections.csv", ["section id,recording id,recording name", "s,r1,first", "s,r2,second"])
    recordings = read(path, screen=(800, 600))
    assert [recording.observer for recording in recordings] == ["first", "second"]
    for recording in recordings:
        np.testing.assert_allclose(recording.fixations.start_s, [0, 2], atol=1e-6)
        np.testing.assert_allclose(recording.fixations.end_s, [0.25, 2.25], atol=1e-6)
        assert recording.fixations.x.tolist() == [200, 200] and recording.fixations.y.tolist() == [300, 300]


EYELINK = """** CONVERTED FROM C:\\data\\p1.edf using edfapi 4.2.1
** DATE: Tue Nov 24 10:00:00 2026
** TYPE: EDF_FILE BINARY EVENT SAMPLE TAGGED
** VERSION: EYELINK II 1
**

MSG\t7000 DISPLAY_COORDS 0 0 1919 1079
MSG\t7000 RECCFG CR 500 2 1 {code}
START\t7100 \t{eyes}\tSAMPLES\tEVENTS
PRESCALER\t1
VPRESCALER\t1
PUPIL\tAREA
EVENTS\tGAZE\t{eyes}\tRATE\t 500.00\tTRACKING\tCR\tFILTER\t2
SAMPLES\tGAZE\t{eyes}\tRATE\t 500.00\tTRACKING\tCR\tFILTER\t2
INPUT\t7100\t0
"""


def write_eyelink(path, interval, binocular, spaces=False):
    eyes, code = ("LEFT\tRIGHT", "LR") if binocular else ("RIGHT", "R")
    lines = EYELINK.format(eyes=eyes, code=code).splitlines()
    for i in STEP:
        time = 7100 + int(i * interval)
        if i == 10:
            lines.append(f"MSG\t{time} video_onset film.mp4")
        right = "   .\t   .\t    0.0" if LOST[i] else f"  {X[i] + 4 * binocular:.1f}\t  {Y[i]:.1f}\t 1234.0"
        left = "   .\t   .\t    0.0" if LOST[i] else f"  {X[i] - 4:.1f}\t  {Y[i]:.1f}\t 1230.0"
        line = f"{time}\t{left}\t{right}\t....." if binocular else f"{time}\t{right}\t..."
        lines.append(line.replace("\t", "  ") if spaces else line)
        for eye in ("L", "R") if binocular else ("R",):
            if i == 14:
                lines.append(f"EFIX {eye}   {7100 + int(5 * interval)}\t{time}\t{20}\t  195.0\t  652.5\t   1234")
            if i == 49:
                lines.append(f"EFIX {eye}   {7100 + int(30 * interval)}\t{time}\t{40}\t  495.0\t  502.5\t   1234")
        if i == 30:
            lines.append(f"SSACC R  {time}")
    lines.append("END\t7300 \tSAMPLES\tEVENTS\tRES\t  40.00\t  40.00")
    return save(path, lines)


@pytest.mark.parametrize(("binocular", "spaces"), [(False, False), (True, False), (False, True)])
def test_eyelink(tmp_path, binocular, spaces):
    path = write_eyelink(tmp_path / "p1.asc", 2, binocular, spaces)
    assert recognized(path) == "eyelink"
    (recording,) = read(path)
    assert recording.observer == "p1"
    agrees(recording, 0.002)
    fixated(recording, 0.002)
    (recording,) = read(path, start_event="video_onset")
    agrees(recording, 0.002, start=-0.02)
    fixated(recording, 0.002, start=-0.02)
    (right,) = read(path, eye="right")
    agrees(right, 0.002, x=X + 4 * binocular)


def test_eyelink_at_2000_hz(tmp_path):
    """Two samples have the same millisecond."""
    (recording,) = read(write_eyelink(tmp_path / "fast.asc", 0.5, False))
    agrees(recording, 0.0005)


SMI = """## [BeGaze]
## Converted from:\tC:\\test.idf
## Sample Rate:\t250
## Number of Samples:\t60
## [Run]
## Subject:\tP01
## [Calibration]
## Calibration Area:\t1920\t1080
## [Geometry]
## Stimulus Dimension [mm]:\t474\t297
## Format:\tLEFT, RIGHT, POR, MSG
##
Time\tType\tTrial\tL POR X [px]\tL POR Y [px]\tR POR X [px]\tR POR Y [px]\tTiming\tL Event Info\tStimulus"""


def test_smi(tmp_path):
    lines = SMI.splitlines()
    for i in STEP:
        time = 10_000_000_123 + i * 4000
        if i == 5:
            lines.append(f"{time}\tMSG\t1\t# Message: film.avi")
        gaze = "0.00\t0.00\t0.00\t0.00" if LOST[i] else f"{X[i] - 3:.2f}\t{Y[i]:.2f}\t{X[i] + 3:.2f}\t{Y[i]:.2f}"
        lines.append(f"{time}\tSMP\t1\t{gaze}\t1\t{'Fixation' if FIXATED[i] else 'Saccade'}\tfilm.avi")
    path = save(tmp_path / "samples.txt", lines)
    assert recognized(path) == "smi"
    (recording,) = read(path)
    assert recording.observer == "P01"
    agrees(recording, 0.004)
    fixated(recording, 0.004)
    (left,) = read(path, eye="left", start_event="film.avi")
    agrees(left, 0.004, x=X - 3, start=-0.02)


def test_smi_events(tmp_path):
    lines = [*SMI.splitlines()[:-1], "Table Header for Fixations:", "Event Type\tTrial\tNumber\tStart\tEnd\tDuration"]
    for eye in "LR":
        lines.append(f"Fixation {eye}\t1\t1\t5000000\t5250000\t250000\t100.5\t200.5\t10\t12\t-1")
        lines.append(f"Saccade {eye}\t1\t1\t5250000\t5270000\t20000\t100\t200\t300\t400")
        lines.append(f"Fixation {eye}\t1\t2\t5270000\t5400000\t130000\t300\t400\t10\t12\t-1")
    (recording,) = read(save(tmp_path / "events.txt", lines))
    np.testing.assert_allclose(recording.fixations.start_s, [0, 0.27], atol=1e-6)
    np.testing.assert_allclose(recording.fixations.end_s, [0.25, 0.4], atol=1e-6)
    assert recording.fixations.x.tolist() == [100.5, 300] and recording.screen == (1920, 1080)


def test_gazepoint(tmp_path):
    """Fractions of the screen; a comma at the end of each line; the name of the column of time has a date."""
    header = "MEDIA_ID,MEDIA_NAME,CNT,TIME(2026/11/27 10:00:00.000),TIMETICK(f=10000000),FPOGX,FPOGY,FPOGS,FPOGD,FPOGID"
    header += ",FPOGV,BPOGX,BPOGY,BPOGV,"
    rows = [
        f"0,film,{i},{0.5 + i / 60:.6f},{i * 1000},0.5,0.5,0.1,0.2,{NUMBER[i]},{int(FIXATED[i])},"
        f"{X[i] / 1920:.8f},{Y[i] / 1080:.8f},{int(not LOST[i])},"
        for i in STEP
    ]
    path = save(tmp_path / "User 0_all_gaze.csv", [header, *rows])
    assert recognized(path) == "gazepoint"
    (recording,) = read(path, screen=(1920, 1080))
    assert recording.observer == "User 0_all_gaze"
    agrees(recording, 1 / 60)
    fixated(recording, 1 / 60)
    rows = ["0,film,1,0.3,1,0.25,0.5,0.1,0.2,1,1,0,0,1,", "0,film,9,0.8,1,0.75,0.5,0.4,0.4,2,1,0,0,1,"]
    (recording,) = read(save(tmp_path / "User 0_fixations.csv", [header, *rows]), screen=(800, 600))
    np.testing.assert_allclose(recording.fixations.start_s, [0.1, 0.4])
    np.testing.assert_allclose(recording.fixations.end_s, [0.3, 0.8])
    assert recording.fixations.x.tolist() == [200, 600]


@pytest.mark.parametrize("unit", ["pixel", "mm", "rows"])
def test_bids(tmp_path, unit):
    """A table without a header through gzip; its columns in JSON, the screen with the events of the whole dataset."""
    folder = tmp_path / "sub-07" / "beh"
    folder.mkdir(parents=True)
    scale = {"mm": np.array([480 / 1920, 270 / 1080])}.get(unit, np.ones(2))
    cells = [["n/a"] * 2 if LOST[i] else [f"{v:.6f}" for v in np.array([X[i], Y[i]]) * scale] for i in STEP]
    times = [[] if unit == "rows" else [str(500_000 + 4 * i)] for i in STEP]
    text = "".join("\t".join([*times[i], *cells[i], "1200"]) + "\n" for i in STEP)
    stem = "sub-07_task-film_recording-eye1_physio"
    path = folder / f"{stem}.tsv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    columns = [*([] if unit == "rows" else ["timestamp"]), "x_coordinate", "y_coordinate", "pupil_size"]
    facts = {"SamplingFrequency": 250, "StartTime": -0.1, "Columns": columns, "timestamp": {"Units": "ms"}}
    facts |= {f"{axis}_coordinate": {"Units": "mm" if unit == "mm" else "pixel"} for axis in "xy"}
    facts |= {"SampleCoordinateSystem": "gaze-on-screen", "RecordedEye": "right", "PhysioType": "eyetrack"}
    (folder / f"{stem}.json").write_text(json.dumps(facts))
    screen = {"ScreenResolution": [1920, 1080], "ScreenSize": [0.48, 0.27], "ScreenDistance": 0.6}
    (tmp_path / "task-film_events.json").write_text(json.dumps({"StimulusPresentation": screen}))
    assert recognized(path) == "bids"
    (recording,) = read(tmp_path)
    assert recording.observer == "sub-07"
    agrees(recording, 0.004, start=-0.1)


def test_dhf1k(tmp_path):
    """The set's raw records: eight columns with a header that differs from the rows'."""
    lines = ["Time\tType\tTrial\tL Dia X [px]\tL Dia Y [px]\tL POR X [px]\tL POR Y [px]\tL Event Info"]
    for i in STEP:
        x, y = (0, 0) if LOST[i] else (X[i], Y[i])
        lines.append(f"{98765432100 + i * 4000}\tSMP\t1\t12.50\t12.60\t{x:.2f}\t{y:.2f}\t{'F' if FIXATED[i] else 'S'}")
    path = save(tmp_path / "P01_Trail001.txt", lines)
    assert recognized(path) == "dhf1k"
    (recording,) = read(path)
    agrees(recording, 0.004, screen=(1440, 900))
    fixated(recording, 0.004)


def test_diem(tmp_path):
    """Frames from 1 at 30 per second; the flags of events say what is valid and fixated."""
    flags = np.where(LOST, 0, np.where(FIXATED, 1, 2))
    lines = [
        f"{i + 1}\t{X[i] - 2:.1f}\t{Y[i]:.1f}\t900\t{flags[i]}\t{X[i] + 2:.1f}\t{Y[i]:.1f}\t910\t{flags[i]}"
        for i in STEP
    ]
    for separator in ("\t", "  "):
        path = save(tmp_path / f"diem{len(separator)}.txt", [line.replace("\t", separator) for line in lines])
        assert recognized(path) == "diem"
        (recording,) = read(path)
        agrees(recording, 1 / 30, screen=(1280, 960))
        fixated(recording, 1 / 30)


def test_coord(tmp_path):
    """GazeCom, and the recordings of Hollywood-2 of the same authors."""
    lines = ["# comment", "gaze 1920 1080", "geometry distance 0.45 width 0.4 height 0.225"]
    lines += [f"{i * 4000 + 2000} {X[i]:.1f} {Y[i]:.1f} {0 if LOST[i] else 1}" for i in STEP]
    path = save(tmp_path / "AAW_beach.coord", lines)
    assert recognized(path) == "coord"
    (recording,) = read(path)
    assert recording.observer == "AAW_beach"
    agrees(recording, 0.004, start=0.002)


def test_table_without_a_header(tmp_path):
    """Columns are numbered from 1, separated by any number of spaces."""
    path = save(tmp_path / "p.txt", [f" {i * 2000}  12 12 {X[i]:.1f}   {Y[i]:.1f} F" for i in STEP])
    (recording,) = read(path, columns=(("time", "1"), ("x", "4"), ("y", "5")))
    agrees(recording, 0.002, lost=STEP < 0, screen=None)
    problems = []
    assert read_recordings([path], None, problems.append) == []
    assert "numbered from 1 to 6" in str(problems[0])


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "a.tsv",
            "Recording timestamp\tGaze point X [MCS norm]\tGaze point Y [MCS norm]\n1\t2\t3\n",
            "Gaze point X and Y",
        ),
        (
            "b.txt",
            "## [BeGaze]\n##\nTime\tType\tTrial\n1\tSMP\t1\n",
            "L POR X [px] or the like; it has the columns Time",
        ),
        ("c.asc", "START\t1\tLEFT\nSAMPLES\tHREF\tLEFT\n1\t2\t3\t4\n", "HREF samples; convert it to gaze"),
        ("d.asc", "SAMPLES\tGAZE\tLEFT\n1\t2\t3\t4\nSAMPLES\tGAZE\tLEFT\tRIGHT\n", "number of recorded eyes changes"),
        ("e.csv", "MEDIA_NAME,BPOGX,BPOGY,BPOGV\nf,0.5,0.5,1\n", "has no column TIME"),
        ("f.csv", "timestamp [ns],gaze x [px]\n1,2\n", "has no columns of gaze x and y"),
    ],
)
def test_missing_columns_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    problems = []
    assert read_recordings([tmp_path / name], None, problems.append) == []
    assert words in str(problems[0]) and len(problems) == 1


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"Columns": ["timestamp", "pupil_size"]}, "has no x_coordinate"),
        ({"SampleCoordinateSystem": "eye-in-head"}, "eye-in-head, not gaze-on-screen"),
        ({"x_coordinate": {"Units": "deg"}}, "its gaze is in deg"),
        ({"x_coordinate": {"Units": "mm"}}, "needs ScreenSize"),
        ({"Columns": ["x_coordinate", "y_coordinate"]}, "neither a column timestamp nor a SamplingFrequency"),
    ],
)
def test_bids_that_is_refused(tmp_path, facts, words):
    (tmp_path / "sub-1_physio.tsv").write_text("1\t2\t3\n2\t3\t4\n")
    columns = {"Columns": ["timestamp", "x_coordinate", "y_coordinate"]}
    (tmp_path / "sub-1_physio.json").write_text(json.dumps(columns | facts))
    problems = []
    assert read_recordings([tmp_path / "sub-1_physio.tsv"], None, problems.append) == []
    assert words in str(problems[0])


def test_wrong_format_is_stated(tmp_path):
    path = save(tmp_path / "p.csv", ["time,x,y", "1,2,3", "2,3,4"])
    for name in sorted(set(NAMES) - {"table"}):
        problems = []
        assert read_recordings([path], RecordingOptions(format=name), problems.append) == [], name
        assert problems and "\n" not in str(problems[0])
