#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""dsmil_pqc: claim tokens and signed bytes; what identity finds in a key store."""
import os
import unittest
import uuid

from dsmil_dbe import identity
from dsmil_dbe.claim import ClaimToken
from dsmil_dbe.errors import E_ARGUMENT, E_AUTH, E_CERT, E_CLAIM_INVALID, E_CONFIG, E_MALFORMED, E_NOT_FOUND, E_STATE
from dsmil_dbe.registry import Role
from dsmil_pqc import MLDSASigner, MLDSAVerifier
from fixture import Mesh, _issue

CLAIM = {"tenant_id": "T", "client_id": "c", "roles": ["SOC_ASSIST"]}


class Pqc(unittest.TestCase):
    """One mesh for all."""

    @classmethod
    def setUpClass(cls):
        cls.mesh = Mesh()
        cls.signer = MLDSASigner(cls.mesh.keys / "shim-0.key")
        cls.fingerprint = identity.credential_of_path(cls.mesh.keys / "shim-0.key").fingerprint

    @classmethod
    def tearDownClass(cls):
        cls.mesh.close()

    def test_signed_bytes(self):
        verifier = MLDSAVerifier(self.mesh.keys)
        signed = self.signer.sign(b"content")
        self.assertTrue(verifier.verify(signed))
        content, who = verifier.open(signed)
        self.assertEqual((content, who.spiffe_id), (b"content", "spiffe://test.mesh/l7/shim/0"))
        for at in list(range(0, 12)) + list(range(12, len(signed), 613)):
            changed = bytearray(signed)
            changed[at] ^= 1
            self.assertFalse(verifier.verify(bytes(changed)), at)
        for end in (0, 3, 9, 4700, len(signed) - 1):
            self.assertFalse(verifier.verify(signed[:end]), end)
        with self.assertRaises(E_MALFORMED):
            verifier.open(b"")
        with self.assertRaises(E_AUTH):
            verifier.open(signed[:-1] + bytes([signed[-1] ^ 1]))

    def test_signed_bytes_of_another_mesh(self):
        other = Mesh("other.mesh")
        self.addCleanup(other.close)
        with self.assertRaises(E_CERT):
            MLDSAVerifier(other.keys).open(self.signer.sign(b"x"))

    def test_claim_binds_to_one_channel(self):
        """Spec 10.4."""
        token = self.signer.sign(CLAIM)
        here, there = bytes(32), b"\1" * 32
        raw = token.issue(here, self.fingerprint, None)
        self.assertEqual(len(raw), len(token))
        trust = identity.trust(self.mesh.keys)
        _, key = trust.verify(identity.credential_of_path(self.mesh.keys / "shim-0.key").certificate())
        info = ClaimToken(token=raw, origin=(key, here)).verify()
        self.assertEqual((info.tenant_id, info.client_id, info.roles), ("T", "c", ["SOC_ASSIST"]))
        verifier = MLDSAVerifier(self.mesh.keys)
        self.assertTrue(verifier.verify(ClaimToken(token=raw, origin=(key, here))))
        self.assertFalse(verifier.verify(ClaimToken(token=raw, origin=(key, there))))
        self.assertFalse(verifier.verify(raw))
        self.assertFalse(verifier.verify(token))
        with self.assertRaises(E_CLAIM_INVALID):
            token.issue(here, b"another certificate", None)

    def test_claim_of_a_request(self):
        request_id = str(uuid.uuid4())
        token = self.signer.sign({**CLAIM, "request_id": request_id})
        token.issue(bytes(32), self.fingerprint, uuid.UUID(request_id).bytes)
        with self.assertRaises(E_CLAIM_INVALID):
            token.issue(bytes(32), self.fingerprint, uuid.uuid4().bytes)

    def test_unbound_tokens_have_no_bytes(self):
        token = self.signer.sign(CLAIM)
        self.assertTrue(token)
        self.assertFalse(token.bound)
        with self.assertRaises(E_STATE):
            bytes(token)

    def test_wrong_claims(self):
        for data in ({**CLAIM, "nope": 1}, {**CLAIM, "roles": ["ADMIN"]}, {**CLAIM, "tenant_id": ""},
                     {**CLAIM, "client_id": "x" * 65}, {**CLAIM, "classification": "COSMIC"},
                     {**CLAIM, "compartments": ["NOPE"]}, "text", 5):
            with self.subTest(data), self.assertRaises(E_ARGUMENT):
                self.signer.sign(data)
        for data in ({**CLAIM, "lifetime": 7200}, {**CLAIM, "roles": []}, {**CLAIM, "compartments": 0x81}):
            with self.subTest(data), self.assertRaises(E_ARGUMENT):
                self.signer.sign(data).issue(bytes(32), self.fingerprint, None)

    def test_identity_of_the_environment(self):
        old = dict(os.environ)
        try:
            os.environ["DSMIL_KEYS"] = str(self.mesh.keys)
            os.environ.pop("DSMIL_DEVICE_ID", None)
            self.assertEqual(MLDSASigner().identity.role, Role.SHIM)
            os.environ["DSMIL_DEVICE_ID"] = "47"
            self.assertEqual(MLDSASigner().identity.spiffe_id, "spiffe://test.mesh/l7/worker/47")
            os.environ["DSMIL_DEVICE_ID"] = "12"
            with self.assertRaises(E_NOT_FOUND):
                MLDSASigner()
        finally:
            os.environ.clear()
            os.environ.update(old)

    def test_ambiguous(self):
        mesh = Mesh()
        self.addCleanup(mesh.close)
        _issue(mesh.keys, "agent-43", 43, Role.AGENT, 0)
        with self.assertRaises(E_CONFIG) as caught:
            identity.credential(mesh.keys, 43)
        self.assertIn("DSMIL_ROLE", str(caught.exception))
        self.assertEqual(identity.credential(mesh.keys, 43, "agent").name, "agent-43")
        os.environ["DSMIL_ROLE"] = "router"
        try:
            self.assertEqual(identity.credential(mesh.keys, 43).name, "router-43")
        finally:
            del os.environ["DSMIL_ROLE"]

    def test_key_paths(self):
        with self.assertRaises(E_NOT_FOUND):
            MLDSASigner(self.mesh.keys / "nobody.key")
        with self.assertRaises(E_ARGUMENT):
            MLDSASigner(self.mesh.keys / "shim-0.crt")


if __name__ == "__main__":
    unittest.main()
