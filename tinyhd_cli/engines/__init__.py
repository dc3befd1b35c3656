"""Programs that run the networks faster than PyTorch does: the graph they are given, and one file for each."""

import sys

# OpenVINO reports every import to Google Analytics, from a forked copy of this process, which it waits for at exit and
# ends by SIGTERM, and writes into the home folder. It has a stub for where its telemetry package is not installed.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
