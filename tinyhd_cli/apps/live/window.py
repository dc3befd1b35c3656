"""Display frames in a Tk window."""

from __future__ import annotations

from ...errors import UsageError
from ...video.reader import Frame, Image


class TkWindow:
    """A Tk window that shows images. Closing it, or pressing q or Esc, ends the run.

    Raises:
        UsageError: no display is available, or Python was built without Tk.
    """

    def __init__(self, title: str) -> None:
        advice = "write to a file or pipe instead: --overlay FILE or --overlay -"
        try:
            import tkinter
        except ImportError:
            raise UsageError(f"this Python has no Tk, so no window can be shown; {advice}") from None
        try:
            self._root = tkinter.Tk()
        except tkinter.TclError:
            raise UsageError(f"no display is available, so no window can be shown; {advice}") from None
        self._photo = tkinter.PhotoImage
        self._root.title(title)
        self._label = tkinter.Label(self._root)
        self._label.pack()
        self._open = True
        self._root.protocol("WM_DELETE_WINDOW", self.close)
        for key in ("q", "<Escape>"):
            self._root.bind(key, lambda event: self.close())

    def close(self) -> None:
        """End the run after the current frame."""
        self._open = False

    def __call__(self, image: Image, frame: Frame) -> bool:
        header = f"P6 {image.shape[1]} {image.shape[0]} 255\n".encode()
        photo = self._photo(data=header + image.tobytes(), format="PPM")
        self._label.configure(image=photo)
        self._label.image = photo  # type: ignore[attr-defined]  # Tk keeps no reference to the image
        self._root.update()
        return self._open
