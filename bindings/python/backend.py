# SPDX-License-Identifier: Apache-2.0
"""PEP 517 backend of the Python packages: one wheel with both packages and libdbe.so.1 inside.

In:   the checkout around this file; DSMIL_LIBDBE (else build/src/lib/libdbe.so.1, else scripts/build makes it)
Out:  dsmil_dbe-VERSION-py3-none-PLATFORM.whl
Not:  no network and no other package; no sdist, for the library is built from the whole checkout.
"""
import base64
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
SONAME = "libdbe.so.1"
NAME = "dsmil_dbe"
SUMMARY = "Post-quantum message channel of a DSMIL mesh: messages, sockets, claim tokens"


class UnsupportedOperation(Exception):
    """What this backend does not do; pip looks for the name."""


def get_requires_for_build_wheel(_config_settings=None):
    """Nothing."""
    return []


def build_sdist(_sdist_directory, _config_settings=None):
    """There is none."""
    raise UnsupportedOperation("install from the checkout: pip install .")


def version():
    """The project's, as meson.build says."""
    return re.search(r"^  version: '([^']+)'", (ROOT / "meson.build").read_text(encoding="utf-8"), re.M).group(1)


def library():
    """Path of a libdbe.so.1, built where there is none."""
    named = os.environ.get("DSMIL_LIBDBE")
    built = pathlib.Path(named) if named else ROOT / "build" / "src" / "lib" / SONAME
    if not built.exists() and not named:
        done = subprocess.run([str(ROOT / "scripts" / "build"), "build"], check=False, stdout=sys.stderr,
                              env={**os.environ, "NINJA_TARGETS": "src/lib/libdbe.so.1.0.0"})
        if done.returncode != 0:
            raise SystemExit("libdbe could not be built: `make` in the checkout shows why")
    if not built.exists():
        raise SystemExit(f"{built} is not there")
    return built


def metadata():
    """The wheel's METADATA."""
    return (f"Metadata-Version: 2.1\nName: dsmil-dbe\nVersion: {version()}\nSummary: {SUMMARY}\n"
            "License: Apache-2.0\nRequires-Python: >=3.9\n")


def tag():
    """No extension module: any Python 3 of this platform."""
    return "py3-none-" + re.sub(r"[-.]", "_", sysconfig.get_platform())


def contents():
    """(name in the wheel, bytes, mode) of everything but the record."""
    sys.path.insert(0, str(HERE))
    import stage  # pylint: disable=import-outside-toplevel
    with tempfile.TemporaryDirectory() as folder:
        stage.main(ROOT, folder)
        for path in sorted(pathlib.Path(folder).rglob("*")):
            if path.suffix == ".py" or path.name == "py.typed":
                yield str(path.relative_to(folder)), path.read_bytes(), 0o644
    yield f"{NAME}/{SONAME}", library().read_bytes(), 0o755
    info = f"{NAME}-{version()}.dist-info"
    yield f"{info}/METADATA", metadata().encode(), 0o644
    yield f"{info}/LICENSE", (ROOT / "LICENSE").read_bytes(), 0o644
    wheel = f"Wheel-Version: 1.0\nGenerator: dsmil\nRoot-Is-Purelib: false\nTag: {tag()}\n"
    yield f"{info}/WHEEL", wheel.encode(), 0o644


def write(wheel, name, data, mode):
    """One member, the same bytes on every run; returns its row of the record."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr = (0o100000 | mode) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    wheel.writestr(entry, data)
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def build_wheel(wheel_directory, _config_settings=None, _metadata_directory=None):
    """Write the wheel; returns its name."""
    name = f"{NAME}-{version()}-{tag()}.whl"
    record = f"{NAME}-{version()}.dist-info/RECORD"
    with zipfile.ZipFile(pathlib.Path(wheel_directory) / name, "w") as wheel:
        rows = [write(wheel, *member) for member in contents()]
        write(wheel, record, ("".join(rows) + f"{record},,\n").encode(), 0o644)
    return name
