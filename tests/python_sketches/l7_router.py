#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
DSMIL L7 Router (Device 43 - Extended Analytics)
Routes L7 DBE messages to appropriate LLM workers

Written as a program of the mesh's interface text is, against dsmil_dbe and dsmil_pqc as they are: sockets lie in
DSMIL_RUN, keys in DSMIL_KEYS, nothing else is particular to the test that runs it.
"""

import logging
import os
import time
from dataclasses import dataclass
from typing import Dict, Optional

from dsmil_dbe import DBEMessage, DBESocket, MessageType
from dsmil_pqc import MLDSAVerifier

DEVICE_ID = 43
LAYER = 7
TOKEN_BASE = 0x8081  # 0x8000 + (43 * 3)
RUN = os.environ.get("DSMIL_RUN", "/var/run/dsmil")

logging.basicConfig(level=logging.INFO,
                    format="%(asctime)s [L7-ROUTER] [Device-43] %(levelname)s: %(message)s")
logger = logging.getLogger(__name__)


@dataclass
class L7Worker:
    device_id: int
    profile: str
    socket_path: str
    current_load: float  # 0.0-1.0
    max_memory_gb: float


class L7Router:
    def __init__(self):
        self.workers: Dict[str, L7Worker] = {
            "llm-7b-amx": L7Worker(device_id=47, profile="llm-7b-amx", socket_path=f"{RUN}/l7-worker-47.sock",
                                   current_load=0.0, max_memory_gb=20.0),
            "llm-1b-npu": L7Worker(device_id=44, profile="llm-1b-npu", socket_path=f"{RUN}/l7-worker-44.sock",
                                   current_load=0.0, max_memory_gb=2.0),
            "agent": L7Worker(device_id=48, profile="agent", socket_path=f"{RUN}/l7-agent-48.sock",
                              current_load=0.0, max_memory_gb=4.0),
        }

        self.pqc_verifier = MLDSAVerifier()  # ML-DSA-87 signature verification
        self.router_socket = DBESocket(bind_path=f"{RUN}/l7-router.sock")

        logger.info(f"L7 Router initialized (Device {DEVICE_ID}, Token 0x{TOKEN_BASE:04X})")
        logger.info(f"Registered {len(self.workers)} L7 workers")

    def validate_claim_token(self, msg: DBEMessage) -> bool:
        """Verify L7_CLAIM_TOKEN signature using ML-DSA-87"""
        try:
            claim_token = msg.tlv_get("L7_CLAIM_TOKEN")
            if not claim_token:
                logger.warning("Missing L7_CLAIM_TOKEN in request")
                return False

            is_valid = self.pqc_verifier.verify(claim_token)
            if not is_valid:
                logger.warning("Invalid L7_CLAIM_TOKEN signature")
                return False

            return True
        except Exception as e:
            logger.error(f"Claim token validation error: {e}")
            return False

    def apply_policy(self, msg: DBEMessage) -> Optional[str]:
        """Error text if the message is denied, None if it is allowed"""
        compartment = msg.tlv_get("COMPARTMENT_MASK", 0)
        if compartment & 0x80:  # KINETIC bit set
            return "DENIED: KINETIC compartment not allowed in L7"

        roe_level = msg.tlv_get("ROE_LEVEL", "")
        if roe_level not in ["ANALYSIS_ONLY", "SOC_ASSIST", "TRAINING"]:
            return f"DENIED: Invalid ROE_LEVEL '{roe_level}'"

        classification = msg.tlv_get("CLASSIFICATION", "")
        if classification == "EXEC":
            return "DENIED: EXEC classification requires Layer 9 authorization"

        return None

    def select_worker(self, msg: DBEMessage) -> Optional[L7Worker]:
        """Select appropriate worker based on profile and load"""
        profile = msg.tlv_get("L7_PROFILE", "llm-7b-amx")  # Default to Device 47

        worker = self.workers.get(profile)
        if not worker:
            logger.warning(f"Unknown L7_PROFILE: {profile}, falling back to llm-7b-amx")
            worker = self.workers["llm-7b-amx"]

        if worker.current_load > 0.9:
            logger.warning(f"Worker {worker.device_id} overloaded, load={worker.current_load:.2f}")

        return worker

    def route_message(self, msg: DBEMessage) -> DBEMessage:
        """Main routing logic"""
        request_id = msg.tlv_get("REQUEST_ID", "unknown")
        tenant_id = msg.tlv_get("TENANT_ID", "unknown")

        logger.info(f"Routing L7_CHAT_REQ | Request: {request_id} | Tenant: {tenant_id}")

        # Step 1: Validate claim token
        if not self.validate_claim_token(msg):
            return self._create_error_response(msg, "CLAIM_TOKEN_INVALID")

        # Step 2: Apply policy
        policy_error = self.apply_policy(msg)
        if policy_error:
            logger.warning(f"Policy denied: {policy_error}")
            return self._create_error_response(msg, policy_error)

        # Step 3: Select worker
        worker = self.select_worker(msg)
        if not worker:
            return self._create_error_response(msg, "NO_WORKER_AVAILABLE")

        # Step 4: Forward to worker via DBE
        try:
            worker_socket = DBESocket(connect_path=worker.socket_path)
            response = worker_socket.send_and_receive(msg, timeout=30.0)

            logger.info(f"L7_CHAT_RESP received from Device {worker.device_id} | Request: {request_id}")

            return response

        except Exception as e:
            logger.error(f"Worker communication error: {e}")
            return self._create_error_response(msg, f"WORKER_ERROR: {str(e)}")

    def _create_error_response(self, request: DBEMessage, error: str) -> DBEMessage:
        """Create DBE error response"""
        response = DBEMessage(
            msg_type=MessageType.L7_CHAT_RESP,
            correlation_id=request.correlation_id,
            payload={"error": error, "choices": []}
        )
        response.tlv_set("DEVICE_ID_SRC", DEVICE_ID)
        response.tlv_set("REQUEST_ID", request.tlv_get("REQUEST_ID"))
        response.tlv_set("TIMESTAMP", time.time())
        return response

    def run(self):
        """Main event loop"""
        logger.info("L7 Router started, listening for DBE messages...")

        while True:
            try:
                msg = self.router_socket.receive(timeout=1.0)
                if not msg:
                    continue

                if msg.msg_type == MessageType.L7_CHAT_REQ:
                    response = self.route_message(msg)
                    self.router_socket.send(response)
                else:
                    logger.warning(f"Unexpected message type: 0x{msg.msg_type:02X}")

            except KeyboardInterrupt:
                logger.info("L7 Router shutting down...")
                break
            except Exception as e:
                logger.error(f"Error in main loop: {e}")
                time.sleep(1)


if __name__ == "__main__":
    router = L7Router()
    router.run()
