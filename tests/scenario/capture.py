# SPDX-License-Identifier: Apache-2.0
"""Which TCP ports the mesh uses: those that its processes hold, and, where we may capture, those seen on loopback.

`ports` has every local TCP port owned by one of the processes while the capture ran. With the right to open a packet
socket (root), packets on loopback with such a port at either end are counted too; without it the kernel's tables alone
speak.
"""
import os
import pathlib
import socket
import struct
import threading

ETH_P_IP, TCP_LISTEN, QUEUED_MAX = 0x0800, "0A", 100_000


def sockets_of(pid):
    """Inodes of a process' sockets."""
    inodes = set()
    try:
        for fd in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{fd}")
            except FileNotFoundError:
                continue
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    except FileNotFoundError:
        pass
    return inodes


def tcp_ports(pids):
    """Local TCP ports that these processes hold, listening or connected."""
    inodes = set().union(*(sockets_of(p) for p in pids))
    ports = set()
    for table in ("tcp", "tcp6"):
        path = pathlib.Path("/proc/net") / table
        if not path.exists():
            continue
        for line in path.read_text().splitlines()[1:]:
            cells = line.split()
            if cells[9] in inodes:
                ports.add(int(cells[1].rsplit(":", 1)[1], 16))
    return ports


class TcpCapture:
    """Context: what was seen between enter and exit."""

    def __init__(self, pids):
        self.pids, self.ports, self.seen = pids, set(), set()
        self.raw = self.thread = None

    def __enter__(self):
        try:
            self.raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
            self.raw.bind(("lo", 0))
            self.raw.settimeout(0.2)
        except PermissionError:
            self.raw = None
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        """Until told to stop: the kernel's tables, and packets where allowed. What is queued by then still counts."""
        while not self.stop.is_set():
            self.ports |= tcp_ports(self.pids)
            if self.raw is None:
                self.stop.wait(0.02)
            else:
                self.take_packet()
        if self.raw is not None:
            self.raw.setblocking(False)
            for _ in range(QUEUED_MAX):  # others may be talking without a pause
                if not self.take_packet():
                    break

    def take_packet(self):
        """Note one packet's ports; False if none came in time."""
        try:
            frame = self.raw.recv(65535)
        except (TimeoutError, BlockingIOError):
            return False
        ip = frame[14:]
        if len(ip) >= 24 and ip[9] == socket.IPPROTO_TCP:
            head = (ip[0] & 15) * 4
            self.seen.add(struct.unpack("!HH", ip[head:head + 4]))
        return True

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()
        self.ports |= tcp_ports(self.pids)
        if self.raw is not None:
            self.raw.close()
            held = {p for pair in self.seen for p in pair if p in self.ports}
            assert held, "the capture saw nothing of the gateway's own traffic: it proves nothing"
