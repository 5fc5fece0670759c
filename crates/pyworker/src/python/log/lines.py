# The text files that replace stdout and stderr. What a thread prints in pieces is written in whole lines, so
# that the lines of several threads don't mix.
from _thread import _local
from io import TextIOWrapper


class Lines(TextIOWrapper):
    def __init__(self, buffer, **options):
        super().__init__(buffer, **options)
        self._begun = _local()

    def write(self, text):
        begun = getattr(self._begun, "text", "")
        if text[-1:] == "\n" or len(begun) > 65536:
            self._begun.text = ""
            super().write(begun + text)
        else:
            self._begun.text = begun + text
        return len(text)

    def flush(self):
        begun = getattr(self._begun, "text", "")
        if begun:
            self._begun.text = ""
            super().write(begun)
        super().flush()
        self.buffer.raw.settle()
