# SPDX-License-Identifier: Apache-2.0
"""DBE, the sealed message channel of a DSMIL mesh: messages, sockets, identities, over libdbe.

    from dsmil_dbe import DBEMessage, DBESocket, MessageType

docs/python.md shows how to use it; docs/spec/dbe-v1.md is the protocol.
"""
from . import errors
from .aio import AsyncDBESocket
from .claim import ClaimInfo, ClaimToken
from .endpoint import Peer
from .errors import DBEError
from .identity import IdentityInfo
from .message import DBEMessage
from .registry import Classification, Compartment, MessageFlag, MessageType, RoeLevel, Role, TlvType
from .socket import DBESocket
from .tlv import Hop

__all__ = ["AsyncDBESocket", "ClaimInfo", "ClaimToken", "Classification", "Compartment", "DBEError", "DBEMessage",
           "DBESocket", "Hop", "IdentityInfo", "MessageFlag", "MessageType", "Peer", "RoeLevel", "Role", "TlvType",
           "errors"]
