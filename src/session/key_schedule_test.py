#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The key schedule worked out again, from the specification alone (docs/spec/dbe-v1.md, 6.7 to 6.9 and 7.1 to 7.7).

In:   src/session/key_schedule_vectors.txt, which key_schedule_test.c compares with what the library does
Out:  how many values agree; exit 1 and the names of those that do not
Does: transcripts, TH at each point, HKDF and HMAC with hashlib and hmac; the layout of messages 1 and 2.
Not:  AES-GCM, ML-KEM, ECDH and ML-DSA are not in Python: their outputs are inputs here.
"""
import hashlib
import hmac
import os
import pathlib
import struct
import sys

ROOT = pathlib.Path(os.environ.get("DSMIL_SOURCE_ROOT", pathlib.Path(__file__).resolve().parents[2]))
VECTORS = ROOT / "src" / "session" / "key_schedule_vectors.txt"
HASH, KEM_CT, KEM_EK, SIG, TAG = 64, 1568, 1568, 4627, 16
SUITES = {1: (97, 48), 2: (32, 32)}  # 6.2: public value, secret
KEM_SECRET, ECDH_SECRET_BYTE = bytes([0x5E]) * 32, 0xEC
POLICY = bytes(range(1, 9)) + bytes(23) + bytes([32])
PREFIX = {"outer": b"DSMIL-DBE v1", "inner": b"DSMIL-DBE v1 rehandshake" + bytes([0xB1]) * 32}  # 6.7, 7.12


def sha3(data):
    """SHA3-512."""
    return hashlib.sha3_512(data).digest()


def mac(key, data):
    """HMAC-SHA3-512 (RFC 2104)."""
    return hmac.new(key, data, hashlib.sha3_512).digest()


def derive(secret, label, length, context=b""):
    """Clause 7.1: HKDF-Expand (RFC 5869, section 2.3) with info = label || 0x00 || context."""
    info, out, block, count = label.encode() + b"\0" + context, b"", b"", 1
    while len(out) < length:
        block = mac(secret, block + info + bytes([count]))
        out, count = out + block, count + 1
    return out[:length]


def load():
    """case -> name -> bytes."""
    cases = {}
    for line in VECTORS.read_text(encoding="ascii").splitlines():
        if line and not line.startswith("#"):
            case, name, value = line.split(" ")
            cases.setdefault(case, {})[name] = bytes.fromhex(value)
    return cases


def auth_block(v, who, transcript, confirm_key, found):
    """Clauses 6.8, 6.9: the block in the clear; checks what is signed and what the evidence is over."""
    cert, evidence = v[f"{who}_certificate"], who.encode()
    head = struct.pack(">H", len(cert)) + cert
    found[f"{who}_evidence_over"] = sha3(transcript + head)
    head += struct.pack(">H", len(evidence)) + evidence
    found[f"{who}_signed"] = sha3(transcript + head)
    head += v[f"{who}_signature"]
    return head + mac(confirm_key, sha3(transcript + head))


def epochs(found, direction, secret):
    """Clauses 7.6, 7.7: the IVs of two epochs, and the secret of the second."""
    second = derive(secret, "DSMIL-DBE rekey", 64)
    found[f"app_{direction}"] = secret
    found[f"iv_{direction}"] = derive(secret, "DSMIL-DBE iv", 12)
    found[f"app2_{direction}"] = second
    found[f"iv2_{direction}"] = derive(second, "DSMIL-DBE iv", 12)


def work_out(case, v):
    """Every value of a case that this can make, by name."""
    found, suite = {}, 1 if case == "outer" else 2
    pub, secret = SUITES[suite]
    body = (bytes([1, 1]) + bytes([0xA1]) * 32 + bytes([0x4E]) * 32 + POLICY +
            struct.pack(">HH", suite, pub + KEM_EK) + bytes([0xAE]) * pub + bytes([0xE0]) * KEM_EK)  # 6.4
    one = struct.pack(">IBBHQ", len(body), 1, 0, 0, 0) + body  # 5.2
    found["message_1"] = one
    clear = bytes([1]) + struct.pack(">H", suite) + bytes([0xB2]) * 32 + bytes([0xBD]) * pub + bytes([0xC7]) * KEM_CT
    transcript = PREFIX[case] + one + struct.pack(">IBBHQ", 0, 2, 0, 0, 0) + clear  # 6.5, 6.7
    size = len(clear) + 2 + len(v["responder_certificate"]) + 2 + len("responder") + SIG + HASH + TAG
    found["message_2_clear"] = struct.pack(">IBBHQ", size, 2, 0, 0, 0) + clear

    prk = mac(sha3(transcript), bytes([ECDH_SECRET_BYTE]) * secret + KEM_SECRET)  # 7.2, 7.3
    confirm = {who: derive(prk, f"DSMIL-DBE confirm {who}", 64) for who in ("initiator", "responder")}
    for who in confirm:
        found[f"{who}_prk"] = prk
        for other in confirm:
            found[f"{who}_confirm_{other}"] = confirm[other]
        for direction in ("i2r", "r2i"):
            found[f"{who}_hs_key_{direction}"] = derive(prk, f"DSMIL-DBE hs key {direction}", 32)
            found[f"{who}_hs_iv_{direction}"] = derive(prk, f"DSMIL-DBE hs iv {direction}", 12)

    transcript += auth_block(v, "responder", transcript, confirm["responder"], found)
    transcript += struct.pack(">IBBHQ", 0, 3, 0, 0, 0)
    transcript += auth_block(v, "initiator", transcript, confirm["initiator"], found)
    master = derive(prk, "DSMIL-DBE master", 64, sha3(transcript))  # 7.5
    found["log"] = derive(master, "DSMIL-DBE log", 32)
    found["binding"] = derive(master, "DSMIL-DBE channel binding", 32)
    for direction in ("i2r", "r2i"):
        epochs(found, direction, derive(master, f"DSMIL-DBE app {direction}", 64))
    return found


def main():
    """Compare."""
    bad = good = 0
    for case, v in load().items():
        found = work_out(case, v)
        for name, value in found.items():
            if v.get(name) == value:
                good += 1
            else:
                print(f"{case} {name}: by the spec {value[:8].hex()}, in the file {v.get(name, b'')[:8].hex()}")
                bad += 1
        given = {n for n in v if n not in found}
        print(f"{case}: not worked out here: {', '.join(sorted(given))}")
    print(f"{good} values agree, {bad} do not")
    return 1 if bad or good < 60 else 0


if __name__ == "__main__":
    sys.exit(main())
