"""A folder of built engines: written whole or not at all, built once, loaded only when every byte is the builder's own.

A plan is code that the GPU's library runs as it stands, and neither flavor of TensorRT notices a changed byte. So the
bytes are read once, their hash is compared with the sidecar's, and these very bytes are handed on. What the hash does
not guard against is somebody who may write both files; a folder that others may write is refused.
"""

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from engines.plan import (
    BuiltPlan,
    CacheWriteError,
    Flavor,
    PlanDamagedError,
    PlanError,
    PlanForeignError,
    PlanKey,
    PlanMissingError,
    PlanStaleError,
    PlanUnsafeError,
    Sidecar,
)

#: Where engines go unless told otherwise, from where the command was started.
DEFAULT_FOLDER = Path("out/engines")
#: Of a sidecar; above it the file is none of ours.
MAX_SIDECAR_BYTES = 1 << 20
#: What belongs to the machine, in the words of the message; a difference in anything else makes a plan stale.
_MACHINE = ("flavor", "version", "compute_capability", "driver")


@dataclass(frozen=True, slots=True)
class LoadedPlan:
    """A plan whose bytes are what the builder wrote."""

    plan: bytes
    sidecar: Sidecar
    path: Path
    built_now: bool
    """Whether this call built it, instead of finding it."""


