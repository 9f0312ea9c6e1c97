#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
DSMIL L7 LLM Worker (Device 47 - Advanced AI/ML)
Primary LLM inference engine with 20 GB allocation

Sockets lie in DSMIL_RUN, keys in DSMIL_KEYS, and what generates text is generator.py.
"""

import logging
import os
import time
from typing import Dict, List

from dsmil_dbe import DBEMessage, DBESocket, MessageType
from generator import AutoModelForCausalLM, AutoTokenizer

DEVICE_ID = 47
LAYER = 7
TOKEN_BASE = 0x808D  # 0x8000 + (47 * 3)
MODEL_PATH = "/opt/dsmil/models/llama-7b-int8"
MAX_MEMORY_GB = 20.0
RUN = os.environ.get("DSMIL_RUN", "/var/run/dsmil")

logging.basicConfig(level=logging.INFO,
                    format="%(asctime)s [L7-WORKER-47] [Device-47] %(levelname)s: %(message)s")
logger = logging.getLogger(__name__)


class L7LLMWorker:
    def __init__(self):
        logger.info(f"Loading LLM model from {MODEL_PATH}...")

        self.tokenizer = AutoTokenizer.from_pretrained(MODEL_PATH)
        self.model = AutoModelForCausalLM.from_pretrained(MODEL_PATH, self.tokenizer)

        self.socket = DBESocket(bind_path=f"{RUN}/l7-worker-47.sock")

        logger.info(f"LLM Worker initialized (Device {DEVICE_ID}, Token 0x{TOKEN_BASE:04X})")
        logger.info(f"Model loaded: {MODEL_PATH} | Memory budget: {MAX_MEMORY_GB} GB")

    def generate_completion(self, msg: DBEMessage) -> Dict:
        """Generate LLM completion from DBE request"""
        try:
            payload = msg.payload
            messages = payload.get("messages", [])
            max_tokens = payload.get("max_tokens", 512)
            temperature = payload.get("temperature", 0.7)

            # Convert messages to prompt
            prompt = self._format_prompt(messages)

            # Tokenize
            inputs = self.tokenizer(prompt)

            # Generate
            start_time = time.time()
            outputs = self.model.generate(
                inputs.input_ids,
                max_new_tokens=max_tokens,
                temperature=temperature,
                do_sample=temperature > 0,
                pad_token_id=self.tokenizer.eos_token_id,
                use_cache=True
            )

            latency_ms = (time.time() - start_time) * 1000

            # Decode
            completion = self.tokenizer.decode(outputs[0], skip_special_tokens=True)
            completion = completion[len(prompt):].strip()  # Remove prompt echo

            # Calculate tokens
            prompt_tokens = len(inputs.input_ids[0])
            completion_tokens = len(outputs[0]) - prompt_tokens

            logger.info(f"Generated completion | Prompt: {prompt_tokens} tok | Completion: {completion_tokens} tok | "
                        f"Latency: {latency_ms:.1f}ms")

            return {
                "choices": [{
                    "message": {
                        "role": "assistant",
                        "content": completion
                    },
                    "finish_reason": "stop"
                }],
                "usage": {
                    "prompt_tokens": prompt_tokens,
                    "completion_tokens": completion_tokens,
                    "total_tokens": prompt_tokens + completion_tokens
                },
                "model": "llama-7b-int8-amx",
                "device_id": DEVICE_ID,
                "latency_ms": latency_ms
            }

        except Exception as e:
            logger.error(f"Generation error: {e}")
            return {"error": str(e), "choices": []}

    def _format_prompt(self, messages: List[Dict]) -> str:
        """Format chat messages into LLaMA prompt format"""
        prompt_parts = []
        for msg in messages:
            role = msg.get("role", "user")
            content = msg.get("content", "")

            if role == "system":
                prompt_parts.append(f"<<SYS>>\n{content}\n<</SYS>>\n")
            elif role == "user":
                prompt_parts.append(f"[INST] {content} [/INST]")
            elif role == "assistant":
                prompt_parts.append(f" {content} ")

        return "".join(prompt_parts)

    def run(self):
        """Main event loop"""
        logger.info("L7 LLM Worker started, listening for DBE messages...")

        while True:
            try:
                msg = self.socket.receive(timeout=1.0)
                if not msg:
                    continue

                if msg.msg_type == MessageType.L7_CHAT_REQ:
                    request_id = msg.tlv_get("REQUEST_ID", "unknown")
                    logger.info(f"Processing L7_CHAT_REQ | Request: {request_id}")

                    result = self.generate_completion(msg)

                    response = DBEMessage(
                        msg_type=MessageType.L7_CHAT_RESP,
                        correlation_id=msg.correlation_id,
                        payload=result
                    )
                    response.tlv_set("DEVICE_ID_SRC", DEVICE_ID)
                    response.tlv_set("REQUEST_ID", request_id)
                    response.tlv_set("TIMESTAMP", time.time())

                    self.socket.send(response)
                else:
                    logger.warning(f"Unexpected message type: 0x{msg.msg_type:02X}")

            except KeyboardInterrupt:
                logger.info("L7 LLM Worker shutting down...")
                break
            except Exception as e:
                logger.error(f"Error in main loop: {e}")
                time.sleep(1)


if __name__ == "__main__":
    worker = L7LLMWorker()
    worker.run()
