"""Recognises files that people submit by mistake or from another framework, by their content.

Nothing in a file is run or unpacked to the disk, and only bounded parts of it are read.
"""

from cxreval.foreign_files.kinds import ForeignKind
from cxreval.foreign_files.recognise import foreign_kind

__all__ = ["ForeignKind", "foreign_kind"]
