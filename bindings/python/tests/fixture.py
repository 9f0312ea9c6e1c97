# SPDX-License-Identifier: Apache-2.0
"""What the tests of the Python packages share: a key store of the three roles, and messages.

Out:  Mesh (a folder with keys and room for sockets), revoke(), request(), answer()
Not:  no test.
"""
import ctypes
import pathlib
import tempfile
import time
import uuid

from dsmil_dbe import DBEMessage, MessageType
from dsmil_dbe._lib import Diag, check, lib
from dsmil_dbe.registry import Role

NODES = {"shim-0": (0, Role.SHIM, 7), "router-43": (43, Role.ROUTER, 0), "worker-47": (47, Role.WORKER, 0)}


class _Issue(ctypes.Structure):
    """struct dbe_issue"""

    _fields_ = [("name", ctypes.c_char_p), ("device", ctypes.c_uint8), ("role", ctypes.c_uint8),
                ("layer", ctypes.c_uint8), ("classification_max", ctypes.c_uint8), ("compartments", ctypes.c_uint32),
                ("ceilings_set", ctypes.c_bool), ("exercise", ctypes.c_bool), ("valid_days", ctypes.c_uint32),
                ("_room", ctypes.c_uint8 * 256)]


def _issue(folder, name, device, role, layer):
    what, diag = _Issue(name=name.encode(), device=device, role=role, layer=layer), Diag()
    issue = lib.dbe_keys_issue
    issue.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p]
    check(issue(str(folder).encode(), ctypes.byref(what), ctypes.byref(diag)), diag)


def revoke(name, folder):
    """Put a certificate on the mesh's list."""
    diag = Diag()
    call = lib.dbe_keys_revoke
    call.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p]
    check(call(str(folder).encode(), name.encode(), 1, ctypes.byref(diag)), diag)


class Mesh:
    """A mesh on one machine, gone when it is closed."""

    def __init__(self, name="test.mesh"):
        self._folder = tempfile.TemporaryDirectory(prefix="dbe-")
        self.root = pathlib.Path(self._folder.name)
        self.keys = self.root / "keys"
        diag = Diag()
        init = lib.dbe_keys_init
        init.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint32, ctypes.c_void_p]
        check(init(str(self.keys).encode(), name.encode(), 2, ctypes.byref(diag)), diag)
        for node, (device, role, layer) in NODES.items():
            _issue(self.keys, node, device, role, layer)

    def path(self, name):
        """A socket's path."""
        return self.root / (name + ".sock")

    def close(self):
        """Remove the folder."""
        self._folder.cleanup()


def request(text="What is DSMIL?", token=None, **tlvs):
    """A chat request as a shim makes it."""
    request_id = str(uuid.uuid4())
    message = DBEMessage(MessageType.L7_CHAT_REQ, request_id,
                         {"messages": [{"role": "user", "content": text}], "max_tokens": 16})
    values = {"TENANT_ID": "LOCAL_TOOL_USER", "COMPARTMENT_MASK": 0x01, "CLASSIFICATION": "SECRET",
              "ROE_LEVEL": "SOC_ASSIST", "L7_PROFILE": "llm-7b-amx", "L7_CLAIM_TOKEN": token,
              "TIMESTAMP": time.time(), **tlvs}
    for name, value in values.items():
        message.tlv_set(name, value)
    return message


def answer(message, text, flags=0):
    """A chat response."""
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return DBEMessage(MessageType.L7_CHAT_RESP, message.correlation_id, {"choices": [choice]}, flags)
