# SPDX-License-Identifier: Apache-2.0
"""The C decoder and the reference say the same of every message: of good ones each field, of bad ones error and clause.

The order in which rules are asked (spec 3.12, 4.11) is part of what is compared.

In:   argv[1], the program that mutates messages (mutate.c); INTEROP_MESSAGES (200000), INTEROP_SEED (1)
Out:  how often each clause was the verdict; exit 1 at the first messages of which the two think differently
Does: also asks that every clause that a message can break was broken, so that the mutations are known to reach it.
"""
import collections
import os
import struct
import subprocess
import sys
import time

import dbe_reference as reference

CLAUSES = {"spec 3.1", "spec 3.3", "spec 3.4", "spec 3.5", "spec 3.6", "spec 3.8", "spec 3.9", "spec 3.10", "spec 3.11",
           "spec 4.1", "spec 4.2", "spec 4.3", "spec 4.4", "spec 4.5", "spec 4.6", "spec 4.7", "spec 4.8", "good"}
SHOWN = 5


def read_exactly(stream, count):
    """`count` bytes; fewer only at the end."""
    data = stream.read(count)
    while len(data) < count:
        more = stream.read(count - len(data))
        if not more:
            break
        data += more
    return data


def read_view(stream):
    """What the C decoder read from a good message."""
    msg_type, flags, correlation_id, payload_len, count = struct.unpack(">BHQIH", read_exactly(stream, 17))
    tlvs = [struct.unpack(">HHI", read_exactly(stream, 8)) for _ in range(count)]
    return msg_type, flags, correlation_id, payload_len, tlvs


def same_view(message, view, data):
    """Field by field; a TLV's value by where it lies."""
    msg_type, flags, correlation_id, payload_len, tlvs = view
    return ((message.msg_type, message.flags, message.correlation_id, len(message.payload), len(message.tlvs)) ==
            (msg_type, flags, correlation_id, payload_len, len(tlvs)) and
            all(theirs == our_type and data[at:at + length] == value
                for (theirs, value), (our_type, length, at) in zip(message.tlvs, tlvs)))


def judge(data, error, clause, offset, view):
    """None if both agree, else what the reference says."""
    try:
        message = reference.decode(data)
    except reference.Refused as refused:
        agree = (refused.error, refused.clause, refused.offset) == (error, clause, offset)
        return None if agree else str(refused)
    if error == "OK" and same_view(message, view, data):
        return None
    return f"good, with other fields: {message}" if error == "OK" else "good"


def compare(stream):
    """Every message of the stream: counts of verdicts, and the first differences."""
    verdicts, different = collections.Counter(), []
    while head := read_exactly(stream, 4):
        data = read_exactly(stream, struct.unpack(">I", head)[0])
        code, offset, clause_len = struct.unpack(">HIB", read_exactly(stream, 7))
        clause = read_exactly(stream, clause_len).decode()
        error = reference.ERRORS[code]
        view = read_view(stream) if code == 0 else None
        verdicts[clause or "good"] += 1
        says = judge(data, error, clause, offset, view)
        if says is not None:
            different.append(f"{data.hex()}\n  C: {error} ({clause}) at {offset}\n  reference: {says}")
            if len(different) == SHOWN:
                break
    return verdicts, different


def main():
    """Exit status of the test."""
    count, seed = os.environ.get("INTEROP_MESSAGES", "200000"), os.environ.get("INTEROP_SEED", "1")
    start = time.monotonic()
    with subprocess.Popen([sys.argv[1], count, seed], stdout=subprocess.PIPE, bufsize=1 << 20) as mutator:
        verdicts, different = compare(mutator.stdout)
        mutator.stdout.close()
        status = mutator.wait()
    for clause, times in sorted(verdicts.items()):
        print(f"{times:9d} {clause}")
    print(f"{sum(verdicts.values())} messages in {time.monotonic() - start:.1f} s, {len(different)} differences")
    print("\n".join(different))
    missing = CLAUSES - set(verdicts)
    if missing and int(count) >= 100000:
        print(f"never reached: {', '.join(sorted(missing))}")
        return 1
    if not different and (status != 0 or sum(verdicts.values()) != int(count)):
        print(f"the mutator ended with {status}")
        return 1
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
