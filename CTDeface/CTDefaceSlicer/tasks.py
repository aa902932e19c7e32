"""What runs in the background of the CTDeface panel, one at a time."""

import enum


class Task(enum.Enum):
    SAMPLE = "sample"
    EXPECT = "expect"
    DOWNLOAD = "download"
    SEGMENT = "segment"
    PREVIEW = "preview"
    DEFACE = "deface"
    FURTHER = "further"
    EXPORT = "export"
