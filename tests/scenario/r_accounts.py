# SPDX-License-Identifier: Apache-2.0
"""What a tenant has used outlives the router that counted it."""
import struct
import unittest

from mesh import ROOT, Mesh, wait_for

LIMITED = (ROOT / "src/policy/default.yaml").read_text().replace(
    "    classification: EXEC", "    limits: {requests: 2/15min}\n    classification: EXEC", 1)


def kept_requests(path):
    """Requests of the local tenant that the file has (its form: src/policy/rate_keep.c)."""
    name = b"LOCAL_TOOL_USER"
    data = path.read_bytes() if path.exists() else b""
    at = data.find(bytes([len(name)]) + name)
    if at < 0:
        return 0
    at += 1 + len(name)
    count = struct.unpack_from("!QH", data, at)[1]
    return sum(struct.unpack_from("!QQ", data, at + 10 + 16 * i)[1] for i in range(count))


class Accounts(unittest.TestCase):
    def kill_router(self, mesh):
        """As a crash would; the supervisor starts another."""
        pid = mesh.signal("dsmil-l7-router")
        wait_for("the router is back", lambda: mesh.is_back("dsmil-l7-router", pid))

    def refused(self, mesh):
        """Seconds that the tenant is told to wait: no request of it was let in."""
        status, headers, body = wait_for("the router's word", lambda: (lambda a: a if a[0] != 503 else None)(
            mesh.chat(max_tokens=2)))
        self.assertEqual((status, body["error"]["code"]), (429, "rate_limit_exceeded"), body)
        return int(headers["Retry-After"])

    def test_a_killed_router_refills_nobody(self):
        with Mesh(files={"policy.yaml": LIMITED}) as mesh:
            accounts = mesh.state / "accounts"
            for _ in range(2):
                self.assertEqual(mesh.chat(max_tokens=2)[0], 200)
            first = self.refused(mesh)
            wait_for("both requests are kept", lambda: kept_requests(accounts) == 2)
            self.kill_router(mesh)
            second = self.refused(mesh)
            self.assertTrue(0 < second <= first, (first, second))
            self.kill_router(mesh)
            self.assertTrue(0 < self.refused(mesh) <= second)

    def test_a_damaged_file_is_told(self):
        with Mesh(files={"policy.yaml": LIMITED, "accounts": "nonsense"}) as mesh:
            self.assertEqual(mesh.chat(max_tokens=2)[0], 200)
            wait_for("the loss is told", lambda: "what tenants had used is lost" in mesh.log("dsmil-l7-router"))
            self.assertEqual((mesh.state / "accounts.damaged").read_text(), "nonsense")


if __name__ == "__main__":
    unittest.main()
