# SPDX-License-Identifier: Apache-2.0
"""Revocation: a certificate is taken back while its node works; the mesh obeys without a restart, and heals."""
import unittest

from mesh import Mesh, wait_for


class Revoke(unittest.TestCase):
    def test_revoked_worker_is_dropped_and_a_renewed_one_let_in(self):
        with Mesh() as mesh:
            self.assertEqual(mesh.chat(max_tokens=4)[0], 200)
            done = mesh.cli("keys", "revoke", "worker-47", "--reason", "key-compromise")
            self.assertEqual(done.returncode, 0, done.stderr)
            wait_for("the router drops its worker", lambda: "was revoked" in mesh.log("dsmil-l7-router"))
            # The shim has the list as well, from the folder or from the router.
            wait_for("the list is in force", lambda: "list 1 of revoked certificates" in mesh.log("dsmil-l7-router"))
            wait_for("nobody answers", lambda: mesh.chat(max_tokens=4)[0] == 503)
            self.assertEqual(mesh.service("dsmil-l7-router")["restarts"], 0)

            done = mesh.cli("keys", "renew", "worker-47")
            self.assertEqual(done.returncode, 0, done.stderr)
            mesh.signal("dsmil-l7-llm-worker-47")
            wait_for("the worker answers under its new certificate", lambda: mesh.chat(max_tokens=4)[0] == 200)
            self.assertEqual(mesh.service("dsmil-l7-router")["restarts"], 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
