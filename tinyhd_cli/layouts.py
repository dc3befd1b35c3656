"""Descriptions of dataset layouts on disk, for messages and ``--help``. Imports nothing, so that ``--help`` is fast."""

EXPECTED = {
    "dhf1k": "video/0601.AVI or video/0601/0001.png, annotation/0601/maps/0001.png, annotation/0601/fixation/0001.png",
    "hollywood2": "testing/actioncliptest00001_1/{images,maps,fixation}",
    "ucf-sports": "testing/Diving-Side-001/{images,maps,fixation}",
    "folder": "NAME.mp4 with maps/NAME and fixation/NAME, or masks/NAME; or NAME/{images,maps,fixation,masks}",
    "images": "images/NAME.jpg, maps/NAME.png, fixation/NAME.png, or masks/NAME.png",
}
"""Layout descriptions by the value of ``--dataset``."""

DEFAULT = "folder"
"""Default of ``--dataset``."""
