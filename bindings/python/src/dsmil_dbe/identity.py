# SPDX-License-Identifier: Apache-2.0
"""Who this process is: certificate and key from the key store.

In:   DSMIL_KEYS, the key store (else `keys` in DSMIL_STATE, else in ~/.local/state/dsmil); DSMIL_DEVICE_ID, a device's
      number (else 0, the shim); DSMIL_ROLE where the store has several certificates of that device
Out:  Credential and Trust, loaded once for each file
Not:  it makes no keys: `dsmil keys` does.
"""
from __future__ import annotations

import ctypes
import os
import pathlib
import threading
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union

from ._lib import ON_KEY, Diag, Identity, check, lib, text_of
from .errors import E_ARGUMENT, E_CONFIG, E_NOT_FOUND
from .registry import Role

_lock = threading.Lock()


def _after_fork() -> None:
    """A thread of the parent may have held it."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
_loaded: "Dict[str, Tuple[int, Credential]]" = {}


class IdentityInfo(NamedTuple):
    """What a verified certificate says."""

    spiffe_id: str
    mesh: str
    device: int
    layer: int
    role: Role
    classification_max: int
    exercise: bool
    compartments: int
    not_before: float
    not_after: float


def info_of(identity: Identity) -> IdentityInfo:
    """struct dbe_identity for Python."""
    return IdentityInfo(text_of(identity.spiffe_id), text_of(identity.mesh), identity.device, identity.layer,
                        Role(identity.role), identity.classification_max, bool(identity.exercise),
                        identity.compartments, identity.not_before_ms / 1000, identity.not_after_ms / 1000)


class Credential:
    """A certificate and its private key, which stays inside the library."""

    def __init__(self, folder: str, name: str) -> None:
        out, diag = ctypes.c_void_p(), Diag()
        check(lib.dbe_credential_load(os.fsencode(folder), name.encode(), ctypes.byref(out), ctypes.byref(diag)), diag)
        self.ptr = out
        self.name = name
        raw = lib.dbe_credential_identity(out).contents
        self.identity = info_of(raw)
        self.fingerprint = bytes(raw.fingerprint)

    def certificate(self) -> bytes:
        """The certificate, DER."""
        der, length = ctypes.c_void_p(), ctypes.c_size_t()
        lib.dbe_credential_cert(self.ptr, ctypes.byref(der), ctypes.byref(length))
        return ctypes.string_at(der, length.value)

    def __del__(self) -> None:
        if getattr(self, "ptr", None) and lib is not None:
            lib.dbe_credential_free(self.ptr)


class Trust:
    """The mesh's CA."""

    def __init__(self, folder: str) -> None:
        out, diag = ctypes.c_void_p(), Diag()
        check(lib.dbe_trust_load(os.fsencode(folder), ctypes.byref(out), ctypes.byref(diag)), diag)
        self.ptr = out

    def verify(self, certificate: bytes) -> Tuple[IdentityInfo, bytes]:
        """Identity and public key of a certificate of this mesh. E_CERT, E_EXPIRED, E_REVOKED."""
        identity, key, diag = Identity(), ctypes.create_string_buffer(2592), Diag()
        check(lib.dbe_trust_verify(self.ptr, certificate, len(certificate), int(time.time() * 1000),
                                   ctypes.byref(identity), key, ctypes.byref(diag)), diag)
        return info_of(identity), key.raw

    def __del__(self) -> None:
        if getattr(self, "ptr", None) and lib is not None:
            lib.dbe_trust_free(self.ptr)


def default_store() -> str:
    """The key store's folder."""
    named = os.environ.get("DSMIL_KEYS")
    if named:
        return named
    state = os.environ.get("DSMIL_STATE") or str(pathlib.Path.home() / ".local" / "state" / "dsmil")
    return str(pathlib.Path(state) / "keys")


def default_device() -> int:
    """The device that this process acts as."""
    text = os.environ.get("DSMIL_DEVICE_ID", "0")
    if not text.isdigit() or int(text) > 103:
        raise E_CONFIG(f"DSMIL_DEVICE_ID is a device's number, 0 to 103, not {text!r}")
    return int(text)


def _default_role() -> Optional[Role]:
    text = os.environ.get("DSMIL_ROLE", "").upper()
    if text and text not in Role.__members__:
        raise E_CONFIG(f"DSMIL_ROLE is one of {', '.join(r.name.lower() for r in Role)}, not {text!r}")
    return Role[text] if text else None


def find(folder: str, device: int, role: Optional[Role]) -> str:
    """Name of the one certificate of a device in the store. E_NOT_FOUND and E_CONFIG say what to do."""
    found: List[Tuple[str, IdentityInfo]] = []
    broken: List[str] = []

    def on_key(_ctx: Any, name: bytes, identity: Any, err: int, problem: Optional[bytes]) -> None:
        path = pathlib.Path(folder, name.decode() + ".key")
        if err == 0 and identity and path.exists():
            found.append((name.decode(), info_of(identity.contents)))
        elif err != 0:
            broken.append(f"{name.decode()}: {text_of(problem)}")

    diag = Diag()
    check(lib.dbe_keys_list(os.fsencode(folder), ON_KEY(on_key), None, ctypes.byref(diag)), diag)
    fitting = [name for name, who in found if name != "ca" and who.device == device and role in (None, who.role)]
    if len(fitting) > 1:
        raise E_CONFIG(f"{folder} holds {', '.join(sorted(fitting))} for device {device}: DSMIL_ROLE says which")
    if not fitting:
        hint = f" ({'; '.join(broken)})" if broken else ""
        raise E_NOT_FOUND(f"{folder} holds no certificate with its key for device {device}"
                          f"{' and role ' + role.name.lower() if role else ''}{hint}: `dsmil keys issue` makes one")
    return fitting[0]


def _once(folder: str, name: str) -> Credential:
    """The credential of a name, loaded again when its file is another one."""
    path = pathlib.Path(folder, name + ".crt")
    try:
        stamp = path.stat().st_mtime_ns
    except OSError:
        stamp = 0
    with _lock:
        known = _loaded.get(str(path))
        if known is None or known[0] != stamp:
            known = _loaded[str(path)] = (stamp, Credential(folder, name))
        return known[1]


def credential(store: Union[str, "os.PathLike[str]", None] = None, device: Optional[int] = None,
               role: Union[Role, str, None] = None, name: Optional[str] = None) -> Credential:
    """This process's credential: by name, or by device and role; what is None comes from the environment."""
    folder = os.fspath(store) if store is not None else default_store()
    if name is None:
        if isinstance(role, str):
            if role.upper() not in Role.__members__:
                raise E_ARGUMENT(f"no role is called {role!r}")
            role = Role[role.upper()]
        name = find(folder, default_device() if device is None else device, role or _default_role())
    return _once(folder, name)


def credential_of_path(path: Union[str, "os.PathLike[str]"]) -> Credential:
    """The credential of a key file of the store, <store>/<name>.key."""
    at = pathlib.Path(path)
    if at.suffix != ".key":
        raise E_ARGUMENT(f"{at} is no key file of a key store: those are called <name>.key")
    return credential(at.parent, name=at.stem)


def trust(store: Union[str, "os.PathLike[str]", None] = None) -> Trust:
    """The mesh of a key store. A new object each time: one belongs to one thread, or to one lock."""
    return Trust(os.fspath(store) if store is not None else default_store())
