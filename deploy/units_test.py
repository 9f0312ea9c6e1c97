#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The systemd units as they are installed: well formed, hardened, and their command lines start a mesh that answers.

Usage: units_test.py BUILD_ROOT UNIT_DIR

What systemd would do is done by hand, so that the test needs no systemd: users and sandboxes are left out, paths of
/var/lib, /run and the installation are turned into a private folder and the build. systemd-analyze checks the units'
grammar where it is installed.
"""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

BUILD = pathlib.Path(sys.argv[1])
UNITS = pathlib.Path(sys.argv[2])
SOURCE = pathlib.Path(os.environ["DSMIL_SOURCE_ROOT"])
READY_S = 60


def sections(path):
    """{section: [(key, value), ...]}: keys may repeat, as systemd allows."""
    out, at = {}, None
    for line in path.read_text().splitlines():
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        if line[0] == "[":
            at = out.setdefault(line.strip("[]"), [])
        else:
            key, _, value = line.partition("=")
            at.append((key, value))
    return out


def services():
    return {p.stem: sections(p) for p in sorted(UNITS.glob("dsmil-*.service")) if p.stem != "dsmil-keys"}


def one(section, key):
    values = [v for k, v in section if k == key]
    assert len(values) == 1, (key, values)
    return values[0]


class Form(unittest.TestCase):
    def test_every_placeholder_is_filled(self):
        for path in UNITS.glob("*.service"):
            for line in path.read_text().splitlines():
                if "SystemCallFilter" not in line:
                    self.assertNotIn("@", line, path.name)

    def test_identifiers_and_limits_of_the_text(self):
        every = services()
        self.assertIn("dsmil-l7-router", every)
        self.assertIn("dsmil-openai-shim", every)
        for name, unit in every.items():
            service = unit["Service"]
            self.assertEqual(one(service, "SyslogIdentifier"), name)
            self.assertEqual(one(service, "User"), "dsmil")
            self.assertEqual(one(service, "Restart"), "always")
        worker = every["dsmil-l7-llm-worker-47"]["Service"]
        self.assertEqual((one(worker, "MemoryHigh"), one(worker, "MemoryMax")), ("20G", "21G"))
        self.assertEqual(one(worker, "RestartSec"), "15")

    def test_only_the_gateway_reaches_an_inet_socket(self):
        for name, unit in services().items():
            families = one(unit["Service"], "RestrictAddressFamilies").split()
            gateway = name == "dsmil-openai-shim"
            self.assertEqual("AF_INET" in families, gateway, name)
            self.assertEqual(one(unit["Service"], "PrivateNetwork"), "no" if gateway else "yes", name)

    def test_every_service_is_hardened_alike(self):
        for name, unit in services().items():
            service = dict(unit["Service"])
            for key in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "MemoryDenyWriteExecute", "LockPersonality",
                        "RestrictNamespaces", "ProtectKernelTunables"):
                self.assertEqual(service[key], "yes", f"{name} {key}")
            self.assertEqual(service["CapabilityBoundingSet"], "", name)
            self.assertEqual(service["ProtectSystem"], "strict", name)

    def test_variables_are_parameters_of_the_program(self):
        for name, unit in services().items():
            helped = subprocess.run([program(unit), "--help"], capture_output=True, text=True, check=True).stdout
            for variable in (v for k, v in unit["Service"] if k == "Environment"):
                key = variable.partition("=")[0].removeprefix("DSMIL_").lower().replace("_", "-")
                if key != "state":
                    self.assertIn(f"--{key} ", helped, f"{name}: {variable}")

    @unittest.skipUnless(shutil.which("systemd-analyze"), "systemd-analyze is not installed")
    def test_systemd_reads_them(self):
        with tempfile.TemporaryDirectory() as root:
            place = pathlib.Path(root, "etc/systemd/system")
            place.mkdir(parents=True)
            for target in ("sysinit", "basic", "shutdown", "timers", "time-set", "time-sync"):  # the system's own
                (place / f"{target}.target").write_text("[Unit]\nDefaultDependencies=no\n")
            for path in list(UNITS.glob("dsmil*.service")) + list((SOURCE / "deploy").glob("dsmil*.t*")):
                shutil.copy(path, place)
                for line in path.read_text().splitlines():
                    if line.startswith("ExecStart="):
                        program_ = pathlib.Path(root + line.partition("=")[2].split()[0])
                        program_.parent.mkdir(parents=True, exist_ok=True)
                        program_.write_text("#!/bin/sh\n")
                        program_.chmod(0o755)
            done = subprocess.run(["systemd-analyze", "verify", "--man=no", f"--root={root}", "dsmil.target"] +
                                  sorted(p.name for p in UNITS.glob("dsmil*.service")), capture_output=True, text=True)
            complaints = [x for x in done.stderr.splitlines() if "dsmil" in x]
            self.assertEqual(complaints, [])


def program(unit):
    """The built program that the unit will run once installed."""
    name = pathlib.Path(one(unit["Service"], "ExecStart")).name
    found = [p for p in BUILD.rglob(name) if p.is_file()]
    assert len(found) == 1, (name, found)
    return str(found[0])


class Start(unittest.TestCase):
    """The commands and variables of the units, in their order, make a mesh whose gateway answers."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="dsmil-units-")
        self.running = []

    def tearDown(self):
        for p in reversed(self.running):
            p.terminate()
        for p in reversed(self.running):
            self.assertEqual(p.wait(timeout=30), 0, p.args)
            p.stderr.close()
        shutil.rmtree(self.folder)

    def moved(self, text):
        text = text.replace("/var/lib/dsmil", f"{self.folder}/state").replace("/run/dsmil", f"{self.folder}/run")
        if text.startswith("DSMIL_MODEL="):
            text = f"DSMIL_MODEL={SOURCE}/models/{pathlib.Path(text).name}"
        return text

    def start(self, name, unit, port):
        env = {"PATH": os.environ["PATH"], "HOME": self.folder}
        env.update(self.moved(v).split("=", 1) for k, v in unit["Service"] if k == "Environment")
        if "DSMIL_PORT" in env:
            env["DSMIL_PORT"] = str(port)
        notify = os.path.join(self.folder, f"{name}.notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(notify)
            listener.settimeout(READY_S)
            p = subprocess.Popen([program(unit)], env=env | {"NOTIFY_SOCKET": notify}, stdin=subprocess.DEVNULL,
                                 stderr=subprocess.PIPE)
            self.running.append(p)
            word = b""
            while b"READY=1" not in word:
                word = listener.recv(4096)

    def test_the_units_commands_start_a_mesh(self):
        os.mkdir(f"{self.folder}/run", 0o700)
        keys = sections(UNITS / "dsmil-keys.service")["Service"]
        self.assertEqual(one(keys, "ExecStart").split()[1:], ["up", "--prepare"])
        env = {"PATH": os.environ["PATH"], "DSMIL_STATE": f"{self.folder}/state"}
        dsmil = str(BUILD / "cli" / "dsmil")
        for word in ("certificate authority made", "all valid"):  # the second run changes nothing
            done = subprocess.run([dsmil, "up", "--prepare"], env=env, capture_output=True, text=True, check=True)
            self.assertIn(word, done.stdout)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        left = services()
        while left:
            able = [n for n, u in left.items()
                    if not any(a.removesuffix(".service") in left for a in one(u["Unit"], "Wants").split())]
            self.assertTrue(able, f"units wait for each other: {sorted(left)}")
            for name in able:
                self.start(name, left.pop(name), port)
        self.ask(port)

    def ask(self, port):
        key = pathlib.Path(self.folder, "state/api-key").read_text().strip()
        body = {"model": "dsmil", "max_tokens": 8, "messages": [{"role": "user", "content": "What is DSMIL?"}]}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(),
                                         {"Authorization": f"Bearer {key}", "Content-Type": "application/json"})
        until = time.monotonic() + READY_S
        while True:
            try:
                answer = json.load(urllib.request.urlopen(request, timeout=READY_S))
                break
            except urllib.error.HTTPError as e:  # the router may not know the worker's model yet
                e.close()
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
        self.assertTrue(answer["choices"][0]["message"]["content"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
