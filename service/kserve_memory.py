"""System shared memory of KServe clients: which regions are registered, and who may use them.

The protocol has no token: who may call can have every region read and written that the server may open. So it has a
switch of its own, regions of our own protocol (which have a token) cannot be named, and each tenant sees its own only.
"""

import re
from dataclasses import dataclass

from humanseg.shared_memory import NAME_PREFIX
from service.call_errors import CallError, Reason, invalid
from service.region import SharedFile, SharedMemoryError
from service.shared_memory import FieldNames, open_object, refused, require_allowed

#: Each holds a descriptor until it is unregistered.
REGIONS_LIMIT = 256
_NAME_LIMIT = 256
_KEY = re.compile(r"/?([A-Za-z0-9_-][A-Za-z0-9._-]{0,199})", re.ASCII)
_FIELDS = FieldNames("request", "name", "key", "byte_size")


@dataclass(frozen=True, slots=True)
class RegisteredRegion:
    """A region as it was registered."""

    name: str
    key: str
    offset: int
    byte_size: int
    file: SharedFile


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a registered region."""

    region: RegisteredRegion
    offset: int
    """Counted from the region's own."""
    byte_size: int

    def read(self) -> memoryview:
        """A copy of them.

        Raises:
            CallError: SHARED_MEMORY_REFUSED, they are not there any more.
        """
        view = memoryview(bytearray(self.byte_size))
        try:
            self.region.file.read_into(view, self.region.offset + self.offset)
        except SharedMemoryError as error:
            raise refused(f"region {self.region.name!r}: {error}", _FIELDS) from None
        return view.toreadonly()

    def require_room(self, mask: bytes) -> None:
        """Raises CallError (CONFIG_INVALID) where a mask does not fit."""
        if len(mask) > self.byte_size:
            text = f"{self.byte_size} bytes for a mask of {len(mask)}; give it more"
            raise invalid(Reason.CONFIG_INVALID, "request is not acceptable", [("shared_memory_byte_size", text)])

    def write(self, mask: bytes) -> None:
        """Write a mask, which fits, to their beginning.

        Raises:
            CallError: SHARED_MEMORY_REFUSED, they are not there any more.
        """
        try:
            self.region.file.write(mask, self.region.offset + self.offset)
        except SharedMemoryError as error:
            raise refused(f"region {self.region.name!r}: {error}", _FIELDS) from None


class RegionBook:
    """The regions registered with one server. Belongs to one event loop."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._regions: dict[tuple[str, str], RegisteredRegion] = {}

    def register(self, tenant: str, peer: str, name: str, key: str, offset: int, byte_size: int) -> None:
        """Open a region under a name.

        Raises:
            CallError: SHARED_MEMORY_REFUSED, CONFIG_INVALID, LIMIT_EXCEEDED.
        """
        self._require_allowed(peer)
        complaints = []
        if not 1 <= len(name) <= _NAME_LIMIT or not name.isprintable():
            text = f"{name[:80]!r} is no name; allowed are 1 to {_NAME_LIMIT} printable characters"
            complaints.append(("name", text))
        matched = _KEY.fullmatch(key)
        if matched is None or matched[1].startswith(NAME_PREFIX):
            allowed = (
                f"allowed are 1 to 200 letters, digits, '.', '_' or '-' after at most one '/', not beginning with '.'"
                f" or {NAME_PREFIX!r}, no path"
            )
            complaints.append(("key", f"{key[:80]!r} is no key of a shared-memory object; {allowed}"))
        if byte_size < 1:
            complaints.append(("byte_size", f"{byte_size}, a region has at least 1"))
        if complaints or matched is None:
            raise invalid(Reason.CONFIG_INVALID, "request is not acceptable", complaints)
        if (tenant, name) in self._regions:
            raise refused(f"region {name!r} is registered already; unregister it first", _FIELDS)
        if len(self._regions) >= REGIONS_LIMIT:
            text = f"{REGIONS_LIMIT} regions are registered, more are not taken; unregister those of no use"
            raise CallError(Reason.LIMIT_EXCEEDED, text, metadata={"max_regions": str(REGIONS_LIMIT)})
        descriptor = open_object(matched[1], offset + byte_size, _FIELDS)
        file = SharedFile(descriptor, offset + byte_size)
        self._regions[tenant, name] = RegisteredRegion(name, key, offset, byte_size, file)

    def place(self, tenant: str, peer: str, name: str, offset: int, byte_size: int) -> Place:
        """Bytes that a request names.

        Raises:
            CallError: SHARED_MEMORY_REFUSED where there is no such region, CONFIG_INVALID where they are not all in it.
        """
        self._require_allowed(peer)
        region = self._regions.get((tenant, name))
        if region is None:
            raise refused(f"region {name[:80]!r} is not registered; register it first", _FIELDS)
        if offset < 0 or byte_size < 1 or offset + byte_size > region.byte_size:
            text = (
                f"offset {offset} and byte size {byte_size} do not lie in region {name!r} of {region.byte_size} bytes;"
                " register a larger one"
            )
            raise invalid(Reason.CONFIG_INVALID, "request is not acceptable", [("shared_memory_offset", text)])
        return Place(region, offset, byte_size)

    def status(self, tenant: str, name: str) -> list[RegisteredRegion]:
        """A tenant's regions; the one of that name alone, where one is given.

        Raises:
            CallError: SHARED_MEMORY_REFUSED, there is none of that name.
        """
        if not name:
            return [region for (owner, _), region in self._regions.items() if owner == tenant]
        region = self._regions.get((tenant, name))
        if region is None:
            raise refused(f"region {name[:80]!r} is not registered; register it first", _FIELDS)
        return [region]

    def unregister(self, tenant: str, name: str) -> None:
        """Let go of a tenant's region, or of all of them where the name is empty; none of that name is no error."""
        for key in [key for key in self._regions if key[0] == tenant and name in ("", key[1])]:
            self._regions.pop(key).file.close()

    def close(self) -> None:
        """Let go of all."""
        for region in self._regions.values():
            region.file.close()
        self._regions.clear()

    def _require_allowed(self, peer: str) -> None:
        require_allowed(enabled=self._enabled, setting="--kserve-shared-memory", peer=peer, fields=_FIELDS)
