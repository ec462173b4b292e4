"""What the probe's child process does: ask the NVIDIA driver, by ctypes and nothing else.

Run as a script by `engines.probe`, never imported by the server: a driver that crashes or hangs takes only this process
with it. Standard output gets one JSON object a line: ``{"calling": NAME}`` before each call, so that the parent knows
where it went wrong, and at the end what was found.
"""

import ctypes
import json

#: From cuda.h, where these numbers are part of the driver's ABI.
COMPUTE_CAPABILITY_MAJOR, COMPUTE_CAPABILITY_MINOR = 75, 76
NAME_BYTES = 256


class CallFailed(Exception):
    """A driver call answered a status that is not success."""

    def __init__(self, call: str, status: int, name: str) -> None:
        super().__init__(call)
        self.call, self.status, self.name = call, status, name


def say(**values: object) -> None:
    """One line to the parent, which must arrive even if the next call ends this process."""
    print(json.dumps(values), flush=True)


class Driver:
    """The driver's calls, each announced and each status checked."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def call(self, name: str, *arguments: object) -> None:
        """Raises CallFailed; AttributeError where the library lacks the function."""
        say(calling=name)
        status = int(getattr(self._library, name)(*arguments))
        if status:
            text = ctypes.c_char_p()
            known = self._library.cuGetErrorName(status, ctypes.byref(text)) == 0 and text.value
            raise CallFailed(name, status, known.decode() if known else "unknown status")

    def number(self, name: str, *arguments: object) -> int:
        """The int that the call writes to its first argument."""
        value = ctypes.c_int()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value


def describe(driver: Driver, index: int) -> dict[str, object]:
    """One device, with its memory as its primary context sees it; a device that cannot be used says why."""
    device = driver.number("cuDeviceGet", index)
    name = ctypes.create_string_buffer(NAME_BYTES)
    driver.call("cuDeviceGetName", name, NAME_BYTES, device)
    found: dict[str, object] = {
        "index": index,
        "name": name.value.decode(errors="replace"),
        "major": driver.number("cuDeviceGetAttribute", COMPUTE_CAPABILITY_MAJOR, device),
        "minor": driver.number("cuDeviceGetAttribute", COMPUTE_CAPABILITY_MINOR, device),
    }
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    try:
        driver.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        driver.call("cuCtxPushCurrent_v2", context)
        driver.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        driver.call("cuCtxPopCurrent_v2", ctypes.byref(context))
        driver.call("cuDevicePrimaryCtxRelease_v2", device)
    except CallFailed as error:
        return found | {"fault": f"{error.call} answered {error.name} ({error.status})"}
    return found | {"free_bytes": free.value, "total_bytes": total.value}


def main() -> None:
    """Find the driver and its devices and say so."""
    say(calling="dlopen libcuda.so.1")
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        say(load_error=str(error))
        return
    driver = Driver(library)
    version = None
    try:
        version = driver.number("cuDriverGetVersion")
        driver.call("cuInit", 0)
        count = driver.number("cuDeviceGetCount")
        say(cuda_version=version, devices=[describe(driver, index) for index in range(count)])
    except CallFailed as error:
        say(cuda_version=version, failed=error.call, status=error.status, name=error.name)
    except AttributeError as error:
        say(load_error=str(error))


if __name__ == "__main__":
    main()
