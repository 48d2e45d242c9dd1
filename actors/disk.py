"""One directory of a disk, as the raft log needs it: the port, and the real one.

The port is small so that its twin can be honest about what disks do: what is not synced may be lost or torn at
any byte, and a new, renamed or removed name is not safe before `sync_directory`
(tests/harness/faulty_disk.py; Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014).

Every refusal of the disk is a DiskError that says which file and what was tried. None but DiskFull is ever retried:
after a failed fsync Linux may drop the dirty pages and report success the next time (Rebello et al., "Can
Applications Recover from fsync Failures?", ATC 2020).
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, ClassVar, Protocol

from zkv.errors import DiskError, DiskFull

if TYPE_CHECKING:
    from collections.abc import Iterator


class Disk(Protocol):
    """Files of one directory, by name; an open file is an int. Every method raises DiskError."""

    def names(self) -> list[str]: ...

    def where(self, name: str) -> str:
        """How people find the file."""

    def open(self, name: str) -> int: ...

    def create(self, name: str, size: int) -> int:
        """A new file of `size` zero bytes whose blocks are reserved. It must not exist.

        Raises DiskFull, and has then left nothing behind.
        """

    def close(self, file: int) -> None: ...

    def size(self, file: int) -> int: ...

    def read(self, file: int, size: int, offset: int) -> bytes:
        """`size` bytes, fewer only at the end of the file."""

    def write(self, file: int, data: bytes, offset: int) -> None:
        """All of `data`; a file grows as needed. Visible at once, safe after `sync`."""

    def sync(self, file: int) -> None:
        """What was written to the file is on stable storage when this returns; its name may not be."""

    def rename(self, old: str, new: str) -> None: ...

    def unlink(self, name: str) -> None: ...

    def sync_directory(self) -> None:
        """What was created, renamed and removed stays so."""

    def token(self) -> bytes:
        """Eight bytes that nobody guesses and that do not come twice."""


class Directory:
    """The port on a directory of this machine."""

    MODE: ClassVar[int] = os.O_RDWR
    """How its files are opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        with self._trying("open", ""):
            self._directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @contextlib.contextmanager
    def _trying(self, deed: str, name: str | int) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._refusal(deed, name, error) from error

    def _refusal(self, deed: str, name: str | int, error: OSError) -> DiskError:
        where = self._path if isinstance(name, int) else self.where(name)
        return DiskError(f"{deed} {where}: {os.strerror(error.errno or 0)}")

    def names(self) -> list[str]:
        with self._trying("list", ""):
            return sorted(os.listdir(self._directory))

    def where(self, name: str) -> str:
        return os.path.join(self._path, name)

    def open(self, name: str) -> int:
        with self._trying("open", name):
            return os.open(name, self.MODE | os.O_CLOEXEC, dir_fd=self._directory)

    def create(self, name: str, size: int) -> int:
        with self._trying("create", name):
            file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._directory)
            try:
                os.posix_fallocate(file, 0, size)
            except OSError as error:
                os.close(file)
                os.unlink(name, dir_fd=self._directory)
                if error.errno == errno.ENOSPC:
                    raise DiskFull(f"create {self.where(name)}: {os.strerror(errno.ENOSPC)}") from error
                raise
            return file

    def close(self, file: int) -> None:
        with self._trying("close a file of", file):
            os.close(file)

    def size(self, file: int) -> int:
        with self._trying("look at a file of", file):
            return os.fstat(file).st_size

    def read(self, file: int, size: int, offset: int) -> bytes:
        with self._trying("read a file of", file):
            data = os.pread(file, size, offset)
            while len(data) < size and (more := os.pread(file, size - len(data), offset + len(data))):
                data += more
            return data

    def write(self, file: int, data: bytes, offset: int) -> None:
        try:
            written = os.pwrite(file, data, offset)
            while written < len(data):
                written += os.pwrite(file, memoryview(data)[written:], offset + written)
        except OSError as error:
            raise self._refusal("write to a file of", file, error) from error

    def sync(self, file: int) -> None:
        try:
            os.fdatasync(file)
        except OSError as error:
            raise self._refusal("sync a file of", file, error) from error

    def rename(self, old: str, new: str) -> None:
        with self._trying("rename", old):
            os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def unlink(self, name: str) -> None:
        with self._trying("remove", name):
            os.unlink(name, dir_fd=self._directory)

    def sync_directory(self) -> None:
        with self._trying("sync", ""):
            os.fsync(self._directory)

    def token(self) -> bytes:
        return os.urandom(8)


class ReadOnlyDirectory(Directory):
    """A directory whose files stay as they are, whatever the log would put right in them."""

    MODE: ClassVar[int] = os.O_RDONLY

    def write(self, file: int, data: bytes, offset: int) -> None: ...

    def sync(self, file: int) -> None: ...

    def rename(self, old: str, new: str) -> None: ...

    def unlink(self, name: str) -> None: ...

    def sync_directory(self) -> None: ...
