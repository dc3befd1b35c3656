"""Descriptions of dataset layouts on disk, for messages and ``--help``. Imports nothing, so that ``--help`` is fast."""

EXPECTED = {
    "dhf1k": "video/0601.AVI or video/0601/0001.png, annotation/0601/maps/0001.png, annotation/0601/fixation/0001.png",
    "hollywood2": "testing/actioncliptest00001_1/{images,maps,fixation}",
    "ucf-sports": "testing/Diving-Side-001/{images,maps,fixation}",
    "crowdsal": "Test/Videos/3001.mp4, Test/Saliency/3001.mp4, Test/Fixations/3001.json",
    "ntire2026": "TrainTestSplit.json, Videos/NAME.mp4, SaliencyTest/Test/NAME.mp4, FixationsTest/Test/NAME/"
    "fixations.json",
    "avimos": "TrainTestSplit.json, Videos/NAME.mp4, SaliencyTest/Test/NAME.mp4, FixationsTest/Test/NAME/"
    "fixations.json",
    "folder": "NAME.mp4 with maps/NAME and fixation/NAME, or masks/NAME; or NAME/{images,maps,fixation,masks}",
    "images": "images/NAME.jpg, maps/NAME.png, fixation/NAME.png, or masks/NAME.png",
    "davis": "JPEGImages/480p/bear/00000.jpg, Annotations/480p/bear/00000.png, ImageSets/2016/val.txt",
    "davsod": "Easy-35/select_0004/Imgs/0001.png, Easy-35/select_0004/GT_object_level/0001.png",
    "segtrack": "JPEGImages/bmx/bmx_06668.png, GroundTruth/bmx/bmx_06668.png or GroundTruth/bmx/1/bmx_06668.png",
    "fbms": "Testset/cars1/cars1_01.jpg, Testset/cars1/GroundTruth/cars1_01_gt.ppm and cars1Def.dat",
    "visal": "ViSal/bird/bird_0001.png, GroundTruth/bird_0001.png",
    "vos": "VOS_test/53/Imgs/00001.png, VOS_test/53/ground-truth/00001.png",
}
"""Layout descriptions by the value of ``--dataset``."""

DEFAULT = "folder"
"""Default of ``--dataset``."""