@dataclass(frozen=True, slots=True)
class PlanCache:
    """Plans by key, in one folder."""

    folder: Path

    def sidecar_path(self, key: PlanKey) -> Path:
        """Where the sidecar of a key is."""
        return self.folder / f"{key.stem}.plan.json"

    def load(self, key: PlanKey) -> LoadedPlan:
        """Read the plan of a key.

        Raises:
            PlanMissingError: nothing was built for this model.
            PlanStaleError, PlanForeignError: what was built is for something else, which the message names.
            PlanDamagedError: a file is cut off, changed or unreadable.
            PlanUnsafeError: others may write the folder or a file.
        """
        path = self.sidecar_path(key)
        try:
            sidecar = Sidecar.parse(_read(path, MAX_SIDECAR_BYTES))
            _check_owner(self.folder, self.folder.stat())
        except FileNotFoundError:
            raise self._absent(key) from None
        except ValueError as error:
            raise PlanDamagedError(f"{path} {error}; {_mend(key)}") from None
        if sidecar.key != key:
            raise _differs(path, sidecar.key, key)
        plan_path = self.folder / sidecar.plan_name
        try:
            plan = _read(plan_path, sidecar.plan_bytes + 1)
        except FileNotFoundError:
            raise PlanDamagedError(f"{path} is there, but its plan {plan_path.name} is not; {_mend(key)}") from None
        if len(plan) != sidecar.plan_bytes:
            seen = "more" if len(plan) > sidecar.plan_bytes else str(len(plan))
            raise PlanDamagedError(
                f"{plan_path} is cut off or grown: {seen} bytes, the builder wrote {sidecar.plan_bytes}; {_mend(key)}"
            )
        if hashlib.sha256(plan).hexdigest() != sidecar.plan_sha256:
            raise PlanDamagedError(f"{plan_path} was changed after it was built (its SHA-256 differs); {_mend(key)}")
        return LoadedPlan(plan, sidecar, plan_path, built_now=False)

    def load_or_build(self, key: PlanKey, build: Callable[[], BuiltPlan], say: Callable[[str], None]) -> LoadedPlan:
        """Read the plan of a key; where there is none that can be used, build it, while others who want it wait.

        Args:
            key: what is wanted.
            build: makes it; whatever it raises comes out of here, and nothing is written.
            say: told in one line why a build is needed, and that another process is being waited for.

        Raises:
            PlanUnsafeError: others may write the folder or a file.
            CacheWriteError: the folder cannot be written or the disk is full; nothing is left behind.
        """
        try:
            return self.load(key)
        except PlanUnsafeError:
            raise
        except PlanError:
            pass  # looked at again under the lock
        with self._lock(key, say):
            try:
                return self.load(key)
            except PlanUnsafeError:
                raise
            except PlanError as error:
                say(f"building: {error}")
            return self._store(key, build())

    def _store(self, key: PlanKey, built: BuiltPlan) -> LoadedPlan:
        """Write plan, then sidecar, each by rename: the sidecar's rename is what makes the new plan the one."""
        sidecar = Sidecar.of(key, built)
        plan_path = self.folder / sidecar.plan_name
        with _writing(self.folder):
            _write(plan_path, built.plan)
            _write(self.sidecar_path(key), sidecar.dump())
            for earlier in self.folder.glob(f"{key.stem}-*.plan"):
                if earlier != plan_path:
                    earlier.unlink(missing_ok=True)
        return LoadedPlan(built.plan, sidecar, plan_path, built_now=True)

    @contextmanager
    def _lock(self, key: PlanKey, say: Callable[[str], None]) -> Iterator[None]:
        """Hold the key's lock file; the kernel lets go of it when the process dies, so it is never removed."""
        with _writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _check_owner(self.folder, self.folder.stat())
            lock = os.open(self.folder / f"{key.stem}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another process is building {key.stem}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            for unfinished in self.folder.glob(f"{key.stem}*.tmp"):  # of a process that was killed: the lock is ours
                with suppress(OSError):
                    unfinished.unlink()
            yield
        finally:
            os.close(lock)

    def _absent(self, key: PlanKey) -> PlanError:
        """What to say where nothing was built for a key: the nearest that was, if any of this model can be read."""
        nearest: tuple[Path, PlanKey] | None = None
        for path in sorted(self.folder.glob("*.plan.json")):
            try:
                other = Sidecar.parse(_read(path, MAX_SIDECAR_BYTES)).key
            except (ValueError, OSError, PlanError):
                continue  # its own key's business
            if other.model == key.model and (
                nearest is None or len(_differences(other, key)) < len(_differences(nearest[1], key))
            ):
                nearest = (path, other)
        if nearest:
            return _differs(*nearest, key)
        return PlanMissingError(f"no engine of {key.model} in {self.folder}; {_mend(key)}")


def _mend(key: PlanKey) -> str:
    command = f"python -m engines.build --model {key.model} --precision {key.precision} --max-batch {key.buckets[-1]}"
    if key.flavor is Flavor.TENSORRT_RTX:
        command += f" --flavor {key.flavor} --compute-capability {key.compute_capability}"
    return f"build it on this machine: `{command}`"


def _differences(other: PlanKey, key: PlanKey) -> dict[str, tuple[object, object]]:
    seen, wanted = other.to_json(), key.to_json()
    return {name: (seen[name], wanted[name]) for name in wanted if seen[name] != wanted[name]}


def _differs(path: Path, other: PlanKey, key: PlanKey) -> PlanError:
    differences = _differences(other, key)
    parts = [f"{name} {_short(seen)}, wanted {_short(wanted)}" for name, (seen, wanted) in differences.items()]
    error = PlanForeignError if any(name in differences for name in _MACHINE) else PlanStaleError
    return error(f"{path} was built for another {'; '.join(parts)}; {_mend(key)}")


def _short(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    text = str(value)
    return text[:12] + "..." if len(text) == 64 else text


def _read(path: Path, limit: int) -> bytes:
    """At most ``limit`` bytes of a regular file of ours, read once."""
    try:
        # Not blocking, so that a pipe in the file's place is refused and not waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PlanDamagedError(f"{path} is not a regular file; remove it")
            _check_owner(path, status)
            return file.read(limit)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise PlanDamagedError(
            f"{path} cannot be read: {error.strerror}; give this user the right to read it, or remove it"
        ) from error


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise PlanUnsafeError(
            f"{path} belongs to user {status.st_uid}, allowed are this one ({os.geteuid()}) and root, since an engine"
            " is code; remove it or take another folder by --cache"
        )
    if status.st_mode & stat.S_IWOTH:
        raise PlanUnsafeError(f"every user may write {path}, and an engine is code; `chmod o-w {path}` if it is yours")


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CacheWriteError(
            f"engine cache {folder} cannot be written: {error.strerror}"
            f"{f' ({error.filename})' if error.filename else ''}; free space there, or take another folder by --cache"
        ) from error


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; it is on the disk when this returns."""
    handle, name = tempfile.mkstemp(prefix=f"{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
